//! The TUN device: packets between this process and the host's IP stack.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst. With offloads, packets have a
//! virtio-net header in front ([`crate::packet::virtio`]) and may be super-packets; such queues are
//! attached in [`crate::sys::tun`]. Without, one queue carries packets as they are, and the
//! `tun-tap` crate opens it.

mod open;

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::config::TunName;
use crate::messages;
use crate::packet::virtio::Layout;

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
    /// Another process attaches to each new device before it has an owner.
    #[error(
        "cannot make {0}: another process attaches to each new tun device before it has an owner: find it (fuser -v {NODE}) and stop it, or make {NODE} accessible to root only (chmod 0600 {NODE})"
    )]
    Contended(TunName),
    /// Anything else.
    #[error("cannot open the tun device {name}: {source}")]
    Other {
        /// The device.
        name: TunName,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A queue of an open TUN device.
#[derive(Debug)]
pub struct Tun {
    file: Arc<File>,
    /// Each packet has a virtio-net header in front and may be a super-packet; otherwise each read
    /// and write is one IP packet.
    is_offloaded: bool,
    /// Whether nobody else reads this queue.
    is_own: bool,
    udp: bool,
}

impl Tun {
    /// Returns a descriptor of the queue and its description, for another process.
    ///
    /// # Errors
    /// The kernel's, such as too many open files.
    pub fn into_parts(self) -> io::Result<(OwnedFd, messages::Queue)> {
        let Self { file, is_offloaded, is_own, udp } = self;
        let queue = match Arc::try_unwrap(file) {
            Ok(file) => file.into(),
            Err(shared) => shared.as_fd().try_clone_to_owned()?,
        };
        Ok((queue, messages::Queue { is_offloaded, is_own, takes_udp: udp }))
    }

    /// Takes a queue that another process has opened.
    pub fn from_parts(queue: OwnedFd, description: messages::Queue) -> Self {
        let messages::Queue { is_offloaded, is_own, takes_udp } = description;
        Self { file: Arc::new(File::from(queue)), is_offloaded, is_own, udp: takes_udp }
    }

    /// Whether this way into the device is to be read, and by nobody else.
    pub const fn is_own(&self) -> bool {
        self.is_own
    }

    /// The header in front of each packet that is read or written; `None` if there is none, and no super-packets.
    pub const fn layout(&self) -> Option<Layout> {
        if self.is_offloaded { Some(Layout::Short) } else { None }
    }

    /// Whether super-packets of UDP may be written.
    pub const fn takes_udp(&self) -> bool {
        self.udp
    }

    /// Reads one packet into `buffer`, with its header in front, and gives the number of bytes. What is longer than the
    /// buffer is cut, so the buffer holds 65,535 bytes besides the header.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_tun`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.as_ref().read(buffer)
    }

    /// Writes one packet, of which `pieces` are the parts: the first is the header, where there is one.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_tun`].
    pub fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        // the driver takes a packet whole or not at all
        self.file.as_ref().write_vectored(pieces).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
