//! Comparison of a table's contents where any process can change it (Linux before 6.9).
//!
//! The kernel does not return a table as it was sent: attributes are reordered, left out or added,
//! differently in each version. Therefore the contents are read right after the table was
//! installed, and compared with those read later. The generation number of the ruleset, which each
//! transaction increments, shows that no other change came in between.

use super::constants::{NFGENMSG_LEN, NFTA_CHAIN_TABLE, NFTA_GEN_ID};
use super::listing::number;
use super::table::{Elements, Table};
use crate::netlink::message::attribute;

/// Hashes of all messages about a table, without their headers, which contain the generation. The
/// table of a server with many peers has megabytes.
pub(super) type TableContents = Vec<u64>;

/// Returns a message about a table without its header.
pub(super) fn entry(body: &[u8]) -> Option<Vec<u8>> {
    body.get(NFGENMSG_LEN..).map(<[u8]>::to_vec)
}

/// Returns an `NFT_MSG_NEWCHAIN` without its header; `None` for a chain of another table.
pub(super) fn chain_of(body: &[u8], table: &Table) -> Option<Vec<u8>> {
    let entry = entry(body)?;
    let name = attribute(&entry, NFTA_CHAIN_TABLE)?;
    let is_of_table =
        body.first() == Some(&(table.family as u8)) && name.strip_suffix(&[0]) == Some(table.name.as_bytes());
    is_of_table.then_some(entry)
}

/// Returns the generation number in an `NFT_MSG_NEWGEN`.
pub(super) fn generation(body: &[u8]) -> Option<u32> {
    number(body.get(NFGENMSG_LEN..)?, NFTA_GEN_ID)
}

/// Returns the generation number that follows; 0 is not used.
pub(super) fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Returns the names of the sets that rules do not change.
pub(super) fn fixed_sets(table: &Table) -> impl Iterator<Item = &str> {
    table.sets.iter().filter(|set| set.elements != Elements::Dynamic).map(|set| &*set.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::tests::messages;
    use super::super::table::{Chain, ChainType, Family, Hook, Priority, Verdict};
    use super::*;

    fn table(name: &str) -> Table {
        let chain = Chain {
            name: "forward",
            kind: ChainType::Filter,
            hook: Hook::Forward,
            priority: Priority::Filter,
            policy: Verdict::Drop,
            rules: vec![],
        };
        Table {
            family: Family::Inet,
            name: name.to_owned(),
            sets: vec![],
            counters: vec![],
            chains: vec![chain],
            regular: vec![],
        }
    }

    #[test]
    fn chains_are_matched_by_their_table() {
        let own = table("wontun-lock-wg0");
        let (_, body) = messages(&own).into_iter().nth(2).unwrap();
        assert_eq!(chain_of(&body, &own).unwrap(), body[NFGENMSG_LEN..]);
        assert_eq!(chain_of(&body, &table("wontun-lock-wg")), None);
        assert_eq!(chain_of(&body, &Table { family: Family::Ip, ..own }), None);
    }

    #[test]
    fn generations_are_counted_without_0() {
        assert_eq!([1, 9, u32::MAX].map(next_generation), [2, 10, 1]);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (chain_of(&body, &table("wontun-wg0")), entry(&body), generation(&body));
        }
    }
}
