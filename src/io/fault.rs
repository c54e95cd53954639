//! What an error of a descriptor means for the loop: wait, count and go on, or give up.
//!
//! A network says no in many ways that pass; only a dead descriptor ends the loop.

use std::io;

use nix::errno::Errno;

use crate::counters::DropReason;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing there, or no room: the next edge tells.
    WouldBlock,
    /// The packet or datagram is lost, for this reason; go on.
    Drop(DropReason),
    /// As `Drop(Unreachable)`, and it will repeat for ever if our source address is gone: reconnect.
    SourceGone,
    /// The descriptor is of no more use.
    Dead,
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// The meaning of an error of a UDP socket, sending or receiving.
pub fn of_socket(error: &io::Error) -> Fault {
    match errno(error) {
        // the same number on Linux: EWOULDBLOCK
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

/// The meaning of an error of the tun, reading or writing. EBADFD: the device was deleted.
pub fn of_tun(error: &io::Error) -> Fault {
    match errno(error) {
        Errno::EAGAIN => Fault::WouldBlock,
        Errno::EIO => Fault::Drop(DropReason::TunDown),
        Errno::ENOBUFS | Errno::ENOMEM => Fault::Drop(DropReason::QueueFull),
        Errno::EBADF | Errno::EBADFD => Fault::Dead,
        _ => Fault::Drop(DropReason::TunError),
    }
}
