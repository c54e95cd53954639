//! Connections to name servers over TLS (RFC 7858): one for each server, which stays open and has
//! several queries at once.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

use super::certificate::{client_config, explain};
use crate::config::{TlsIdentity, TlsNameServer};
use crate::tls_output;
use wontun_proto::time::Instant;

/// Time without a query or an answer after which a connection is closed: servers close theirs, and
/// a path may lose its state.
const IDLE: Duration = Duration::from_secs(10);
/// Time for a connection to be ready.
const HANDSHAKE: Duration = Duration::from_secs(4);
/// Time after a failed connection in which the server is not connected to again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Minimum interval between two reports of the same problem.
const REPORT_INTERVAL: Duration = Duration::from_secs(300);
/// Maximum number of bytes that wait to be sent.
const MAX_UNSENT: usize = 128 << 10;
/// Number of reads from a connection in a turn.
const BUDGET: usize = 16;

/// The servers and their connections.
#[derive(Debug, Default)]
pub(super) struct TlsServers(Vec<TlsServer>);

/// A server.
#[derive(Debug)]
struct TlsServer {
    given: TlsNameServer,
    config: Arc<ClientConfig>,
    connection: Option<Connection>,
    /// Time from which on it may be connected to.
    usable: Instant,
    /// The problem last reported, and the time.
    reported: Option<(String, Instant)>,
    /// A report that is not yet taken.
    report: Option<Report>,
}

/// A change of a server's state, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) server: SocketAddr,
    /// The reason why it is not asked; `None` once it answers again.
    pub(super) problem: Option<String>,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
    /// Bytes of answers that are not complete.
    received: Vec<u8>,
    /// Number of bytes of queries since everything was sent.
    unsent: usize,
    /// Time at which it was opened, of the last query, and of the last answer.
    opened: Instant,
    sent: Instant,
    answered: Option<Instant>,
}

/// Outcome of a connection's turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Complete messages.
    pub(super) answers: Vec<Vec<u8>>,
    /// True if the connection is closed: what was asked over it is to be asked again.
    pub(super) is_lost: bool,
}

/// Reason why a connection ended.
enum End {
    /// The server closed it.
    Closed,
    Io(io::Error),
    Tls(rustls::Error),
}

impl TlsServers {
    /// Creates the state of these servers, whose certificates are checked against `authorities`.
    ///
    /// # Errors
    /// As for [`client_config`].
    pub(super) fn new(
        servers: Vec<TlsNameServer>,
        authorities: &Arc<RootCertStore>,
    ) -> Result<Self, rustls::Error> {
        let server = |given: TlsNameServer| {
            let config = Arc::new(client_config(&given.identity, authorities)?);
            let usable = Instant::default();
            Ok(TlsServer { given, config, connection: None, usable, reported: None, report: None })
        };
        servers.into_iter().map(server).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the number of servers.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Sends `query` to a server, over its connection or a new one. Returns false if that is not
    /// possible now.
    pub(super) fn send(&mut self, number: usize, query: &[u8], now: Instant) -> bool {
        let Some(server) = self.0.get_mut(number) else { return false };
        if server.connection.is_none() {
            if now < server.usable {
                return false;
            }
            match Connection::open(&server.given, &server.config, now) {
                Ok(connection) => server.connection = Some(connection),
                Err(error) => {
                    server.fail(error.to_string(), now);
                    return false;
                }
            }
        }
        server.connection.as_mut().is_some_and(|connection| connection.send(query, now))
    }

    /// Returns the open connections, and the events to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>, PollFlags)> {
        let numbered = self.0.iter().enumerate();
        numbered.filter_map(|(number, server)| {
            let connection = server.connection.as_ref()?;
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, connection.tls.wants_write());
            Some((number, connection.socket.as_fd(), events))
        })
    }

    /// Continues once a connection is ready.
    pub(super) fn proceed(&mut self, number: usize, now: Instant) -> Turn {
        let mut turn = Turn::default();
        let Some(server) = self.0.get_mut(number) else { return turn };
        let Some(connection) = &mut server.connection else { return turn };
        let ended = connection.proceed(&mut turn.answers, now);
        if !turn.answers.is_empty() && server.reported.take().is_some() {
            server.report = Some(Report { server: server.given.address, problem: None });
        }
        if let Err(end) = ended {
            server.end(&end, now);
            turn.is_lost = true;
        }
        turn
    }

    /// Records that a query sent at `sent` is not answered in time. If nothing else was, the
    /// connection is closed: its path may be gone. Returns true then.
    pub(super) fn give_up(&mut self, number: usize, sent: Instant, now: Instant) -> bool {
        let Some(server) = self.0.get_mut(number) else { return false };
        let Some(connection) = server
            .connection
            .take_if(|connection| connection.answered.is_none_or(|answered| answered < sent))
        else {
            return false;
        };
        if connection.answered.is_none() {
            server.fail("it does not answer".to_owned(), now);
        }
        true
    }

    /// Returns the time of the next [`Self::handle_timeouts`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|server| server.connection.as_ref().map(Connection::deadline)).min()
    }

    /// Closes connections that are idle. Returns the servers whose connections were not ready in
    /// time.
    pub(super) fn handle_timeouts(&mut self, now: Instant) -> Vec<usize> {
        let mut lost = Vec::new();
        for (number, server) in self.0.iter_mut().enumerate() {
            let Some(connection) = &mut server.connection else { continue };
            if now < connection.deadline() {
                continue;
            }
            if connection.tls.is_handshaking() {
                server.connection = None;
                server.fail(format!("it was not connected to within {} s", HANDSHAKE.as_secs()), now);
                lost.push(number);
            } else {
                connection.tls.send_close_notify();
                // not sent if the socket is full: the server sees the connection's end
                let _ = connection.flush();
                server.connection = None;
            }
        }
        lost
    }

    /// Returns what is to be logged since the last call.
    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        self.0.iter_mut().filter_map(|server| server.report.take()).collect()
    }
}

impl TlsServer {
    /// Closes the connection.
    fn end(&mut self, end: &End, now: Instant) {
        let Some(connection) = self.connection.take() else { return };
        match end {
            // at any time after an answer; a query is asked again over a new one
            End::Closed if connection.answered.is_some() => {}
            End::Io(_) if connection.answered.is_some() => {}
            End::Closed => self.fail("it closes connections without an answer".to_owned(), now),
            End::Io(error) => self.fail(error.to_string(), now),
            End::Tls(error) => self.fail(explain(error, &self.given.identity), now),
        }
    }

    fn fail(&mut self, problem: String, now: Instant) {
        self.usable = now + RETRY_DELAY;
        let is_known =
            |(known, time): &(String, Instant)| *known == problem && now.since(*time) < REPORT_INTERVAL;
        if self.reported.as_ref().is_none_or(|reported| !is_known(reported)) {
            self.reported = Some((problem.clone(), now));
            self.report = Some(Report { server: self.given.address, problem: Some(problem) });
        }
    }
}

impl Connection {
    fn open(given: &TlsNameServer, config: &Arc<ClientConfig>, now: Instant) -> io::Result<Self> {
        let name = match &given.identity {
            TlsIdentity::Certificate(name) => name.clone(),
            TlsIdentity::KeyHash(_) => ServerName::from(given.address.ip()),
        };
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // with the overhead of the smallest records
        tls.set_buffer_limit(Some(4 * MAX_UNSENT));
        let socket = Socket::new(Domain::for_address(given.address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&given.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            socket: socket.into(),
            tls,
            received: Vec::new(),
            unsent: 0,
            opened: now,
            sent: now,
            answered: None,
        })
    }

    fn deadline(&self) -> Instant {
        if self.tls.is_handshaking() {
            return self.opened + HANDSHAKE;
        }
        self.answered.map_or(self.sent, |answered| answered.max(self.sent)) + IDLE
    }

    /// Sends a query as soon as the handshake is complete. Returns false if too many wait.
    fn send(&mut self, query: &[u8], now: Instant) -> bool {
        let Ok(length) = u16::try_from(query.len()) else { return false };
        let message = [&length.to_be_bytes(), query].concat();
        let has_room = self.unsent + message.len() <= MAX_UNSENT;
        if !has_room || self.tls.writer().write_all(&message).is_err() {
            return false;
        }
        self.unsent += message.len();
        self.sent = now;
        if !self.tls.is_handshaking() {
            // an error ends the connection in its next turn, for all queries
            let _ = self.flush();
        }
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        tls_output::send(&mut self.tls, &mut self.socket)?;
        if !self.tls.wants_write() && !self.tls.is_handshaking() {
            self.unsent = 0;
        }
        Ok(())
    }

    /// Sends and receives, and appends complete messages to `answers`.
    fn proceed(&mut self, answers: &mut Vec<Vec<u8>>, now: Instant) -> Result<(), End> {
        self.flush().map_err(End::Io)?;
        for _ in 0..BUDGET {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err(End::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Io(error)),
            }
            let state = match self.tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // the alert: the server's operator learns the reason
                    let _ = self.flush();
                    return Err(End::Tls(error));
                }
            };
            let start = self.received.len();
            self.received.resize(start + state.plaintext_bytes_to_read(), 0);
            let part = self.received.get_mut(start..).unwrap_or_default();
            self.tls.reader().read_exact(part).map_err(End::Io)?;
            self.split(answers, now);
            if state.peer_has_closed() {
                return Err(End::Closed);
            }
        }
        self.flush().map_err(End::Io)
    }

    fn split(&mut self, answers: &mut Vec<Vec<u8>>, now: Instant) {
        while let Some((length, rest)) = self.received.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(answer) = rest.get(..length) else { return };
            answers.push(answer.to_vec());
            self.received.drain(..2 + length);
            self.answered = Some(now);
        }
    }
}
