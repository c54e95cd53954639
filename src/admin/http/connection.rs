//! A connection: reads requests one after the other, and writes a response to each, or events.
//! Each step is limited in time and size.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::PollFlags;
use rustls::ServerConfig;
use zeroize::Zeroizing;

use super::host::Hosts;
use super::proxy::identify;
use super::request::{MAX_BODY, MAX_HEAD, Method, Parsed, Request, Status, parse};
use super::response::{Response, event_stream_head};
use super::transport::Transport;
use wontun_proto::time::Instant;

/// Timeout for a request, once its first byte is there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the first byte of the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for a response, from its request to its last byte.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the client's end of the connection. Closing it while the client still sends could
/// lose the response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of events that a client has not read, in bytes.
const MAX_EVENTS: usize = 512 * 1024;
/// Maximum duration of a stream of events; browsers connect again.
const STREAM_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Transport,
    /// Address of the client.
    pub(super) from: IpAddr,
    /// True if the latest request came by HTTPS.
    is_secure: bool,
    state: State,
    /// Bytes that were read and belong to no request yet.
    input: Zeroizing<Vec<u8>>,
    /// Bytes to be written.
    output: Zeroizing<Vec<u8>>,
    sent: usize,
    /// Time at which the connection ends at the latest.
    pub(super) deadline: Instant,
    /// Time of the last read or write.
    pub(super) last_active: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Reads a request.
    Reading,
    /// Waits for a response; true if it has no body, true if another request may follow.
    Waiting { is_head: bool, is_persistent: bool },
    /// Writes the response.
    Writing { is_persistent: bool },
    /// Writes events.
    Streaming,
    /// Waits for the client's end.
    Closing,
}

/// Result of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing to do until the connection is ready again.
    Open,
    /// A request of this browser, to be answered by [`Connection::respond`] or
    /// [`Connection::stream`].
    Request(Box<Request>, IpAddr),
    /// The connection has ended.
    Closed,
}

impl Connection {
    /// Creates a connection in non-blocking mode; with `tls`, over TLS.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn new(
        stream: TcpStream,
        from: IpAddr,
        tls: Option<&Arc<ServerConfig>>,
        now: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            stream: Transport::new(stream, tls)?,
            from,
            is_secure: false,
            state: State::Reading,
            input: Zeroizing::default(),
            output: Zeroizing::default(),
            sent: 0,
            deadline: now + REQUEST_TIMEOUT,
            last_active: now,
        })
    }

    /// Returns the events to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        let unsent = if self.stream.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        unsent
            | match self.state {
                State::Reading | State::Closing => PollFlags::POLLIN,
                State::Waiting { .. } => PollFlags::empty(),
                State::Writing { .. } => PollFlags::POLLOUT,
                State::Streaming if self.output.len() > self.sent => PollFlags::POLLOUT | PollFlags::POLLIN,
                State::Streaming => PollFlags::POLLIN,
            }
    }

    /// Returns true until the handshake of TLS is complete.
    pub(super) fn is_handshaking(&self) -> bool {
        self.stream.is_handshaking()
    }

    /// Returns true if it carries events.
    pub(super) fn is_streaming(&self) -> bool {
        self.state == State::Streaming
    }

    /// Does one read or one write, as its state and `events` say.
    pub(super) fn step(&mut self, events: PollFlags, now: Instant, hosts: &Hosts) -> Step {
        let result = match self.state {
            State::Reading => self.read(now, hosts),
            State::Waiting { .. } if events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) => {
                return Step::Closed;
            }
            State::Waiting { .. } => self.stream.flush().map(|()| Step::Open),
            State::Writing { .. } => self.write(now, hosts),
            State::Streaming => self.write_events(events, now),
            State::Closing => self.discard(),
        };
        match result {
            Ok(step) => step,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Step::Open
            }
            Err(_) => Step::Closed,
        }
    }

    fn read(&mut self, now: Instant, hosts: &Hosts) -> io::Result<Step> {
        loop {
            let step = self.read_once(now, hosts)?;
            // what TLS has decrypted is not announced by the socket
            let has_more = matches!(step, Step::Open) && self.state == State::Reading;
            if !(has_more && self.stream.has_buffered()) {
                return Ok(step);
            }
        }
    }

    fn read_once(&mut self, now: Instant, hosts: &Hosts) -> io::Result<Step> {
        let mut piece = Zeroizing::new([0; 4096]);
        let room = piece.len().min((MAX_HEAD + MAX_BODY).saturating_sub(self.input.len()));
        let length = self.stream.read(piece.get_mut(..room).unwrap_or_default())?;
        if length == 0 {
            return Ok(Step::Closed);
        }
        if self.input.is_empty() {
            self.deadline = now + REQUEST_TIMEOUT;
        }
        // reserved whole: a vector that grows leaves copies behind
        if self.input.capacity() == 0 {
            self.input.reserve_exact(MAX_HEAD + MAX_BODY);
        }
        self.input.extend_from_slice(piece.get(..length).unwrap_or_default());
        self.last_active = now;
        Ok(self.parse(now, hosts))
    }

    /// Takes the next request from what was read.
    fn parse(&mut self, now: Instant, hosts: &Hosts) -> Step {
        match parse(&self.input, hosts) {
            Parsed::Partial => Step::Open,
            Parsed::Refused(status) => {
                self.input = Zeroizing::default();
                let response = Response::text(status, status.line());
                self.write_response(&response, false, false, now);
                Step::Open
            }
            Parsed::Request(mut request, length) => {
                request.is_secure = self.stream.is_tls();
                let from = match identify(hosts, &mut request, self.from) {
                    Ok(from) => from,
                    Err(status) => {
                        self.input = Zeroizing::default();
                        self.write_response(&Response::text(status, status.line()), false, false, now);
                        return Step::Open;
                    }
                };
                self.is_secure = request.is_secure;
                let rest = Zeroizing::new(self.input.get(length..).unwrap_or_default().to_vec());
                self.input = rest;
                let is_head = request.method == Method::Head;
                self.state = State::Waiting { is_head, is_persistent: request.is_persistent };
                self.deadline = now + RESPONSE_TIMEOUT;
                Step::Request(request, from)
            }
        }
    }

    /// Answers the request that waits.
    pub(super) fn respond(&mut self, response: &Response, now: Instant) {
        if let State::Waiting { is_head, is_persistent } = self.state {
            self.write_response(response, is_head, is_persistent, now);
        }
    }

    fn write_response(&mut self, response: &Response, is_head: bool, is_persistent: bool, now: Instant) {
        self.output = response.to_bytes(is_head, is_persistent, self.is_secure);
        self.sent = 0;
        self.state = State::Writing { is_persistent };
        self.deadline = now + RESPONSE_TIMEOUT;
    }

    /// Answers the request that waits with a stream of events.
    pub(super) fn stream(&mut self, now: Instant) {
        self.output = Zeroizing::new(event_stream_head(self.is_secure));
        self.sent = 0;
        self.state = State::Streaming;
        self.deadline = now + STREAM_TIMEOUT;
    }

    /// Adds an event. Returns false if the client does not read them.
    pub(super) fn push(&mut self, event: &[u8]) -> bool {
        self.output.drain(..self.sent);
        self.sent = 0;
        self.output.extend_from_slice(event);
        self.output.len() <= MAX_EVENTS
    }

    fn write(&mut self, now: Instant, hosts: &Hosts) -> io::Result<Step> {
        if self.sent < self.output.len() {
            self.sent += self.stream.write(self.output.get(self.sent..).unwrap_or_default())?;
            self.last_active = now;
        }
        if self.sent < self.output.len() {
            return Ok(Step::Open);
        }
        self.stream.flush()?;
        let is_persistent = matches!(self.state, State::Writing { is_persistent: true });
        self.output = Zeroizing::default();
        self.sent = 0;
        if !is_persistent {
            self.stream.shut_down()?;
            self.state = State::Closing;
            self.deadline = now + CLOSE_TIMEOUT;
            return Ok(Step::Open);
        }
        self.state = State::Reading;
        if self.input.is_empty() {
            self.deadline = now + IDLE_TIMEOUT;
            return if self.stream.has_buffered() { self.read(now, hosts) } else { Ok(Step::Open) };
        }
        self.deadline = now + REQUEST_TIMEOUT;
        Ok(self.parse(now, hosts))
    }

    fn write_events(&mut self, events: PollFlags, now: Instant) -> io::Result<Step> {
        if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            // a browser sends nothing more, but an alert of TLS at its end
            return Ok(Step::Closed);
        }
        if self.sent < self.output.len() {
            self.sent += self.stream.write(self.output.get(self.sent..).unwrap_or_default())?;
            self.last_active = now;
        }
        self.stream.flush()?;
        Ok(Step::Open)
    }

    fn discard(&mut self) -> io::Result<Step> {
        let mut piece = [0; 4096];
        Ok(if self.stream.read(&mut piece)? == 0 { Step::Closed } else { Step::Open })
    }

    /// Returns the response to a request whose time is over, if it has none yet.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let status = match self.state {
            State::Waiting { .. } => Status::Unavailable,
            State::Reading if !self.input.is_empty() => Status::RequestTimeout,
            _ => return false,
        };
        self.input = Zeroizing::default();
        self.write_response(&Response::text(status, status.line()), false, false, now);
        // long enough for one write
        self.deadline = now + CLOSE_TIMEOUT;
        true
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
