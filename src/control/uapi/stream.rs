//! One who connected.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use zeroize::Zeroizing;

use super::answer::failure;
use super::error::RequestError;
use super::request::{Request, RequestParser};

/// Bytes that are read at a time.
const CHUNK: usize = 16 << 10;
/// How often [`UapiStream::poll_request`] reads before it lets others have a turn.
const READS: u32 = 4;

/// What [`UapiStream::poll_request`] has come to.
#[derive(Debug)]
pub enum Poll {
    /// To be answered with [`UapiStream::respond`]; then to be polled again.
    Request(Request),
    /// A request that cannot be understood. It is answered already; this is for the log. To be polled again.
    Refused(RequestError),
    /// There may be more, but it has had its turn: to be polled again without an edge.
    Again,
    /// Nothing more until the next edge, of either kind.
    Blocked,
    /// The end: to be dropped.
    Closed,
}

/// A connection, to be registered for both kinds of edges (`EPOLLIN | EPOLLOUT | EPOLLET`) and polled upon each.
///
/// As long as an answer has not been taken nothing more is read, so that what one costs is bounded whatever it does.
pub struct UapiStream {
    socket: UnixStream,
    parser: RequestParser,
    input: Box<Zeroizing<[u8; CHUNK]>>,
    /// Which part of `input` has not been looked at.
    unread: std::ops::Range<usize>,
    output: Zeroizing<Vec<u8>>,
    sent: usize,
    is_owed_an_answer: bool,
    /// Whether it ends with the answer.
    ends: bool,
}

impl UapiStream {
    /// A connection of a non-blocking socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            parser: RequestParser::default(),
            input: Box::new(Zeroizing::new([0; CHUNK])),
            unread: 0..0,
            output: Zeroizing::default(),
            sent: 0,
            is_owed_an_answer: false,
            ends: false,
        }
    }

    /// Writes what is left of an answer and reads up to the next request, at most 64 KiB at a time.
    ///
    /// # Errors
    /// The kernel's, such as a connection that was reset: it is to be dropped.
    pub fn poll_request(&mut self) -> io::Result<Poll> {
        if !self.flush()? {
            return Ok(Poll::Blocked);
        }
        if self.ends {
            return Ok(Poll::Closed);
        }
        if self.is_owed_an_answer {
            return Ok(Poll::Blocked);
        }
        for _ in 0..READS {
            if let Some(request) = self.parse() {
                return self.give(request);
            }
            match self.socket.read(self.input.as_mut_slice()) {
                Ok(0) => {
                    self.ends = true;
                    return self.parser.handle_end().map_or(Ok(Poll::Closed), |error| self.give(Err(error)));
                }
                Ok(length) => self.unread = 0..length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Poll::Blocked),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        self.parse().map_or(Ok(Poll::Again), |request| self.give(request))
    }

    /// Sends an answer, and keeps what the socket does not take at once.
    ///
    /// # Errors
    /// The kernel's: the connection is to be dropped.
    pub fn respond(&mut self, answer: Zeroizing<Vec<u8>>) -> io::Result<()> {
        self.is_owed_an_answer = false;
        self.output = answer;
        self.sent = 0;
        self.flush().map(drop)
    }

    /// Takes note that somebody else has written the answer to this connection.
    pub const fn handle_answered(&mut self) {
        self.is_owed_an_answer = false;
    }

    /// Returns true while a request waits for its answer.
    pub const fn is_owed_an_answer(&self) -> bool {
        self.is_owed_an_answer
    }

    /// Whether a part of an answer waits for room.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    fn parse(&mut self) -> Option<Result<Request, RequestError>> {
        let bytes = self.input.get(self.unread.clone()).unwrap_or_default();
        let progress = self.parser.handle_bytes(bytes);
        self.unread.start += progress.consumed;
        progress.request
    }

    fn give(&mut self, request: Result<Request, RequestError>) -> io::Result<Poll> {
        match request {
            Ok(request) => {
                self.is_owed_an_answer = true;
                Ok(Poll::Request(request))
            }
            Err(error) => {
                self.ends |= error.is_fatal();
                self.respond(failure(error.errno()))?;
                Ok(Poll::Refused(error))
            }
        }
    }

    /// Whether all is written.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(length) => self.sent += length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        self.output = Zeroizing::default();
        Ok(true)
    }
}

impl AsFd for UapiStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for UapiStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UapiStream({:?})", self.socket)
    }
}
