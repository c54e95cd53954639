//! Waking the thread for handshakes: only if it sleeps, since that is a system call.

/// State of the thread for handshakes, behind the lock.
#[derive(Debug, Default)]
pub(super) struct HandshakeSignal {
    /// True if a message was queued, or a liveness probe sent, since the thread began to look.
    is_posted: bool,
    /// True if the thread sleeps.
    is_asleep: bool,
}

impl HandshakeSignal {
    /// Records that a message was queued, or a liveness probe sent.
    pub(super) const fn post(&mut self) {
        self.is_posted = true;
    }

    /// Returns true if the thread has to be woken.
    pub(super) const fn take_wake(&mut self) -> bool {
        let must_wake = self.is_posted && self.is_asleep;
        self.is_asleep &= !must_wake;
        must_wake
    }

    /// Returns true if the thread has to look for messages; otherwise it has to sleep.
    pub(super) const fn begin_wait(&mut self) -> bool {
        let is_posted = std::mem::replace(&mut self.is_posted, false);
        self.is_asleep = !is_posted;
        is_posted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_is_woken_once_and_no_message_is_missed() {
        let mut signal = HandshakeSignal::default();
        // before the thread runs
        signal.post();
        assert!(!signal.take_wake());
        assert!(signal.begin_wait(), "it has to look first");
        // while it works
        signal.post();
        assert!(!signal.take_wake() && signal.begin_wait());
        assert!(!signal.begin_wait(), "nothing is left");
        assert!(!signal.take_wake(), "nor was anything queued");
        signal.post();
        assert!(signal.take_wake() && !signal.take_wake());
        assert!(signal.begin_wait() && !signal.begin_wait());
    }
}
