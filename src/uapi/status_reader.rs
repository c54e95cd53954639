//! Reads the answer to a request for the status without blocking.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::status::TunnelStatus;
use crate::config::TunName;
use crate::net::timer::now;
use wontun_proto::time::Instant;

/// Timeout of a whole answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum length of a line in bytes. A longer one ends the answer.
const MAX_LINE: usize = 4096;
/// Maximum number of bytes read at once, so that others get a turn.
const BUDGET: usize = 1 << 20;

/// An answer that is being read. Lines of the tunnel process are not trusted.
#[derive(Debug)]
pub(crate) struct StatusReader {
    socket: UnixStream,
    /// The beginning of a line.
    rest: Vec<u8>,
    status: TunnelStatus,
    deadline: Instant,
}

impl StatusReader {
    /// Creates a reader of a stream socket.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(crate) fn new(socket: OwnedFd, now: Instant) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let status = TunnelStatus::new(&TunName::default());
        Ok(Self { socket, rest: Vec::new(), status, deadline: now + TIMEOUT })
    }

    /// Returns the time at which the answer is given up.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads what is there. Returns the status once it is complete.
    ///
    /// # Errors
    /// The answer ends early, is late, or is none.
    pub(crate) fn read(&mut self) -> io::Result<Option<TunnelStatus>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let mut piece = vec![0; 64 * 1024];
        let mut total = 0;
        while total < BUDGET {
            let length = match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if now()? < self.deadline { Ok(None) } else { Err(error) };
                }
                Err(error) => return Err(error),
            };
            total += length;
            self.rest.extend_from_slice(piece.get(..length).unwrap_or_default());
            let mut done = 0;
            while let Some(end) = self.rest.iter().skip(done).position(|&byte| byte == b'\n') {
                let line = self.rest.get(done..done + end).ok_or_else(invalid)?;
                done += end + 1;
                let line = std::str::from_utf8(line).map_err(|_| invalid())?;
                match line.split_once('=') {
                    Some(("errno", "0")) => {
                        let empty = TunnelStatus::new(&TunName::default());
                        return Ok(Some(std::mem::replace(&mut self.status, empty)));
                    }
                    Some(("errno", _)) => return Err(invalid()),
                    Some((key, value)) => self.status.handle_line(key, value).ok_or_else(invalid)?,
                    None => return Err(invalid()),
                }
            }
            self.rest.drain(..done);
            if self.rest.len() > MAX_LINE {
                return Err(invalid());
            }
        }
        Ok(None)
    }
}

impl AsFd for StatusReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut reader = StatusReader::new(far.into(), now().unwrap()).unwrap();
        let key = "07".repeat(32);
        let text = format!("version=1\npublic_key={key}\nrx_bytes=5\nhas_session=true\nerrno=0\n\n");
        let (first, last) = text.split_at(60);
        assert_eq!(reader.read().unwrap(), None);
        near.write_all(first.as_bytes()).unwrap();
        assert_eq!(reader.read().unwrap(), None);
        near.write_all(last.as_bytes()).unwrap();
        let status = reader.read().unwrap().unwrap();
        assert!(status.peers[0].received == 5 && status.peers[0].has_session);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in ["x\n", "rx_bytes=x\npublic_key=0\n", "errno=-1\n", &"x".repeat(MAX_LINE + 1), ""] {
            let (mut near, far) = UnixStream::pair().unwrap();
            let mut reader = StatusReader::new(far.into(), now().unwrap()).unwrap();
            near.write_all(text.as_bytes()).unwrap();
            drop(near);
            assert!(reader.read().is_err(), "{text:.20}");
        }
    }
}
