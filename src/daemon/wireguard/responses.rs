//! Responses to wg(8) and `wontun show`: the supervisor reads the requests and passes the
//! connection; the response is written here, and nothing is read.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use zeroize::Zeroizing;

/// Maximum number of bytes written per turn.
const CHUNK: usize = 256 << 10;

/// Incomplete answers, by the number of the connection.
#[derive(Debug, Default)]
pub(super) struct PendingResponses(pub(super) HashMap<u32, ResponseWriter>);

/// An answer and its connection, which the supervisor has open too.
pub(super) struct ResponseWriter {
    pub(super) connection: OwnedFd,
    text: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl std::fmt::Debug for ResponseWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerWriter").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteProgress {
    /// Everything is written, or the client is gone.
    All,
    /// There may be room for more.
    Some,
    /// The socket is full.
    Blocked,
}

impl ResponseWriter {
    pub(super) const fn new(connection: OwnedFd, text: Zeroizing<Vec<u8>>) -> Self {
        Self { connection, text, sent: 0 }
    }

    /// Writes up to [`CHUNK`] bytes.
    pub(super) fn write(&mut self) -> WriteProgress {
        let end = self.text.len().min(self.sent + CHUNK);
        while let Some(rest) = self.text.get(self.sent..end).filter(|rest| !rest.is_empty()) {
            match send(&self.connection, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(0) => return WriteProgress::All,
                Ok(length) => self.sent += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return WriteProgress::Blocked,
                // the client is gone, or was disconnected
                Err(_) => return WriteProgress::All,
            }
        }
        if self.sent < self.text.len() { WriteProgress::Some } else { WriteProgress::All }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_answer_waits_for_room_and_ends_with_its_client() {
        let text = Zeroizing::new((0..=u8::MAX).cycle().take(1_000_000).collect::<Vec<_>>());
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut writer = ResponseWriter::new(near.try_clone().unwrap().into(), text.clone());
        let mut read = vec![0; text.len()];
        let mut length = 0;
        loop {
            match writer.write() {
                WriteProgress::All => break,
                WriteProgress::Some => {}
                WriteProgress::Blocked => length += far.read(&mut read[length..]).unwrap(),
            }
        }
        far.read_exact(&mut read[length..]).unwrap();
        assert_eq!(read, *text);

        let mut writer = ResponseWriter::new(near.try_clone().unwrap().into(), text);
        while writer.write() != WriteProgress::Blocked {}
        near.shutdown(Shutdown::Both).unwrap();
        assert_eq!(writer.write(), WriteProgress::All, "sent away by the supervisor");
    }
}
