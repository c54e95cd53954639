//! The way of a forwarded query to a name server, without encryption or over TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use socket2::{Domain, Socket, Type};

use super::message::{self, Query};

/// Time that a name server has for its answer; over TLS with that for the handshakes.
const TIMEOUT: Duration = Duration::from_secs(2);
const TLS_TIMEOUT: Duration = Duration::from_secs(4);

/// A query's socket, or the server whose connection it uses.
#[derive(Debug)]
pub(super) enum Transport {
    Udp(UdpSocket),
    Tcp(TcpExchange),
    /// The connection to the server with this number, which other queries use, too.
    Tls(usize),
}

/// A query over TCP (RFC 1035, section 4.2.2).
#[derive(Debug)]
pub(super) struct TcpExchange {
    socket: TcpStream,
    /// Bytes that are not yet sent.
    unsent: Vec<u8>,
    received: Vec<u8>,
}

impl Transport {
    /// Sends a query from a socket of its own: the kernel chooses its port at random, which makes
    /// answers hard to forge (RFC 5452), and it receives from the server only.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn open(message: &[u8], is_tcp: bool, server: SocketAddr) -> io::Result<Self> {
        let kind = if is_tcp { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(server), kind, None)?;
        socket.set_nonblocking(true)?;
        if !is_tcp {
            socket.connect(&server.into())?;
            socket.send(message)?;
            return Ok(Self::Udp(socket.into()));
        }
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        let length = u16::try_from(message.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let unsent = [&length.to_be_bytes(), message].concat();
        Ok(Self::Tcp(TcpExchange { socket: socket.into(), unsent, received: Vec::new() }))
    }

    /// Returns the time that the server has for its answer.
    pub(super) const fn timeout(&self) -> Duration {
        match self {
            Self::Udp(_) | Self::Tcp(_) => TIMEOUT,
            Self::Tls(_) => TLS_TIMEOUT,
        }
    }

    /// Returns the descriptor and the events to wait for, if the query has a socket of its own.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Udp(socket) => Some((socket.as_fd(), PollFlags::POLLIN)),
            Self::Tcp(tcp) if tcp.unsent.is_empty() => Some((tcp.socket.as_fd(), PollFlags::POLLIN)),
            Self::Tcp(tcp) => Some((tcp.socket.as_fd(), PollFlags::POLLOUT)),
            Self::Tls(_) => None,
        }
    }

    /// Continues once the descriptor is ready. `buffer` has room for any datagram.
    ///
    /// # Errors
    /// The server gives no answer.
    pub(super) fn proceed(
        &mut self,
        buffer: &mut [u8],
        query: &Query,
        id: u16,
    ) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Udp(socket) => receive(socket, buffer, query, id),
            Self::Tcp(tcp) => tcp.proceed(query, id),
            Self::Tls(_) => Ok(None),
        }
    }
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
