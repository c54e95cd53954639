//! Answers of the name servers, until they expire.

use std::collections::HashMap;
use std::time::Duration;

use super::message::{self, Query};
use wontun_proto::time::Instant;

/// Maximum size of the cache in bytes, and of an answer in it.
const MAX_SIZE: usize = 512 << 10;
const MAX_ANSWER: usize = 4 << 10;
/// Memory of an entry apart from its answer, about.
const OVERHEAD: usize = 256;
/// Maximum time for which an answer is kept.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Response codes of answers that are kept: success, and a name that does not exist.
const KEPT: [u16; 2] = [0, 3];

/// The parts of a query that its answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: Vec<u8>,
    kind: u16,
    class: u16,
    dnssec: [bool; 2],
}

#[derive(Debug)]
struct Entry {
    answer: Vec<u8>,
    /// The question of the answer ends where that of any query for the same name does.
    stored: Instant,
    expires: Instant,
}

/// A bounded cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    size: usize,
}

impl Cache {
    /// Returns the answer to `query`, with its identifier and the remaining times to live.
    pub(super) fn get(&self, query: &Query, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(&key(query)).filter(|entry| now < entry.expires)?;
        let mut answer = entry.answer.clone();
        message::set_id(&mut answer, query.id);
        message::reduce_ttls(&mut answer, query, now.since(entry.stored));
        Some(answer)
    }

    /// Keeps `answer` for as long as its records say.
    pub(super) fn insert(&mut self, query: &Query, answer: &[u8], now: Instant) {
        let is_kept = KEPT.contains(&message::code(answer)) && !message::is_truncated(answer);
        let ttl = message::ttl(answer, query).filter(|ttl| is_kept && !ttl.is_zero());
        let Some(ttl) = ttl.filter(|_| answer.len() <= MAX_ANSWER) else { return };
        if self.size + answer.len() + OVERHEAD > MAX_SIZE {
            self.make_room(now);
        }
        let entry = Entry { answer: answer.to_vec(), stored: now, expires: now + ttl.min(MAX_TTL) };
        self.size += size(&entry);
        if let Some(old) = self.entries.insert(key(query), entry) {
            self.size = self.size.saturating_sub(size(&old));
        }
    }

    /// Returns the number of answers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes what has expired, or if that is less than half, everything: a client that fills the
    /// cache costs others a query each, and no memory.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.expires);
        self.size = self.entries.values().map(size).sum();
        if self.size > MAX_SIZE / 2 {
            *self = Self::default();
        }
    }
}

fn key(query: &Query) -> Key {
    Key { name: query.name.clone(), kind: query.kind, class: query.class, dnssec: query.dnssec }
}

fn size(entry: &Entry) -> usize {
    entry.answer.len() + OVERHEAD
}
