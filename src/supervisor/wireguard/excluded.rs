//! The peers of the file that have no access, disabled or expired.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use tracing::warn;

use crate::config::peer_settings::{ExcludedPeer, Exclusion, Expiry};
use crate::config::wg_quick::{Peer, WgQuick};
use crate::config::{PeerAddress, display_name};
use crate::messages::{MAX_PEERS_PER_MESSAGE, ToTunnel};
use crate::net::timer::WallTimer;
use wontun_proto::wireguard::PublicKey;

/// The peers of the file that have no access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excluded {
    peers: BTreeMap<PublicKey, ExcludedPeer>,
    /// Those of them whose endpoint is a name.
    with_names: BTreeSet<PublicKey>,
}

impl Excluded {
    /// Returns the peers that have no access at `now`, a time since 1970: invitations are among them
    /// unless `has_responder`.
    pub(super) fn of(configuration: &WgQuick, now: Duration, has_responder: bool) -> Self {
        let excluded = |peer: &Peer| {
            let settings = peer.settings.as_ref()?;
            let is_unanswered = settings.invitation.is_some() && !has_responder;
            let exclusion = settings.exclusion(now).or(is_unanswered.then_some(Exclusion::Unanswered));
            let excluded = ExcludedPeer {
                public_key: peer.public_key,
                name: peer.name.clone(),
                exclusion: exclusion?,
                expires: settings.access_end().map(|end| end.since_epoch().as_secs()),
            };
            Some((peer.public_key, excluded))
        };
        let peers: BTreeMap<_, _> = configuration.peers.iter().filter_map(excluded).collect();
        let has_name = |peer: &&Peer| matches!(peer.endpoint, Some(PeerAddress::Name { .. }));
        let with_names = configuration.peers.iter().filter(has_name).map(|peer| peer.public_key);
        let with_names = with_names.filter(|key| peers.contains_key(key)).collect();
        Self { peers, with_names }
    }

    /// Returns true if the peer has no access.
    pub(super) fn contains(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key)
    }

    /// Returns true if the endpoint of a peer without access is a name.
    pub(super) fn has_name(&self, key: &PublicKey) -> bool {
        self.with_names.contains(key)
    }

    /// Returns the reason why a peer has no access; `None` if it has, or is not in the file.
    pub(super) fn reason(&self, key: &PublicKey) -> Option<Exclusion> {
        Some(self.peers.get(key)?.exclusion)
    }

    /// Returns the peers and the reasons.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PublicKey, &ExcludedPeer)> {
        self.peers.iter()
    }

    /// Returns the number of peers.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns the name of a peer for the log; `None` if it has access, or is not in the file.
    pub(super) fn name_of(&self, key: &PublicKey) -> Option<String> {
        Some(display_name(self.peers.get(key)?.name.as_ref(), key))
    }

    /// Returns the messages that tell the tunnel process.
    pub(super) fn messages(&self) -> Vec<ToTunnel> {
        let peers: Vec<_> = self.peers.values().cloned().collect();
        let mut parts: Vec<_> = peers.chunks(MAX_PEERS_PER_MESSAGE).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let part = |(number, peers): (usize, &[ExcludedPeer])| ToTunnel::Excluded {
            is_first: number == 0,
            peers: peers.to_vec(),
        };
        parts.into_iter().enumerate().map(part).collect()
    }
}

/// The peers without access, and the time of the next change.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) excluded: Excluded,
    timer: WallTimer,
}

impl Access {
    /// Creates the timer.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { excluded: Excluded::default(), timer: WallTimer::new()? })
    }

    /// Returns the descriptor that is readable when the peers without access may have changed.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Handles an event of the descriptor.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn handle_expiration(&mut self) -> io::Result<()> {
        self.timer.handle_expiration()
    }

    /// Waits for the next end of a peer's access after `now`, and for a clock that is set.
    pub(super) fn arm(&self, configuration: &WgQuick, now: Duration) {
        let armed = match ends(configuration, now) {
            Some(next) => self.timer.arm(next),
            None => self.timer.disarm(),
        };
        if let Err(error) = armed {
            warn!(%error, "cannot set the timer for the end of a peer's access: restart wontun");
        }
    }
}

/// Returns the next end of a peer's access after `now`, if there is one; `None` if no peer's access
/// ends by the clock.
fn ends(configuration: &WgQuick, now: Duration) -> Option<Option<Duration>> {
    let settings = configuration.peers.iter().filter_map(|peer| peer.settings.as_ref());
    let ends = settings.filter(|settings| !settings.is_disabled).filter_map(|settings| settings.access_end());
    let ends: Vec<_> = ends.map(Expiry::since_epoch).collect();
    (!ends.is_empty()).then(|| ends.into_iter().filter(|end| *end > now).min())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::wg_quick::{Hooks, parse};

    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    /// The timer is readable when the clock is set (timerfd_settime(2), `TFD_TIMER_CANCEL_ON_SET`);
    /// these are the decisions then.
    #[test]
    fn a_clock_that_jumps_ends_and_restores_access() {
        let peer = |byte: u8, comment: &str| {
            format!("[Peer]\n# {comment}\nPublicKey = {}\n", PublicKey::from_bytes([byte; 32]))
        };
        let text = format!(
            "[Interface]\nPrivateKey = {PRIVATE}\n{}{}{}",
            peer(1, "Expires = 2026-12-01T00:00:00Z"),
            peer(2, "Expires = 2026-12-02T00:00:00Z"),
            peer(3, "Note = never")
        );
        let file = parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap().configuration;
        let (first, second) = (Duration::from_secs(1_796_083_200), Duration::from_secs(1_796_169_600));
        let at = |now| (Excluded::of(&file, now, true).len(), ends(&file, now));
        let moment = Duration::from_nanos(1);
        assert_eq!(at(first - moment), (0, Some(Some(first))));
        assert_eq!(at(first), (1, Some(Some(second))));
        // forward beyond both, to the end of the calendar, and back
        assert_eq!(at(second), (2, Some(None)), "only the clock itself can change that");
        assert_eq!(at(Duration::from_secs(1 << 33)), (2, Some(None)));
        assert_eq!(at(first + moment), (1, Some(Some(second))));
        assert_eq!(at(Duration::ZERO), (0, Some(Some(first))), "a clock without a battery");
        let none = parse(Path::new("x"), text.replace("# Expires", "# Other").as_bytes(), Hooks::Refuse);
        assert_eq!(ends(&none.unwrap().configuration, first), None, "no timer");
    }

    #[test]
    fn messages_replace_each_other() {
        let peer = |byte: u8| {
            let key = PublicKey::from_bytes([byte; 32]);
            format!("[Peer]\n# Disabled = yes\n# Expires = 2020-01-01\nPublicKey = {key}\n")
        };
        let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n{}{}", peer(1), peer(2));
        let file = parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap().configuration;
        let excluded = Excluded::of(&file, Duration::from_secs(1_800_000_000), true);
        assert!(excluded.iter().all(|(_, peer)| peer.exclusion == Exclusion::Disabled));
        let [ToTunnel::Excluded { is_first: true, peers }] = &excluded.messages()[..] else { panic!() };
        assert_eq!(peers.len(), 2);
        let none = Excluded::default().messages();
        let [ToTunnel::Excluded { is_first: true, peers }] = &none[..] else { panic!() };
        assert!(peers.is_empty());
        let mut many = Excluded::default();
        for number in 0..=u16::try_from(MAX_PEERS_PER_MESSAGE).unwrap() {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            let public_key = PublicKey::from_bytes(key);
            let name = "ä".repeat(64).parse().ok();
            let exclusion = Exclusion::Expired;
            many.peers
                .insert(public_key, ExcludedPeer { public_key, name, exclusion, expires: Some(u64::MAX) });
        }
        let messages = many.messages();
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| crate::process::encode(message).is_ok()));
    }
}
