//! Limits the CPU time that a thread spends on handshakes, so that a flood of them costs a bounded
//! part of a core: each worker that reads them, and the one thread that does the Curve25519
//! operations.
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
/// Minimum time to wait for more.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// A bucket of CPU time.
#[derive(Debug, Default)]
pub(super) struct CpuBudget {
    /// Time spent in excess of the refill.
    debt: Duration,
    counted: Instant,
}

impl CpuBudget {
    /// Subtracts CPU time that was spent.
    pub(super) fn spend(&mut self, time: Duration) {
        self.debt += time;
    }

    /// Returns the time after `now` until there is budget again; `None` if there is some.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.debt = self.debt.saturating_sub(now.since(self.counted) / REFILL_DIVISOR);
        self.counted = now;
        let excess = self.debt.checked_sub(CAPACITY).filter(|excess| !excess.is_zero());
        excess.map(|excess| (excess * REFILL_DIVISOR).max(MIN_PAUSE))
    }
}

/// The budget of one worker for reading handshake messages, and the tokens that wait for it.
#[derive(Debug, Default)]
pub(super) struct HandshakeBudget {
    budget: CpuBudget,
    pause: Option<Duration>,
    waiting: ReadySet,
}

impl HandshakeBudget {
    /// Returns true if there is budget for `token` now; otherwise queues it until there is, see
    /// [`Self::take_waiting`].
    pub(super) fn allows(&mut self, token: Token, now: Instant) -> bool {
        self.pause = self.budget.pause(now);
        if self.pause.is_some() {
            self.waiting.insert(token);
        }
        self.pause.is_none()
    }

    /// Subtracts CPU time that was spent.
    pub(super) fn spend(&mut self, time: Duration) {
        self.budget.spend(time);
    }

    /// Returns the time until there is budget for the queued tokens; `None` if there are none.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.pause.filter(|_| !self.waiting.is_empty())
    }

    /// Returns the next queued token if there is budget again.
    pub(super) fn take_waiting(&mut self, now: Instant) -> Option<Token> {
        if self.waiting.is_empty() {
            return None;
        }
        self.pause = self.budget.pause(now);
        if self.pause.is_none() { self.waiting.pop() } else { None }
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
            if budget.allows(Token::Tun, now) {
                budget.spend(step);
                spent += step;
                now = now + step;
                assert_eq!(budget.pause(), None);
            } else {
                now = now + budget.pause().unwrap();
                assert_eq!(budget.take_waiting(now), Some(Token::Tun));
            }
        }
        assert!((Duration::from_millis(8400)..Duration::from_millis(8600)).contains(&spent), "{spent:?}");
        assert!(now.since(start) >= Duration::from_secs(60));
        now = now + Duration::from_secs(8);
        assert!(budget.allows(Token::Tun, now) && budget.budget.debt <= Duration::from_millis(1));
    }
}
