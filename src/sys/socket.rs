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
    let value: libc::c_int = libc::IP_PMTUDISC_DONT;
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while borrowed, and the kernel reads `length` bytes of `value`, which
    // outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
