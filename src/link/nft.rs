//! A writer of nf_tables messages: a table with chains and rules, put up or taken away in one transaction.
//!
//! Numbers are from linux/netfilter/nf_tables.h and nfnetlink.h; the order of attributes is that of nft(8), so
//! that its `--debug=mnl` shows the same bytes. Integers are big-endian, except for values that the kernel
//! compares in registers, which it keeps as it has them.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::socket::{Failure, Requests};

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_GETTABLE: u16 = NFT_MSG_NEWTABLE | 1;
const NFT_MSG_DELTABLE: u16 = NFT_MSG_NEWTABLE | 2;
const NFT_MSG_NEWCHAIN: u16 = NFT_MSG_NEWTABLE | 3;
const NFT_MSG_NEWRULE: u16 = NFT_MSG_NEWTABLE | 6;
const NLA_F_NESTED: u16 = 1 << 15;
/// The register that every value passes through.
const NFT_REG_1: u32 = 1;
const NFT_REG_VERDICT: u32 = 0;

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ip = 2,
    Ip6 = 10,
}

/// Where a chain hangs in the path of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting = 0,
    Postrouting = 4,
}

/// When a chain's turn is among those of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Before connections are tracked.
    Raw = -300,
    /// Before the route is chosen, after connections are tracked.
    Mangle = -150,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    Mark = 3,
    InputInterfaceName = 6,
    TransportProtocol = 16,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal = 0,
    NotEqual = 1,
}

/// A step of a rule. Values go through one register: a load fills it, a comparison that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    LoadMeta(Meta),
    /// Sets it to the value in the register.
    StoreMeta(Meta),
    LoadConnectionMark,
    /// Sets it to the value in the register.
    StoreConnectionMark,
    /// Bytes of the IP header.
    LoadHeader {
        offset: u32,
        length: u32,
    },
    /// The kind of the packet's source address, an `RTN_*`.
    LoadSourceKind,
    Compare(Comparison, Vec<u8>),
    Drop,
}

/// A base chain of type filter with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) priority: Priority,
    pub(super) rules: Vec<Vec<Step>>,
}

/// A table, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: Family,
    pub(super) name: String,
    pub(super) chains: Vec<Chain>,
}

/// The socket to nf_tables.
#[derive(Debug)]
pub(super) struct Nft(Requests);

impl Nft {
    pub(super) fn open() -> io::Result<Self> {
        Requests::open_protocol(NETLINK_NETFILTER).map(Self)
    }

    /// Puts up the table in the place of one with the same name, if there is one: there is no moment without.
    pub(super) fn replace(&mut self, table: &Table) -> Result<(), Failure> {
        self.0.transact(|sequence| {
            let mut batch = Batch::new(table.family, sequence);
            batch.put_up(table);
            batch.finish()
        })
    }

    /// Takes the table away, if it is there.
    pub(super) fn delete(&mut self, family: Family, name: &str) -> Result<(), Failure> {
        let outcome = self.0.transact(|sequence| {
            let mut batch = Batch::new(family, sequence);
            batch.delete_table(name);
            batch.finish()
        });
        match outcome {
            Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether a table of that name is there.
    pub(super) fn has(&mut self, family: Family, name: &str) -> Result<bool, Failure> {
        let outcome = self.0.transact(|sequence| {
            let mut attributes = Attributes::default();
            attributes.text(1, name);
            (message(NFT_MSG_GETTABLE, NLM_F_ACK, sequence, family as u8, 0, &attributes.0), sequence)
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// The messages of one transaction.
struct Batch {
    family: u8,
    /// Number of the last message.
    sequence: u32,
    bytes: Vec<u8>,
}

impl Batch {
    fn new(family: Family, sequence: u32) -> Self {
        let bytes = message(NFNL_MSG_BATCH_BEGIN, 0, sequence, 0, NFNL_SUBSYS_NFTABLES, &[]);
        Self { family: family as u8, sequence, bytes }
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = NLM_F_ACK | flags;
        self.bytes.extend(message(kind, flags, self.sequence, self.family, 0, &attributes.0));
    }

    fn put_up(&mut self, table: &Table) {
        // a table that is not there cannot be deleted, and one that is can be created again
        self.new_table(&table.name);
        self.delete_table(&table.name);
        self.new_table(&table.name);
        for chain in &table.chains {
            self.new_chain(&table.name, chain);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.new_rule(&table.name, chain.name, rule);
            }
        }
    }

    fn new_table(&mut self, name: &str) {
        let mut attributes = Attributes::default();
        attributes.text(1, name);
        attributes.number(2, 0);
        self.push(NFT_MSG_NEWTABLE, NLM_F_CREATE, &attributes);
    }

    fn delete_table(&mut self, name: &str) {
        let mut attributes = Attributes::default();
        attributes.text(1, name);
        self.push(NFT_MSG_DELTABLE, 0, &attributes);
    }

    fn new_chain(&mut self, table: &str, chain: &Chain) {
        let mut attributes = Attributes::default();
        attributes.text(1, table);
        attributes.text(3, chain.name);
        attributes.text(7, "filter");
        attributes.nest(4, |hook| {
            hook.number(1, chain.hook as u32);
            hook.value(2, &(chain.priority as i32).to_be_bytes());
        });
        self.push(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &attributes);
    }

    fn new_rule(&mut self, table: &str, chain: &str, steps: &[Step]) {
        let mut attributes = Attributes::default();
        attributes.text(1, table);
        attributes.text(2, chain);
        attributes.nest(4, |list| {
            for step in steps {
                list.nest(1, |element| step.write(element));
            }
        });
        self.push(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attributes);
    }

    /// The bytes, and the number of the last message that is acknowledged: the end of a batch is not.
    fn finish(mut self) -> (Vec<u8>, u32) {
        let end = self.sequence.wrapping_add(1);
        self.bytes.extend(message(NFNL_MSG_BATCH_END, 0, end, 0, NFNL_SUBSYS_NFTABLES, &[]));
        (self.bytes, self.sequence)
    }
}

impl Step {
    fn write(&self, element: &mut Attributes) {
        match self {
            Self::LoadMeta(key) => element.expression("meta", |data| {
                data.number(2, *key as u32);
                data.number(1, NFT_REG_1);
            }),
            Self::StoreMeta(key) => element.expression("meta", |data| {
                data.number(2, *key as u32);
                data.number(3, NFT_REG_1);
            }),
            // NFT_CT_MARK
            Self::LoadConnectionMark => element.expression("ct", |data| {
                data.number(2, 3);
                data.number(1, NFT_REG_1);
            }),
            Self::StoreConnectionMark => element.expression("ct", |data| {
                data.number(2, 3);
                data.number(4, NFT_REG_1);
            }),
            // NFT_PAYLOAD_NETWORK_HEADER
            Self::LoadHeader { offset, length } => element.expression("payload", |data| {
                data.number(1, NFT_REG_1);
                data.number(2, 1);
                data.number(3, *offset);
                data.number(4, *length);
            }),
            // NFTA_FIB_F_SADDR, NFT_FIB_RESULT_ADDRTYPE
            Self::LoadSourceKind => element.expression("fib", |data| {
                data.number(3, 1);
                data.number(2, 3);
                data.number(1, NFT_REG_1);
            }),
            Self::Compare(comparison, value) => element.expression("cmp", |data| {
                data.number(1, NFT_REG_1);
                data.number(2, *comparison as u32);
                data.nest(3, |data| data.value(1, value));
            }),
            // NF_DROP
            Self::Drop => element.expression("immediate", |data| {
                data.number(1, NFT_REG_VERDICT);
                data.nest(2, |data| data.nest(2, |verdict| verdict.number(1, 0)));
            }),
        }
    }
}

/// Attributes in the making.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn value(&mut self, kind: u16, value: &[u8]) {
        // all that is written here is far shorter than 64 KiB
        let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.value(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.value(kind, &bytes);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.value(NLA_F_NESTED | kind, &inner.0);
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.text(1, name);
        self.nest(2, fill);
    }
}

/// One message: netlink's header, netfilter's (`struct nfgenmsg`), attributes.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The messages that put up a table, each with its type and its body.
    pub(in super::super) fn messages(table: &Table) -> Vec<(u16, Vec<u8>)> {
        let mut batch = Batch::new(table.family, 7);
        batch.put_up(table);
        let (bytes, last) = batch.finish();
        let messages: Vec<_> = super::super::message::Messages::new(&bytes)
            .map(|(header, body)| (header.message_type, header.sequence_number, body.to_vec()))
            .collect();
        let (first, end) = (&messages[0], messages.last().unwrap());
        assert_eq!((first.0, first.1, &first.2[..]), (NFNL_MSG_BATCH_BEGIN, 7, &[0, 0, 0, 10][..]));
        assert_eq!((end.0, end.1, &end.2[..]), (NFNL_MSG_BATCH_END, last + 1, &[0, 0, 0, 10][..]));
        assert!(messages.iter().map(|message| message.1).eq(7..=last + 1));
        messages[1..messages.len() - 1].iter().map(|(kind, _, body)| (*kind, body.clone())).collect()
    }

    #[test]
    fn an_old_table_is_replaced_in_the_same_transaction() {
        let table = Table { family: Family::Ip6, name: "wontun-tun0".to_owned(), chains: vec![] };
        let name = b"\x0a\0\0\0\x10\0\x01\0wontun-tun0\0";
        let create = [&name[..], b"\x08\0\x02\0\0\0\0\0"].concat();
        assert_eq!(
            messages(&table),
            [
                (NFT_MSG_NEWTABLE, create.clone()),
                (NFT_MSG_DELTABLE, name.to_vec()),
                (NFT_MSG_NEWTABLE, create)
            ]
        );
    }
}
