//! The TUN device: packets between this process and the host's IP stack.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst; the device is opened by the `tun-tap` crate.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use tun_tap::{Iface, Mode};

use crate::config::TunName;
use crate::sys;

const NODE: &str = "/dev/net/tun";

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The node does not exist.
    #[error(
        "{NODE} does not exist: load the module (modprobe tun), or give it to the container (docker run --device=/dev/net/tun)"
    )]
    NoNode,
    /// The node exists, its driver does not.
    #[error("{NODE} exists but the kernel has no tun driver: load it on the host (modprobe tun)")]
    NoDriver,
    /// The node's mode keeps us out.
    #[error(
        "no permission on {NODE} (mode {mode:04o}, owner {owner}): run as root or make it readable and writable (chmod 0666 {NODE})"
    )]
    Mode {
        /// Permission bits of the node.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
    },
    /// A device cgroup keeps us out.
    #[error(
        "{NODE} is not allowed here: give it to the container (docker run --device=/dev/net/tun) or the unit (DeviceAllow=/dev/net/tun rw)"
    )]
    Cgroup,
    /// The kernel refuses the device for want of a capability.
    #[error(
        "may not create {0}: CAP_NET_ADMIN is missing in this network namespace (root, setcap cap_net_admin=ep, or docker run --cap-add=NET_ADMIN)"
    )]
    NotPermitted(TunName),
    /// Another process holds the device.
    #[error("{0} is taken by another process: stop it, or choose another name with --tun")]
    Taken(TunName),
    /// There is a device of that name of another kind.
    #[error(
        "{0} exists and is no plain tun device: choose another name with --tun, or remove it (ip link del {0})"
    )]
    OtherKind(TunName),
    /// Anything else.
    #[error("cannot open the tun device {name}: {source}")]
    Other {
        /// The device.
        name: TunName,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An open TUN device without packet information: each read and write is one IP packet.
#[derive(Debug)]
pub struct Tun(Iface);

impl Tun {
    /// Makes the device, or takes over a persistent one that nobody holds.
    ///
    /// # Errors
    /// [`TunError`], with the remedy.
    pub fn open(name: &TunName) -> Result<Self, TunError> {
        let other = |source| TunError::Other { name: name.clone(), source };
        // `tun-tap` does not tell a node that cannot be opened from a device that cannot be made
        OpenOptions::new().read(true).write(true).open(NODE).map_err(|error| node_error(error, name))?;
        let iface = Iface::without_packet_info(name.as_str(), Mode::Tun).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EBUSY) => TunError::Taken(name.clone()),
                Some(Errno::EPERM) => TunError::NotPermitted(name.clone()),
                Some(Errno::EINVAL) => TunError::OtherKind(name.clone()),
                _ => other(error),
            }
        })?;
        iface.set_non_blocking().map_err(other)?;
        Ok(Self(iface))
    }

    /// Reads one packet into `buffer` and gives its length in bytes. A packet longer than the buffer is cut, so
    /// the buffer holds 65,535 bytes.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_tun`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_tun`].
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        // the driver takes a packet whole or not at all
        self.0.send(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::tun::descriptor(&self.0)
    }
}

fn node_error(error: io::Error, name: &TunName) -> TunError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => TunError::NoNode,
        Some(Errno::ENODEV | Errno::ENXIO) => TunError::NoDriver,
        Some(Errno::EPERM) => TunError::Cgroup,
        Some(Errno::EACCES) => match fs::metadata(NODE) {
            Ok(node) => TunError::Mode { mode: node.mode() & 0o7777, owner: node.uid() },
            Err(_) => TunError::Cgroup,
        },
        _ => TunError::Other { name: name.clone(), source: error },
    }
}
