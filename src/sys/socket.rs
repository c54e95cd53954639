//! Socket options that neither nix nor socket2 has.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Lets routers cut the datagrams of an IPv4 socket into fragments (IP_PMTUDISC_DONT): with DF set, a path that
/// is narrower than ours and says nothing about it would swallow every large packet.
///
/// # Errors
/// The kernel's, such as ENOPROTOOPT on a socket that is not IPv4.
pub fn allow_fragments(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
}

/// Sends without UDP checksums, which also keeps the kernel from cutting messages into datagrams.
#[cfg(test)]
pub fn omit_checksums(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

fn set(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while borrowed, and the kernel reads `length` bytes of `value`, which
    // outlives the call.
    let result = unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
