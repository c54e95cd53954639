//! The contents of a table where anybody can change them (Linux before 6.9).
//!
//! What the kernel says about a table is not what it was told: attributes come in another order,
//! are left out or added, differently in each version. So the contents are read right after the
//! table was put up, and compared with what is read later. That nobody was in between shows by the
//! number of the ruleset's generation, which each transaction increments and each message tells.

use super::listing::{HEADER, number};
use super::table::{Elements, Table};
use crate::link::message::attribute;

/// Attributes, from linux/netfilter/nf_tables.h.
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_GEN_ID: u16 = 1;

/// All messages about a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Without their headers.
    messages: Vec<Vec<u8>>,
}

/// A message about a table, and the last bits of the ruleset's generation when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    generation: u16,
    attributes: Vec<u8>,
}

impl Entry {
    /// Reads the message.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let [_, _, generation @ ..] = *body.first_chunk::<HEADER>()?;
        let attributes = body.get(HEADER..)?.to_vec();
        Some(Self { generation: u16::from_be_bytes(generation), attributes })
    }

    /// Reads an `NFT_MSG_NEWCHAIN`; `None` for a chain of another table.
    pub(super) fn parse_chain(body: &[u8], table: &Table) -> Option<Self> {
        let entry = Self::parse(body)?;
        let name = attribute(&entry.attributes, NFTA_CHAIN_TABLE)?;
        let is_of_table = body.first() == Some(&(table.family as u8))
            && name.strip_suffix(&[0]) == Some(table.name.as_bytes());
        is_of_table.then_some(entry)
    }
}

impl Contents {
    /// Adds what was read, and returns true if all of it is of that generation.
    pub(super) fn push(&mut self, entries: Vec<Entry>, generation: u32) -> bool {
        let is_of = |entry: &Entry| u32::from(entry.generation) == generation & u32::from(u16::MAX);
        let is_current = entries.iter().all(is_of);
        self.messages.extend(entries.into_iter().map(|entry| entry.attributes));
        is_current
    }
}

/// Reads the number of the generation in an `NFT_MSG_NEWGEN`.
pub(super) fn generation(body: &[u8]) -> Option<u32> {
    number(body.get(HEADER..)?, NFTA_GEN_ID)
}

/// Returns the number of the generation after that one: there is no 0.
pub(super) fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Returns the names of the sets that rules do not change.
pub(super) fn fixed_sets(table: &Table) -> impl Iterator<Item = &'static str> {
    table.sets.iter().filter(|set| set.elements != Elements::Dynamic).map(|set| set.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::tests::messages;
    use super::super::table::{Chain, Family, Hook, Kind, Priority, Verdict};
    use super::*;

    fn table(name: &str) -> Table {
        let chain = Chain {
            name: "forward",
            kind: Kind::Filter,
            hook: Hook::Forward,
            priority: Priority::Filter,
            policy: Verdict::Drop,
            rules: vec![],
        };
        Table { family: Family::Inet, name: name.to_owned(), sets: vec![], chains: vec![chain] }
    }

    #[test]
    fn chains_are_told_by_their_table() {
        let own = table("wontun-lock-wg0");
        let (_, mut body) = messages(&own).into_iter().nth(2).unwrap();
        body[2..4].copy_from_slice(&[1, 2]);
        let entry = Entry::parse_chain(&body, &own).unwrap();
        assert_eq!(entry.generation, 0x0102);
        assert_eq!(Entry::parse_chain(&body, &table("wontun-lock-wg")), None);
        assert_eq!(Entry::parse_chain(&body, &Table { family: Family::Ip, ..own }), None);
    }

    #[test]
    fn a_change_in_between_shows() {
        let entry = |generation| Entry { generation, attributes: vec![1, 2] };
        let mut contents = Contents::default();
        assert!(contents.push(vec![entry(7), entry(7)], 0x9_0007));
        assert!(!contents.push(vec![entry(7), entry(8)], 0x9_0007));
        assert_eq!(contents.messages.len(), 4);
        assert_eq!([1, 9, u32::MAX].map(next_generation), [2, 10, 1]);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Entry::parse_chain(&body, &table("wontun-wg0")), generation(&body));
        }
    }
}
