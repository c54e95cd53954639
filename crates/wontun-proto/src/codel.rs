//! CoDel (RFC 8289): signals congestion if a queue's delay stays above a target, at intervals that
//! become shorter until it is below.
//!
//! The RFC decides when a packet leaves, from the time that it has waited. Here a packet that
//! arrives is judged, by the time that it will wait, which is known since the queue leaves at a
//! constant rate: what was queued is sent, and counted once.

use std::time::Duration;

use crate::time::Instant;

/// Time for which the delay must exceed the target: a round trip of a long path.
const INTERVAL: Duration = Duration::from_millis(100);

/// The state of a queue.
#[derive(Debug, Default)]
pub struct Codel {
    /// Time at which the delay has exceeded the target for [`INTERVAL`].
    above_at: Option<Instant>,
    is_signalling: bool,
    /// Time of the next signal.
    next: Instant,
    /// Number of signals since the delay exceeded the target, and when that began last.
    count: u32,
    last_count: u32,
}

impl Codel {
    /// Records the delay of a packet that arrives; `None` if the queue is nearly empty. Returns
    /// true if its sender must be told to slow down.
    pub fn handle_packet(&mut self, delay: Option<Duration>, target: Duration, now: Instant) -> bool {
        if delay.is_none_or(|delay| delay < target) {
            self.above_at = None;
            self.is_signalling = false;
            return false;
        }
        let above_at = *self.above_at.get_or_insert(now + INTERVAL);
        if self.is_signalling {
            let is_due = now >= self.next;
            if is_due {
                self.count = self.count.saturating_add(1);
                self.next = self.next + self.spacing();
            }
            return is_due;
        }
        if now < above_at {
            return false;
        }
        self.is_signalling = true;
        // continues at the last frequency if it ended a short time ago
        let delta = self.count.saturating_sub(self.last_count);
        let is_recent = now.since(self.next) < INTERVAL * 16;
        self.count = if delta > 1 && is_recent { delta } else { 1 };
        self.last_count = self.count;
        self.next = now + self.spacing();
        true
    }

    /// Returns the time to the next signal: the throughput of TCP is inversely proportional to the
    /// square root of the frequency of losses.
    fn spacing(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}
