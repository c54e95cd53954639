//! What the service manager hears from the loop: that it is ready, reads its file again, ends, how it is, and that it is
//! alive. That it is alive is said only when every worker was heard ([`super::pulse`]), so one that is stuck silences the
//! watchdog's pings, and the service manager starts the tunnel again.

use std::time::Duration;

use super::core::Core;
use super::pulse::Round;
use super::{Device, Mode};
use crate::control::notify::Notifier;
use crate::time::Instant;

/// How often it is looked whether the status is another.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Pause before what found no room is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// The least time between two pings, whatever the watchdog asks for.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// What is told, and when.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// Nobody, unless a service manager started us.
    notifier: Option<Notifier>,
    watchdog: Option<Watchdog>,
    status_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// The status as it was told.
    told: String,
    /// Why the file that was read last is not what the tunnel does.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    ask_at: Instant,
    /// The workers were asked, and not all were heard.
    asked: Option<Round>,
}

impl Service {
    /// Why nothing came of reading the file again.
    pub(super) fn set_trouble(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// Sees to it that what found no room is tried again.
    fn settle(&mut self, now: Instant) {
        let is_behind = self.notifier.as_ref().is_some_and(Notifier::is_behind);
        self.retry_at = is_behind.then(|| self.retry_at.unwrap_or(now + RETRY));
    }

    /// When [`Core::attend_service`] wants to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // while a worker is waited for, its being heard is what comes next
        let ask_at = self.watchdog.as_ref().filter(|watchdog| watchdog.asked.is_none());
        [ask_at.map(|watchdog| watchdog.ask_at), self.status_at, self.retry_at].into_iter().flatten().min()
    }
}

impl Core {
    /// The loop begins.
    pub(super) fn tell_ready(&mut self, mode: &impl Mode) {
        let status = self.status(mode);
        let Some(notifier) = &mut self.service.notifier else { return };
        notifier.ready(&status);
        self.service.watchdog = notifier.watchdog().map(|time| {
            let interval = (time / 2).max(LEAST_INTERVAL);
            Watchdog { interval, ask_at: self.now, asked: None }
        });
        self.service.told = status;
        self.service.status_at = Some(self.now + STATUS_INTERVAL);
        self.service.settle(self.now);
    }

    /// The file is going to be read again; [`Self::tell_reloaded`] is to follow.
    pub(super) fn tell_reloading(&mut self) {
        self.service.trouble = None;
        if let Some(notifier) = &mut self.service.notifier {
            notifier.reloading();
        }
    }

    /// It was read again, or is as it was.
    pub(super) fn tell_reloaded(&mut self, mode: &impl Mode) {
        let status = self.status(mode);
        if let Some(notifier) = &mut self.service.notifier {
            notifier.ready(&status);
            self.service.told = status;
        }
        self.service.settle(self.now);
    }

    /// The loop has ended.
    pub(super) fn tell_stopping(&mut self) {
        if let Some(notifier) = &mut self.service.notifier {
            notifier.stopping("stopping");
        }
    }

    /// Does what is due for the service manager. To be called by the first worker, at the deadline and when workers were
    /// heard.
    pub(super) fn attend_service(&mut self, mode: &impl Mode) {
        if self.service.notifier.is_none() {
            return;
        }
        self.attend_watchdog();
        let is_due = |at: Option<Instant>, now| at.is_some_and(|at| now >= at);
        if is_due(self.service.status_at, self.now) {
            self.service.status_at = Some(self.now + STATUS_INTERVAL);
            let status = self.status(mode);
            if let Some(notifier) = self.service.notifier.as_mut().filter(|_| status != self.service.told) {
                notifier.status(&status);
                self.service.told = status;
            }
        }
        if is_due(self.service.retry_at, self.now)
            && let Some(notifier) = &mut self.service.notifier
        {
            self.service.retry_at = None;
            notifier.flush();
        }
        self.service.settle(self.now);
    }

    fn attend_watchdog(&mut self) {
        let Some(watchdog) = &mut self.service.watchdog else { return };
        if watchdog.asked.is_some_and(|round| self.pulse.is_complete(round)) {
            watchdog.asked = None;
            if let Some(notifier) = &mut self.service.notifier {
                notifier.alive();
            }
        } else if watchdog.asked.is_none() && self.now >= watchdog.ask_at {
            watchdog.ask_at = self.now + watchdog.interval;
            let round = self.ask_workers();
            if let Some(watchdog) = &mut self.service.watchdog {
                watchdog.asked = Some(round);
            }
        }
    }

    /// How the tunnel is, in one line.
    fn status(&self, mode: &impl Mode) -> String {
        let tun = &self.name;
        let down = (!self.link.up && !self.link.away).then(|| format!("{tun} is down"));
        let parts = self.service.trouble.clone().into_iter().chain(down).chain([mode.status(self.now)]);
        parts.collect::<Vec<_>>().join("; ")
    }
}

impl<M: Mode> Device<M> {
    /// Has `notifier` tell the service manager how the tunnel is, from [`Self::run`] on.
    pub fn notify(&mut self, notifier: Option<Notifier>) {
        self.shared.alone(|_, core| core.service.notifier = notifier);
    }
}

/// How long ago something was, so that the text seldom changes.
pub(super) fn ago(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match age.as_secs() {
        0..MINUTE => "less than a minute ago".to_owned(),
        seconds @ MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        seconds @ HOUR..DAY => format!("{} h ago", seconds / HOUR),
        seconds => format!("{} d ago", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_coarsely() {
        let told =
            [0, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000].map(|age| ago(Duration::from_secs(age)));
        let minute = "less than a minute ago";
        assert_eq!(
            told,
            [minute, minute, "1 min ago", "59 min ago", "1 h ago", "23 h ago", "1 d ago", "11 d ago"]
        );
    }

    #[test]
    fn the_next_thing_that_is_due_is_what_wakes_the_loop() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let mut service = Service::default();
        assert_eq!(service.deadline(), None, "nobody listens: no wake-up");
        service.status_at = Some(at(30));
        service.watchdog = Some(Watchdog { interval: Duration::from_secs(5), ask_at: at(20), asked: None });
        assert_eq!(service.deadline(), Some(at(20)));
        service.retry_at = Some(at(10));
        assert_eq!(service.deadline(), Some(at(10)));
    }
}
