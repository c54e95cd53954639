//! Encoding of attributes and messages.

use std::ops::RangeInclusive;

use netlink_packet_core::{NLA_F_NESTED, NLM_F_REQUEST};
use nix::libc;

use super::constants::*;
use super::table::{Family, Key, next_key};

/// The register of verdicts.
pub(super) const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT as u32;

/// A buffer of encoded attributes.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn value(&mut self, kind: u16, value: &[u8]) {
        // all values written here are shorter than 64 KiB
        let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.value(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.value(kind, &bytes);
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.value(NLA_F_NESTED | kind, &inner.0);
    }

    pub(super) fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.text(NFTA_EXPR_NAME, name);
        self.nest(NFTA_EXPR_DATA, fill);
    }

    pub(super) fn constant(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, register);
            data.nest(NFTA_IMMEDIATE_DATA, |data| data.value(NFTA_DATA_VALUE, value));
        });
    }

    pub(super) fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, VERDICT_REGISTER);
            data.nest(NFTA_IMMEDIATE_DATA, |data| data.verdict_data(code, chain));
        });
    }

    pub(super) fn verdict_data(&mut self, code: u32, chain: Option<&str>) {
        self.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.number(NFTA_VERDICT_CODE, code);
            if let Some(chain) = chain {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }

    /// Adds the elements of a range of addresses, for which a map has a verdict with a chain.
    pub(super) fn range(
        &mut self,
        family: Family,
        range: &RangeInclusive<u128>,
        verdict: Option<(u32, &str)>,
    ) {
        self.nest(NFTA_LIST_ELEM, |element| {
            element.address(family, *range.start(), false);
            if let Some((code, chain)) = verdict {
                element.nest(NFTA_SET_ELEM_DATA, |data| data.verdict_data(code, Some(chain)));
            }
        });
        // a range that reaches to the last address has no end element
        let last = if family == Family::Ip { u32::MAX.into() } else { u128::MAX };
        if let Some(after) = range.end().checked_add(1).filter(|after| *after <= last) {
            self.nest(NFTA_LIST_ELEM, |element| element.address(family, after, true));
        }
    }

    /// Adds the elements of a range of keys of `length` bytes.
    pub(super) fn keys(&mut self, length: u32, range: &RangeInclusive<Key>) {
        let length = length as usize;
        let bytes = |key: &Key| key.get(..length).unwrap_or_default().to_vec();
        self.nest(NFTA_LIST_ELEM, |element| element.element(&bytes(range.start()), false));
        if let Some(after) = next_key(range.end(), length) {
            self.nest(NFTA_LIST_ELEM, |element| element.element(&bytes(&after), true));
        }
    }

    /// Adds the element of an address.
    pub(super) fn address(&mut self, family: Family, address: u128, ends: bool) {
        let bytes = address.to_be_bytes();
        let start = if family == Family::Ip { 12 } else { 0 };
        self.element(bytes.get(start..).unwrap_or_default(), ends);
    }

    /// Adds an element of a set: the start of a range, or the first value after it if `ends` is
    /// true.
    pub(super) fn element(&mut self, key: &[u8], ends: bool) {
        if ends {
            self.number(NFTA_SET_ELEM_FLAGS, libc::NFT_SET_ELEM_INTERVAL_END as u32);
        }
        self.nest(NFTA_SET_ELEM_KEY, |data| data.value(NFTA_DATA_VALUE, key));
    }
}

/// Encodes one message: netlink's header, netfilter's header (`struct nfgenmsg`), attributes.
pub(super) fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    attributes: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(attributes.len().saturating_add(20)).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}
