//! A connection of a client over TCP (RFC 7766). One query is answered after the other.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use wontun_proto::time::Instant;

/// Time without progress after which a connection is closed.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// Maximum length of a query in bytes.
const MAX_QUERY: usize = 2048;

/// A connection.
#[derive(Debug)]
pub(super) struct TcpClient {
    /// Identifies the connection while it exists.
    pub(super) number: u64,
    pub(super) address: SocketAddr,
    socket: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// True while an answer is awaited: no further query is read.
    is_waiting: bool,
    /// Time at which it is closed.
    pub(super) deadline: Instant,
}

/// Error: the connection is to be closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl TcpClient {
    pub(super) fn new(
        number: u64,
        socket: TcpStream,
        address: SocketAddr,
        now: Instant,
    ) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            number,
            address,
            socket,
            received: Vec::new(),
            unsent: Vec::new(),
            is_waiting: false,
            deadline: now + IDLE,
        })
    }

    /// Returns the descriptor and the events to wait for.
    pub(super) fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        let events = match (self.unsent.is_empty(), self.is_waiting) {
            (false, _) => PollFlags::POLLOUT,
            (true, false) => PollFlags::POLLIN,
            (true, true) => PollFlags::empty(),
        };
        (self.socket.as_fd(), events)
    }

    /// Continues once the descriptor is ready. Returns the next query, if there is one.
    pub(super) fn proceed(&mut self, now: Instant) -> Result<Option<Vec<u8>>, Closed> {
        self.flush(now)?;
        if self.is_waiting || !self.unsent.is_empty() {
            return Ok(None);
        }
        let mut part = [0; 512];
        loop {
            if let Some((length, rest)) = self.received.split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                if length > MAX_QUERY {
                    return Err(Closed);
                }
                if let Some(query) = rest.get(..length) {
                    let query = query.to_vec();
                    self.received.drain(..2 + length);
                    self.is_waiting = true;
                    return Ok(Some(query));
                }
            }
            match self.socket.read(&mut part) {
                Ok(0) => return Err(Closed),
                Ok(count) => {
                    self.received.extend_from_slice(part.get(..count).unwrap_or_default());
                    self.deadline = now + IDLE;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
    }

    /// Sends an answer.
    pub(super) fn answer(&mut self, answer: &[u8], now: Instant) -> Result<(), Closed> {
        let length = u16::try_from(answer.len()).map_err(|_| Closed)?;
        self.unsent.extend(length.to_be_bytes());
        self.unsent.extend(answer);
        self.is_waiting = false;
        self.flush(now)
    }

    fn flush(&mut self, now: Instant) -> Result<(), Closed> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(Closed),
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.deadline = now + IDLE;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        Ok(())
    }
}
