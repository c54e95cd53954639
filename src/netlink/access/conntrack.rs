//! Removal of connections from the kernel's connection tracking (ctnetlink).

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::config::access::{AccessRules, Connection, Host};
use crate::netlink::interfaces::local_addresses;
use crate::netlink::message::attribute;
use crate::netlink::nft::IPS_DST_NAT;
use crate::netlink::request_error::RequestError;
use crate::netlink::socket::NetlinkSocket;
use wontun_packet::transport::{TCP, UDP};

/// Length of netfilter's header in bytes (`struct nfgenmsg`).
const HEADER: usize = 4;
/// `NFNL_SUBSYS_CTNETLINK` of `linux/netfilter/nfnetlink.h` in the upper byte of a message type.
const SUBSYSTEM: u16 = 1 << 8;
/// Of `linux/netfilter/nfnetlink_conntrack.h`.
const IPCTNL_MSG_CT_GET: u16 = SUBSYSTEM | 1;
const IPCTNL_MSG_CT_DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
/// Netfilter's header for both families (`AF_UNSPEC`).
const ALL_FAMILIES: [u8; HEADER] = [0; HEADER];
/// Flag of an attribute that contains attributes.
const NESTED: u16 = 1 << 15;

/// A connection that is known to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    source: IpAddr,
    /// After address translation, as the port.
    destination: IpAddr,
    protocol: u8,
    port: u16,
    is_forwarded: bool,
    /// The message that deletes it, without netlink's header.
    deletion: Vec<u8>,
}

/// Ends the connections that the rules do not allow. Returns their number.
pub(super) fn end_denied(rules: &AccessRules) -> Result<usize, RequestError> {
    let mut netlink = NetlinkSocket::open_protocol(NETLINK_NETFILTER).map_err(RequestError::Socket)?;
    let own: BTreeSet<IpAddr> = local_addresses().map_err(RequestError::Socket)?.into_iter().collect();
    let host = |address| Host { address, is_server: own.contains(&address) };
    let is_denied = |entry: &Entry| {
        !rules.decide(&Connection {
            source: host(entry.source),
            destination: host(entry.destination),
            protocol: entry.protocol,
            port: entry.port,
            is_forwarded: entry.is_forwarded,
        })
    };
    let list = |sequence| message(IPCTNL_MSG_CT_GET, NLM_F_DUMP, sequence, &ALL_FAMILIES);
    let denied = netlink.dump_raw(list, |body| parse(body).filter(is_denied))?;
    let mut ended = 0;
    for entry in denied {
        match netlink
            .request_raw(|sequence| message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, sequence, &entry.deletion))
        {
            Ok(_) => ended += 1,
            // it has ended meanwhile
            Err(RequestError::Refused { errno: Errno::ENOENT, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(ended)
}

/// Parses a message about a connection.
fn parse(body: &[u8]) -> Option<Entry> {
    let (family, attributes) = (*body.first()?, body.get(HEADER..)?);
    let original = attribute(attributes, CTA_TUPLE_ORIG)?;
    let reply = attribute(attributes, CTA_TUPLE_REPLY)?;
    let protocol = attribute(&reply, CTA_TUPLE_PROTO)?;
    let number = *attribute(&protocol, CTA_PROTO_NUM)?.first()?;
    let port = attribute(&protocol, CTA_PROTO_SRC_PORT).filter(|_| matches!(number, TCP | UDP));
    let port = port.and_then(|port| port.first_chunk().map(|port| u16::from_be_bytes(*port)));
    let status = attribute(attributes, CTA_STATUS)?;
    let status = u32::from_be_bytes(*status.first_chunk()?);
    let mut deletion = vec![family, 0, 0, 0];
    push(&mut deletion, NESTED | CTA_TUPLE_ORIG, &original);
    for kind in [CTA_ID, CTA_ZONE] {
        if let Some(value) = attribute(attributes, kind) {
            push(&mut deletion, kind, &value);
        }
    }
    Some(Entry {
        source: source(&original)?,
        destination: source(&reply)?,
        protocol: number,
        port: port.unwrap_or_default(),
        is_forwarded: status & IPS_DST_NAT != 0,
        deletion,
    })
}

/// Returns the source address of a tuple.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    let addresses = attribute(tuple, CTA_TUPLE_IP)?;
    let v4 = || Some(IpAddr::from(*attribute(&addresses, CTA_IP_V4_SRC)?.first_chunk::<4>()?));
    let v6 = || Some(IpAddr::from(*attribute(&addresses, CTA_IP_V6_SRC)?.first_chunk::<16>()?));
    v4().or_else(v6)
}

/// Appends an attribute.
fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Encodes a request.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len().saturating_add(16)).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::message::tests::nla;

    fn tuple(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        let addresses = [nla(1, &source), nla(2, &destination)].concat();
        let [from, to] = ports.map(u16::to_be_bytes);
        let protocol = [nla(1, &[TCP]), nla(2, &from), nla(3, &to)].concat();
        [nla(NESTED | 1, &addresses), nla(NESTED | 2, &protocol)].concat()
    }

    #[test]
    fn a_translated_connection_is_read_as_the_rules_see_it() {
        let original = tuple([192, 0, 2, 9], [192, 0, 2, 1], [40000, 8443]);
        let reply = tuple([10, 8, 0, 2], [10, 8, 0, 1], [443, 40000]);
        let attributes = [
            nla(NESTED | CTA_TUPLE_ORIG, &original),
            nla(NESTED | CTA_TUPLE_REPLY, &reply),
            nla(CTA_STATUS, &(IPS_DST_NAT | 8).to_be_bytes()),
            nla(CTA_ID, &[1, 2, 3, 4]),
        ];
        let entry = parse(&[&[2, 0, 0, 0][..], &attributes.concat()].concat()).unwrap();
        assert_eq!((entry.source, entry.destination), ([192, 0, 2, 9].into(), [10, 8, 0, 2].into()));
        assert_eq!((entry.protocol, entry.port, entry.is_forwarded), (TCP, 443, true));
        let [tuple, _, _, id] = attributes;
        assert_eq!(entry.deletion, [&[2, 0, 0, 0][..], &tuple, &id].concat());
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
