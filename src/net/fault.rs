//! Classification of a descriptor's errors for the loop: wait, count and continue, or give up.
//!
//! Most network errors are temporary; only an unusable descriptor ends the loop.

use std::io;

use nix::errno::Errno;

use wontun_packet::DropReason;

/// The action to take on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing to read, or no space to write: wait for the next readiness event.
    WouldBlock,
    /// The packet or datagram is lost, for this reason; continue.
    Drop(DropReason),
    /// As `Drop(Unreachable)`, but permanent if our source address was removed: reconnect.
    SourceGone,
    /// The descriptor is unusable.
    Dead,
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Classifies an error of a UDP socket, on sending or receiving.
pub fn of_socket(error: &io::Error) -> Fault {
    match errno(error) {
        // EWOULDBLOCK is the same number on Linux
        Errno::EAGAIN => Fault::WouldBlock,
        Errno::ENOBUFS | Errno::ENOMEM => Fault::Drop(DropReason::QueueFull),
        Errno::ECONNREFUSED => Fault::Drop(DropReason::Refused),
        Errno::EMSGSIZE => Fault::Drop(DropReason::TooBig),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN => Fault::Drop(DropReason::Unreachable),
        Errno::ENETUNREACH | Errno::EINVAL | Errno::EADDRNOTAVAIL => Fault::SourceGone,
        Errno::EBADF | Errno::ENOTSOCK => Fault::Dead,
        _ => Fault::Drop(DropReason::SocketError),
    }
}

/// Classifies an error of the TUN device, on reading or writing. `EBADFD` means that the device was
/// deleted.
pub fn of_tun(error: &io::Error) -> Fault {
    match errno(error) {
        Errno::EAGAIN => Fault::WouldBlock,
        Errno::EIO => Fault::Drop(DropReason::TunDown),
        Errno::ENOBUFS | Errno::ENOMEM => Fault::Drop(DropReason::QueueFull),
        Errno::EBADF | Errno::EBADFD => Fault::Dead,
        _ => Fault::Drop(DropReason::TunError),
    }
}
