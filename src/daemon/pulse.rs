//! Liveness probes of the workers. The first worker begins a round by signalling the other workers'
//! wake eventfds; each responds when its next turn begins, with the lock that it takes there
//! anyway. So a worker counts as alive if its epoll wakes it, its last turn has ended and it got
//! the lock; an idle worker is woken for it, at the cost of one turn.
//!
//! Nothing blocks on a round: the requester checks it again at its own deadline, or when the last
//! worker has responded and wakes the first one (`Core::hear`).

use std::time::Duration;

/// Time after which a worker without a response is considered stuck. A turn takes some milliseconds
/// at most; an overloaded machine, or one paused by its hypervisor for a while, is no stuck worker.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Number of a round. Rounds are counted, so that concurrent requests do not disturb each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Round(u64);

/// The current round, and the last round in which each worker responded.
#[derive(Debug)]
pub(super) struct Pulse {
    round: Round,
    heard: Box<[Round]>,
}

impl Pulse {
    /// Creates the state before the first round.
    pub(super) fn new(workers: usize) -> Self {
        Self { round: Round(0), heard: vec![Round(0); workers].into_boxed_slice() }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) -> Round {
        self.round.0 += 1;
        self.round
    }

    /// Records the start of a turn of `worker`. Returns true if it is its first in this round.
    fn beat(&mut self, worker: usize) -> bool {
        let Some(heard) = self.heard.get_mut(worker) else { return false };
        std::mem::replace(heard, self.round) != self.round
    }

    /// Records the start of a turn of `worker`. Returns true if it was the last one missing in this
    /// round.
    pub(super) fn hear(&mut self, worker: usize) -> bool {
        self.beat(worker) && self.is_complete(self.round)
    }

    /// Returns the workers that have not responded since `round` began.
    pub(super) fn missing(&self, round: Round) -> impl Iterator<Item = usize> {
        self.heard.iter().enumerate().filter(move |(_, heard)| **heard < round).map(|(worker, _)| worker)
    }

    /// Returns true if all workers have responded since `round` began.
    pub(super) fn is_complete(&self, round: Round) -> bool {
        self.missing(round).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_when_all_were_heard_after_it_began() {
        let mut pulse = Pulse::new(3);
        let first = pulse.begin();
        assert_eq!(pulse.missing(first).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(pulse.beat(1) && !pulse.beat(1), "once a round");
        assert_eq!(pulse.missing(first).collect::<Vec<_>>(), [0, 2]);
        // another requester: responses from before it do not count for it
        let second = pulse.begin();
        assert!(pulse.beat(0) && pulse.beat(2));
        assert!(pulse.is_complete(first) && !pulse.is_complete(second));
        assert_eq!(pulse.missing(second).collect::<Vec<_>>(), [1]);
        assert!(pulse.beat(1) && pulse.is_complete(second));
        assert!(!pulse.beat(3), "there is no such worker");
    }
}
