//! Marked sockets, passed from the process that may set a mark to the one that may not.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

/// Number of sockets per request: UDP and TCP, over IPv4 and IPv6.
const COUNT: usize = 4;

/// Creates sockets with the mark, if there is one; skips address families that this host does not
/// have.
///
/// # Errors
/// No socket could be created: no descriptors are left, or the privilege is missing.
pub(super) fn open(mark: Option<NonZeroU32>) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::with_capacity(COUNT);
    let mut failure = None;
    for domain in [Domain::IPV4, Domain::IPV6] {
        for kind in [Type::DGRAM, Type::STREAM] {
            let socket = Socket::new(domain, kind, None).and_then(|socket| {
                if let Some(mark) = mark {
                    socket.set_mark(mark.get())?;
                }
                Ok(socket.into())
            });
            match socket {
                Ok(socket) => sockets.push(socket),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
    }
    failure.filter(|_| sockets.is_empty()).map_or(Ok(sockets), Err)
}
