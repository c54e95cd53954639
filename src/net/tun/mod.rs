//! The TUN device: packets between this process and the host's IP stack.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst. With offloads, packets have a
//! virtio-net header in front ([`wontun_packet::virtio`]) and may be super-packets; such queues are
//! attached in [`wontun_sys::tun`]. Without, one queue carries packets as they are, and the
//! `tun-tap` crate opens it.

mod features;
mod open;

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::config::TunName;
use crate::exit::{self, ExitCode};
use crate::messages;
pub(crate) use features::features;
use wontun_packet::virtio::Layout;

/// The node of the driver.
pub(crate) const NODE: &str = "/dev/net/tun";

/// The reason why no TUN device could be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The node does not exist.
    #[error(
        "{NODE} does not exist: load the module (modprobe tun), or give it to the container (docker run --device=/dev/net/tun)"
    )]
    NoNode,
    /// The node exists, but its driver does not.
    #[error("{NODE} exists but the kernel has no tun driver: load it on the host (modprobe tun)")]
    NoDriver,
    /// The node's mode denies access.
    #[error(
        "no permission on {NODE} (mode {mode:04o}, owner {owner}): run as root or make it readable and writable (chmod 0666 {NODE})"
    )]
    Mode {
        /// Permission bits of the node.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
    },
    /// A device cgroup denies access.
    #[error(
        "{NODE} is not allowed here: give it to the container (docker run --device=/dev/net/tun) or the unit (DeviceAllow=/dev/net/tun rw)"
    )]
    Cgroup,
    /// The kernel refuses to create the device because a capability is missing.
    #[error(
        "cannot create {0}: CAP_NET_ADMIN is missing in this network namespace (root, setcap cap_net_admin=ep, or docker run --cap-add=NET_ADMIN)"
    )]
    NotPermitted(TunName),
    /// Another process uses the device.
    #[error("{0} is in use by another process: stop it, or choose another name with --tun")]
    Busy(TunName),
    /// A device of that name exists, but is of another kind.
    #[error(
        "{0} exists and is not a TUN device that wontun can use: choose another name with --tun, or remove it (ip link del {0})"
    )]
    OtherKind(TunName),
    /// Another process attaches to each new device before it has an owner.
    #[error(
        "cannot create {0}: another process attaches to each new tun device before it has an owner: find it (fuser -v {NODE}) and stop it, or make {NODE} accessible to root only (chmod 0600 {NODE})"
    )]
    Contended(TunName),
    /// Any other error.
    #[error("cannot open the tun device {name}: {source}")]
    Other {
        /// The device.
        name: TunName,
        /// The kernel's error.
        source: io::Error,
    },
}

impl ExitCode for TunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Mode { .. } | Self::Cgroup | Self::NotPermitted(_) => exit::NO_PERMISSION,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// A queue of an open TUN device. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Tun {
    file: Arc<File>,
    /// Without offloads, each read and write is one IP packet.
    description: messages::Queue,
}

impl Tun {
    /// Returns a descriptor of the queue and its description, for another process.
    ///
    /// # Errors
    /// Errors of the kernel, such as too many open files.
    pub fn into_parts(self) -> io::Result<(OwnedFd, messages::Queue)> {
        let Self { file, description } = self;
        let queue = match Arc::try_unwrap(file) {
            Ok(file) => file.into(),
            Err(shared) => shared.as_fd().try_clone_to_owned()?,
        };
        Ok((queue, description))
    }

    /// Creates a queue from a descriptor that another process opened.
    pub fn from_parts(queue: OwnedFd, description: messages::Queue) -> Self {
        Self { file: Arc::new(File::from(queue)), description }
    }

    /// Returns true if this queue must be read, and is read by nothing else.
    pub const fn is_exclusive(&self) -> bool {
        self.description.is_exclusive
    }

    /// Returns true if this is a worker's second queue.
    pub const fn is_sparse(&self) -> bool {
        self.description.is_sparse
    }

    /// Returns the layout of the header in front of each packet that is read or written; `None` if
    /// there are no headers and no super-packets.
    pub const fn layout(&self) -> Option<Layout> {
        match self.description {
            messages::Queue { is_offloaded: false, .. } => None,
            messages::Queue { has_tunnels: true, .. } => Some(Layout::Tunnel),
            messages::Queue { has_tunnels: false, .. } => Some(Layout::Short),
        }
    }

    /// Returns true if UDP super-packets may be written.
    pub const fn has_uso(&self) -> bool {
        self.description.has_uso
    }

    /// Reads one packet into `buffer`, with its header in front, and returns the number of bytes. A
    /// longer packet is truncated, so the buffer must hold 65,535 bytes plus the header.
    ///
    /// # Errors
    /// Errors of the kernel; see [`crate::net::error_class::of_tun`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.as_ref().read(buffer)
    }

    /// Writes one packet that consists of `pieces`: the first is the header, if there is one.
    ///
    /// # Errors
    /// Errors of the kernel; see [`crate::net::error_class::of_tun`].
    pub fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        // the driver accepts a packet whole or not at all
        self.file.as_ref().write_vectored(pieces).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
