//! `--dns-bypass`: for a moment, questions to name servers pass a full tunnel by, so that this
//! host's own name server can find the address of a peer's name.
//!
//! That is done only where the user wants it, no kill switch is engaged, the name was asked for in
//! vain and no address from before is left to try; for [`OPEN`] at most, and until the answer
//! comes. Whoever blocks handshakes can bring it about: so the pause until the next one is doubled
//! each time, and begins anew only when the peer has completed a handshake at another address.
//!
//! It is a part of the wanted policy rules ([`Wanted`](crate::link::Wanted)). Those of a process
//! that was killed lead past a device that is gone with it, and the next start takes them away.

use std::time::Duration;

use crate::time::Instant;
use crate::tunnel::wireguard::PublicKey;

/// Time for which questions pass at most.
pub(super) const OPEN: Duration = Duration::from_secs(5);
/// Pause until they may pass again; doubled each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The present and the next opening.
#[derive(Debug)]
pub(super) struct Bypass {
    /// The user wants it.
    is_allowed: bool,
    /// The peer whose name is asked for, and until when questions pass.
    open: Option<(PublicKey, Instant)>,
    /// Time of the next opening.
    next: Option<Instant>,
    pause: Duration,
}

impl Bypass {
    pub(super) const fn new(is_allowed: bool) -> Self {
        Self { is_allowed, open: None, next: None, pause: PAUSE }
    }

    /// Returns true while questions pass.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens for the name of a peer. Returns false if that is not the time.
    pub(super) fn open(&mut self, key: &PublicKey, now: Instant) -> bool {
        if !self.is_allowed || self.is_open() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.open = Some((*key, now + OPEN));
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// Closes once the peer's name is answered, or its time is over. Returns true if it was open.
    pub(super) fn close(&mut self, answered: Option<&PublicKey>, now: Instant) -> bool {
        let is_due = self.open.is_some_and(|(key, until)| answered == Some(&key) || until <= now);
        if is_due {
            self.open = None;
        }
        is_due
    }

    /// A peer has moved: whatever comes next is another matter.
    pub(super) const fn reset(&mut self) {
        self.pause = PAUSE;
    }

    /// Returns the time at which it closes.
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
