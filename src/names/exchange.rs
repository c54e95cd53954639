//! A query that was forwarded to a name server.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use socket2::{Domain, Socket, Type};

use super::message::{self, Query, ResponseCode};
use wontun_proto::time::Instant;

/// Time that a name server has for its answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of servers that one query is sent to.
const MAX_ATTEMPTS: usize = 3;
/// Response codes after which the next server is asked: it fails, or refuses.
const FAILURES: [u16; 2] = [2, 5];

/// A forwarded query.
#[derive(Debug)]
pub(super) struct Exchange<C> {
    /// The client that waits for the answer.
    pub(super) client: C,
    pub(super) query: Query,
    /// The message with the identifier `id`.
    message: Vec<u8>,
    /// Identifier for the name server.
    id: u16,
    is_tcp: bool,
    transport: Transport,
    /// Time at which the next server is asked.
    pub(super) deadline: Instant,
    attempts: usize,
    /// Last answer of a server that failed.
    failure: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Transport {
    Udp(UdpSocket),
    Tcp(TcpExchange),
}

/// A query over TCP (RFC 1035, section 4.2.2).
#[derive(Debug)]
struct TcpExchange {
    socket: TcpStream,
    /// Bytes that are not yet sent.
    unsent: Vec<u8>,
    received: Vec<u8>,
}

/// State of an exchange.
#[derive(Debug)]
pub(super) enum Progress {
    Pending,
    /// The answer, with the server's identifier.
    Answer(Vec<u8>),
    /// This server gave no answer.
    Failed,
}

impl<C> Exchange<C> {
    /// Sends `message`, the bytes of `query`, to the first of `servers` that accepts it. `id` is a
    /// random number.
    pub(super) fn start(
        client: C,
        query: Query,
        mut message: Vec<u8>,
        is_tcp: bool,
        id: u16,
        servers: &[SocketAddr],
        now: Instant,
    ) -> Option<Self> {
        message::set_id(&mut message, id);
        let (transport, attempts) = open_first(&message, is_tcp, servers, 0)?;
        let deadline = now + TIMEOUT;
        Some(Self { client, query, message, id, is_tcp, transport, deadline, attempts, failure: None })
    }

    /// Returns the descriptor and the events to wait for.
    pub(super) fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.transport {
            Transport::Udp(socket) => (socket.as_fd(), PollFlags::POLLIN),
            Transport::Tcp(tcp) if tcp.unsent.is_empty() => (tcp.socket.as_fd(), PollFlags::POLLIN),
            Transport::Tcp(tcp) => (tcp.socket.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Continues once the descriptor is ready. `buffer` has room for any datagram.
    pub(super) fn proceed(&mut self, buffer: &mut [u8]) -> Progress {
        let progress = match &mut self.transport {
            Transport::Udp(socket) => receive(socket, buffer, &self.query, self.id),
            Transport::Tcp(tcp) => tcp.proceed(&self.query, self.id),
        };
        match progress {
            Ok(Some(answer)) if FAILURES.contains(&message::code(&answer)) => {
                self.failure = Some(answer);
                Progress::Failed
            }
            Ok(Some(answer)) => Progress::Answer(answer),
            Ok(None) => Progress::Pending,
            Err(_) => Progress::Failed,
        }
    }

    /// Returns the answer for a query that no server answers.
    pub(super) fn failed(&self) -> Vec<u8> {
        let mut answer = message::error(&self.message, Some(&self.query), ResponseCode::ServerFailure);
        message::set_id(&mut answer, self.query.id);
        answer
    }

    /// Asks the next server. If there is none, returns the last answer of one that failed, or
    /// nothing.
    ///
    /// # Errors
    /// There is no further server.
    pub(super) fn ask_next(&mut self, servers: &[SocketAddr], now: Instant) -> Result<(), Option<Vec<u8>>> {
        let next = open_first(&self.message, self.is_tcp, servers, self.attempts);
        let Some((transport, attempts)) = next.filter(|(_, attempts)| *attempts <= MAX_ATTEMPTS) else {
            return Err(self.failure.take());
        };
        (self.transport, self.attempts, self.deadline) = (transport, attempts, now + TIMEOUT);
        Ok(())
    }
}

/// Sends the message to the first server from number `from` on that can be reached. Returns the
/// number of those that were tried, too.
fn open_first(
    message: &[u8],
    is_tcp: bool,
    servers: &[SocketAddr],
    from: usize,
) -> Option<(Transport, usize)> {
    let mut numbered = servers.iter().enumerate().skip(from);
    numbered.find_map(|(number, server)| Some((open(message, is_tcp, *server).ok()?, number + 1)))
}

/// Opens a socket of its own for each query: the kernel chooses its port at random, which makes
/// answers hard to forge (RFC 5452), and it receives from the server only.
fn open(message: &[u8], is_tcp: bool, server: SocketAddr) -> io::Result<Transport> {
    let kind = if is_tcp { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(server), kind, None)?;
    socket.set_nonblocking(true)?;
    if !is_tcp {
        socket.connect(&server.into())?;
        socket.send(message)?;
        return Ok(Transport::Udp(socket.into()));
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let unsent = [&length.to_be_bytes(), message].concat();
    Ok(Transport::Tcp(TcpExchange { socket: socket.into(), unsent, received: Vec::new() }))
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], query: &Query, id: u16) -> io::Result<Option<Vec<u8>>> {
    loop {
        match socket.recv(buffer) {
            Ok(length) => {
                let answer = buffer.get(..length).unwrap_or_default();
                // one that does not belong to the query may be forged
                if message::is_answer(answer, query, id) {
                    return Ok(Some(answer.to_vec()));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl TcpExchange {
    fn proceed(&mut self, query: &Query, id: u16) -> io::Result<Option<Vec<u8>>> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut part = [0; 4096];
        loop {
            if let Some((length, rest)) = self.received.split_first_chunk()
                && let Some(answer) = rest.get(..usize::from(u16::from_be_bytes(*length)))
            {
                let is_answer = message::is_answer(answer, query, id);
                return if is_answer {
                    Ok(Some(answer.to_vec()))
                } else {
                    Err(ErrorKind::InvalidData.into())
                };
            }
            match self.socket.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
