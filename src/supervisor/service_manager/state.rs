//! State of the notifications: those that are due, and the probes that must be answered first.

use std::time::Duration;

use crate::control::notify::Notifier;
use wontun_proto::time::Instant;

/// Delay before messages that did not fit the queue are sent again.
const RETRY: Duration = Duration::from_millis(100);

/// State of the notifications.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct ServiceManager {
    /// `None` unless the process was started by a service manager.
    pub(super) notifier: Option<Notifier>,
    pub(super) watchdog: Option<Watchdog>,
    pub(super) status_at: Option<Instant>,
    /// Probe whose answer may change the status.
    pub(super) status_after: Option<u64>,
    pub(super) retry_at: Option<Instant>,
    /// Probe whose answer triggers READY=1, at the start or after a reload.
    pub(super) ready_after: Option<u64>,
    /// Status that was last sent.
    pub(super) sent_status: String,
}

#[derive(Debug)]
pub(super) struct Watchdog {
    pub(super) interval: Duration,
    pub(super) probe_at: Instant,
    /// Probe that is not answered yet.
    pub(super) probe: Option<u64>,
}

impl ServiceManager {
    pub(in crate::supervisor) fn new(notifier: Option<Notifier>) -> Self {
        Self { notifier, ..Self::default() }
    }

    /// Returns the connection to the service manager, if there is one.
    pub(in crate::supervisor) const fn notifier(&self) -> Option<&Notifier> {
        self.notifier.as_ref()
    }

    /// Returns true if a service manager has started the process.
    pub(in crate::supervisor) const fn has_notifier(&self) -> bool {
        self.notifier.is_some()
    }

    /// Schedules another attempt if messages did not fit the queue.
    pub(super) fn schedule_retry(&mut self, now: Instant) {
        let is_behind = self.notifier.as_ref().is_some_and(Notifier::has_pending);
        self.retry_at = is_behind.then(|| self.retry_at.unwrap_or(now + RETRY));
    }

    /// Returns the time at which [`Context::handle_notify_timeout`] is due.
    ///
    /// [`Context::handle_notify_timeout`]: crate::supervisor::context::Context::serve_service
    pub(in crate::supervisor) fn deadline(&self) -> Option<Instant> {
        let probe_at = self.watchdog.as_ref().filter(|watchdog| watchdog.probe.is_none());
        [probe_at.map(|watchdog| watchdog.probe_at), self.status_at, self.retry_at]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_thing_that_is_due_is_what_wakes_the_loop() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let mut service_manager = ServiceManager::default();
        assert_eq!(service_manager.deadline(), None, "nobody listens: no wake-up");
        service_manager.status_at = Some(at(30));
        service_manager.watchdog =
            Some(Watchdog { interval: Duration::from_secs(5), probe_at: at(20), probe: None });
        assert_eq!(service_manager.deadline(), Some(at(20)));
        service_manager.retry_at = Some(at(10));
        assert_eq!(service_manager.deadline(), Some(at(10)));
        service_manager.retry_at = None;
        service_manager.watchdog =
            Some(Watchdog { interval: Duration::from_secs(5), probe_at: at(20), probe: Some(1) });
        assert_eq!(service_manager.deadline(), Some(at(30)), "an unanswered probe is not repeated");
    }
}
