//! Limit of queries per client.

use std::collections::HashMap;
use std::net::IpAddr;

use wontun_proto::time::Instant;

/// Number of queries per second of one client, and the number that it may ask at once.
const RATE: u32 = 100;
const BURST: u32 = 200;
/// Maximum number of clients that are counted: further ones wait for one that was silent.
const MAX_CLIENTS: usize = 4096;

/// Counts queries.
#[derive(Debug, Default)]
pub(super) struct QueryLimit {
    clients: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of queries that the client may ask.
    tokens: u64,
    updated: Instant,
}

impl QueryLimit {
    /// Returns true if `client` may ask a query now.
    pub(super) fn allows(&mut self, client: IpAddr, now: Instant) -> bool {
        const FULL: u64 = BURST as u64 * 1000;
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, bucket| bucket.refill(now) < FULL);
            if self.clients.len() >= MAX_CLIENTS {
                return false;
            }
        }
        let bucket = self.clients.entry(client).or_insert(Bucket { tokens: FULL, updated: now });
        let tokens = bucket.refill(now).min(FULL);
        (bucket.updated, bucket.tokens) = (now, tokens);
        let rest = tokens.checked_sub(1000);
        bucket.tokens = rest.unwrap_or(tokens);
        rest.is_some()
    }
}

impl Bucket {
    fn refill(&self, now: Instant) -> u64 {
        let elapsed = u64::try_from(now.since(self.updated).as_millis()).unwrap_or(u64::MAX);
        self.tokens.saturating_add(elapsed.saturating_mul(u64::from(RATE)))
    }
}
