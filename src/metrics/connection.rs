//! A client connection: reads a request, writes the answer piece by piece, and waits for the end,
//! each for a limited time.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use super::exposition::Exposition;
use super::host::HostNames;
use super::request::{self, MAX_HEAD};
use wontun_proto::time::Instant;

/// Timeout for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for an answer: Prometheus waits ten seconds by default.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the client's end of the connection. Closing it while the client still sends could
/// lose the answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of bytes that are read and discarded meanwhile.
const MAX_DISCARDED: usize = 64 * 1024;
/// Length of the pieces of text generated at once, in bytes.
const CHUNK_SIZE: usize = 16 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    state: State,
    /// Time at which the connection ends at the latest.
    pub(super) deadline: Instant,
    /// Time of the last read or write.
    pub(super) last_active: Instant,
}

#[derive(Debug)]
enum State {
    /// The request so far.
    Reading(Vec<u8>),
    Writing {
        piece: Vec<u8>,
        sent: usize,
        /// The rest of the answer, and true if the pieces are sent as chunks.
        rest: Option<(Exposition, bool)>,
    },
    /// Number of bytes that may still be received.
    Closing(usize),
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Closed,
}

impl Connection {
    /// Creates a connection in non-blocking mode.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn new(stream: TcpStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: State::Reading(Vec::new()),
            deadline: now + REQUEST_TIMEOUT,
            last_active: now,
        })
    }

    /// Returns the event to wait for.
    pub(super) const fn interest(&self) -> PollFlags {
        match self.state {
            State::Reading(_) | State::Closing(_) => PollFlags::POLLIN,
            State::Writing { .. } => PollFlags::POLLOUT,
        }
    }

    /// Does one read or one write. `expose` returns the metrics, if the request is for them;
    /// `hosts` are the names of this server.
    pub(super) fn step(
        &mut self,
        now: Instant,
        hosts: &HostNames,
        expose: impl FnOnce() -> Exposition,
    ) -> Step {
        let result = match &self.state {
            State::Reading(_) => self.read(now, hosts, expose),
            State::Writing { .. } => self.write(now),
            State::Closing(remaining) => self.end(*remaining),
        };
        match result {
            Ok(step) => step,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Step::Open
            }
            Err(_) => Step::Closed,
        }
    }

    fn read(
        &mut self,
        now: Instant,
        hosts: &HostNames,
        expose: impl FnOnce() -> Exposition,
    ) -> io::Result<Step> {
        let State::Reading(bytes) = &mut self.state else { return Ok(Step::Open) };
        let mut piece = [0; 1024];
        let room = piece.len().min(MAX_HEAD - bytes.len());
        let length = self.stream.read(piece.get_mut(..room).unwrap_or_default())?;
        if length == 0 {
            return Ok(Step::Closed);
        }
        bytes.extend_from_slice(piece.get(..length).unwrap_or_default());
        self.last_active = now;
        if let Some(request) = request::parse(bytes, hosts) {
            self.deadline = now + RESPONSE_TIMEOUT;
            let rest = request.wants_metrics().then(|| (expose(), request.accepts_chunks));
            self.state = State::Writing { piece: request.response(), sent: 0, rest };
        }
        Ok(Step::Open)
    }

    fn write(&mut self, now: Instant) -> io::Result<Step> {
        let State::Writing { piece, sent, rest } = &mut self.state else { return Ok(Step::Open) };
        if *sent == piece.len() {
            match rest {
                Some((text, in_chunks)) => {
                    *sent = 0;
                    if !next(text, *in_chunks, piece) {
                        *rest = None;
                    }
                }
                None => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Closing(MAX_DISCARDED);
                    self.deadline = self.deadline.min(now + CLOSE_TIMEOUT);
                    return Ok(Step::Open);
                }
            }
        }
        *sent += self.stream.write(piece.get(*sent..).unwrap_or_default())?;
        self.last_active = now;
        Ok(Step::Open)
    }

    fn end(&mut self, remaining: usize) -> io::Result<Step> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece)? {
            0 => Ok(Step::Closed),
            length if length >= remaining => Ok(Step::Closed),
            length => {
                self.state = State::Closing(remaining - length);
                Ok(Step::Open)
            }
        }
    }
}

/// Generates the next piece. Returns true if more follow.
fn next(text: &mut Exposition, in_chunks: bool, piece: &mut Vec<u8>) -> bool {
    let mut body = String::with_capacity(CHUNK_SIZE + CHUNK_SIZE / 4);
    let has_more = text.write(&mut body, CHUNK_SIZE);
    piece.clear();
    if in_chunks {
        // an empty chunk would end the body
        if !body.is_empty() {
            piece.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            piece.extend_from_slice(body.as_bytes());
            piece.extend_from_slice(b"\r\n");
        }
        if !has_more {
            piece.extend_from_slice(b"0\r\n\r\n");
        }
    } else {
        piece.extend_from_slice(body.as_bytes());
    }
    has_more
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
