//! Constants of the kernel's headers that libc does not have: `linux/netfilter/nf_tables.h`, unless
//! another header is named.

use nix::libc::{self, c_int};

/// Length of netfilter's header in bytes (`struct nfgenmsg` in `linux/netfilter/nfnetlink.h`).
pub(super) const NFGENMSG_LEN: usize = 4;

pub(super) const NFT_MSG_NEWTABLE: u16 = message_type(libc::NFT_MSG_NEWTABLE);
pub(super) const NFT_MSG_GETTABLE: u16 = message_type(libc::NFT_MSG_GETTABLE);
pub(super) const NFT_MSG_DELTABLE: u16 = message_type(libc::NFT_MSG_DELTABLE);
pub(super) const NFT_MSG_NEWCHAIN: u16 = message_type(libc::NFT_MSG_NEWCHAIN);
pub(super) const NFT_MSG_GETCHAIN: u16 = message_type(libc::NFT_MSG_GETCHAIN);
pub(super) const NFT_MSG_NEWRULE: u16 = message_type(libc::NFT_MSG_NEWRULE);
pub(super) const NFT_MSG_GETRULE: u16 = message_type(libc::NFT_MSG_GETRULE);
pub(super) const NFT_MSG_NEWSET: u16 = message_type(libc::NFT_MSG_NEWSET);
pub(super) const NFT_MSG_NEWSETELEM: u16 = message_type(libc::NFT_MSG_NEWSETELEM);
pub(super) const NFT_MSG_GETSETELEM: u16 = message_type(libc::NFT_MSG_GETSETELEM);
pub(super) const NFT_MSG_NEWGEN: u16 = message_type(libc::NFT_MSG_NEWGEN);
pub(super) const NFT_MSG_GETGEN: u16 = message_type(libc::NFT_MSG_GETGEN);
pub(super) const NFT_MSG_NEWOBJ: u16 = message_type(libc::NFT_MSG_NEWOBJ);
pub(super) const NFT_MSG_GETOBJ: u16 = message_type(libc::NFT_MSG_GETOBJ);

pub(super) const SUBSYSTEM: u16 = to_u16(libc::NFNL_SUBSYS_NFTABLES);
pub(super) const BATCH_BEGIN: u16 = to_u16(libc::NFNL_MSG_BATCH_BEGIN);
pub(super) const BATCH_END: u16 = to_u16(libc::NFNL_MSG_BATCH_END);

/// Returns the netlink message type of an nf_tables message: its subsystem in the upper byte.
const fn message_type(message: c_int) -> u16 {
    to_u16(libc::NFNL_SUBSYS_NFTABLES << 8 | message)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "message types have 16 bits")]
const fn to_u16(constant: c_int) -> u16 {
    constant as u16
}

// flags of tables and of set elements
pub(super) const NFT_TABLE_F_OWNER: u32 = 1 << 1;
pub(super) const NFT_TABLE_F_PERSIST: u32 = 1 << 2;
pub(super) const NFT_SET_ELEM_CATCHALL: u32 = 1 << 1;

// keys and operations of expressions
pub(super) const NFT_BITWISE_BOOL: u32 = 0;
pub(super) const NFT_DYNSET_OP_DELETE: u32 = 2;
pub(super) const NFT_EXTHDR_OP_TCPOPT: u32 = 1;
pub(super) const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
pub(super) const NFTA_FIB_F_SADDR: u32 = 1 << 0;
pub(super) const NFTA_FIB_F_DADDR: u32 = 1 << 1;
pub(super) const NFT_NAT_SNAT: u32 = 0;
pub(super) const NFT_NAT_DNAT: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED` of `linux/netfilter/nf_nat.h`.
pub(super) const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
/// The data type of a map of verdicts.
pub(super) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
/// The type of the objects that are counters.
pub(super) const NFT_OBJECT_COUNTER: u32 = 1;
pub(super) const NFT_RT_NEXTHOP4: u32 = 1;
pub(super) const NFT_RT_NEXTHOP6: u32 = 2;
pub(super) const NFT_RT_TCPMSS: u32 = 3;
/// `TCPOPT_MAXSEG` of `linux/tcp.h`.
pub(super) const TCPOPT_MAXSEG: u8 = 2;

// data types of nft(8), which the kernel stores and ignores (`datatype.h` of nftables)
pub(super) const TYPE_INTEGER: u32 = 4;
pub(super) const TYPE_IPADDR: u32 = 7;
pub(super) const TYPE_IP6ADDR: u32 = 8;

// attributes
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_FLAGS: u16 = 2;
pub(super) const NFTA_TABLE_OWNER: u16 = 7;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(super) const NFTA_SET_DATA_LEN: u16 = 7;
pub(super) const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
pub(super) const NFTA_OBJ_TABLE: u16 = 1;
pub(super) const NFTA_OBJ_NAME: u16 = 2;
pub(super) const NFTA_OBJ_TYPE: u16 = 3;
pub(super) const NFTA_OBJ_DATA: u16 = 4;
pub(super) const NFTA_OBJREF_IMM_TYPE: u16 = 1;
pub(super) const NFTA_OBJREF_IMM_NAME: u16 = 2;
pub(super) const NFTA_COUNTER_BYTES: u16 = 1;
pub(super) const NFTA_COUNTER_PACKETS: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(super) const NFTA_BITWISE_SREG: u16 = 1;
pub(super) const NFTA_BITWISE_DREG: u16 = 2;
pub(super) const NFTA_BITWISE_LEN: u16 = 3;
pub(super) const NFTA_BITWISE_MASK: u16 = 4;
pub(super) const NFTA_BITWISE_XOR: u16 = 5;
pub(super) const NFTA_BITWISE_OP: u16 = 6;
pub(super) const NFTA_BYTEORDER_SREG: u16 = 1;
pub(super) const NFTA_BYTEORDER_DREG: u16 = 2;
pub(super) const NFTA_BYTEORDER_OP: u16 = 3;
pub(super) const NFTA_BYTEORDER_LEN: u16 = 4;
pub(super) const NFTA_BYTEORDER_SIZE: u16 = 5;
pub(super) const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NFTA_LOOKUP_DREG: u16 = 3;
pub(super) const NFTA_LOOKUP_SET_ID: u16 = 4;
pub(super) const NFTA_LOOKUP_FLAGS: u16 = 5;
pub(super) const NFTA_DYNSET_SET_NAME: u16 = 1;
pub(super) const NFTA_DYNSET_SET_ID: u16 = 2;
pub(super) const NFTA_DYNSET_OP: u16 = 3;
pub(super) const NFTA_DYNSET_SREG_KEY: u16 = 4;
pub(super) const NFTA_DYNSET_TIMEOUT: u16 = 6;
pub(super) const NFTA_NAT_TYPE: u16 = 1;
pub(super) const NFTA_NAT_FAMILY: u16 = 2;
pub(super) const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
pub(super) const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
pub(super) const NFTA_NAT_FLAGS: u16 = 7;
pub(super) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(super) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(super) const NFTA_EXTHDR_TYPE: u16 = 2;
pub(super) const NFTA_EXTHDR_OFFSET: u16 = 3;
pub(super) const NFTA_EXTHDR_LEN: u16 = 4;
pub(super) const NFTA_EXTHDR_OP: u16 = 6;
pub(super) const NFTA_EXTHDR_SREG: u16 = 7;
pub(super) const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
pub(super) const NFTA_META_SREG: u16 = 3;
pub(super) const NFTA_RT_DREG: u16 = 1;
pub(super) const NFTA_RT_KEY: u16 = 2;
pub(super) const NFTA_CT_DREG: u16 = 1;
pub(super) const NFTA_CT_KEY: u16 = 2;
pub(super) const NFTA_CT_SREG: u16 = 4;
pub(super) const NFTA_FIB_DREG: u16 = 1;
pub(super) const NFTA_FIB_RESULT: u16 = 2;
pub(super) const NFTA_FIB_FLAGS: u16 = 3;
pub(super) const NFTA_GEN_ID: u16 = 1;
pub(super) const NFTA_GEN_PROC_PID: u16 = 2;
pub(super) const NFTA_GEN_PROC_NAME: u16 = 3;
// of iptables matches and targets, from `linux/netfilter/nf_tables_compat.h`
pub(super) const NFTA_TARGET_NAME: u16 = 1;
pub(super) const NFTA_MATCH_NAME: u16 = 1;
pub(super) const NFTA_MATCH_INFO: u16 = 3;

// bits of a connection's state and status, from `linux/netfilter/nf_conntrack_common.h`
pub(super) const CT_STATE_ESTABLISHED: u32 = state_bit(IP_CT_ESTABLISHED);
pub(super) const CT_STATE_RELATED: u32 = state_bit(IP_CT_RELATED);
pub(super) const CT_STATE_NEW: u32 = state_bit(IP_CT_NEW);
pub(super) const IPS_DST_NAT: u32 = 1 << 5;
const IP_CT_ESTABLISHED: u32 = 0;
const IP_CT_RELATED: u32 = 1;
const IP_CT_NEW: u32 = 2;

/// `NF_CT_STATE_BIT`.
const fn state_bit(info: u32) -> u32 {
    1 << (info + 1)
}
