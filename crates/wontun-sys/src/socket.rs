//! Socket options that neither nix nor socket2 offers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Lets routers fragment the datagrams of an IPv4 socket (`IP_PMTUDISC_DONT`): with DF set, a path
/// with a smaller MTU that sends no ICMP error would drop every large packet.
///
/// # Errors
/// Errors of the kernel, such as `ENOPROTOOPT` on a socket that is not IPv4.
pub fn disable_pmtu_discovery(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
}

/// Memory use and limits of a socket in the kernel, in bytes, and the datagrams dropped because a
/// buffer was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes received and not read yet.
    pub receive_queue: u64,
    /// Size of the receive buffer (`SO_RCVBUF`).
    pub receive_buffer: u64,
    /// Bytes sent that have not left yet.
    pub send_queue: u64,
    /// Size of the send buffer (`SO_SNDBUF`).
    pub send_buffer: u64,
    /// Datagrams dropped since the socket was opened; the kernel's counter has 32 bits.
    pub drops: u64,
}

/// Returns the memory of a socket (`SO_MEMINFO`, Linux 4.12).
///
/// # Errors
/// Errors of the kernel.
pub fn memory(socket: impl AsFd) -> io::Result<Memory> {
    let mut numbers = [0_u32; 16];
    let mut length = libc::socklen_t::try_from(size_of_val(&numbers)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while borrowed, and the kernel writes at most `length` bytes
    // into `numbers`, for which all bit patterns are valid; both outlive the call.
    let result = unsafe {
        let numbers = (&raw mut numbers).cast();
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, numbers, &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // in the order of linux/sock_diag.h; values that an older kernel does not return are 0
    let [receive_queue, receive_buffer, send_queue, send_buffer, _, _, _, _, drops, ..] =
        numbers.map(u64::from);
    Ok(Memory { receive_queue, receive_buffer, send_queue, send_buffer, drops })
}

/// Makes the kernel choose the socket of a `SO_REUSEPORT` group by a program of socket filter
/// instructions (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5), which reads a datagram's payload and
/// returns the socket's number.
///
/// # Errors
/// Errors of the kernel, such as `EINVAL` for an invalid program or a socket without a group.
pub fn attach_reuseport_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while borrowed; the kernel reads `length` bytes of `program`
    // and the instructions that it points to, writes neither, and both outlive the call.
    let result = unsafe {
        let program = (&raw const program).cast();
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends without UDP checksums, which also prevents the kernel from splitting messages.
#[cfg(any(test, feature = "testing"))]
pub fn omit_checksums(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

fn set(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while borrowed, and the kernel reads `length` bytes of
    // `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn queued_and_dropped_datagrams_are_reported() {
        let [reader, writer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        writer.connect(reader.local_addr().unwrap()).unwrap();
        let empty = memory(&reader).unwrap();
        assert_eq!((empty.receive_queue, empty.drops), (0, 0));
        assert!(empty.receive_buffer >= 2048 && empty.send_buffer >= 2048, "{empty:?}");
        writer.send(&[0; 100]).unwrap();
        let one = memory(&reader).unwrap();
        assert!(one.receive_queue >= 100, "{one:?}");
        let most = one.receive_buffer / 100;
        for _ in 0..most {
            writer.send(&[0; 100]).unwrap();
        }
        let full = memory(&reader).unwrap();
        assert!(full.drops > 0 && full.drops < most && full.receive_queue > one.receive_queue, "{full:?}");
    }
}
