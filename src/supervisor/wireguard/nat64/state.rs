//! The prefixes of NAT64 that are known, and their look-ups.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::prefix::Prefix;
use wontun_proto::time::Instant;

/// Delay after the first look-up without a prefix; doubled each time, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The prefixes of the network that the host is in.
#[derive(Debug)]
pub(in crate::supervisor::wireguard) struct Nat64 {
    prefixes: Vec<Prefix>,
    /// True while they are looked up.
    is_pending: bool,
    /// Time of the next look-up.
    retry_at: Option<Instant>,
    delay: Duration,
}

impl Nat64 {
    pub(in crate::supervisor::wireguard) const fn new() -> Self {
        Self { prefixes: Vec::new(), is_pending: false, retry_at: None, delay: RETRY }
    }

    /// Returns the time of the next look-up.
    pub(in crate::supervisor::wireguard) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Forgets the prefixes of a network that the host may have left.
    pub(super) fn reset(&mut self) {
        self.prefixes.clear();
        (self.retry_at, self.delay) = (None, RETRY);
    }

    /// Returns true if the prefixes may be looked up now.
    pub(super) fn may_look_up(&self, now: Instant) -> bool {
        !self.is_pending && self.retry_at.is_none_or(|at| now >= at)
    }

    /// Records that no prefix is needed.
    pub(super) const fn set_idle(&mut self) {
        self.retry_at = None;
    }

    /// Records a look-up.
    pub(super) const fn begin(&mut self) {
        (self.is_pending, self.retry_at) = (true, None);
    }

    /// Records that the look-up was dropped.
    pub(super) const fn cancel(&mut self) {
        self.is_pending = false;
    }

    /// Records the addresses of [`IPV4ONLY`](super::prefix::IPV4ONLY); none if the look-up failed.
    /// Returns the prefixes; without one, the look-up is repeated later.
    pub(super) fn finish(&mut self, addresses: impl IntoIterator<Item = IpAddr>, now: Instant) -> &[Prefix] {
        self.is_pending = false;
        self.prefixes = Prefix::find(addresses);
        if self.prefixes.is_empty() {
            self.retry_at = Some(now + self.delay);
            self.delay = (self.delay * 2).min(RETRY_MAX);
        }
        &self.prefixes
    }

    /// Returns the addresses by which the translators reach `native`.
    pub(super) fn translate(&self, native: &[SocketAddr]) -> Vec<SocketAddr> {
        let native_v4 = native.iter().filter_map(|address| Some((ipv4(*address)?, address.port())));
        native_v4
            .flat_map(|(address, port)| {
                self.prefixes
                    .iter()
                    .map(move |prefix| SocketAddr::new(prefix.translate(address).into(), port))
            })
            .collect()
    }
}

/// Returns an IPv4 address, also an IPv4-mapped one.
pub(super) fn ipv4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
