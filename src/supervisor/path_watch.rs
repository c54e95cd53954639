//! The paths to the peers: when a route, a rule, an address or a device of the host changes, the
//! path to each peer is looked up and compared with the one before. A peer whose path has changed
//! is reported, so that its datagrams leave from the right address at once.
//!
//! The kernel reports each change, of which some hosts have thousands a second. They are not read:
//! the first one causes a comparison at once, and those that follow are combined, for longer and
//! longer ([`MAX_INTERVAL`] at most) while they continue. `path_changes` makes the comparisons.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use crate::logging::RateLimit;
use crate::netlink::{LinkError, Path, PathMonitor};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Interval between two comparisons after a quiet period, and at most.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_millis(500);
/// Time without a change after which the interval is [`MIN_INTERVAL`] again.
const QUIET: Duration = Duration::from_secs(2);
/// The interval is at least so many times as long as the last comparison took, with many peers.
const MAX_SHARE: u32 = 20;
/// Maximum number of addresses that are looked up for one peer.
const MAX_ADDRESSES: usize = 8;

/// Peer of a path; `None` in plain mode.
pub(crate) type PathTarget = Option<PublicKey>;

/// The paths to all peers, and the time of the next comparison.
#[derive(Debug)]
pub(super) struct PathWatch {
    monitor: PathMonitor,
    paths: BTreeMap<PathTarget, WatchedPath>,
    /// Time of the next comparison, if something has changed since the last one.
    due: Option<Instant>,
    /// Time of the last comparison.
    compared_at: Option<Instant>,
    interval: Duration,
    /// Rate limit of the log lines about look-ups that fail.
    pub(super) log_limit: RateLimit,
}

/// The path to a peer.
#[derive(Debug)]
struct WatchedPath {
    /// Address of the peer.
    remote: IpAddr,
    /// Source address of its datagrams; `None` if the kernel chooses it.
    local: Option<IpAddr>,
    /// All possible addresses of the peer, which are looked up if there is no path to `remote`.
    addresses: Vec<IpAddr>,
    /// Address that the path leads to, and the path; `None` if there is none.
    path: Option<(IpAddr, Path)>,
    /// False until the path was looked up for the first time.
    is_known: bool,
    /// True if the host has lost the source address.
    is_source_lost: bool,
}

/// A path that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathChange {
    /// Peer of the path.
    pub(super) target: PathTarget,
    /// True if there is a path to one of the peer's addresses.
    pub(super) is_reachable: bool,
}

/// Looks up a path: destination, source.
pub(super) type LookUp<'a> = dyn FnMut(IpAddr, Option<IpAddr>) -> Result<Option<Path>, LinkError> + 'a;

impl WatchedPath {
    const fn new(remote: IpAddr, local: Option<IpAddr>) -> Self {
        Self { remote, local, addresses: Vec::new(), path: None, is_known: false, is_source_lost: false }
    }

    /// Returns the path as it is now.
    fn find(&self, look_up: &mut LookUp<'_>) -> Result<Option<(IpAddr, Path)>, LinkError> {
        if self.local.is_some() {
            let path = if self.is_source_lost { None } else { look_up(self.remote, self.local)? };
            return Ok(path.map(|path| (self.remote, path)));
        }
        let others = self.addresses.iter().filter(|address| **address != self.remote);
        for address in [self.remote].iter().chain(others) {
            if let Some(path) = look_up(*address, None)? {
                return Ok(Some((*address, path)));
            }
        }
        Ok(None)
    }

    /// Compares the path with the one before. Returns true if it has changed: then the kernel
    /// chooses the source address from now on.
    fn compare(&mut self, look_up: &mut LookUp<'_>) -> Result<bool, LinkError> {
        let now = self.find(look_up)?;
        let has_changed = self.is_known && now != self.path;
        self.is_known = true;
        self.path = now;
        if has_changed && self.local.is_some() {
            (self.local, self.is_source_lost) = (None, false);
            self.path = self.find(look_up)?;
        }
        Ok(has_changed)
    }

    /// Records that a handshake has shown this path to work. Returns true if it is not the one that
    /// datagrams take now: it has changed meanwhile.
    fn confirm(
        &mut self,
        remote: IpAddr,
        local: Option<IpAddr>,
        look_up: &mut LookUp<'_>,
    ) -> Result<bool, LinkError> {
        // if the kernel chose the source address, it was by the path before
        let chosen = self.path.filter(|(to, path)| {
            self.is_known && self.local.is_none() && *to == remote && path.source == local
        });
        (self.remote, self.local, self.is_source_lost) = (remote, None, false);
        let unbound = look_up(remote, None)?.map(|path| (remote, path));
        let has_changed = local.is_some() && chosen.is_some() && chosen != unbound;
        (self.path, self.is_known) = (unbound, true);
        if !has_changed && let Some(path) = look_up(remote, local)? {
            (self.local, self.path) = (local, Some((remote, path)));
        }
        Ok(has_changed)
    }
}

impl PathWatch {
    /// Starts watching for changes.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub(super) fn open() -> Result<Self, LinkError> {
        Ok(Self {
            monitor: PathMonitor::open()?,
            paths: BTreeMap::new(),
            due: None,
            compared_at: None,
            interval: MIN_INTERVAL,
            log_limit: RateLimit::new(Duration::from_secs(10)),
        })
    }

    /// Returns the descriptor that becomes readable with a change; `None` while a comparison is due
    /// anyway.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.due.is_none().then(|| self.monitor.as_fd())
    }

    /// Returns the time of the next comparison.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Schedules a comparison, after a change.
    pub(super) fn schedule(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        self.due = Some(match self.compared_at {
            Some(at) if now.since(at) < QUIET => now.max(at + self.interval),
            _ => {
                self.interval = MIN_INTERVAL;
                now
            }
        });
    }

    /// Discards the notifications received so far.
    ///
    /// # Errors
    /// Netlink fails.
    pub(super) fn discard_events(&mut self) -> io::Result<()> {
        self.monitor.discard()
    }

    /// Returns true if a comparison is due, which is made now.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// Records a comparison that was made at `now` and took so long.
    pub(super) fn record_comparison(&mut self, now: Instant, took: Duration) {
        self.compared_at = Some(now);
        self.interval = (self.interval * 2).min(MAX_INTERVAL).max(took * MAX_SHARE);
    }

    /// Records the loss of a local address: datagrams cannot be sent from there any more.
    pub(super) fn handle_address_lost(&mut self, address: IpAddr, now: Instant) {
        let lost = self.paths.values_mut().filter(|path| path.local == Some(address));
        let count = lost.map(|path| path.is_source_lost = true).count();
        if count > 0 {
            self.schedule(now);
        }
    }

    /// Watches the path to a peer with these possible addresses, the preferred one first, unless it
    /// is watched already.
    pub(super) fn add(&mut self, target: PathTarget, addresses: &[IpAddr]) {
        if !self.paths.contains_key(&target) {
            self.set_addresses(target, addresses);
        }
    }

    /// Stops watching the path to a peer.
    pub(super) fn remove(&mut self, target: &PathTarget) {
        self.paths.remove(target);
    }

    /// Sets the possible addresses of a peer, the preferred one first.
    pub(super) fn set_addresses(&mut self, target: PathTarget, addresses: &[IpAddr]) {
        let Some(first) = addresses.first() else { return };
        let watched = self.paths.entry(target).or_insert_with(|| WatchedPath::new(*first, None));
        if !addresses.contains(&watched.remote) {
            *watched = WatchedPath::new(*first, None);
        }
        watched.addresses = addresses.iter().take(MAX_ADDRESSES).copied().collect();
    }

    /// Keeps the paths to those peers only for which `is_kept` returns true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&PathTarget) -> bool) {
        self.paths.retain(|target, _| is_kept(target));
    }

    /// Forgets the paths found so far, after the mark of datagrams has changed.
    pub(super) fn forget(&mut self) {
        self.paths.values_mut().for_each(|path| path.is_known = false);
    }

    /// Returns true if there is no path to any address of a peer, as of the last comparison.
    pub(super) fn is_unreachable(&self, target: &PathTarget) -> bool {
        self.paths.get(target).is_some_and(|path| path.is_known && path.path.is_none())
    }

    /// Looks up the paths that are not known yet.
    ///
    /// # Errors
    /// An error of `look_up`.
    pub(super) fn complete(&mut self, look_up: &mut LookUp<'_>) -> Result<(), LinkError> {
        self.paths
            .values_mut()
            .filter(|path| !path.is_known)
            .try_for_each(|path| path.compare(look_up).map(drop))
    }

    /// Records that a handshake with a peer was completed by this path. Returns the change if it is
    /// not the path that datagrams take now.
    ///
    /// # Errors
    /// As for [`Self::complete`].
    pub(super) fn confirm(
        &mut self,
        target: PathTarget,
        remote: IpAddr,
        local: Option<IpAddr>,
        look_up: &mut LookUp<'_>,
    ) -> Result<Option<PathChange>, LinkError> {
        let watched = self.paths.entry(target).or_insert_with(|| WatchedPath::new(remote, local));
        let has_changed = watched.confirm(remote, local, look_up)?;
        Ok(has_changed.then_some(PathChange { target, is_reachable: watched.path.is_some() }))
    }

    /// Compares all paths with those before.
    ///
    /// # Errors
    /// As for [`Self::complete`].
    pub(super) fn compare(&mut self, look_up: &mut LookUp<'_>) -> Result<Vec<PathChange>, LinkError> {
        let mut changes = Vec::new();
        for (target, path) in &mut self.paths {
            if path.compare(look_up)? {
                changes.push(PathChange { target: *target, is_reachable: path.path.is_some() });
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// A default route by `interface`, and the addresses of the host's devices.
    struct Host {
        interface: Option<u32>,
        addresses: Vec<IpAddr>,
    }

    fn source(interface: u32) -> IpAddr {
        IpAddr::from([10, 0, 0, u8::try_from(interface).unwrap()])
    }

    impl Host {
        fn new(interface: u32) -> Self {
            Self { interface: Some(interface), addresses: vec![source(1), source(2)] }
        }

        fn look_up(&self, from: Option<IpAddr>) -> Option<Path> {
            let interface = self.interface?;
            if from.is_some_and(|from| !self.addresses.contains(&from)) {
                return None;
            }
            let source = if from.is_some() { None } else { Some(source(interface)) };
            Some(Path { interface, gateway: None, source })
        }

        fn compare(&self, path: &mut WatchedPath) -> bool {
            path.compare(&mut |_, from| Ok(self.look_up(from))).unwrap()
        }

        fn confirm(&self, path: &mut WatchedPath, local: IpAddr) -> bool {
            path.confirm(PEER, Some(local), &mut |_, from| Ok(self.look_up(from))).unwrap()
        }
    }

    #[test]
    fn only_a_change_of_the_path_counts_and_each_once() {
        let mut host = Host::new(1);
        let mut path = WatchedPath::new(PEER, None);
        assert!(!host.compare(&mut path), "the first look-up");
        assert!(!host.confirm(&mut path, source(1)));
        assert!(!host.compare(&mut path));
        host.interface = Some(2);
        assert!(host.compare(&mut path) && !host.compare(&mut path));
        assert_eq!(path.local, None, "the kernel chooses the source");
        assert!(!host.confirm(&mut path, source(2)) && !host.compare(&mut path));
        host.interface = None;
        assert!(host.compare(&mut path) && !host.compare(&mut path));
        assert_eq!(path.path, None);
        host.interface = Some(2);
        assert!(host.compare(&mut path) && path.path.is_some());
    }

    #[test]
    fn a_path_that_changes_during_the_handshake_is_noticed() {
        let mut host = Host::new(1);
        let mut path = WatchedPath::new(PEER, None);
        host.compare(&mut path);
        host.interface = Some(2);
        assert!(host.confirm(&mut path, source(1)), "the handshake was made by the first uplink");
        assert!(!host.compare(&mut path), "it is reported already");
        assert!(!host.confirm(&mut path, source(2)) && !host.compare(&mut path));
        // a source that the peer has chosen, of a host with several addresses
        host.addresses.push(source(9));
        assert!(!host.confirm(&mut path, source(9)) && !host.compare(&mut path));
    }

    #[test]
    fn a_lost_source_address_is_a_change_of_the_path() {
        let host = Host::new(1);
        let mut path = WatchedPath::new(PEER, None);
        host.compare(&mut path);
        host.confirm(&mut path, source(1));
        path.is_source_lost = true;
        assert!(host.compare(&mut path) && !host.compare(&mut path));
        assert!(path.path.is_some() && !path.is_source_lost);
    }

    #[test]
    fn another_address_of_the_peer_is_a_path_to_it() {
        let mut path = WatchedPath::new(PEER, None);
        path.addresses = vec![PEER, OTHER];
        let mut reachable = vec![PEER, OTHER];
        let compare = |path: &mut WatchedPath, reachable: &[IpAddr]| {
            let found = Path { interface: 1, gateway: None, source: None };
            path.compare(&mut |to, _| Ok(reachable.contains(&to).then_some(found))).unwrap()
        };
        assert!(!compare(&mut path, &reachable));
        reachable.remove(0);
        assert!(compare(&mut path, &reachable));
        assert_eq!(path.path.map(|(to, _)| to), Some(OTHER));
        reachable.clear();
        assert!(compare(&mut path, &reachable) && path.path.is_none());
    }

    #[test]
    fn changes_are_combined_while_they_continue() {
        let at = |millis| Instant::from_boot(Duration::from_millis(100_000 + millis));
        let mut watch = PathWatch::open().unwrap();
        let mut times = Vec::new();
        for millis in 0..10_000_u64 {
            watch.schedule(at(millis));
            if watch.due.is_some_and(|due| due <= at(millis)) {
                times.push(millis);
                assert!(watch.take_due(at(millis)));
                watch.record_comparison(at(millis), Duration::ZERO);
            }
        }
        assert_eq!(times[..6], [0, 40, 120, 280, 600, 1_100]);
        assert!(times[5..].windows(2).all(|pair| pair[1] - pair[0] == 500));
        watch.due = None;
        watch.schedule(at(20_000));
        assert_eq!(watch.due, Some(at(20_000)), "after a rest");
    }
}
