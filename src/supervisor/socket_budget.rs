//! Rate limit of the spare sockets that the tunnel process requests.

use wontun_proto::time::Instant;

/// Maximum number of spare sockets of a family per request.
const MAX_SPARE: u8 = 8;

/// Number of spare sockets that a tunnel process may still request.
#[derive(Debug)]
pub(super) struct SocketBudget {
    tokens: u8,
    since: Option<Instant>,
}

impl Default for SocketBudget {
    fn default() -> Self {
        Self { tokens: Self::BURST, since: None }
    }
}

impl SocketBudget {
    /// Number of sockets of both families that may be requested without delay.
    const BURST: u8 = 64;
    /// Number of sockets per second that may be requested afterwards.
    const PER_SECOND: u8 = 16;

    /// Returns how many of the requested sockets may be created.
    pub(super) fn take(&mut self, now: Instant, ipv4: u8, ipv6: u8) -> (u8, u8) {
        let since = *self.since.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds > 0 {
            let more = u8::try_from(seconds).unwrap_or(u8::MAX).saturating_mul(Self::PER_SECOND);
            self.tokens = self.tokens.saturating_add(more).min(Self::BURST);
            self.since = Some(now);
        }
        let ipv4 = ipv4.min(MAX_SPARE).min(self.tokens);
        self.tokens -= ipv4;
        let ipv6 = ipv6.min(MAX_SPARE).min(self.tokens);
        self.tokens -= ipv6;
        (ipv4, ipv6)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spare_sockets_are_bounded() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let mut budget = SocketBudget::default();
        let mut made = 0_u32;
        for _ in 0..1000 {
            let (ipv4, ipv6) = budget.take(at(1), 255, 255);
            made += u32::from(ipv4) + u32::from(ipv6);
        }
        assert_eq!(made, u32::from(SocketBudget::BURST));
        assert_eq!(budget.take(at(2), 4, 0), (4, 0));
        assert_eq!(budget.take(at(1000), 255, 0), (MAX_SPARE, 0));
    }
}
