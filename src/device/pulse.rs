//! Whether every worker still turns. Whoever wants to know has the first worker begin a round: it rings the others' bells,
//! and each is heard when its next turn begins, with the lock that it takes there anyway. So a worker counts as alive if
//! its epoll wakes it, its last turn came to an end and it got the lock; one that sleeps because nothing comes is woken
//! for it, at the cost of one turn.
//!
//! Nothing is waited for: who asks looks again, at its own deadline or when a worker that was heard has the first worker
//! look (`Core::hear`).

use std::time::Duration;

/// How long a worker may take to be heard before it is taken for stuck. A turn takes some milliseconds at most; a machine
/// that is overloaded, or stopped for a while by its host, is no stuck worker.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// When somebody asked. Rounds are counted, so that those who ask at different times do not disturb each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Round(u64);

/// In which round each worker was heard last.
#[derive(Debug)]
pub(super) struct Pulse {
    round: Round,
    heard: Box<[Round]>,
}

impl Pulse {
    /// Nobody has asked yet.
    pub(super) fn new(workers: usize) -> Self {
        Self { round: Round(0), heard: vec![Round(0); workers].into_boxed_slice() }
    }

    /// Begins a round, in which nobody was heard yet.
    pub(super) fn begin(&mut self) -> Round {
        self.round.0 += 1;
        self.round
    }

    /// `worker` begins a turn. Gives whether it is the first time in this round.
    fn beat(&mut self, worker: usize) -> bool {
        let Some(heard) = self.heard.get_mut(worker) else { return false };
        std::mem::replace(heard, self.round) != self.round
    }

    /// `worker` begins a turn. Gives whether it is the last one that was missing in this round.
    pub(super) fn hear(&mut self, worker: usize) -> bool {
        self.beat(worker) && self.is_complete(self.round)
    }

    /// The workers that were not heard since `round` began.
    pub(super) fn missing(&self, round: Round) -> impl Iterator<Item = usize> {
        self.heard.iter().enumerate().filter(move |(_, heard)| **heard < round).map(|(worker, _)| worker)
    }

    /// Whether all were.
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
        // somebody else asks: who was heard before that was not heard after it
        let second = pulse.begin();
        assert!(pulse.beat(0) && pulse.beat(2));
        assert!(pulse.is_complete(first) && !pulse.is_complete(second));
        assert_eq!(pulse.missing(second).collect::<Vec<_>>(), [1]);
        assert!(pulse.beat(1) && pulse.is_complete(second));
        assert!(!pulse.beat(3), "there is no such worker");
    }
}
