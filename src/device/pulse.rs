//! Whether every worker still turns. Whoever wants to know has the first worker begin a round: it rings the others' bells,
//! and each is heard when its next turn begins, with the lock that it takes there anyway. So a worker counts as alive if
//! its epoll wakes it, its last turn came to an end and it got the lock; one that sleeps because nothing comes is woken
//! for it, at the cost of one turn.
//!
//! Nothing is waited for: who asks looks again, at its own deadline or when a worker that was heard has the first worker
//! look ([`Core::hear`]).

use std::time::Duration;

use super::core::Core;
use super::{Mode, Token};
use crate::time::Instant;

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
    fn begin(&mut self) -> Round {
        self.round.0 += 1;
        self.round
    }

    /// `worker` begins a turn. Gives whether it is the first time in this round.
    fn beat(&mut self, worker: usize) -> bool {
        let Some(heard) = self.heard.get_mut(worker) else { return false };
        std::mem::replace(heard, self.round) != self.round
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

impl Core {
    /// Asks all workers for a sign of life. To be called by the first worker, which is heard in its own next turn.
    pub(super) fn ask_workers(&mut self) -> Round {
        let round = self.pulse.begin();
        (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Bell));
        round
    }

    /// The worker that holds the lock begins a turn. The first is to look, once there is nobody left to be heard.
    pub(super) fn hear(&mut self) {
        if self.pulse.beat(self.current()) && self.pulse.is_complete(self.pulse.round) {
            self.post_to(0, Token::Health);
        }
    }

    /// When [`Self::handle_timeouts`] wants to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.checkup.deadline(), self.stop_at.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeouts(&mut self, mode: &impl Mode) {
        self.handle_stop_timeout();
        self.drain_health(mode);
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
