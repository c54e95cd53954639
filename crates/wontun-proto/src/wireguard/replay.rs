//! Replay window of a session: a ring of bits as in RFC 6479, of the same size as the kernel's.

use super::REJECT_AFTER_MESSAGES;

const WORD_BITS: u64 = u64::BITS as u64;
/// Number of bits in the ring.
const RING_BITS: u64 = 8192;
const WORDS: usize = (RING_BITS / WORD_BITS) as usize;
/// Maximum distance of an accepted counter behind the newest. It is one word less than the ring,
/// since one word is always being reused.
pub const REPLAY_WINDOW: u64 = RING_BITS - WORD_BITS;

/// The received counters of one session.
#[derive(Clone)]
pub(super) struct ReplayWindow {
    /// The newest counter plus one; 0 if none was received.
    next: u64,
    ring: [u64; WORDS],
}

impl ReplayWindow {
    pub(super) const fn new() -> Self {
        Self { next: 0, ring: [0; WORDS] }
    }

    /// Returns the newest counter plus one, and the ring.
    pub(super) fn to_parts(&self) -> (u64, Vec<u64>) {
        (self.next, self.ring.to_vec())
    }

    /// Returns the window with these parts; `None` if they are not those of a window.
    pub(super) fn from_parts(next: u64, ring: &[u64]) -> Option<Self> {
        (next <= REJECT_AFTER_MESSAGES).then_some(Self { next, ring: ring.try_into().ok()? })
    }

    /// Returns the index in the ring of the word with this number.
    #[expect(clippy::cast_possible_truncation, reason = "smaller than WORDS")]
    const fn word(number: u64) -> usize {
        (number % WORDS as u64) as usize
    }

    /// Returns word index and mask of the bit of `counter`. As in the kernel, bits are numbered
    /// from counter + 1.
    const fn position(counter: u64) -> (usize, u64) {
        let bit = counter + 1;
        (Self::word(bit / WORD_BITS), 1 << (bit % WORD_BITS))
    }

    /// Returns true if `counter` can be accepted: it is within the session's limit, not too old,
    /// and was not received.
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES || counter + 1 + REPLAY_WINDOW < self.next {
            return false;
        }
        let (word, mask) = Self::position(counter);
        counter >= self.next || self.ring.get(word).is_some_and(|bits| bits & mask == 0)
    }

    /// Records an authenticated `counter`; returns false if it cannot be accepted.
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if !self.is_fresh(counter) {
            return false;
        }
        if counter >= self.next {
            // the words between the newest and this one held counters that are now too old
            let (old, new) = (self.next / WORD_BITS, (counter + 1) / WORD_BITS);
            for word in old + 1..=new.min(old + WORDS as u64) {
                if let Some(bits) = self.ring.get_mut(Self::word(word)) {
                    *bits = 0;
                }
            }
            self.next = counter + 1;
        }
        let (word, mask) = Self::position(counter);
        if let Some(bits) = self.ring.get_mut(word) {
            *bits |= mask;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A reference implementation: all counters ever received.
    #[derive(Default)]
    struct Naive {
        seen: BTreeSet<u64>,
    }

    impl Naive {
        fn accept(&mut self, counter: u64) -> bool {
            let too_old =
                self.seen.last().is_some_and(|newest| newest - counter.min(*newest) > REPLAY_WINDOW);
            counter < REJECT_AFTER_MESSAGES && !too_old && self.seen.insert(counter)
        }
    }

    const LIMIT: u64 = REPLAY_WINDOW + 1;

    #[track_caller]
    fn check(window: &mut ReplayWindow, cases: &[(u64, bool)]) {
        for (counter, fresh) in cases {
            assert_eq!(window.is_fresh(*counter), *fresh, "{counter}");
            assert_eq!(window.accept(*counter), *fresh, "{counter}");
        }
    }

    #[test]
    fn fault_13_the_window_is_as_large_as_the_kernels() {
        assert_eq!(REPLAY_WINDOW, 8128);
        let mut window = ReplayWindow::new();
        check(&mut window, &[(0, true), (1, true), (1, false), (9, true), (8, true), (7, true), (7, false)]);
        check(&mut window, &[(LIMIT, true), (LIMIT - 1, true), (LIMIT - 1, false), (LIMIT - 2, true)]);
        check(&mut window, &[(2, true), (2, false), (LIMIT + 16, true), (3, false), (LIMIT + 16, false)]);
        check(&mut window, &[(LIMIT * 4, true), (LIMIT * 4 - REPLAY_WINDOW, true), (10, false)]);
        check(&mut window, &[(LIMIT * 4 - LIMIT, false), (LIMIT * 4 - LIMIT - 1, false)]);
        check(&mut window, &[(LIMIT * 4 - LIMIT + 1, false), (0, false)]);
    }

    #[test]
    fn the_edges_at_reject_after_messages() {
        let mut window = ReplayWindow::new();
        let last = REJECT_AFTER_MESSAGES - 1;
        check(&mut window, &[(REJECT_AFTER_MESSAGES, false), (u64::MAX, false), (u64::MAX - 1, false)]);
        check(&mut window, &[(last, true), (last, false), (REJECT_AFTER_MESSAGES, false)]);
        check(
            &mut window,
            &[(last - REPLAY_WINDOW, true), (last - REPLAY_WINDOW - 1, false), (last - 1, true), (0, false)],
        );
    }

    #[test]
    fn every_counter_of_the_window_once_in_either_direction() {
        for base in [0, 1, 63, 64, 1 << 40, REJECT_AFTER_MESSAGES - LIMIT] {
            let mut window = ReplayWindow::new();
            for counter in (base..base + LIMIT).rev() {
                assert!(window.accept(counter), "{counter}");
            }
            for counter in base..base + LIMIT {
                assert!(!window.accept(counter), "{counter}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_seen(
            base in prop_oneof![0..3_u64, any::<u64>(), REJECT_AFTER_MESSAGES - 20_000..REJECT_AFTER_MESSAGES],
            steps in prop::collection::vec(prop_oneof![0..200_u64, 8000..8300_u64, 0..60_000_u64], 1..300),
        ) {
            let (mut window, mut naive) = (ReplayWindow::new(), Naive::default());
            for step in steps {
                let counter = base.saturating_add(step);
                let fresh = window.is_fresh(counter);
                prop_assert_eq!(window.accept(counter), fresh);
                prop_assert_eq!(naive.accept(counter), fresh, "counter {}", counter);
            }
        }
    }
}
