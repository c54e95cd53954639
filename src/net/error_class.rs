//! Classification of I/O errors for the event loop: wait, count and continue, or give up.
//!
//! Most network errors are temporary; only an unusable descriptor ends the loop.

use std::io;

use nix::errno::Errno;

use wontun_packet::DropReason;

/// Class of an I/O error, which determines the action to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing to read, or no space to write: wait for the next readiness event.
    WouldBlock,
    /// The packet or datagram is lost, for this reason; continue.
    Drop(DropReason),
    /// As `Drop(Unreachable)`, but permanent if our source address was removed: reconnect.
    SourceAddressLost,
    /// The descriptor is unusable.
    Fatal,
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Classifies an error of a UDP socket, on sending or receiving.
pub fn of_socket(error: &io::Error) -> ErrorClass {
    match errno(error) {
        // EWOULDBLOCK is the same number on Linux
        Errno::EAGAIN => ErrorClass::WouldBlock,
        Errno::ENOBUFS | Errno::ENOMEM => ErrorClass::Drop(DropReason::QueueFull),
        Errno::ECONNREFUSED => ErrorClass::Drop(DropReason::Refused),
        // netfilter, and a route of the type prohibit
        Errno::EPERM | Errno::EACCES => ErrorClass::Drop(DropReason::Blocked),
        Errno::EMSGSIZE => ErrorClass::Drop(DropReason::TooBig),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN => ErrorClass::Drop(DropReason::Unreachable),
        Errno::ENETUNREACH | Errno::EINVAL | Errno::EADDRNOTAVAIL => ErrorClass::SourceAddressLost,
        Errno::EBADF | Errno::ENOTSOCK => ErrorClass::Fatal,
        _ => ErrorClass::Drop(DropReason::SocketError),
    }
}

/// Classifies an error of the TUN device, on reading or writing. `EBADFD` means that the device was
/// deleted.
pub fn of_tun(error: &io::Error) -> ErrorClass {
    match errno(error) {
        Errno::EAGAIN => ErrorClass::WouldBlock,
        Errno::EIO => ErrorClass::Drop(DropReason::TunDown),
        Errno::ENOBUFS | Errno::ENOMEM => ErrorClass::Drop(DropReason::QueueFull),
        Errno::EBADF | Errno::EBADFD => ErrorClass::Fatal,
        _ => ErrorClass::Drop(DropReason::TunError),
    }
}
