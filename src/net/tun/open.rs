//! Opening a TUN device so that no other process gets a queue of it.
//!
//! A device without an owner can be attached to by every process that can open the node, and the
//! node is 0666 on most hosts. So the device is created under a random name and given an owner,
//! then checked over rtnetlink: a process that attached before the owner was set shows as an
//! additional queue, even if it has detached it (`numdisabled`). Such a device is deleted, and
//! another one is created. Only a device without foreign queues gets the requested name. A
//! persistent device that an administrator created is taken over in the same way, except that it is
//! not deleted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{getegid, geteuid};
use tun_tap::{Iface, Mode};

use super::{NODE, Tun, TunError};
use crate::config::TunName;
use crate::messages;
use crate::net::random::SystemRandom;
use crate::netlink::{self, ExistingLink, LinkError, TunState};
use wontun_proto::wireguard::Random as _;
use wontun_sys::process;
use wontun_sys::tun::{HEADER, TCP_OFFLOADS, TUNNEL_HEADER, TUNNEL_OFFLOADS, UDP_OFFLOADS};

/// Number of devices that are created before giving up. To attach to one in the microseconds before
/// it has an owner, a process has to be notified of it by the kernel first.
const ATTEMPTS: usize = 64;
/// The kernel's limit on the queues of a device (`MAX_TAP_QUEUES`).
const MAX_QUEUES: usize = 256;
/// Milliseconds to wait until the kernel no longer counts a thread that has ended.
const MAX_WAITS: u32 = 1000;

/// The form of a device's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QueueConfig {
    /// True for virtio-net headers in front of packets, false for the plain queue of `tun-tap`.
    offload: bool,
    /// Number of queues of a multi-queue device (`IFF_MULTI_QUEUE`); `None` for a single-queue
    /// device.
    queue_count: Option<u32>,
}

/// The offloads of a device beyond those of TCP.
#[derive(Clone, Copy, Debug, Default)]
struct TunOffloads {
    /// UDP super-packets.
    has_uso: bool,
    /// Super-packets in a UDP tunnel, and the longer header.
    has_tunnels: bool,
}

/// The reason why the queues could not be opened.
enum OpenError {
    /// The device, the driver or a sandbox does not support offloads.
    Unsupported(io::Error),
    /// The device could not be opened at all.
    Error(TunError),
}

/// An attached queue.
enum Attached {
    Plain(Iface),
    Offloaded(File),
}

impl Tun {
    /// Creates the device, or takes over a persistent one that no process uses, and returns `count`
    /// handles: separate queues where the device has many, and as many sparse ones behind them;
    /// else one queue that only the first handle reads and all can write to. Without `offload`, or
    /// where the kernel refuses it, packets are read and written one by one. The device belongs to
    /// root: no process without `CAP_NET_ADMIN` can attach to it.
    ///
    /// # Errors
    /// [`TunError`], with the remedy.
    pub fn open(name: &TunName, count: usize, offload: bool) -> Result<Vec<Self>, TunError> {
        // `tun-tap` does not distinguish a node that cannot be opened from a device that cannot be
        // made
        open_node().map_err(|error| node_error(error, name))?;
        if offload {
            let queue_count = u32::try_from(queue_count(count)).ok();
            match open_as(name, count, QueueConfig { offload, queue_count }) {
                Ok(queues) => return Ok(queues),
                Err(OpenError::Error(error)) => return Err(error),
                Err(OpenError::Unsupported(error)) => {
                    tracing::info!(%error, "{name} has no offloads, which reduces throughput: packets are read and written one by one");
                }
            }
        }
        open_as(name, count, QueueConfig { offload: false, queue_count: None }).map_err(|refusal| {
            match refusal {
                OpenError::Error(error) => error,
                OpenError::Unsupported(source) => TunError::Other { name: name.clone(), source },
            }
        })
    }
}

/// Returns `count` handles of the device.
fn open_as(name: &TunName, count: usize, config: QueueConfig) -> Result<Vec<Tun>, OpenError> {
    // once more if another process creates a device of that name in between
    for _ in 0..2 {
        let queues = match existing_link(name, name)? {
            ExistingLink::Absent => create(name, config)?,
            ExistingLink::Undescribed { .. } => {
                Some(attach_all(name, name, QueueConfig { queue_count: None, ..config }, false)?.0)
            }
            ExistingLink::Tun(state) if state.is_attached() => return Err(busy(name)),
            ExistingLink::Tun(state) => Some(take_over(name, &state, config)?),
            ExistingLink::Other => return Err(OpenError::Error(TunError::OtherKind(name.clone()))),
        };
        if let Some(queues) = queues {
            return configure_queues(name, queues, count);
        }
    }
    Err(busy(name))
}

/// Creates a device to which no other process has attached. Returns `None` if the name was taken in
/// the meantime.
fn create(name: &TunName, config: QueueConfig) -> Result<Option<Vec<Attached>>, OpenError> {
    let other = |source| OpenError::Error(TunError::Other { name: name.clone(), source });
    let mut random = SystemRandom::open().map_err(|error| other(io::Error::other(error)))?;
    for _ in 0..ATTEMPTS {
        let temporary = temporary_name(&mut random);
        let (queues, owner) = attach_all(&temporary, name, config, true)?;
        let index = match existing_link(&temporary, name)? {
            ExistingLink::Tun(state) if state == expected(&state, config, owner) => state.index,
            ExistingLink::Tun(TunState { index, .. }) => {
                tracing::debug!("another process attached to a new tun device, which is deleted");
                netlink::delete(index).map_err(|error| link_error(name, error))?;
                continue;
            }
            // on a single-queue device a second process gets EBUSY
            ExistingLink::Undescribed { index } if config.queue_count.is_none() => index,
            ExistingLink::Undescribed { .. } => {
                let error = "this kernel does not report the queues of a device (Linux 4.17 does)";
                return Err(OpenError::Unsupported(io::Error::new(io::ErrorKind::Unsupported, error)));
            }
            ExistingLink::Absent | ExistingLink::Other => {
                return Err(other(io::Error::other("the new device was removed by another process")));
            }
        };
        let renamed = netlink::rename(index, name.as_str()).map_err(|error| link_error(name, error))?;
        return Ok(renamed.then_some(queues));
    }
    Err(OpenError::Error(TunError::Contended(name.clone())))
}

/// Attaches to a persistent device that no process uses, and makes root its owner, permanently.
fn take_over(name: &TunName, before: &TunState, config: QueueConfig) -> Result<Vec<Attached>, OpenError> {
    if before.multi_queue && !config.offload {
        return Err(OpenError::Error(TunError::OtherKind(name.clone())));
    }
    // the number of queues was chosen when the device was created
    let queue_count = before.multi_queue.then(|| config.queue_count.unwrap_or(1));
    let config = QueueConfig { queue_count, ..config };
    let (queues, owner) = attach_all(name, name, config, false)?;
    let group = match (before.group, queues.first()) {
        (Some(_), Some(first)) => Some(set_group(first).map_err(|error| other(name, error))?),
        _ => None,
    };
    let wanted = TunState { group, persistent: true, ..expected(before, config, owner) };
    if existing_link(name, name)? != ExistingLink::Tun(wanted) {
        return Err(busy(name));
    }
    if (before.owner, before.group) != (wanted.owner, wanted.group) {
        let show = |id: Option<u32>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        tracing::info!(
            owner = show(before.owner),
            group = show(before.group),
            "{name} was accessible to other users: changed its owner to user {owner}"
        );
    }
    Ok(queues)
}

/// Returns the description of a new device that has the `config`, belongs to `owner`, and has no
/// foreign queues.
fn expected(state: &TunState, config: QueueConfig, owner: u32) -> TunState {
    TunState {
        index: state.index,
        owner: Some(owner),
        group: None,
        packet_info: false,
        virtio_header: config.offload,
        multi_queue: config.queue_count.is_some(),
        persistent: false,
        queues: config.queue_count,
    }
}

/// Attaches all queues of the device called `device`, and sets its owner as soon as it exists.
/// `new`: fail if the device exists already. Returns the queues and the owner.
fn attach_all(
    device: &TunName,
    name: &TunName,
    config: QueueConfig,
    new: bool,
) -> Result<(Vec<Attached>, u32), OpenError> {
    let attach = |new| {
        if config.offload {
            attach(device, name, config.queue_count.is_some(), new)
        } else {
            attach_plain(device, name)
        }
    };
    let first = attach(new)?;
    let owner = set_owner(&first).map_err(|error| other(name, error))?;
    let mut queues = vec![first];
    for _ in 1..config.queue_count.unwrap_or(1) {
        queues.push(attach(false)?);
    }
    Ok((queues, owner))
}

/// Makes root the owner of the device; the process's own user where the user namespace has no root.
fn set_owner(queue: impl AsFd + Copy) -> io::Result<u32> {
    set_first(&[0, geteuid().as_raw()], |uid| wontun_sys::tun::set_owner(queue, uid))
}

/// As [`set_owner`], for the group.
fn set_group(queue: impl AsFd + Copy) -> io::Result<u32> {
    set_first(&[0, getegid().as_raw()], |gid| wontun_sys::tun::set_group(queue, gid))
}

/// Sets the first of `ids` that the user namespace maps, and returns it.
fn set_first(ids: &[u32], set: impl Fn(u32) -> io::Result<()>) -> io::Result<u32> {
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EINVAL));
    for &id in ids {
        outcome = set(id).map(|()| id);
        if !matches!(&outcome, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
            break;
        }
    }
    outcome
}

/// Configures `queues`, which are all queues of the device, and returns `count` handles of them.
fn configure_queues(name: &TunName, queues: Vec<Attached>, count: usize) -> Result<Vec<Tun>, OpenError> {
    let mut offloads = TunOffloads::default();
    if let Some(first) = queues.first() {
        wontun_sys::tun::reset_settings(first);
        match first {
            Attached::Offloaded(_) => offloads = set_offloads(first).map_err(OpenError::Unsupported)?,
            Attached::Plain(iface) => {
                iface.set_non_blocking().map_err(|error| other(name, error))?;
                // a persistent device may have some from its last user; a kernel that does not
                // support them has none
                let _ = wontun_sys::tun::set_offloads(first, HEADER, 0);
            }
        }
    }
    let is_offloaded = matches!(queues.first(), Some(Attached::Offloaded(_)));
    let files = queues.into_iter().map(|queue| match queue {
        Attached::Plain(iface) => wontun_sys::tun::descriptor(&iface).try_clone_to_owned().map(File::from),
        Attached::Offloaded(file) => Ok(file),
    });
    let files = files.collect::<io::Result<Vec<_>>>();
    let files = files.map_err(|source| OpenError::Error(TunError::Other { name: name.clone(), source }))?;
    let queues: Vec<_> = files.into_iter().map(Arc::new).collect();
    let Some(first) = queues.first().cloned() else { return Ok(Vec::new()) };
    let TunOffloads { has_uso, has_tunnels } = offloads;
    let description = |is_exclusive, is_sparse| messages::Queue {
        is_offloaded,
        is_exclusive,
        has_uso,
        has_tunnels,
        is_sparse,
    };
    if queues.len() >= count && count > 0 {
        let owned = |(number, file)| Tun { file, description: description(true, number >= count) };
        return Ok(queues.into_iter().enumerate().map(owned).collect());
    }
    let owned = queues.into_iter().map(|file| Tun { file, description: description(true, false) });
    let shared =
        std::iter::repeat_with(|| Tun { file: Arc::clone(&first), description: description(false, false) });
    Ok(owned.chain(shared).take(count).collect())
}

/// Returns the number of queues of a new device: two for each worker, unless those are more than a
/// device can have.
const fn queue_count(workers: usize) -> usize {
    if workers <= MAX_QUEUES / 2 { 2 * workers } else { workers }
}

/// Enables the offloads that the kernel supports, and returns them.
fn set_offloads(queue: &Attached) -> io::Result<TunOffloads> {
    let tcp = TCP_OFFLOADS;
    let uso = tcp | UDP_OFFLOADS;
    // the header of a packet in a tunnel is little-endian, and the others are not
    if cfg!(target_endian = "little")
        && wontun_sys::tun::set_offloads(queue, TUNNEL_HEADER, uso | TUNNEL_OFFLOADS).is_ok()
    {
        return Ok(TunOffloads { has_uso: true, has_tunnels: true });
    }
    if wontun_sys::tun::set_offloads(queue, HEADER, uso).is_ok() {
        return Ok(TunOffloads { has_uso: true, has_tunnels: false });
    }
    wontun_sys::tun::set_offloads(queue, HEADER, tcp).map(|()| TunOffloads::default())
}

/// Returns an unpredictable name.
fn temporary_name(random: &mut SystemRandom) -> TunName {
    let mut bytes = [0; 6];
    random.fill(&mut bytes);
    let digits = bytes.iter().fold(0_u64, |digits, &byte| digits << 8 | u64::from(byte));
    TunName::temporary(digits)
}

fn existing_link(device: &TunName, name: &TunName) -> Result<ExistingLink, OpenError> {
    netlink::existing_link(device.as_str()).map_err(|error| link_error(name, error))
}

fn attach(device: &TunName, name: &TunName, queue_count: bool, new: bool) -> Result<Attached, OpenError> {
    let node = open_node().map_err(|error| OpenError::Error(node_error(error, name)))?;
    let outcome = if new {
        attach_owned(&node, device, queue_count)
    } else {
        wontun_sys::tun::attach(&node, device.as_str(), queue_count, false)
    };
    match outcome {
        Ok(()) => Ok(Attached::Offloaded(node)),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => OpenError::Error(TunError::NotPermitted(name.clone())),
            Some(Errno::EBUSY) if !new => busy(name),
            _ => OpenError::Unsupported(error),
        }),
    }
}

/// Creates a device while a second thread sets its owner over and over. That thread is waiting for
/// the kernel's lock on devices by the time other processes are notified of the new device, so it
/// gets the lock before them; a first attempt after the device was created comes too late if there
/// are processes that listen for new devices.
fn attach_owned(node: &File, device: &TunName, queue_count: bool) -> io::Result<()> {
    let threads = process::thread_count();
    let done = &AtomicBool::new(false);
    let (started, starts) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        let owner = thread::Builder::new().spawn_scoped(scope, move || {
            drop(started);
            // EBADFD as long as there is no device
            while !done.load(Ordering::Relaxed) && set_owner(node).is_err() {}
        });
        // until the thread runs, or could not be started
        let _: Result<(), _> = starts.recv();
        let outcome = wontun_sys::tun::attach(node, device.as_str(), queue_count, true);
        done.store(true, Ordering::Relaxed);
        // without a second thread the owner is set afterwards
        let _ = owner.map(thread::ScopedJoinHandle::join);
        outcome
    });
    // the kernel counts a thread for a moment longer, and capabilities are dropped by a process of
    // one thread
    let mut waits = 0;
    while process::thread_count() > threads && waits < MAX_WAITS {
        thread::sleep(Duration::from_millis(1));
        waits += 1;
    }
    outcome
}

fn attach_plain(device: &TunName, name: &TunName) -> Result<Attached, OpenError> {
    let iface = Iface::without_packet_info(device.as_str(), Mode::Tun);
    iface.map(Attached::Plain).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EBUSY) => busy(name),
        Some(Errno::EPERM) => OpenError::Error(TunError::NotPermitted(name.clone())),
        Some(Errno::EINVAL) => OpenError::Error(TunError::OtherKind(name.clone())),
        _ => other(name, error),
    })
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(iface) => wontun_sys::tun::descriptor(iface),
            Self::Offloaded(file) => file.as_fd(),
        }
    }
}

fn busy(name: &TunName) -> OpenError {
    OpenError::Error(TunError::Busy(name.clone()))
}

fn other(name: &TunName, source: io::Error) -> OpenError {
    OpenError::Error(TunError::Other { name: name.clone(), source })
}

fn link_error(name: &TunName, error: LinkError) -> OpenError {
    other(name, io::Error::other(error))
}

pub(super) fn open_node() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE)
}

pub(super) fn node_error(error: io::Error, name: &TunName) -> TunError {
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
