//! `--dns-bypass`: temporarily routes DNS queries past a full tunnel, so that this host's own name
//! server can resolve a peer's host name.
//!
//! This happens only if the user enabled it, no kill switch is engaged, the look-up has failed and
//! no cached address is left to try; for [`MAX_DURATION`] at most, and until the answer comes.
//! Anyone who can block handshakes can cause it: so the delay until the next time is doubled each
//! time, and is reset only when the peer has completed a handshake at another address.
//!
//! It is part of the desired policy rules ([`DesiredRouting`](crate::netlink::DesiredRouting)).
//! Rules left by a killed process lead past a device that is gone with it, and the next start
//! removes them.

use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Maximum time for which queries bypass the tunnel.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(5);
/// Delay until the next bypass; doubled each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The current and the next bypass.
#[derive(Debug)]
pub(super) struct Bypass {
    /// True if the user has enabled it.
    is_allowed: bool,
    /// Peer whose name is looked up, and the end of the bypass; `None` if there is none.
    open: Option<(PublicKey, Instant)>,
    /// Earliest time of the next bypass.
    next: Option<Instant>,
    pause: Duration,
}

impl Bypass {
    pub(super) const fn new(is_allowed: bool) -> Self {
        Self { is_allowed, open: None, next: None, pause: PAUSE }
    }

    /// Returns true while queries bypass the tunnel.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Starts a bypass for the name of a peer. Returns false if that is not allowed now.
    pub(super) fn open(&mut self, key: &PublicKey, now: Instant) -> bool {
        if !self.is_allowed || self.is_open() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.open = Some((*key, now + MAX_DURATION));
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// Ends the bypass once the peer's name is answered, or its time is over. Returns true if it
    /// has ended now.
    pub(super) fn close(&mut self, answered: Option<&PublicKey>, now: Instant) -> bool {
        let is_due = self.open.is_some_and(|(key, until)| answered == Some(&key) || until <= now);
        if is_due {
            self.open = None;
        }
        is_due
    }

    /// Resets the delay, after a peer has moved.
    pub(super) const fn reset(&mut self) {
        self.pause = PAUSE;
    }

    /// Returns the end of the current bypass.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.map(|(_, until)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_and_seldom() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let [a, b] = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        assert!(!Bypass::new(false).open(&a, at(0)));
        let mut bypass = Bypass::new(true);
        assert!(bypass.open(&a, at(100)) && bypass.is_open());
        assert!(!bypass.open(&b, at(101)), "it is open");
        assert_eq!(bypass.deadline(), Some(at(105)));
        assert!(!bypass.close(Some(&b), at(104)) && bypass.is_open());
        assert!(bypass.close(None, at(105)) && !bypass.is_open() && !bypass.close(None, at(106)));
        let mut openings = vec![100];
        for second in 106..40_000 {
            if bypass.open(&a, at(second)) {
                openings.push(second);
                assert!(bypass.close(Some(&a), at(second)));
            }
        }
        let pauses: Vec<_> = openings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..7], [60, 120, 240, 480, 960, 1920, 3600]);
        assert!(pauses[7..].iter().all(|pause| *pause == 3600));
        bypass.reset();
        assert!(bypass.open(&a, at(50_000)) && bypass.close(None, at(50_005)));
        assert!(!bypass.open(&a, at(50_059)) && bypass.open(&a, at(50_060)));
    }
}
