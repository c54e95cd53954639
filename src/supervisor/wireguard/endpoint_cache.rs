//! The addresses at which peers with a host name have answered in earlier runs: if a look-up is not
//! answered in time, the address is tried until it is.
//!
//! A name server on this host cannot be queried while a kill switch of an earlier run is engaged,
//! and the network's may be down. The addresses come from the state file. A wrong one costs a
//! handshake without an answer: peers authenticate each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Time for an answer before the cached address is tried.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses, and their use in this run.
#[derive(Debug, Default)]
pub(super) struct EndpointCache {
    addresses: BTreeMap<PublicKey, IpAddr>,
    /// Peers whose name is not answered yet, and the time at which the cached address is tried.
    waiting: BTreeMap<PublicKey, Instant>,
    /// Peers whose name was answered in this run, or whose cached address is being tried.
    settled: BTreeSet<PublicKey>,
    /// True if the names were looked up before the routes were set: no further time is allowed.
    has_looked_up: bool,
}

impl EndpointCache {
    pub(super) fn new(addresses: impl Iterator<Item = (PublicKey, IpAddr)>) -> Self {
        Self { addresses: addresses.collect(), ..Self::default() }
    }

    /// Records that the names were looked up already, for the full timeout.
    pub(super) const fn set_looked_up(&mut self) {
        self.has_looked_up = true;
    }

    /// Records that the name of a peer is being looked up.
    pub(super) fn handle_lookup(&mut self, key: &PublicKey, now: Instant) {
        if self.addresses.contains_key(key) && !self.settled.contains(key) {
            let wait = if self.has_looked_up { Duration::ZERO } else { ANSWER_TIMEOUT };
            self.waiting.entry(*key).or_insert(now + wait);
        }
    }

    /// Records that the name of a peer was answered.
    pub(super) fn handle_answered(&mut self, key: &PublicKey) {
        self.waiting.remove(key);
        self.settled.insert(*key);
    }

    /// Returns the address of a peer whose name is not answered, once.
    pub(super) fn take(&mut self, key: &PublicKey) -> Option<IpAddr> {
        self.waiting.remove(key)?;
        self.settled.insert(*key);
        self.addresses.get(key).copied()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PublicKey> {
        self.waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect()
    }

    /// Returns the time at which an address is to be tried.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().copied().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_from_before_is_tried_once_and_after_the_answer_never() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let [a, b] = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        let before = [(a, IpAddr::from([192, 0, 2, 7])), (b, IpAddr::from([192, 0, 2, 8]))];
        let mut endpoint_cache = EndpointCache::new(before.into_iter());
        endpoint_cache.handle_lookup(&a, at(0));
        endpoint_cache.handle_lookup(&b, at(1));
        assert_eq!(endpoint_cache.deadline(), Some(at(2000)));
        assert_eq!(endpoint_cache.take_due(at(1999)), []);
        endpoint_cache.handle_answered(&b);
        assert_eq!(endpoint_cache.take_due(at(9000)), [a]);
        assert_eq!(endpoint_cache.take(&a), "192.0.2.7".parse().ok());
        for key in [a, b] {
            endpoint_cache.handle_lookup(&key, at(9000));
            assert_eq!((endpoint_cache.take(&key), endpoint_cache.deadline()), (None, None));
        }
        let mut asked = EndpointCache::new(before.into_iter());
        asked.set_looked_up();
        asked.handle_lookup(&a, at(5));
        assert_eq!(asked.take_due(at(5)), [a]);
    }
}
