//! The kernel's notifications about a host's network, each with the time of its arrival: polling
//! takes longer than the times to be measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::SockRef;

use crate::lab::Host;
use crate::waiting::{TIMEOUT, holds_within};

pub(super) const NEW_LINK: u16 = 16;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const DELETED_ADDRESS: u16 = 21;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DELETED_ROUTE: u16 = 25;
pub(super) const NEW_RULE: u16 = 32;
pub(super) const DELETED_RULE: u16 = 33;
/// The notification at the end of an nf_tables transaction, which names the process that made it.
pub(super) const GENERATION: u16 = 10 << 8 | 15;
/// Multicast groups of links, addresses, routes and rules.
const ROUTING: u32 = 1 | 0x10 | 0x100 | 0x40 | 0x80 | 0x400 | 1 << 18;
/// Multicast group of nf_tables.
const RULESET: u32 = 7;

/// One notification.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: Instant,
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

impl Event {
    /// Returns true if the notification is about a device that is up: the flags follow family, type
    /// and index.
    pub(super) fn is_up(&self) -> bool {
        self.body.get(8).is_some_and(|flags| flags & 1 != 0)
    }

    /// Returns true if the notification contains these bytes, such as a name.
    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        self.body.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// All notifications since the start.
#[derive(Debug)]
pub(super) struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// Subscribes to links, addresses, routes and rules.
    pub(super) fn of_routing(host: &Host) -> Self {
        let socket = host.inside(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind(&SocketAddr::new(0, ROUTING)).unwrap();
            socket
        });
        Self::read(socket)
    }

    /// Subscribes to nf_tables.
    pub(super) fn of_ruleset(host: &Host) -> Self {
        let socket = host.inside(|| {
            let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
            socket.bind(&SocketAddr::new(0, 0)).unwrap();
            socket.add_membership(RULESET).unwrap();
            socket
        });
        Self::read(socket)
    }

    fn read(socket: Socket) -> Self {
        SockRef::from(&socket).set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
        let (seen, stop) = (Arc::<Mutex<Vec<Event>>>::default(), Arc::<AtomicBool>::default());
        let (events, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((datagram, _)) = socket.recv_from_full() else { continue };
                let at = Instant::now();
                let mut rest = &datagram[..];
                while let Some(length) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
                    if length < 16 || length > rest.len() {
                        break;
                    }
                    let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                    let event = Event { at, kind, body: rest[16..length].to_vec() };
                    events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Returns the number of notifications so far.
    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns all notifications so far.
    pub(super) fn all(&self) -> Vec<Event> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first notification from index `from` on that `is_wanted`, and returns its
    /// index and time.
    pub(super) fn find(
        &self,
        what: &str,
        from: usize,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> (usize, Instant) {
        let mut found = None;
        holds_within(TIMEOUT, || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let place = seen.iter().skip(from).position(&is_wanted).map(|place| place + from);
            found = place.map(|place| (place, seen[place].at));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no message of the kernel: {what}"))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
