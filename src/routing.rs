//! Cryptokey routing: which peer a packet goes to, and which peer alone it may come from.
//!
//! A peer's *allowed IPs* are prefixes. A packet from the tun goes to the peer whose prefix is the longest that
//! its destination lies in; a packet from a peer is taken only if the same look-up of its *source* gives that
//! very peer. A prefix belongs to one peer at a time: the last that claimed it.

mod prefix;
mod trie;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use prefix::Prefix;
use trie::{NONE, Trie};

/// Allowed IPs of all peers, IPv4 and IPv6. `P` names a peer and should be small, such as a number.
///
/// A prefix takes at most two nodes of a trie, one for itself and one where it parts ways with others, and an
/// entry in its peer's list: 76 bytes for IPv4 and 100 for IPv6 with a `P` of four bytes, twice that right after
/// the blocks of memory have grown. What a removal frees is kept for the next claim.
///
/// ```
/// use wontun::routing::{AllowedIps, Prefix};
///
/// let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length).unwrap();
/// let mut allowed_ips = AllowedIps::new();
/// allowed_ips.insert(prefix("0.0.0.0", 0), 1);
/// allowed_ips.insert(prefix("10.8.0.0", 16), 2);
/// assert_eq!(allowed_ips.lookup("10.8.1.1".parse().unwrap()), Some(2));
/// assert_eq!(allowed_ips.lookup("10.9.1.1".parse().unwrap()), Some(1));
/// assert_eq!(allowed_ips.lookup("fd00::1".parse().unwrap()), None);
/// ```
#[derive(Clone, Debug)]
pub struct AllowedIps<P> {
    v4: Trie<u32>,
    v6: Trie<u128>,
    /// What the values of the tries are the numbers of.
    entries: Vec<Entry<P>>,
    /// The first of the entries that are free, which are chained by `next`.
    free: u32,
    claims: HashMap<P, Claims>,
    owned: usize,
}

/// A prefix, in the list of its peer; free without one.
#[derive(Clone, Debug)]
struct Entry<P> {
    prefix: Prefix,
    peer: Option<P>,
    previous: u32,
    next: u32,
}

/// The ends of one peer's list of prefixes, in the order in which it claimed them.
#[derive(Clone, Copy, Debug)]
struct Claims {
    first: u32,
    last: u32,
}

impl<P: Copy + Eq + Hash> AllowedIps<P> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            v4: Trie::new(),
            v6: Trie::new(),
            entries: Vec::new(),
            free: NONE,
            claims: HashMap::new(),
            owned: 0,
        }
    }

    /// How many prefixes have a peer.
    pub const fn len(&self) -> usize {
        self.owned
    }

    /// Whether no prefix has a peer.
    pub const fn is_empty(&self) -> bool {
        self.owned == 0
    }

    /// Gives `prefix` to `peer` and tells whose it was before. It becomes the last of the peer's prefixes, also if
    /// it was its own already. Room is for two thousand million prefixes, more than memory has; beyond that nothing
    /// is changed.
    pub fn insert(&mut self, prefix: Prefix, peer: P) -> Option<P> {
        if !self.v4.has_room() || !self.v6.has_room() {
            return None;
        }
        let end = u32::try_from(self.entries.len()).ok().filter(|&end| end != NONE)?;
        let unused = if self.free == NONE { end } else { self.free };
        let value = match prefix.network() {
            IpAddr::V4(v4) => self.v4.entry(v4.to_bits(), prefix.length()),
            IpAddr::V6(v6) => self.v6.entry(v6.to_bits(), prefix.length()),
        }?;
        if *value != NONE {
            let index = *value;
            let before = self.unlink(index);
            self.link(index, peer);
            return before;
        }
        *value = unused;
        let made = Entry { prefix, peer: None, previous: NONE, next: NONE };
        match self.entry_mut(unused) {
            Some(entry) => self.free = std::mem::replace(entry, made).next,
            None => self.entries.push(made),
        }
        self.link(unused, peer);
        None
    }

    /// Takes `prefix` from the peer that has it and tells which that was.
    pub fn remove(&mut self, prefix: Prefix) -> Option<P> {
        self.remove_if(prefix, |_| true)
    }

    /// Takes `prefix` from `peer`; another peer keeps it. Tells whether `peer` had it.
    pub fn remove_from(&mut self, prefix: Prefix, peer: P) -> bool {
        self.remove_if(prefix, |owner| owner == Some(peer)).is_some()
    }

    /// Takes all prefixes from `peer` and tells how many they were.
    pub fn remove_peer(&mut self, peer: P) -> usize {
        let before = self.owned;
        while let Some(first) = self.claims.get(&peer).and_then(|claims| self.entry(claims.first)) {
            self.remove(first.prefix);
        }
        before - self.owned
    }

    /// The prefixes of `peer`, in the order in which it claimed them.
    pub fn of_peer(&self, peer: P) -> impl Iterator<Item = Prefix> + '_ {
        let first = self.claims.get(&peer).and_then(|claims| self.entry(claims.first));
        std::iter::successors(first, |entry| self.entry(entry.next)).map(|entry| entry.prefix)
    }

    /// All prefixes with their peers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, P)> + '_ {
        self.entries.iter().filter_map(|entry| entry.peer.map(|peer| (entry.prefix, peer)))
    }

    /// The peer with the longest prefix that `address` lies in.
    pub fn lookup(&self, address: IpAddr) -> Option<P> {
        match address {
            IpAddr::V4(v4) => self.lookup_v4(v4),
            IpAddr::V6(v6) => self.lookup_v6(v6),
        }
    }

    /// As [`Self::lookup`], for an IPv4 address.
    pub fn lookup_v4(&self, address: Ipv4Addr) -> Option<P> {
        self.entry(self.v4.longest_match(address.to_bits()))?.peer
    }

    /// As [`Self::lookup`], for an IPv6 address. An IPv4-mapped address is no IPv4 address.
    pub fn lookup_v6(&self, address: Ipv6Addr) -> Option<P> {
        self.entry(self.v6.longest_match(address.to_bits()))?.peer
    }

    fn remove_if(&mut self, prefix: Prefix, wanted: impl FnOnce(Option<P>) -> bool) -> Option<P> {
        let entries = &self.entries;
        let wanted = |index: u32| wanted(entries.get(index as usize).and_then(|entry| entry.peer));
        let index = match prefix.network() {
            IpAddr::V4(v4) => self.v4.remove_if(v4.to_bits(), prefix.length(), wanted),
            IpAddr::V6(v6) => self.v6.remove_if(v6.to_bits(), prefix.length(), wanted),
        }?;
        let peer = self.unlink(index);
        let free = self.free;
        if let Some(entry) = self.entry_mut(index) {
            entry.next = free;
            self.free = index;
        }
        peer
    }

    /// Puts an entry at the end of the list of `peer`.
    fn link(&mut self, index: u32, peer: P) {
        let claims = self.claims.entry(peer).or_insert(Claims { first: index, last: NONE });
        let last = std::mem::replace(&mut claims.last, index);
        if let Some(entry) = self.entry_mut(last) {
            entry.next = index;
        }
        if let Some(entry) = self.entry_mut(index) {
            entry.peer = Some(peer);
            entry.previous = last;
            entry.next = NONE;
            self.owned += 1;
        }
    }

    /// Takes an entry out of the list of its peer.
    fn unlink(&mut self, index: u32) -> Option<P> {
        let entry = self.entry_mut(index)?;
        let peer = entry.peer.take()?;
        let (previous, next) = (entry.previous, entry.next);
        self.owned -= 1;
        if let Some(entry) = self.entry_mut(previous) {
            entry.next = next;
        }
        if let Some(entry) = self.entry_mut(next) {
            entry.previous = previous;
        }
        if previous == NONE && next == NONE {
            self.claims.remove(&peer);
        } else if let Some(claims) = self.claims.get_mut(&peer) {
            if previous == NONE {
                claims.first = next;
            }
            if next == NONE {
                claims.last = previous;
            }
        }
        Some(peer)
    }

    fn entry(&self, index: u32) -> Option<&Entry<P>> {
        self.entries.get(index as usize)
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<P>> {
        self.entries.get_mut(index as usize)
    }
}

impl<P: Copy + Eq + Hash> Default for AllowedIps<P> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
