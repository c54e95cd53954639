//! Decides when a sender must slow down because the queue of packets from the TUN device is long.
//!
//! A TUN device tells TCP that a packet was sent as soon as it is queued, so nothing but losses or
//! ECN marks keeps a sender from filling the queue with all of its window. On one machine the
//! window is now in this queue and now in the receiver's, so that the least delay of an interval,
//! by which CoDel (RFC 8289) decides, is small although the mean is not. Hence the mean decides
//! here. Signals become more frequent while it is too large, and rarer while it is not: the
//! frequency that a number of senders needs is found, and kept.

use std::time::Duration;

use wontun_proto::time::Instant;

/// Mean length of the queue, in bytes, above which senders are to slow down: two super-packets.
const TARGET: f64 = 128.0 * 1024.0;
/// Time constant of the mean. A short burst, such as a window of a connection over a long path, has
/// no consequence.
const MEAN_TIME: Duration = Duration::from_millis(20);
/// Maximum time between two samples for which the queue is assumed to be as long as it was found.
/// It was empty before.
const BUSY_TIME: Duration = Duration::from_millis(1);
/// Bounds of the time between two signals. The longer one is a round trip of a long path.
const SPACING: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Factor of the time to the next signal if one was not enough.
const SHORTER: f64 = 0.7;
/// Time for which the mean must be small enough for the spacing to double.
const RECOVERY: Duration = Duration::from_millis(200);

/// The state of one queue.
#[derive(Debug)]
pub(super) struct Congestion {
    /// Mean length in bytes.
    mean: f64,
    sampled_at: Instant,
    spacing: Duration,
    /// Time before which no signal is given.
    next: Instant,
    is_due: bool,
}

impl Default for Congestion {
    fn default() -> Self {
        Self {
            mean: 0.0,
            sampled_at: Instant::default(),
            spacing: SPACING.1,
            next: Instant::default(),
            is_due: false,
        }
    }
}

impl Congestion {
    /// Records that `bytes` wait in the queue.
    pub(super) fn sample(&mut self, bytes: u32, now: Instant) {
        let elapsed = now.since(self.sampled_at);
        self.sampled_at = now;
        let busy = elapsed.min(BUSY_TIME);
        self.mean *= decay(elapsed - busy);
        self.mean += (f64::from(bytes) - self.mean) * (1.0 - decay(busy));
        if self.mean <= TARGET {
            self.is_due = false;
            let growth = 1.0 + elapsed.min(RECOVERY).div_duration_f64(RECOVERY);
            self.spacing = self.spacing.mul_f64(growth).min(SPACING.1);
        } else if now >= self.next {
            self.is_due = true;
            self.spacing = self.spacing.mul_f64(SHORTER).max(SPACING.0);
            self.next = now + self.spacing;
        }
    }

    /// Returns true if the sender of the next bulk packet must be told to slow down; once for each
    /// signal.
    pub(super) fn take_signal(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }
}

/// Returns the weight of a mean after `elapsed`.
fn decay(elapsed: Duration) -> f64 {
    (-elapsed.div_duration_f64(MEAN_TIME)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples a queue each 200 µs for `duration`; returns the number of signals.
    fn run(
        congestion: &mut Congestion,
        now: &mut Instant,
        duration: Duration,
        mut bytes: impl FnMut(u32) -> u32,
    ) -> usize {
        let mut signals = 0;
        let end = *now + duration;
        while *now < end {
            *now = *now + Duration::from_micros(200);
            congestion.sample(bytes(u32::try_from(signals).unwrap()), *now);
            signals += usize::from(congestion.take_signal());
        }
        signals
    }

    #[test]
    fn bursts_and_short_queues_have_no_consequence() {
        let (mut congestion, mut now) = (Congestion::default(), Instant::default());
        for _ in 0..20 {
            // a megabyte that is sent within 2 ms, each 100 ms
            let mut left = 1 << 20;
            let burst = |_| {
                left -= 100 << 10;
                left
            };
            assert_eq!(run(&mut congestion, &mut now, Duration::from_millis(2), burst), 0);
            now = now + Duration::from_millis(98);
        }
        assert_eq!(run(&mut congestion, &mut now, Duration::from_secs(2), |_| 100 << 10), 0);
    }

    #[test]
    fn a_queue_that_stays_causes_more_and_more_signals() {
        let (mut congestion, mut now) = (Congestion::default(), Instant::default());
        let early = run(&mut congestion, &mut now, Duration::from_millis(100), |_| 400 << 10);
        assert!((1..=3).contains(&early), "{early}");
        let late = run(&mut congestion, &mut now, Duration::from_secs(1), |_| 400 << 10);
        assert!((100..=500).contains(&late), "{late}");
        // and none once it is short again
        run(&mut congestion, &mut now, Duration::from_millis(50), |_| 0);
        assert_eq!(run(&mut congestion, &mut now, Duration::from_secs(1), |_| 0), 0);
        assert_eq!(congestion.spacing, SPACING.1);
    }

    #[test]
    fn a_sender_that_reduces_its_window_finds_the_target() {
        let (mut congestion, mut now) = (Congestion::default(), Instant::default());
        let mut window = 3_000_000_u32;
        let mut seen = 0;
        let mut sum = 0.0;
        let signals = run(&mut congestion, &mut now, Duration::from_secs(10), |signals| {
            // CUBIC's reaction, and the growth of Reno at a round trip of 1 ms, over 200 µs
            if signals > seen {
                window = window / 10 * 7;
                seen = signals;
            }
            window += 148;
            sum += f64::from(window);
            window
        });
        let mean = sum / 50_000.0;
        assert!((0.4 * TARGET..1.6 * TARGET).contains(&mean), "{mean} after {signals} signals");
    }
}
