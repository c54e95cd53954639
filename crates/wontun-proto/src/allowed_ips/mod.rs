//! Cryptokey routing: the peer that a packet goes to, and the only peer that it may come from.
//!
//! The *allowed IPs* of a peer are prefixes. A packet from the TUN device goes to the peer with the
//! longest prefix that contains its destination. A packet from a peer is accepted only if the same
//! lookup of its *source* gives that peer. A prefix belongs to one peer at a time: the last that it
//! was assigned to.

mod prefix;
mod trie;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use prefix::Prefix;
use trie::{NONE, Trie};

/// Allowed IPs of all peers, IPv4 and IPv6. `P` identifies a peer and should be small, such as an
/// integer.
///
/// A prefix takes at most two trie nodes, one for itself and one where it branches from others, and
/// an entry in its peer's list: 76 bytes for IPv4 and 100 for IPv6 with a `P` of four bytes, twice
/// that right after the vectors have grown. Memory that a removal frees is kept for the next
/// insertion.
///
/// ```
/// use wontun_proto::allowed_ips::{AllowedIps, Prefix};
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
    /// The entries; the values of the tries are indices into them.
    entries: Vec<Entry<P>>,
    /// Index of the first free entry; free entries are chained by `next`.
    free: u32,
    peer_prefixes: HashMap<P, PeerPrefixes>,
    count: usize,
}

/// A prefix in the list of its peer; free if it has no peer.
#[derive(Clone, Debug)]
struct Entry<P> {
    prefix: Prefix,
    peer: Option<P>,
    previous: u32,
    next: u32,
}

/// First and last entry of a peer's list of prefixes, in the order in which they were assigned.
#[derive(Clone, Copy, Debug)]
struct PeerPrefixes {
    first: u32,
    last: u32,
}

impl<P: Copy + Eq + Hash> AllowedIps<P> {
    /// Returns an empty table.
    pub fn new() -> Self {
        Self {
            v4: Trie::new(),
            v6: Trie::new(),
            entries: Vec::new(),
            free: NONE,
            peer_prefixes: HashMap::new(),
            count: 0,
        }
    }

    /// Returns the number of prefixes that have a peer.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Returns true if no prefix has a peer.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Assigns `prefix` to `peer` and returns its previous owner. It becomes the last of the peer's
    /// prefixes, even if the peer owned it already. The capacity is two thousand million prefixes,
    /// more than memory holds; beyond that nothing is changed.
    pub fn insert(&mut self, prefix: Prefix, peer: P) -> Option<P> {
        if !self.v4.has_capacity() || !self.v6.has_capacity() {
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
        let new = Entry { prefix, peer: None, previous: NONE, next: NONE };
        match self.entry_mut(unused) {
            Some(entry) => self.free = std::mem::replace(entry, new).next,
            None => self.entries.push(new),
        }
        self.link(unused, peer);
        None
    }

    /// Removes `prefix` and returns the peer that owned it.
    pub fn remove(&mut self, prefix: Prefix) -> Option<P> {
        self.remove_if(prefix, |_| true)
    }

    /// Removes `prefix` if `peer` owns it; returns true if it did.
    pub fn remove_if_owned(&mut self, prefix: Prefix, peer: P) -> bool {
        self.remove_if(prefix, |owner| owner == Some(peer)).is_some()
    }

    /// Removes all prefixes of `peer` and returns their number.
    pub fn remove_peer(&mut self, peer: P) -> usize {
        let before = self.count;
        while let Some(first) = self.peer_prefixes.get(&peer).and_then(|list| self.entry(list.first)) {
            self.remove(first.prefix);
        }
        before - self.count
    }

    /// Returns the prefixes of `peer`, in the order in which they were assigned.
    pub fn prefixes_of(&self, peer: P) -> impl Iterator<Item = Prefix> + '_ {
        let first = self.peer_prefixes.get(&peer).and_then(|list| self.entry(list.first));
        std::iter::successors(first, |entry| self.entry(entry.next)).map(|entry| entry.prefix)
    }

    /// Returns all prefixes with their peers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, P)> + '_ {
        self.entries.iter().filter_map(|entry| entry.peer.map(|peer| (entry.prefix, peer)))
    }

    /// Returns the peer with the longest prefix that contains `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<P> {
        match address {
            IpAddr::V4(v4) => self.lookup_v4(v4),
            IpAddr::V6(v6) => self.lookup_v6(v6),
        }
    }

    /// Like [`Self::lookup`], for an IPv4 address.
    pub fn lookup_v4(&self, address: Ipv4Addr) -> Option<P> {
        self.entry(self.v4.longest_match(address.to_bits()))?.peer
    }

    /// Like [`Self::lookup`], for an IPv6 address. An IPv4-mapped address does not match IPv4
    /// prefixes.
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

    /// Appends an entry to the list of `peer`.
    fn link(&mut self, index: u32, peer: P) {
        let list = self.peer_prefixes.entry(peer).or_insert(PeerPrefixes { first: index, last: NONE });
        let last = std::mem::replace(&mut list.last, index);
        if let Some(entry) = self.entry_mut(last) {
            entry.next = index;
        }
        if let Some(entry) = self.entry_mut(index) {
            entry.peer = Some(peer);
            entry.previous = last;
            entry.next = NONE;
            self.count += 1;
        }
    }

    /// Removes an entry from the list of its peer.
    fn unlink(&mut self, index: u32) -> Option<P> {
        let entry = self.entry_mut(index)?;
        let peer = entry.peer.take()?;
        let (previous, next) = (entry.previous, entry.next);
        self.count -= 1;
        if let Some(entry) = self.entry_mut(previous) {
            entry.next = next;
        }
        if let Some(entry) = self.entry_mut(next) {
            entry.previous = previous;
        }
        if previous == NONE && next == NONE {
            self.peer_prefixes.remove(&peer);
        } else if let Some(list) = self.peer_prefixes.get_mut(&peer) {
            if previous == NONE {
                list.first = next;
            }
            if next == NONE {
                list.last = previous;
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
