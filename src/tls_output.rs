//! The encrypted bytes of a TLS connection on their way to its socket.

use std::io::{self, ErrorKind, Write};

use rustls::ConnectionCommon;

/// Sends the bytes that wait, until there are none or the non-blocking `socket` is full.
///
/// # Errors
/// An error of the socket, after which the connection is of no use.
pub(crate) fn send<Data>(tls: &mut ConnectionCommon<Data>, socket: &mut impl Write) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
