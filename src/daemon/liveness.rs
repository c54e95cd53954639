//! Liveness probes of the workers, and of the thread for handshakes, whose number follows theirs.
//! The first worker sends a probe by signalling the other workers' wake eventfds, and the thread's
//! condition variable; each responds when its next turn begins, with the lock that it takes there
//! anyway. So a worker counts as alive if its epoll wakes it, its last turn has ended and it got
//! the lock; an idle worker is woken for it, at the cost of one turn.
//!
//! Nothing blocks on a probe: the requester checks it again at its own deadline, or when the last
//! thread has responded and wakes the first worker (`Core::record_response`).

use std::time::Duration;

/// Time after which a worker without a response is considered stuck. A turn takes some milliseconds
/// at most; an overloaded machine, or one paused by its hypervisor for a while, is no stuck worker.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of a probe. Probes are numbered so that concurrent requests do not disturb each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProbeId(u64);

/// The latest probe, and the latest probe that each thread responded to.
#[derive(Debug)]
pub(super) struct Liveness {
    probe: ProbeId,
    responded: Box<[ProbeId]>,
}

impl Liveness {
    /// Creates the state before the first probe.
    pub(super) fn new(threads: usize) -> Self {
        Self { probe: ProbeId(0), responded: vec![ProbeId(0); threads].into_boxed_slice() }
    }

    /// Starts a probe of all threads, and returns its number.
    pub(super) fn start_probe(&mut self) -> ProbeId {
        self.probe.0 += 1;
        self.probe
    }

    /// Records the start of a turn of `thread`. Returns true if it is its first since the latest
    /// probe.
    fn mark_responsive(&mut self, thread: usize) -> bool {
        let Some(responded) = self.responded.get_mut(thread) else { return false };
        std::mem::replace(responded, self.probe) != self.probe
    }

    /// Records the start of a turn of `thread`. Returns true if all have now responded to the
    /// latest probe.
    pub(super) fn record_response(&mut self, thread: usize) -> bool {
        self.mark_responsive(thread) && self.is_answered(self.probe)
    }

    /// Returns the threads that have not responded since `probe` was sent.
    pub(super) fn unresponsive(&self, probe: ProbeId) -> impl Iterator<Item = usize> {
        self.responded
            .iter()
            .enumerate()
            .filter(move |(_, responded)| **responded < probe)
            .map(|(thread, _)| thread)
    }

    /// Returns true if all threads have responded since `probe` was sent.
    pub(super) fn is_answered(&self, probe: ProbeId) -> bool {
        self.unresponsive(probe).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_when_all_were_heard_after_it_began() {
        let mut liveness = Liveness::new(3);
        let first = liveness.start_probe();
        assert_eq!(liveness.unresponsive(first).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(liveness.mark_responsive(1) && !liveness.mark_responsive(1), "once a round");
        assert_eq!(liveness.unresponsive(first).collect::<Vec<_>>(), [0, 2]);
        // another requester: responses from before it do not count for it
        let second = liveness.start_probe();
        assert!(liveness.mark_responsive(0) && liveness.mark_responsive(2));
        assert!(liveness.is_answered(first) && !liveness.is_answered(second));
        assert_eq!(liveness.unresponsive(second).collect::<Vec<_>>(), [1]);
        assert!(liveness.mark_responsive(1) && liveness.is_answered(second));
        assert!(!liveness.mark_responsive(3), "there is no such thread");
    }
}
