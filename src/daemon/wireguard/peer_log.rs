//! Rate limits of log lines that an authenticated peer can provoke. Each peer has its own limits,
//! so that a noisy one does not suppress lines about others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::logging::{RateLimit, Suppressed};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PeerId, REKEY_TIMEOUT};

/// Minimum interval between two lines of one kind about one peer: a peer that follows the protocol
/// starts no handshake sooner.
const INTERVAL: Duration = REKEY_TIMEOUT;
/// Like [`INTERVAL`], for conditions that last until somebody acts.
const LASTING_INTERVAL: Duration = Duration::from_secs(3600);
/// Number of changes within `CHANGES_PERIOD` between the same two endpoints that indicates two
/// devices with one key, which replace each other with each handshake and keepalive.
const MIN_CHANGES: u32 = 4;
const CHANGES_PERIOD: Duration = Duration::from_secs(120);
/// Minimum interval between two changes that count: when a device changes its address or the
/// address family, its last datagrams by the old path arrive between the first ones by the new
/// path.
const MIN_CHANGE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two lines about handshakes, of all peers together.
const HANDSHAKES_INTERVAL: Duration = Duration::from_millis(100);
/// Minimum interval between two lines about changed paths, of all peers together.
const PATHS_INTERVAL: Duration = Duration::from_millis(100);

/// Difference up to which two clocks count as equal.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Kind of a log line.
#[derive(Clone, Copy, Debug)]
pub(super) enum LineKind {
    /// A completed handshake.
    Handshake,
    /// A change of the peer's or the local endpoint.
    Moved,
    /// The path to the peer has changed.
    Path,
    /// A connected socket could not be created.
    Socket,
    /// The peer's clock was set back.
    Clock,
    /// A key is used by two devices.
    SharedKey,
}

impl LineKind {
    const ALL: [Self; 6] =
        [Self::Handshake, Self::Moved, Self::Path, Self::Socket, Self::Clock, Self::SharedKey];

    /// Returns the minimum interval between two lines about one peer.
    const fn interval(self) -> Duration {
        match self {
            Self::Handshake | Self::Moved | Self::Path | Self::Socket => INTERVAL,
            Self::Clock | Self::SharedKey => LASTING_INTERVAL,
        }
    }
}

/// The last two endpoints of a peer, and the number of changes between them.
#[derive(Debug)]
struct EndpointHistory {
    current: SocketAddr,
    other: Option<SocketAddr>,
    since: Instant,
    /// Time of the last change that counts.
    changed: Instant,
    changes: u32,
}

/// The rate limits of all peers.
#[derive(Debug)]
pub(super) struct PeerLog {
    limits: HashMap<PeerId, [RateLimit; LineKind::ALL.len()]>,
    histories: HashMap<PeerId, EndpointHistory>,
    handshakes: RateLimit,
    paths: RateLimit,
}

impl Default for PeerLog {
    fn default() -> Self {
        Self {
            limits: HashMap::new(),
            histories: HashMap::new(),
            handshakes: RateLimit::new(HANDSHAKES_INTERVAL),
            paths: RateLimit::new(PATHS_INTERVAL),
        }
    }
}

impl PeerLog {
    /// Returns the number of suppressed lines since the last one if a line about `peer` may be
    /// logged at `now`.
    pub(super) fn allow(&mut self, peer: PeerId, line: LineKind, now: Instant) -> Option<Suppressed> {
        let new = || LineKind::ALL.map(|line| RateLimit::new(line.interval()));
        let limits = self.limits.entry(peer).or_insert_with(new);
        let own = limits.get_mut(line as usize)?.allow(now)?;
        let others = match line {
            LineKind::Handshake => self.handshakes.allow(now)?,
            LineKind::Path => self.paths.allow(now)?,
            _ => None,
        };
        let count = |suppressed: Suppressed| suppressed.map_or(0, NonZeroU64::get);
        Some(NonZeroU64::new(count(own).saturating_add(count(others))))
    }

    /// Removes the state of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.limits.remove(&peer);
        self.histories.remove(&peer);
    }

    /// Handles a datagram from a source other than the peer's endpoint. Returns both endpoints if
    /// the peer alternates between two and a line about that may be logged.
    pub(super) fn handle_moved(
        &mut self,
        peer: PeerId,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<[SocketAddr; 2]> {
        let new = || EndpointHistory { current: remote, other: None, since: now, changed: now, changes: 0 };
        let history = self.histories.entry(peer).or_insert_with(new);
        if history.current == remote {
            return None;
        }
        let is_return = history.other == Some(remote) && now.since(history.since) < CHANGES_PERIOD;
        let before = std::mem::replace(&mut history.current, remote);
        history.other = Some(before);
        if !is_return {
            (history.since, history.changed, history.changes) = (now, now, 1);
        } else if now.since(history.changed) >= MIN_CHANGE_INTERVAL {
            history.changed = now;
            history.changes = history.changes.saturating_add(1);
        }
        let is_shared = history.changes >= MIN_CHANGES;
        (is_shared && self.allow(peer, LineKind::SharedKey, now).is_some()).then_some([before, remote])
    }
}

/// Describes the error of a peer's clock that shows `unix`, which is `behind` its earlier value,
/// while this host's shows `ours`.
pub(super) fn describe_clock_error(unix: Duration, behind: Duration, ours: Duration) -> String {
    let behind = format_duration(behind);
    match ours.checked_sub(unix) {
        Some(lag) if lag > CLOCK_TOLERANCE => format!("it is {} behind this host's", format_duration(lag)),
        _ => format!("it was {behind} ahead at an earlier handshake"),
    }
}

/// Formats a duration in its largest unit.
fn format_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::display_name;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    fn peers() -> [PeerId; 2] {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        [1, 2].map(|byte| engine.add_peer(PublicKey::from_bytes([byte; 32])).unwrap())
    }

    #[test]
    fn a_noisy_peer_silences_nobody_else() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let [noisy, quiet] = peers();
        let mut log = PeerLog::default();
        assert_eq!(log.allow(noisy, LineKind::Handshake, at(0)), Some(None));
        for millis in 1..5_000 {
            assert_eq!(log.allow(noisy, LineKind::Handshake, at(millis)), None, "{millis}");
        }
        assert_eq!(log.allow(quiet, LineKind::Handshake, at(4_999)), Some(None));
        assert_eq!(log.allow(noisy, LineKind::Moved, at(4_999)), Some(None), "another kind of line");
        assert_eq!(log.allow(noisy, LineKind::Handshake, at(5_100)), Some(NonZeroU64::new(4_999)));
        log.remove(noisy);
        assert_eq!(log.limits.len(), 1);
    }

    #[test]
    fn reordered_datagrams_are_not_a_second_device() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let [a, b] = [1, 2].map(|last| SocketAddr::from(([192, 0, 2, last], 51820)));
        let [moving, shared] = peers();
        let mut log = PeerLog::default();
        let place = |number| if number % 2 == 0 { a } else { b };
        for number in 0..800 {
            assert_eq!(log.handle_moved(moving, place(number), at(number)), None, "{number}");
        }
        let told = (0..8000).filter_map(|number| log.handle_moved(shared, place(number), at(number)));
        assert_eq!(told.count(), 1, "two devices that send all the time");
    }

    #[test]
    fn a_shared_key_is_reported_once_with_both_endpoints() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let [a, b, c] = [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 51820)));
        let [shared, roaming] = peers();
        let mut log = PeerLog::default();
        let told: Vec<_> = (0..60)
            .filter_map(|number| {
                let place = if number % 2 == 0 { a } else { b };
                log.handle_moved(shared, place, at(number * 10)).map(|endpoints| (number, endpoints))
            })
            .collect();
        assert_eq!(told, [(4, [b, a])], "once");
        let mut moved = |place, seconds| log.handle_moved(roaming, place, at(seconds));
        // from one network to the next and back
        for (number, place) in [a, b, c, a, b, c, a, b, a].into_iter().enumerate() {
            assert_eq!(moved(place, 10 * number as u64), None, "{number}");
        }
        // twice a day
        for number in 1..20 {
            assert_eq!(moved(if number % 2 == 0 { a } else { b }, 43_200 * number), None);
        }
        // another local address
        for number in 0..20 {
            assert_eq!(moved(a, 1_000_000 + number), None);
        }
        assert_eq!(log.handle_moved(shared, b, at(7_201)), None, "after a silence");
        let later =
            (2..9).filter_map(|n| log.handle_moved(shared, if n % 2 == 0 { a } else { b }, at(7_200 + n)));
        assert_eq!(later.count(), 1, "an hour later once more");
    }

    #[test]
    fn a_clock_error_is_described() {
        let seconds = Duration::from_secs;
        for (unix, behind, ours, said) in [
            (0, 1_700_000_000, 1_700_000_000, "it is 19675 days behind this host's"),
            (1_000_000, 7_000, 1_006_900, "it is 115 min behind this host's"),
            (1_000_000, 90, 1_000_100, "it is 100 s behind this host's"),
            (1_000_000, 90_000, 1_000_001, "it was 25 h ahead at an earlier handshake"),
            (1_000_000, 90_000, 999_000, "it was 25 h ahead at an earlier handshake"),
        ] {
            assert_eq!(describe_clock_error(seconds(unix), seconds(behind), seconds(ours)), said);
        }
    }

    #[test]
    fn a_peer_without_a_name_is_called_by_its_key() {
        let key = PublicKey::from_bytes([1; 32]);
        assert_eq!(display_name(None, &key), "AQEBAQEBAQ…");
        assert_eq!(display_name(Some(&"laptop".parse().unwrap()), &key), "laptop");
    }
}
