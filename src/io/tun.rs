//! The TUN device: packets between this process and the host's IP stack.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst. With offloads, packets have a virtio-net header in front
//! ([`crate::packet::virtio`]) and may be super-packets; such queues are opened in [`crate::sys::tun`]. Without, one
//! queue carries packets as they are, and the `tun-tap` crate opens it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use tun_tap::{Iface, Mode};

use crate::config::TunName;
use crate::link::{self, Occupant};
use crate::packet::virtio::Layout;
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

/// A queue of an open TUN device.
#[derive(Debug)]
pub struct Tun {
    queue: Queue,
    /// Whether nobody else reads this queue.
    is_own: bool,
    udp: bool,
}

#[derive(Debug)]
enum Queue {
    /// Each read and write is one IP packet.
    Plain(Arc<Iface>),
    /// Each is a virtio-net header and a packet or super-packet.
    Offloaded(Arc<File>),
}

/// Why offloads are not to be had.
enum Refusal {
    /// The device, the driver or a sandbox does not have them.
    Unsupported(io::Error),
    /// There is no device at all.
    Error(TunError),
}

impl Tun {
    /// Makes the device, or takes over a persistent one that nobody holds, and gives `count` ways into it: queues of
    /// their own where the device has as many, else one that the first alone reads and all can write to. Without
    /// `offload`, or where the kernel refuses it, packets are read and written one by one.
    ///
    /// # Errors
    /// [`TunError`], with the remedy.
    pub fn open(name: &TunName, count: usize, offload: bool) -> Result<Vec<Self>, TunError> {
        // `tun-tap` does not tell a node that cannot be opened from a device that cannot be made
        open_node().map_err(|error| node_error(error, name))?;
        if offload {
            match Self::open_offloaded(name, count) {
                Ok(queues) => return Ok(queues),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Unsupported(error)) => {
                    tracing::info!(%error, "{name} comes without offloads, which costs speed: packets pass one by one");
                }
            }
        }
        Self::open_plain(name, count)
    }

    fn open_offloaded(name: &TunName, count: usize) -> Result<Vec<Self>, Refusal> {
        let many = count > 1;
        let (first, many) = match attach(name, many, true) {
            Ok(node) => (node, many),
            Err(Refusal::Unsupported(error)) if error.raw_os_error() == Some(libc::EBUSY) => {
                Self::take_over(name, many)?
            }
            Err(refusal) => return Err(refusal),
        };
        let tcp = sys::tun::TCP_OFFLOADS;
        let udp = sys::tun::set_offloads(&first, tcp | sys::tun::UDP_OFFLOADS).is_ok();
        if !udp {
            sys::tun::set_offloads(&first, tcp).map_err(Refusal::Unsupported)?;
        }
        let first = Arc::new(first);
        let mut queues = vec![Self { queue: Queue::Offloaded(Arc::clone(&first)), is_own: true, udp }];
        for _ in 1..count {
            let own = if many { Some(Arc::new(attach(name, true, false)?)) } else { None };
            let is_own = own.is_some();
            let queue = Queue::Offloaded(own.unwrap_or_else(|| Arc::clone(&first)));
            queues.push(Self { queue, is_own, udp });
        }
        Ok(queues)
    }

    /// A device that is there already. Whether it takes several queues is for whoever made it to say.
    fn take_over(name: &TunName, many: bool) -> Result<(File, bool), Refusal> {
        let occupant = link::occupant(name.as_str()).map_err(|error| {
            Refusal::Error(TunError::Other { name: name.clone(), source: io::Error::other(error) })
        })?;
        match occupant {
            // the kernel would give a second process a queue of its own, and half of the packets
            Occupant::Tun(state) if state.is_held() => Err(Refusal::Error(TunError::Taken(name.clone()))),
            Occupant::Tun(state) => Ok((attach(name, state.multi_queue, false)?, state.multi_queue)),
            Occupant::Other => Err(Refusal::Error(TunError::OtherKind(name.clone()))),
            // it went away meanwhile, with a process that is ending
            Occupant::Nobody => Ok((attach(name, many, true)?, many)),
        }
    }

    fn open_plain(name: &TunName, count: usize) -> Result<Vec<Self>, TunError> {
        let other = |source| TunError::Other { name: name.clone(), source };
        let iface = Iface::without_packet_info(name.as_str(), Mode::Tun).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EBUSY) => TunError::Taken(name.clone()),
                Some(Errno::EPERM) => TunError::NotPermitted(name.clone()),
                Some(Errno::EINVAL) => TunError::OtherKind(name.clone()),
                _ => other(error),
            }
        })?;
        iface.set_non_blocking().map_err(other)?;
        // a persistent device may have some from its last user; where the kernel knows of none there are none
        let _ = sys::tun::set_offloads(sys::tun::descriptor(&iface), 0);
        let iface = Arc::new(iface);
        let queue =
            |number| Self { queue: Queue::Plain(Arc::clone(&iface)), is_own: number == 0, udp: false };
        Ok((0..count).map(queue).collect())
    }

    /// Whether this way into the device is to be read, and by nobody else.
    pub const fn is_own(&self) -> bool {
        self.is_own
    }

    /// The header in front of each packet that is read or written; `None` if there is none, and no super-packets.
    pub const fn layout(&self) -> Option<Layout> {
        match self.queue {
            Queue::Plain(_) => None,
            Queue::Offloaded(_) => Some(Layout::Short),
        }
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
        match &self.queue {
            Queue::Plain(iface) => iface.recv(buffer),
            Queue::Offloaded(file) => file.as_ref().read(buffer),
        }
    }

    /// Writes one packet, of which `pieces` are the parts: the first is the header, where there is one.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_tun`].
    pub fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        // the driver takes a packet whole or not at all
        match &self.queue {
            Queue::Plain(iface) => {
                let packet = pieces.first().map(|piece| &**piece).unwrap_or_default();
                iface.send(packet).map(drop)
            }
            Queue::Offloaded(file) => file.as_ref().write_vectored(pieces).map(drop),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.queue {
            Queue::Plain(iface) => sys::tun::descriptor(iface),
            Queue::Offloaded(file) => file.as_fd(),
        }
    }
}

fn open_node() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE)
}

/// A queue of its own with virtio-net headers. `new`: only of a device that is not there yet.
fn attach(name: &TunName, many: bool, new: bool) -> Result<File, Refusal> {
    let node = open_node().map_err(|error| Refusal::Error(node_error(error, name)))?;
    match sys::tun::attach(&node, name.as_str(), many, new) {
        Ok(()) => Ok(node),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => Refusal::Error(TunError::NotPermitted(name.clone())),
            Some(Errno::EBUSY) if !new => Refusal::Error(TunError::Taken(name.clone())),
            _ => Refusal::Unsupported(error),
        }),
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
