//! Sends notifications that are due, and handles the tunnel process's answers to probes.

use std::fmt::Write as _;
use std::time::Duration;

use super::state::Watchdog;
use crate::messages::Status;
use crate::supervisor::context::Context;
use wontun_proto::time::Instant;

/// Interval between two updates of the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum interval between two probes, whatever the watchdog's timeout is.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

impl Context {
    /// Sends READY=1 once the tunnel process has answered a probe.
    pub(in crate::supervisor) fn notify_ready(&mut self) {
        if self.service_manager.notifier.is_some() {
            self.service_manager.ready_after = Some(self.tunnel.probe());
        }
    }

    /// Sends RELOADING=1; [`Self::notify_ready`] must follow.
    pub(in crate::supervisor) fn notify_reloading(&mut self) {
        self.reconciler.reload_error = None;
        if let Some(notifier) = &mut self.service_manager.notifier {
            notifier.reloading();
        }
    }

    /// Sends STOPPING=1.
    pub(in crate::supervisor) fn notify_stopping(&mut self) {
        if let Some(notifier) = &mut self.service_manager.notifier {
            notifier.stopping("stopping");
        }
    }

    /// Handles the answer to a probe.
    pub(in crate::supervisor) fn handle_alive(&mut self, probe: u64, status: Status) {
        let text = self.status_text(status);
        let now = self.now;
        let service_manager = &mut self.service_manager;
        let Some(notifier) = &mut service_manager.notifier else { return };
        let is_answered = |asked: Option<u64>| asked.is_some_and(|asked| probe >= asked);
        if is_answered(service_manager.ready_after) {
            service_manager.ready_after = None;
            notifier.ready(&text);
            if service_manager.status_at.is_none() {
                service_manager.watchdog = notifier.watchdog().map(|time| {
                    let interval = (time / 2).max(LEAST_INTERVAL);
                    Watchdog { interval, probe_at: now, probe: None }
                });
                service_manager.status_at = Some(now + STATUS_INTERVAL);
            }
            service_manager.sent_status = text;
        } else if is_answered(service_manager.status_after) {
            service_manager.status_after = None;
            if text != service_manager.sent_status {
                notifier.status(&text);
                service_manager.sent_status = text;
            }
        }
        if let Some(watchdog) =
            service_manager.watchdog.as_mut().filter(|watchdog| is_answered(watchdog.probe))
        {
            watchdog.probe = None;
            notifier.alive();
        }
        service_manager.schedule_retry(now);
    }

    /// Sends notifications that are due.
    pub(in crate::supervisor) fn handle_notify_timeout(&mut self) {
        let now = self.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if self
            .service_manager
            .watchdog
            .as_ref()
            .is_some_and(|watchdog| watchdog.probe.is_none() && now >= watchdog.probe_at)
        {
            let probe = self.tunnel.probe();
            if let Some(watchdog) = &mut self.service_manager.watchdog {
                watchdog.probe_at = now + watchdog.interval;
                watchdog.probe = Some(probe);
            }
        }
        if is_due(self.service_manager.status_at) {
            self.service_manager.status_at = Some(now + STATUS_INTERVAL);
            self.service_manager.status_after = Some(self.tunnel.probe());
        }
        if is_due(self.service_manager.retry_at)
            && let Some(notifier) = &mut self.service_manager.notifier
        {
            self.service_manager.retry_at = None;
            notifier.flush();
        }
        self.service_manager.schedule_retry(now);
    }

    /// Returns the state of the tunnel in one line.
    fn status_text(&self, status: Status) -> String {
        let mut text = String::new();
        if let Some(error) = &self.reconciler.reload_error {
            let _ = write!(text, "reload failed: {error}; ");
        }
        if let Some(failure) = self.reconciler.failure(self.name.as_str()) {
            let _ = write!(text, "{failure}; ");
        }
        if !self.link.up && !self.link.is_in_other_netns {
            let _ = write!(text, "{} is down; ", self.name);
        }
        text + &format_status(status)
    }
}

fn format_status(status: Status) -> String {
    match status {
        Status::WireGuard { connected, peers, handshake } => {
            let handshake = handshake.map_or_else(
                || "no handshake yet".to_owned(),
                |age| format!("last handshake {}", format_age(age)),
            );
            format!("{connected} of {peers} peers connected, {handshake}")
        }
        Status::PlainServer { has_client: false } => "waiting for a client".to_owned(),
        Status::PlainServer { has_client: true } => "a client is connected".to_owned(),
        Status::PlainClient { is_reachable: true } => "the server responds".to_owned(),
        Status::PlainClient { is_reachable: false } => "the server does not respond".to_owned(),
    }
}

/// Formats an age so coarsely that the text seldom changes.
fn format_age(age: Duration) -> String {
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
    fn an_age_is_formatted_coarsely() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000]
            .map(|age| format_age(Duration::from_secs(age)));
        let minute = "less than a minute ago";
        assert_eq!(
            ages,
            [minute, minute, "1 min ago", "59 min ago", "1 h ago", "23 h ago", "1 d ago", "11 d ago"]
        );
    }
}
