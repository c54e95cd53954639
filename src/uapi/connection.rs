//! A client connection.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use zeroize::Zeroizing;

use super::error::RequestError;
use super::request::{Request, RequestParser};
use super::response::error_response;

/// Size of the read buffer in bytes.
const READ_BUFFER: usize = 16 << 10;
/// Number of reads per call of [`UapiConnection::poll_request`], so that other connections get a
/// turn.
const MAX_READS: u32 = 4;

/// Result of [`UapiConnection::poll_request`].
#[derive(Debug)]
pub enum RequestPoll {
    /// A request, to be answered with [`UapiConnection::respond`]; then poll again.
    Request(Request),
    /// An invalid request, already answered; the error is for the log. Poll again.
    Rejected(RequestError),
    /// There may be more input, but the turn is over: poll again without waiting for an edge.
    Again,
    /// Nothing to do until the next edge, of either kind.
    Blocked,
    /// The connection has ended: drop it.
    Closed,
}

/// A connection, to be registered for both kinds of edges (`EPOLLIN | EPOLLOUT | EPOLLET`) and
/// polled on each.
///
/// No input is read while an answer is unsent, so that the cost of a connection is bounded whatever
/// the client does.
pub struct UapiConnection {
    socket: UnixStream,
    parser: RequestParser,
    input: Box<Zeroizing<[u8; READ_BUFFER]>>,
    /// Range of `input` that is not parsed yet.
    unread: std::ops::Range<usize>,
    output: Zeroizing<Vec<u8>>,
    sent: usize,
    is_awaiting_response: bool,
    /// True if the connection closes after the answer.
    is_closing: bool,
}

impl UapiConnection {
    /// Creates a connection from a non-blocking socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            parser: RequestParser::default(),
            input: Box::new(Zeroizing::new([0; READ_BUFFER])),
            unread: 0..0,
            output: Zeroizing::default(),
            sent: 0,
            is_awaiting_response: false,
            is_closing: false,
        }
    }

    /// Writes the rest of an answer and reads up to the next request, at most 64 KiB at a time.
    ///
    /// # Errors
    /// An error of the kernel, such as a reset connection: drop the connection.
    pub fn poll_request(&mut self) -> io::Result<RequestPoll> {
        if !self.flush()? {
            return Ok(RequestPoll::Blocked);
        }
        if self.is_closing {
            return Ok(RequestPoll::Closed);
        }
        if self.is_awaiting_response {
            return Ok(RequestPoll::Blocked);
        }
        for _ in 0..MAX_READS {
            if let Some(request) = self.parse() {
                return self.deliver(request);
            }
            match self.socket.read(self.input.as_mut_slice()) {
                Ok(0) => {
                    self.is_closing = true;
                    return self
                        .parser
                        .handle_end()
                        .map_or(Ok(RequestPoll::Closed), |error| self.deliver(Err(error)));
                }
                Ok(length) => self.unread = 0..length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(RequestPoll::Blocked),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        self.parse().map_or(Ok(RequestPoll::Again), |request| self.deliver(request))
    }

    /// Sends an answer, and keeps what the socket does not take at once.
    ///
    /// # Errors
    /// An error of the kernel: drop the connection.
    pub fn respond(&mut self, answer: Zeroizing<Vec<u8>>) -> io::Result<()> {
        self.is_awaiting_response = false;
        self.output = answer;
        self.sent = 0;
        self.flush().map(drop)
    }

    /// Records that another process has written the answer to this connection.
    pub const fn handle_response_sent(&mut self) {
        self.is_awaiting_response = false;
    }

    /// Returns true while a request waits for its answer.
    pub const fn is_awaiting_response(&self) -> bool {
        self.is_awaiting_response
    }

    /// Returns true if part of an answer is unsent.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    fn parse(&mut self) -> Option<Result<Request, RequestError>> {
        let bytes = self.input.get(self.unread.clone()).unwrap_or_default();
        let progress = self.parser.handle_bytes(bytes);
        self.unread.start += progress.consumed;
        progress.request
    }

    fn deliver(&mut self, request: Result<Request, RequestError>) -> io::Result<RequestPoll> {
        match request {
            Ok(request) => {
                self.is_awaiting_response = true;
                Ok(RequestPoll::Request(request))
            }
            Err(error) => {
                self.is_closing |= error.is_fatal();
                self.respond(error_response(error.errno()))?;
                Ok(RequestPoll::Rejected(error))
            }
        }
    }

    /// Writes the rest of the answer. Returns true if all is written.
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

impl AsFd for UapiConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for UapiConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UapiConnection({:?})", self.socket)
    }
}
