//! Encoding of requests that read.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};

use super::attributes::{Attributes, message};
use super::constants::*;
use super::table::Family;

/// Builds a request for the table of that name.
pub(super) fn get_table(family: Family, name: &str, sequence: u32) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_TABLE_NAME, name);
    message(NFT_MSG_GETTABLE, NLM_F_ACK, sequence, family as u8, 0, &attributes.0)
}

/// Builds a request for all tables of a family.
pub(super) fn list_tables(family: Family, sequence: u32) -> Vec<u8> {
    message(NFT_MSG_GETTABLE, NLM_F_DUMP, sequence, family as u8, 0, &[])
}

/// Builds a request for all chains of all families.
pub(super) fn list_chains(sequence: u32) -> Vec<u8> {
    message(NFT_MSG_GETCHAIN, NLM_F_DUMP, sequence, 0, 0, &[])
}

/// Builds a request for the rules of one table; `family` is the kernel's number.
pub(super) fn list_rules(family: u8, table: &str, sequence: u32) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_RULE_TABLE, table);
    message(NFT_MSG_GETRULE, NLM_F_DUMP, sequence, family, 0, &attributes.0)
}

/// Builds a request for the elements of a set of one table; `family` is the kernel's number.
pub(super) fn list_elements(family: u8, table: &str, set: &str, sequence: u32) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_SET_ELEM_LIST_TABLE, table);
    attributes.text(NFTA_SET_ELEM_LIST_SET, set);
    message(NFT_MSG_GETSETELEM, NLM_F_DUMP, sequence, family, 0, &attributes.0)
}

/// Builds a request for the generation number of the ruleset.
pub(super) fn get_generation(sequence: u32) -> Vec<u8> {
    message(NFT_MSG_GETGEN, NLM_F_ACK, sequence, 0, 0, &[])
}

/// Builds a request for a counter of one table.
pub(super) fn get_counter(family: Family, table: &str, name: &str, sequence: u32) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_OBJ_TABLE, table);
    attributes.text(NFTA_OBJ_NAME, name);
    attributes.number(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
    message(NFT_MSG_GETOBJ, NLM_F_ACK, sequence, family as u8, 0, &attributes.0)
}
