//! The bytes of a connection: as they are, or over TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::tls_output;

/// Maximum number of bytes that wait to be encrypted or sent.
const MAX_BUFFERED: usize = 32 * 1024;
/// Number of reads from the socket in a turn.
const BUDGET: usize = 8;

/// A stream without blocking.
#[derive(Debug)]
pub(super) enum Transport {
    /// Without encryption.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream>),
}

/// A connection over TLS.
#[derive(Debug)]
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    /// Number of bytes that are decrypted and not yet read.
    readable: usize,
}

impl Transport {
    /// Creates a stream; with `tls`, over TLS with these settings.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn new(socket: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let Some(config) = tls else { return Ok(Self::Plain(socket)) };
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(MAX_BUFFERED));
        Ok(Self::Tls(Box::new(TlsStream { socket, tls, readable: 0 })))
    }

    /// Returns true for a connection over TLS.
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns true until the handshake of TLS is complete.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.tls.is_handshaking())
    }

    /// Returns true if bytes can be read without a socket that is ready.
    pub(super) const fn has_buffered(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.readable > 0)
    }

    /// Returns true if bytes wait to be sent.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.tls.wants_write())
    }

    /// Tells the client that no more bytes follow.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.tls.send_close_notify();
                stream.send()?;
                stream.socket.shutdown(Shutdown::Write)
            }
        }
    }
}

impl Read for Transport {
    /// Reads bytes. `WouldBlock` if there are none, also while TLS has its handshake.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    /// Writes bytes, of which some may wait to be sent.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    /// Sends what waits. `WouldBlock` if some still does.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => {
                stream.send()?;
                if stream.tls.wants_write() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            }
        }
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..BUDGET {
            if self.readable > 0 {
                break;
            }
            self.send()?;
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.readable = state.plaintext_bytes_to_read();
                    if self.readable == 0 && state.peer_has_closed() {
                        return Ok(0);
                    }
                }
                Err(error) => {
                    // the alert, for the browser's message
                    let _ = self.send();
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
            // the rest of the handshake
            self.send()?;
        }
        // also after many records without content: other connections come first
        let length = self.tls.reader().read(buffer)?;
        self.readable = self.readable.saturating_sub(length);
        Ok(length)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        let length = self.tls.writer().write(bytes)?;
        self.send()?;
        if length == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(length) }
    }

    /// Sends encrypted bytes until there are none or the socket is full.
    fn send(&mut self) -> io::Result<()> {
        tls_output::send(&mut self.tls, &mut self.socket)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.socket.as_fd(),
        }
    }
}
