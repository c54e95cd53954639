//! Limits the CPU time that a worker spends on handshakes, so that a flood of them costs a bounded
//! part of a core.
//!
//! The budget is a token bucket of CPU time: the time that handshakes take is subtracted, and an
//! eighth of all time is added. The bucket is large, so that a thousand peers that connect at the
//! same time are served at full speed; only a longer flood is slowed down.

use std::time::Duration;

use super::ready::ReadySet;
use super::token::Token;
use wontun_proto::time::Instant;

/// Capacity of the bucket.
const CAPACITY: Duration = Duration::from_secs(1);
/// Divisor of elapsed time that gives the refill of the bucket.
const REFILL_DIVISOR: u32 = 8;

/// The budget of one worker, and the tokens that wait for it.
#[derive(Debug, Default)]
pub(super) struct HandshakeBudget {
    /// Time spent in excess of the refill.
    debt: Duration,
    counted: Instant,
    waiting: ReadySet,
}

impl HandshakeBudget {
    /// Returns true if there is budget for `token` now; otherwise queues it until there is, see
    /// [`Self::take_waiting`].
    pub(super) fn allows(&mut self, token: Token, now: Instant) -> bool {
        self.count(now);
        let allowed = self.debt <= CAPACITY;
        if !allowed {
            self.waiting.insert(token);
        }
        allowed
    }

    /// Subtracts CPU time that was spent.
    pub(super) fn spend(&mut self, time: Duration) {
        self.debt += time;
    }

    /// Returns the time until there is budget for the queued tokens; `None` if there are none.
    pub(super) fn pause(&self) -> Option<Duration> {
        (!self.waiting.is_empty())
            .then(|| (self.debt.saturating_sub(CAPACITY) * REFILL_DIVISOR).max(Duration::from_millis(1)))
    }

    /// Returns the next queued token if there is budget again.
    pub(super) fn take_waiting(&mut self, now: Instant) -> Option<Token> {
        self.count(now);
        if self.debt <= CAPACITY { self.waiting.pop() } else { None }
    }

    fn count(&mut self, now: Instant) {
        self.debt = self.debt.saturating_sub(now.since(self.counted) / REFILL_DIVISOR);
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_served_and_then_the_share_holds() {
        let mut budget = HandshakeBudget::default();
        let start = Instant::from_boot(Duration::from_secs(1000));
        let (mut now, mut spent) = (start, Duration::ZERO);
        let step = Duration::from_micros(500);
        while now.since(start) < Duration::from_secs(60) {
            if budget.allows(Token::Handshakes, now) {
                budget.spend(step);
                spent += step;
                now = now + step;
                assert_eq!(budget.pause(), None);
            } else {
                now = now + budget.pause().unwrap();
                assert_eq!(budget.take_waiting(now), Some(Token::Handshakes));
            }
        }
        assert!((Duration::from_millis(8400)..Duration::from_millis(8600)).contains(&spent), "{spent:?}");
        assert!(now.since(start) >= Duration::from_secs(60));
        now = now + Duration::from_secs(8);
        assert!(budget.allows(Token::Handshakes, now) && budget.debt <= Duration::from_millis(1));
    }
}
