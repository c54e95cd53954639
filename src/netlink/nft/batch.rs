//! Encoding of transactions.
//!
//! The order of attributes is that of nft(8), so that its `--debug=mnl` shows the same bytes.
//! Integers are big-endian, except for values that the kernel compares in registers, which keep the
//! order in which they are stored there.

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use nix::libc;

use super::attributes::{Attributes, VERDICT_REGISTER, message};
use super::constants::*;
use super::table::{Chain, ChainType, Counter, Elements, Expression, Family, Set, Table, Verdict};

/// The register used for all values.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
/// The word of the register that comes first; the others follow.
const FIRST_WORD: u32 = libc::NFT_REG32_00 as u32;
/// The register of the port, where an address is in the other one.
const SECOND_REGISTER: u32 = libc::NFT_REG_2 as u32;
const JUMP: u32 = libc::NFT_JUMP.cast_unsigned();
const GOTO: u32 = libc::NFT_GOTO.cast_unsigned();
const RETURN: u32 = libc::NFT_RETURN.cast_unsigned();
/// Maximum number of ranges in one message. A list of elements is one attribute, of 64 KiB at most;
/// a range of IPv6 addresses takes 64 bytes, one of keys 112 at most, and one with a chain about 100.
const RANGES_IN_A_MESSAGE: usize = 500;
/// Offset of the flags in netlink's header.
const FLAGS_OFFSET: usize = 6;
/// Maximum number of elements of a dynamic set.
const DYNAMIC_SIZE: u32 = 65_535;
/// Lifetime of an element of a dynamic set, in milliseconds.
const DYNAMIC_TIMEOUT: u64 = 1000;

/// The messages of one transaction.
pub(super) struct Batch {
    family: u8,
    /// Sequence number of the last message.
    sequence: u32,
    bytes: Vec<u8>,
    /// Offset of the last message.
    last: usize,
}

impl Batch {
    pub(super) fn new(family: Family, sequence: u32) -> Self {
        let bytes = message(BATCH_BEGIN, 0, sequence, 0, SUBSYSTEM, &[]);
        Self { family: family as u8, sequence, bytes, last: 0 }
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.sequence = self.sequence.wrapping_add(1);
        self.last = self.bytes.len();
        self.bytes.extend(message(kind, flags, self.sequence, self.family, 0, &attributes.0));
    }

    /// Adds the messages that create `table` with these `flags` (`NFT_TABLE_F_*`). If `replaces` is
    /// true, a table of that name exists and is deleted first.
    pub(super) fn create_table(&mut self, table: &Table, replaces: bool, flags: u32) {
        if replaces {
            self.delete_table(&table.name);
        }
        self.new_table(&table.name, flags);
        for chain in &table.chains {
            self.new_chain(&table.name, chain);
        }
        for chain in &table.regular {
            self.new_regular_chain(&table.name, &chain.name);
        }
        for counter in &table.counters {
            self.new_counter(&table.name, counter);
        }
        for (number, set) in table.sets.iter().enumerate() {
            self.new_set(&table.name, set, set_id(number));
            self.fill_set(table, set, set_id(number));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.new_rule(table, chain.name, rule);
            }
        }
        for chain in &table.regular {
            for rule in &chain.rules {
                self.new_rule(table, &chain.name, rule);
            }
        }
    }

    fn new_table(&mut self, name: &str, flags: u32) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_TABLE_NAME, name);
        attributes.number(NFTA_TABLE_FLAGS, flags);
        // the kernel returns EEXIST if another program has created the table meanwhile
        self.push(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, &attributes);
    }

    pub(super) fn delete_table(&mut self, name: &str) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_TABLE_NAME, name);
        self.push(NFT_MSG_DELTABLE, 0, &attributes);
    }

    fn new_chain(&mut self, table: &str, chain: &Chain) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_CHAIN_TABLE, table);
        attributes.text(NFTA_CHAIN_NAME, chain.name);
        attributes.text(
            NFTA_CHAIN_TYPE,
            match chain.kind {
                ChainType::Filter => "filter",
                ChainType::Nat => "nat",
            },
        );
        if chain.policy != Verdict::Accept {
            attributes.number(NFTA_CHAIN_POLICY, chain.policy as u32);
        }
        attributes.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.number(NFTA_HOOK_HOOKNUM, chain.hook as u32);
            hook.value(NFTA_HOOK_PRIORITY, &(chain.priority as i32).to_be_bytes());
        });
        self.push(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &attributes);
    }

    fn new_regular_chain(&mut self, table: &str, name: &str) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_CHAIN_TABLE, table);
        attributes.text(NFTA_CHAIN_NAME, name);
        self.push(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &attributes);
    }

    fn new_counter(&mut self, table: &str, counter: &Counter) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_OBJ_TABLE, table);
        attributes.text(NFTA_OBJ_NAME, counter.name);
        attributes.number(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        attributes.nest(NFTA_OBJ_DATA, |data| {
            data.value(NFTA_COUNTER_BYTES, &counter.start.bytes.to_be_bytes());
            data.value(NFTA_COUNTER_PACKETS, &counter.start.packets.to_be_bytes());
        });
        self.push(NFT_MSG_NEWOBJ, NLM_F_CREATE, &attributes);
    }

    fn new_set(&mut self, table: &str, set: &Set, id: u32) {
        // nft(8) shows elements by that type
        let (kind, length) = match (&set.elements, set.family) {
            (Elements::Keys { length, .. }, _) => (TYPE_INTEGER, *length),
            (_, Family::Ip) => (TYPE_IPADDR, 4),
            _ => (TYPE_IP6ADDR, 16),
        };
        let mut attributes = Attributes::default();
        attributes.text(NFTA_SET_TABLE, table);
        attributes.text(NFTA_SET_NAME, &set.name);
        let flags = match set.elements {
            Elements::Ranges(_) | Elements::Keys { .. } => libc::NFT_SET_INTERVAL as u32,
            Elements::Chains(_) => (libc::NFT_SET_INTERVAL | libc::NFT_SET_MAP) as u32,
            Elements::Dynamic => (libc::NFT_SET_EVAL | libc::NFT_SET_TIMEOUT) as u32,
        };
        attributes.number(NFTA_SET_FLAGS, flags);
        attributes.number(NFTA_SET_KEY_TYPE, kind);
        attributes.number(NFTA_SET_KEY_LEN, length);
        if matches!(set.elements, Elements::Chains(_)) {
            attributes.number(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            attributes.number(NFTA_SET_DATA_LEN, 0);
        }
        attributes.number(NFTA_SET_ID, id);
        if set.elements == Elements::Dynamic {
            attributes
                .nest(NFTA_SET_DESC, |description| description.number(NFTA_SET_DESC_SIZE, DYNAMIC_SIZE));
        }
        self.push(NFT_MSG_NEWSET, NLM_F_CREATE, &attributes);
    }

    fn fill_set(&mut self, table: &Table, set: &Set, id: u32) {
        match &set.elements {
            Elements::Ranges(ranges) => {
                for ranges in ranges.chunks(RANGES_IN_A_MESSAGE) {
                    self.new_elements(&table.name, set, id, |list| {
                        ranges.iter().for_each(|range| list.range(set.family, range, None));
                    });
                }
            }
            Elements::Chains(ranges) => {
                for ranges in ranges.chunks(RANGES_IN_A_MESSAGE) {
                    self.new_elements(&table.name, set, id, |list| {
                        for (range, chain) in ranges {
                            list.range(set.family, range, Some((GOTO, table.regular_name(*chain))));
                        }
                    });
                }
            }
            Elements::Keys { length, ranges } => {
                for ranges in ranges.chunks(RANGES_IN_A_MESSAGE) {
                    self.new_elements(&table.name, set, id, |list| {
                        ranges.iter().for_each(|range| list.keys(*length, range));
                    });
                }
            }
            Elements::Dynamic => {}
        }
    }

    fn new_elements(&mut self, table: &str, set: &Set, id: u32, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_SET_ELEM_LIST_TABLE, table);
        attributes.text(NFTA_SET_ELEM_LIST_SET, &set.name);
        attributes.number(NFTA_SET_ELEM_LIST_SET_ID, id);
        attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS, fill);
        self.push(NFT_MSG_NEWSETELEM, NLM_F_CREATE, &attributes);
    }

    fn new_rule(&mut self, table: &Table, chain: &str, expressions: &[Expression]) {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_RULE_TABLE, &table.name);
        attributes.text(NFTA_RULE_CHAIN, chain);
        attributes.nest(NFTA_RULE_EXPRESSIONS, |list| {
            for expression in expressions {
                list.nest(NFTA_LIST_ELEM, |element| expression.write(element, table));
            }
        });
        self.push(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attributes);
    }

    /// Returns the bytes, and the sequence number of the message that is acknowledged, the last one
    /// before the end of the batch: acknowledgements of a hundred thousand messages would overflow
    /// the receive buffer. A refusal is reported for any message.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32) {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        if let Some(byte) = self.bytes.get_mut(self.last + FLAGS_OFFSET..).and_then(<[u8]>::first_chunk_mut) {
            *byte = (u16::from_ne_bytes(*byte) | flags).to_ne_bytes();
        }
        let end = self.sequence.wrapping_add(1);
        self.bytes.extend(message(BATCH_END, 0, end, 0, SUBSYSTEM, &[]));
        (self.bytes, self.sequence)
    }
}

/// Returns the identifier of a set within its transaction.
fn set_id(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1)
}

impl Table {
    /// Returns the name of a regular chain; empty, which the kernel refuses, if there is none.
    fn regular_name(&self, number: usize) -> &str {
        self.regular.get(number).map_or("", |chain| chain.name.as_str())
    }

    fn set_name(&self, number: usize) -> &str {
        self.sets.get(number).map_or("", |set| &*set.name)
    }
}

impl Expression {
    fn write(&self, element: &mut Attributes, table: &Table) {
        match self {
            Self::LoadMeta(key) => element.expression("meta", |data| {
                data.number(NFTA_META_KEY, *key as u32);
                data.number(NFTA_META_DREG, REGISTER);
            }),
            Self::StoreMeta(key) => element.expression("meta", |data| {
                data.number(NFTA_META_KEY, *key as u32);
                data.number(NFTA_META_SREG, REGISTER);
            }),
            Self::LoadCtMark => element.expression("ct", |data| {
                data.number(NFTA_CT_KEY, libc::NFT_CT_MARK as u32);
                data.number(NFTA_CT_DREG, REGISTER);
            }),
            Self::StoreCtMark => element.expression("ct", |data| {
                data.number(NFTA_CT_KEY, libc::NFT_CT_MARK as u32);
                data.number(NFTA_CT_SREG, REGISTER);
            }),
            Self::LoadCtState => element.expression("ct", |data| {
                data.number(NFTA_CT_KEY, libc::NFT_CT_STATE as u32);
                data.number(NFTA_CT_DREG, REGISTER);
            }),
            Self::LoadCtStatus => element.expression("ct", |data| {
                data.number(NFTA_CT_KEY, libc::NFT_CT_STATUS as u32);
                data.number(NFTA_CT_DREG, REGISTER);
            }),
            Self::LoadPayload { base, offset, length } => element.expression("payload", |data| {
                data.number(NFTA_PAYLOAD_DREG, REGISTER);
                data.number(NFTA_PAYLOAD_BASE, *base as u32);
                data.number(NFTA_PAYLOAD_OFFSET, *offset);
                data.number(NFTA_PAYLOAD_LEN, *length);
            }),
            Self::LoadMetaField(word, key) => element.expression("meta", |data| {
                data.number(NFTA_META_KEY, *key as u32);
                data.number(NFTA_META_DREG, FIRST_WORD.saturating_add(*word));
            }),
            Self::LoadPayloadField { word, base, offset, length } => element.expression("payload", |data| {
                data.number(NFTA_PAYLOAD_DREG, FIRST_WORD.saturating_add(*word));
                data.number(NFTA_PAYLOAD_BASE, *base as u32);
                data.number(NFTA_PAYLOAD_OFFSET, *offset);
                data.number(NFTA_PAYLOAD_LEN, *length);
            }),
            Self::LoadSourceAddressType => element.expression("fib", |data| {
                data.number(NFTA_FIB_FLAGS, NFTA_FIB_F_SADDR);
                data.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                data.number(NFTA_FIB_DREG, REGISTER);
            }),
            Self::LoadDestinationAddressType => element.expression("fib", |data| {
                data.number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
                data.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                data.number(NFTA_FIB_DREG, REGISTER);
            }),
            Self::LoadNextHop(family) => element.expression("rt", |data| {
                let key = if *family == Family::Ip { NFT_RT_NEXTHOP4 } else { NFT_RT_NEXTHOP6 };
                data.number(NFTA_RT_KEY, key);
                data.number(NFTA_RT_DREG, REGISTER);
            }),
            Self::LoadTcpMss => element.expression("rt", |data| {
                data.number(NFTA_RT_KEY, NFT_RT_TCPMSS);
                data.number(NFTA_RT_DREG, REGISTER);
            }),
            Self::ToNetworkOrder => element.expression("byteorder", |data| {
                data.number(NFTA_BYTEORDER_SREG, REGISTER);
                data.number(NFTA_BYTEORDER_DREG, REGISTER);
                data.number(NFTA_BYTEORDER_OP, libc::NFT_BYTEORDER_HTON as u32);
                data.number(NFTA_BYTEORDER_LEN, 2);
                data.number(NFTA_BYTEORDER_SIZE, 2);
            }),
            Self::Mask(bits) => element.expression("bitwise", |data| {
                data.number(NFTA_BITWISE_SREG, REGISTER);
                data.number(NFTA_BITWISE_DREG, REGISTER);
                data.number(NFTA_BITWISE_OP, NFT_BITWISE_BOOL);
                data.number(NFTA_BITWISE_LEN, u32::try_from(bits.len()).unwrap_or(u32::MAX));
                data.nest(NFTA_BITWISE_MASK, |mask| mask.value(NFTA_DATA_VALUE, bits));
                data.nest(NFTA_BITWISE_XOR, |xor| xor.value(NFTA_DATA_VALUE, &vec![0; bits.len()]));
            }),
            Self::Compare(comparison, value) => element.expression("cmp", |data| {
                data.number(NFTA_CMP_SREG, REGISTER);
                data.number(NFTA_CMP_OP, *comparison as u32);
                data.nest(NFTA_CMP_DATA, |data| data.value(NFTA_DATA_VALUE, value));
            }),
            Self::Lookup(number) => element.expression("lookup", |data| {
                data.number(NFTA_LOOKUP_SREG, REGISTER);
                data.text(NFTA_LOOKUP_SET, table.set_name(*number));
                data.number(NFTA_LOOKUP_SET_ID, set_id(*number));
            }),
            Self::LookupNone(number) => element.expression("lookup", |data| {
                data.number(NFTA_LOOKUP_SREG, REGISTER);
                data.text(NFTA_LOOKUP_SET, table.set_name(*number));
                data.number(NFTA_LOOKUP_SET_ID, set_id(*number));
                data.number(NFTA_LOOKUP_FLAGS, libc::NFT_LOOKUP_F_INV as u32);
            }),
            Self::LookupChain(number) => element.expression("lookup", |data| {
                data.number(NFTA_LOOKUP_SREG, REGISTER);
                data.number(NFTA_LOOKUP_DREG, VERDICT_REGISTER);
                data.text(NFTA_LOOKUP_SET, table.set_name(*number));
                data.number(NFTA_LOOKUP_SET_ID, set_id(*number));
            }),
            Self::DynsetUpdate(number) => element.expression("dynset", |data| {
                data.number(NFTA_DYNSET_SREG_KEY, REGISTER);
                data.number(NFTA_DYNSET_OP, libc::NFT_DYNSET_OP_UPDATE as u32);
                data.value(NFTA_DYNSET_TIMEOUT, &DYNAMIC_TIMEOUT.to_be_bytes());
                data.text(NFTA_DYNSET_SET_NAME, table.set_name(*number));
                data.number(NFTA_DYNSET_SET_ID, set_id(*number));
            }),
            Self::DynsetDelete(number) => element.expression("dynset", |data| {
                data.number(NFTA_DYNSET_SREG_KEY, REGISTER);
                data.number(NFTA_DYNSET_OP, NFT_DYNSET_OP_DELETE);
                data.text(NFTA_DYNSET_SET_NAME, table.set_name(*number));
                data.number(NFTA_DYNSET_SET_ID, set_id(*number));
            }),
            // the option's value follows its kind and length
            Self::StoreTcpMss => element.expression("exthdr", |data| {
                data.number(NFTA_EXTHDR_SREG, REGISTER);
                data.value(NFTA_EXTHDR_TYPE, &[TCPOPT_MAXSEG]);
                data.number(NFTA_EXTHDR_OFFSET, 2);
                data.number(NFTA_EXTHDR_LEN, 2);
                data.number(NFTA_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
            }),
            Self::Masquerade => element.expression("masq", |_| {}),
            Self::Load(value) => element.constant(REGISTER, value),
            Self::LoadSecond(value) => element.constant(SECOND_REGISTER, value),
            Self::DestinationNat(family) => element.expression("nat", |data| {
                data.number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
                data.number(NFTA_NAT_FAMILY, *family as u32);
                data.number(NFTA_NAT_REG_ADDR_MIN, REGISTER);
                data.number(NFTA_NAT_REG_PROTO_MIN, SECOND_REGISTER);
                data.number(NFTA_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
            }),
            Self::Count(number) => element.expression("objref", |data| {
                data.number(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
                data.text(
                    NFTA_OBJREF_IMM_NAME,
                    table.counters.get(*number).map_or("", |counter| counter.name),
                );
            }),
            Self::Verdict(verdict) => element.verdict(*verdict as u32, None),
            Self::Jump(chain) => element.verdict(JUMP, Some(table.regular_name(*chain))),
            Self::Goto(chain) => element.verdict(GOTO, Some(table.regular_name(*chain))),
            Self::Return => element.verdict(RETURN, None),
        }
    }
}

#[cfg(test)]
pub(in crate::netlink) mod tests {
    use super::*;
    use crate::netlink::message::Messages;

    /// Returns the messages that install a table, each with its type and its body.
    pub(in crate::netlink) fn messages(table: &Table) -> Vec<(u16, Vec<u8>)> {
        let mut batch = Batch::new(table.family, 7);
        batch.create_table(table, true, 0);
        let (bytes, last) = batch.finish();
        let messages: Vec<_> = Messages::new(&bytes)
            .map(|(header, body)| (header.message_type, header.sequence_number, body.to_vec()))
            .collect();
        let (first, end) = (&messages[0], messages.last().unwrap());
        assert_eq!((first.0, first.1, &first.2[..]), (BATCH_BEGIN, 7, &[0, 0, 0, 10][..]));
        assert_eq!((end.0, end.1, &end.2[..]), (BATCH_END, last + 1, &[0, 0, 0, 10][..]));
        assert!(messages.iter().map(|message| message.1).eq(7..=last + 1));
        messages[1..messages.len() - 1].iter().map(|(kind, _, body)| (*kind, body.clone())).collect()
    }

    /// Returns the same as [`messages`], without the deletion of the old table, in hexadecimal.
    pub(in crate::netlink) fn hex(table: &Table) -> Vec<(u16, String)> {
        let hex = |body: Vec<u8>| body.iter().map(|byte| format!("{byte:02x}")).collect();
        messages(table).into_iter().skip(1).map(|(kind, body)| (kind, hex(body))).collect()
    }

    /// Parses messages that nft(8) 1.0.6 sends (`nft --debug=mnl -f -`): each line of `text` has
    /// the type of a message and its body.
    pub(in crate::netlink) fn captured(text: &str) -> Vec<(u16, String)> {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(kind, body)| (0xa00 | kind.parse::<u16>().unwrap(), body.to_owned())).collect()
    }

    fn table(family: Family, sets: Vec<Set>) -> Table {
        Table {
            family,
            name: "wontun-tun0".to_owned(),
            sets,
            counters: vec![],
            chains: vec![],
            regular: vec![],
        }
    }

    #[test]
    fn an_old_table_is_replaced_in_the_same_transaction() {
        let name = b"\x0a\0\0\0\x10\0\x01\0wontun-tun0\0";
        let create = [&name[..], b"\x08\0\x02\0\0\0\0\0"].concat();
        assert_eq!(
            messages(&table(Family::Ip6, vec![])),
            [(NFT_MSG_DELTABLE, name.to_vec()), (NFT_MSG_NEWTABLE, create)]
        );
    }

    /// In nft's own list the last element carries a comment for nft, and the first is an end at 0;
    /// the kernel needs neither.
    #[test]
    fn a_set_of_ranges() {
        let ranges = vec![0x0a08_0000..=0x0a08_00ff, 0xff00_0000..=0xffff_ffff];
        let set = Set { name: "v4".into(), family: Family::Ip, elements: Elements::Ranges(ranges) };
        let sent = hex(&table(Family::Inet, vec![set]));
        let name = "0100000010000100776f6e74756e2d74756e3000";
        let begin = |address: &str| format!("100001800c00018008000100{address}");
        let end = |address: &str| format!("1800018008000300000000010c00018008000100{address}");
        assert_eq!(
            sent[1..],
            [
                (
                    NFT_MSG_NEWSET,
                    format!(
                        "{name}070002007634000008000300000000040800040000000007080005000000000408000a0000000001"
                    )
                ),
                (
                    NFT_MSG_NEWSETELEM,
                    format!(
                        "{name}070002007634000008000400000000013c000380{}{}{}",
                        begin("0a080000"),
                        end("0a080100"),
                        begin("ff000000")
                    )
                )
            ]
        );
    }

    #[test]
    fn a_large_set_comes_in_several_messages() {
        let ranges = (0..1200_u128).map(|i| i << 64..=i << 64).collect();
        let set = Set { name: "v6".into(), family: Family::Ip6, elements: Elements::Ranges(ranges) };
        let sent = messages(&table(Family::Inet, vec![set]));
        let lists: Vec<usize> =
            sent.iter().filter(|m| m.0 == NFT_MSG_NEWSETELEM).map(|m| m.1.len()).collect();
        assert_eq!(lists.len(), 3);
        assert!(lists.iter().all(|length| *length < 0xffff), "{lists:?}");
        assert!(lists[0] > 500 * 60);
    }
}
