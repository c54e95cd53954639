//! Restarts of a process, with a delay that grows.

use std::time::Duration;

use wontun_proto::time::Instant;

/// Delay before the process is restarted; doubled each time, up to [`MAX_DELAY`].
const DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Time without an end after which the next delay is [`DELAY`] again.
const STABLE: Duration = Duration::from_secs(300);

/// The restarts of a process.
#[derive(Debug)]
pub(super) struct Restart {
    /// Time of the next start; `None` if none is due.
    at: Option<Instant>,
    delay: Duration,
    started_at: Instant,
}

impl Default for Restart {
    fn default() -> Self {
        Self { at: None, delay: DELAY, started_at: Instant::default() }
    }
}

impl Restart {
    /// Returns the time of the next start.
    pub(super) const fn at(&self) -> Option<Instant> {
        self.at
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Records a start.
    pub(super) const fn handle_start(&mut self, now: Instant) {
        self.at = None;
        self.started_at = now;
    }

    /// Schedules a start after the process has ended.
    pub(super) fn schedule(&mut self, now: Instant) {
        if now.since(self.started_at) >= STABLE {
            self.delay = DELAY;
        }
        self.at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_DELAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_and_is_short_again_after_a_while() {
        let mut restart = Restart::default();
        let mut now = Instant::from_boot(Duration::from_secs(1000));
        let mut delays = Vec::new();
        for _ in 0..9 {
            restart.handle_start(now);
            restart.schedule(now);
            let at = restart.at().unwrap();
            assert!(!restart.is_due(now) && restart.is_due(at));
            delays.push(at.since(now).as_millis());
            now = at;
        }
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        restart.handle_start(now);
        restart.schedule(now + STABLE);
        assert_eq!(restart.at(), Some(now + STABLE + DELAY));
    }
}
