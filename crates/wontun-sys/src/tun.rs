//! The ioctls of the TUN driver (the kernel's `include/uapi/linux/if_tun.h`), and access to the
//! descriptor of `tun-tap`'s interface, which offers only a number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;

/// TCP offloads for both address families: super-packets are read and written, checksums are not
/// completed by the kernel.
pub const TCP_OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// The same for UDP; since Linux 6.2, and only both together.
pub const UDP_OFFLOADS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// The same for TCP and UDP inside a UDP tunnel such as VXLAN, whose header may have a checksum:
/// `TUN_F_UDP_TUNNEL_GSO` and `TUN_F_UDP_TUNNEL_GSO_CSUM`; since Linux 6.17. Needs the larger
/// [`TUNNEL_HEADER`].
pub const TUNNEL_OFFLOADS: u32 = 0x080 | 0x100;

/// Bytes of the virtio-net header unless another process set another size: `struct virtio_net_hdr`.
pub const HEADER: u8 = 10;
/// Bytes of the virtio-net header with the positions of the headers in a UDP tunnel: `struct
/// virtio_net_hdr_v1_hash_tunnel`.
pub const TUNNEL_HEADER: u8 = 24;

/// Borrows the descriptor of `iface` for as long as the interface exists.
pub fn descriptor(iface: &tun_tap::Iface) -> BorrowedFd<'_> {
    // SAFETY: `Iface` owns the open file and closes it only when dropped, which the borrow
    // prevents.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}

/// Returns the features of the driver behind `node`, an open `/dev/net/tun`, as flags of
/// linux/if_tun.h such as `IFF_MULTI_QUEUE`. Creates no device.
///
/// # Errors
/// Errors of the kernel.
pub fn features(node: impl AsFd) -> io::Result<u32> {
    let mut features: libc::c_uint = 0;
    // SAFETY: the descriptor is open while borrowed; TUNGETFEATURES writes one unsigned int, which
    // outlives the call.
    result(unsafe { libc::ioctl(node.as_fd().as_raw_fd(), libc::TUNGETFEATURES, &raw mut features) })?;
    Ok(features)
}

/// Attaches `node`, an open `/dev/net/tun`, as a queue with virtio-net headers to the device
/// `name`, which is created if it does not exist. With `many` the device can have several queues.
/// With `new` an existing device is refused.
///
/// # Errors
/// `EINVAL` for a device of another kind, for one that was created with another choice of `many`,
/// or where the driver has no such headers; `EBUSY` for one whose only queue is taken, or with
/// `new`; `EPERM` without `CAP_NET_ADMIN`.
pub fn attach(node: impl AsFd, name: &str, many: bool, new: bool) -> io::Result<()> {
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if many {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    if new {
        flags |= libc::IFF_TUN_EXCL;
    }
    // SAFETY: all zeroes is a valid value of this structure of numbers and bytes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        // c_char is signed on some architectures
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // the upper bit belongs to the flags: the field is a short whose sign has no meaning
    let [low, high, ..] = flags.to_le_bytes();
    request.ifr_ifru.ifru_flags = libc::c_short::from_le_bytes([low, high]);
    // SAFETY: the descriptor is open while borrowed; TUNSETIFF reads and writes one `ifreq`, which
    // outlives the call.
    result(unsafe { libc::ioctl(node.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// Sets the header size of all queues of the device, in bytes, and sets the offloads that they may
/// use: both belong to the device and persist after the process that set them.
///
/// # Errors
/// `EINVAL` for an offload that the kernel does not support.
pub fn set_offloads(queue: impl AsFd, header: u8, offloads: u32) -> io::Result<()> {
    let queue = queue.as_fd().as_raw_fd();
    let header = libc::c_int::from(header);
    // SAFETY: the descriptor is open while borrowed; TUNSETVNETHDRSZ reads one int, which outlives
    // the call.
    result(unsafe { libc::ioctl(queue, libc::TUNSETVNETHDRSZ, &raw const header) })?;
    // SAFETY: as above; the argument of TUNSETOFFLOAD is a number.
    result(unsafe { libc::ioctl(queue, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
}

/// Lets only `uid`, and processes with `CAP_NET_ADMIN` in the device's network namespace, attach to
/// the device from now on. Queues that are attached already are not affected.
///
/// # Errors
/// `EINVAL` for a user that this process's user namespace does not map.
pub fn set_owner(queue: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed; the argument of TUNSETOWNER is a number.
    result(unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(uid)) })
}

/// Sets the group whose members may attach to the device. A group cannot be removed again.
///
/// # Errors
/// `EINVAL` for a group that this process's user namespace does not map.
pub fn set_group(queue: impl AsFd, gid: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed; the argument of TUNSETGROUP is a number.
    result(unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNSETGROUP, libc::c_ulong::from(gid)) })
}

/// Resets the settings that an earlier user of the device may have left and that rtnetlink does not
/// show: byte order of headers, steering and filter programs, send buffer, link type, carrier. A
/// setting that the kernel does not support, or that cannot be changed while the device is up,
/// stays as it is.
pub fn reset_settings(queue: impl AsFd) {
    const NONE: libc::c_int = -1;
    let queue = queue.as_fd().as_raw_fd();
    for (request, value) in [
        (libc::TUNSETVNETLE, 0),
        (libc::TUNSETVNETBE, 0),
        (libc::TUNSETSTEERINGEBPF, NONE),
        (libc::TUNSETFILTEREBPF, NONE),
        (libc::TUNSETSNDBUF, libc::c_int::MAX),
        (libc::TUNSETCARRIER, 1),
    ] {
        let value: libc::c_int = value;
        // SAFETY: the descriptor is open while borrowed; each of these reads one int, which
        // outlives the call.
        let _ = unsafe { libc::ioctl(queue, request, &raw const value) };
    }
    // SAFETY: as above; the argument of TUNSETLINK is a number.
    let _ = unsafe { libc::ioctl(queue, libc::TUNSETLINK, libc::c_ulong::from(libc::ARPHRD_NONE)) };
}

fn result(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
