//! Construction of the rtnetlink messages that are sent, and parsing of the few attributes that are
//! read: pure functions over bytes.
//!
//! The parser of netlink-packet-route rejects a whole message for one attribute that it does not
//! understand, so it is used for fixed headers only.

use std::net::IpAddr;
use std::num::NonZeroU32;

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NlasIterator,
    Parseable, parse_i32, parse_string, parse_u32,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkHeader, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::libc::{
    self, IFA_ADDRESS, IFA_LOCAL, IFLA_AF_SPEC, IFLA_GROUP, IFLA_GSO_MAX_SIZE, IFLA_IFNAME, IFLA_INFO_KIND,
    IFLA_LINKINFO, IFLA_MTU, IFLA_NEW_IFINDEX, IFLA_NEW_NETNSID, RTA_METRICS, RTA_OIF,
};

use crate::config::Cidr;

const NLMSG_HEADER: usize = size_of::<libc::nlmsghdr>();
/// Lengths of the fixed headers before the attributes, in bytes: `struct ifinfomsg`, `rtmsg` and
/// `ifaddrmsg`.
pub(super) const LINK_HEADER: usize = 16;
pub(super) const ROUTE_HEADER: usize = 12;
const ADDRESS_HEADER: usize = 8;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `IFLA_INET_CONF` of linux/if_link.h, and the same for IPv6.
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;
/// `RTAX_MTU` of linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;
/// Address families as attribute types of `IFLA_AF_SPEC`; libc's have another type.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// State of a device that a tunnel depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// True if the device is set up (`IFF_UP`).
    pub up: bool,
    /// MTU of the device, in bytes.
    pub mtu: u32,
}

/// Iterator over the messages of one datagram; a truncated or malformed rest is left out.
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(super) const fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (NetlinkHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let buffer = NetlinkBuffer::new_checked(self.0).ok()?;
        let header = NetlinkHeader::parse(&buffer).ok()?;
        let length = usize::try_from(header.length).ok()?.next_multiple_of(4);
        self.0 = self.0.get(length..).unwrap_or_default();
        Some((header, buffer.payload()))
    }
}

/// One message received in reply to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// The request was carried out; no more replies follow.
    Ack,
    /// The request was refused; no more replies follow. With the kernel's explanation, if any.
    Refused(Errno, Option<String>),
    /// The requested data: a message body without the netlink header.
    Answer(&'a [u8]),
    /// The end of a dump, with the error that ended it, if any.
    Done(Result<(), Errno>),
    /// A malformed message, which no kernel sends.
    Malformed,
}

impl<'a> Reply<'a> {
    pub(super) fn parse(header: NetlinkHeader, payload: &'a [u8]) -> Self {
        let code = payload.first_chunk::<4>().and_then(|code| parse_i32(code).ok());
        match header.message_type {
            NLMSG_ERROR => {}
            NLMSG_DONE => {
                return match code {
                    Some(code @ ..0) => Self::Done(Err(Errno::from_raw(code.saturating_neg()))),
                    _ => Self::Done(Ok(())),
                };
            }
            _ => return Self::Answer(payload),
        }
        match code {
            Some(0) => Self::Ack,
            Some(code @ ..0) => {
                Self::Refused(Errno::from_raw(code.saturating_neg()), extack_message(header.flags, payload))
            }
            _ => Self::Malformed,
        }
    }
}

/// Returns the text of an extended acknowledgement. It follows the error code and a copy of the
/// request, of which only the header is present if `NLM_F_CAPPED` is set.
fn extack_message(flags: u16, payload: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = payload.get(4..)?;
    let copied = if flags & NLM_F_CAPPED != 0 {
        NLMSG_HEADER
    } else {
        let length = request.first_chunk::<4>().and_then(|length| parse_u32(length).ok())?;
        usize::try_from(length).ok()?.checked_next_multiple_of(4)?
    };
    let text = parse_string(&attribute(request.get(copied..)?, NLMSGERR_ATTR_MSG)?).ok()?;
    // the text becomes part of a one-line message
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Returns the host's own address in the body of an `RTM_NEWADDR` or `RTM_DELADDR`.
pub(super) fn address_of(body: &[u8]) -> Option<IpAddr> {
    let attributes = body.get(ADDRESS_HEADER..)?;
    // if there is an IFA_LOCAL, IFA_ADDRESS is the peer's
    let value = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    let v4 = || <[u8; 4]>::try_from(value.as_slice()).ok().map(IpAddr::from);
    <[u8; 16]>::try_from(value.as_slice()).ok().map(IpAddr::from).or_else(v4)
}

/// Returns the network in the body of an `RTM_NEWADDR`: the address that its prefix belongs to, the
/// prefix's length, and the index of the device.
pub(super) fn address_network(body: &[u8]) -> Option<(IpAddr, u8, u32)> {
    let value = attribute(body.get(ADDRESS_HEADER..)?, IFA_ADDRESS)?;
    let v4 = || <[u8; 4]>::try_from(value.as_slice()).ok().map(IpAddr::from);
    let address = <[u8; 16]>::try_from(value.as_slice()).ok().map(IpAddr::from).or_else(v4)?;
    let index = body.get(4..)?.first_chunk()?;
    Some((address, *body.get(1)?, u32::from_ne_bytes(*index)))
}

/// Returns the value of the first attribute of that kind, regardless of the others.
pub(super) fn attribute(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    self::attributes(attributes, kind).next()
}

/// Returns the values of all attributes of that kind, up to the first malformed attribute.
pub(super) fn attributes(attributes: &[u8], kind: u16) -> impl Iterator<Item = Vec<u8>> {
    let intact = NlasIterator::new(attributes).map_while(Result::ok);
    intact.filter(move |attribute| attribute.kind() == kind).map(|attribute| attribute.value().to_vec())
}

pub(super) fn attribute_u32(attributes: &[u8], kind: u16) -> Option<u32> {
    parse_u32(&attribute(attributes, kind)?).ok()
}

/// Parses the header of an `RTM_NEWLINK` or `RTM_DELLINK`.
pub(super) fn link_header(body: &[u8]) -> Option<LinkHeader> {
    LinkHeader::parse(body).ok()
}

/// Returns the state in an `RTM_NEWLINK`.
pub(super) fn link_state(body: &[u8]) -> Option<LinkState> {
    let header = link_header(body)?;
    let mtu = attribute_u32(body.get(LINK_HEADER..)?, IFLA_MTU)?;
    Some(LinkState { up: header.flags.contains(LinkFlags::Up), mtu })
}

/// Returns the name in an `RTM_NEWLINK`.
pub(super) fn link_name(body: &[u8]) -> Option<String> {
    parse_string(&attribute(body.get(LINK_HEADER..)?, IFLA_IFNAME)?).ok()
}

/// Returns the new index in an `RTM_DELLINK` of a device that was moved to another network
/// namespace; kernels before 4.16 do not report the index. `None` if the device was deleted.
pub(super) fn moved_to(body: &[u8]) -> Option<Option<u32>> {
    let attributes = body.get(LINK_HEADER..)?;
    attribute(attributes, IFLA_NEW_NETNSID)?;
    Some(attribute_u32(attributes, IFLA_NEW_IFINDEX))
}

/// Returns the device group in an `RTM_NEWLINK`.
pub(super) fn link_group(body: &[u8]) -> Option<u32> {
    attribute_u32(body.get(LINK_HEADER..)?, IFLA_GROUP)
}

/// Returns true if the device of an `RTM_NEWLINK` puts Ethernet frames or IP packets into UDP
/// datagrams.
pub(super) fn is_udp_tunnel(body: &[u8]) -> bool {
    let kind = || attribute(&attribute(body.get(LINK_HEADER..)?, IFLA_LINKINFO)?, IFLA_INFO_KIND);
    let kind = kind().and_then(|kind| parse_string(&kind).ok());
    kind.is_some_and(|kind| matches!(kind.as_str(), "vxlan" | "geneve" | "bareudp"))
}

/// Returns the maximum size of super-packets in an `RTM_NEWLINK`, in bytes.
pub(super) fn gso_max_size(body: &[u8]) -> Option<u32> {
    attribute_u32(body.get(LINK_HEADER..)?, IFLA_GSO_MAX_SIZE)
}

/// Returns true if the device of an `RTM_NEWLINK` forwards packets that come in by it, the first of
/// its `DEVCONF_*` settings; `None` if the device does not have the family.
pub(super) fn forwards(body: &[u8], v6: bool) -> Option<bool> {
    let (family, settings) = if v6 { (AF_INET6, IFLA_INET6_CONF) } else { (AF_INET, IFLA_INET_CONF) };
    let families = attribute(body.get(LINK_HEADER..)?, IFLA_AF_SPEC)?;
    let settings = attribute(&attribute(&families, family)?, settings)?;
    parse_i32(settings.first_chunk::<4>()?).ok().map(|value| value != 0)
}

/// Returns the output device in an `RTM_NEWROUTE`; `None` if the route is of a type that rejects
/// packets.
pub(super) fn route_interface(body: &[u8]) -> Option<u32> {
    let header = RouteHeader::parse(body).ok()?;
    // a lookup of these returns an error for IPv4, and the route for IPv6
    match header.kind {
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => None,
        _ => attribute_u32(body.get(ROUTE_HEADER..)?, RTA_OIF),
    }
}

/// Returns the MTU of the route itself in an `RTM_NEWROUTE`, in bytes: a metric of the route, or
/// the result of path MTU discovery.
pub(super) fn route_mtu(body: &[u8]) -> Option<u32> {
    let metrics = attribute(body.get(ROUTE_HEADER..)?, RTA_METRICS)?;
    attribute_u32(&metrics, RTAX_MTU).filter(|&mtu| mtu > 0)
}

pub(super) fn get_link_by_name(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    RouteNetlinkMessage::GetLink(message)
}

pub(super) fn get_link(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::GetLink(message)
}

/// Sets the flags in `mask` to those in `flags` and leaves the others unchanged.
pub(super) fn set_flags(index: u32, flags: LinkFlags, mask: LinkFlags) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.change_mask = mask;
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn rename(index: u32, name: &str) -> RouteNetlinkMessage {
    set_attribute(index, LinkAttribute::IfName(name.to_owned()))
}

pub(super) fn delete_link(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::DelLink(message)
}

pub(super) fn set_mtu(index: u32, mtu: u32) -> RouteNetlinkMessage {
    set_attribute(index, LinkAttribute::Mtu(mtu))
}

/// Puts the device into a group.
pub(super) fn set_group(index: u32, group: u32) -> RouteNetlinkMessage {
    set_attribute(index, LinkAttribute::Group(group))
}

/// Sets the length of the device's transmit queue, in packets.
pub(super) fn set_queue_len(index: u32, packets: u32) -> RouteNetlinkMessage {
    set_attribute(index, LinkAttribute::TxQueueLen(packets))
}

/// Sets the maximum size of TCP super-packets that the kernel builds for the device; up to 65,536
/// bytes for IPv4 and IPv6.
pub(super) fn set_gso_max_size(index: u32, bytes: u32) -> RouteNetlinkMessage {
    set_attribute(index, LinkAttribute::GsoMaxSize(bytes))
}

/// Disables link-local addresses generated by the kernel.
pub(super) fn set_no_generated_address(index: u32) -> RouteNetlinkMessage {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    set_attribute(index, LinkAttribute::AfSpecUnspec(vec![mode]))
}

fn set_attribute(index: u32, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(attribute);
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn new_address(index: u32, cidr: Cidr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewAddress(address(index, cidr))
}

pub(super) fn del_address(index: u32, cidr: Cidr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelAddress(address(index, cidr))
}

fn address(index: u32, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = cidr.prefix();
    message.header.family = family(cidr.address());
    // on a point-to-point device IFA_LOCAL is the own address and IFA_ADDRESS the peer's: with the
    // same value in both they describe a network of the whole prefix, as on Ethernet
    message.attributes.push(AddressAttribute::Local(cidr.address()));
    message.attributes.push(AddressAttribute::Address(cidr.address()));
    if cidr.address().is_ipv6() {
        // no other host can have the address, and a tentative address cannot be bound to for a
        // second
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}

/// Looks up one route, for packets from `source` that carry `mark`, as far as given.
pub(super) fn get_route(
    destination: IpAddr,
    source: Option<IpAddr>,
    mark: Option<NonZeroU32>,
) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    if let Some(source) = source {
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
    }
    message.attributes.extend(mark.map(|mark| RouteAttribute::Mark(mark.get())));
    RouteNetlinkMessage::GetRoute(message)
}

pub(super) const fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use nix::libc::RTM_NEWLINK;

    pub(in super::super) fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(in super::super) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    pub(in super::super) fn link(family: u8, index: u32, flags: u32, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![family, 0, 0xfe, 0xff];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes);
        bytes
    }

    fn error(code: i32, flags: u16, rest: &[u8]) -> Vec<u8> {
        let mut body = code.to_ne_bytes().to_vec();
        body.extend(message(RTM_NEWLINK, 5, 7, &[]));
        body.extend(rest);
        message(NLMSG_ERROR, flags, 7, &body)
    }

    fn only(datagram: &[u8]) -> Reply<'_> {
        let mut messages = Messages::new(datagram);
        let (header, payload) = messages.next().unwrap();
        assert!(messages.next().is_none());
        Reply::parse(header, payload)
    }

    #[test]
    fn acknowledged_and_refused() {
        assert_eq!(only(&error(0, NLM_F_CAPPED, &[])), Reply::Ack);
        assert_eq!(only(&error(-1, NLM_F_CAPPED, &[])), Reply::Refused(Errno::EPERM, None));
        assert_eq!(only(&error(1, 0, &[])), Reply::Malformed);
        assert_eq!(only(&error(i32::MIN, 0, &[])), Reply::Refused(Errno::UnknownErrno, None));
        assert_eq!(only(&message(NLMSG_ERROR, 0, 7, &[0, 0])), Reply::Malformed);
    }

    #[test]
    fn the_end_of_a_list() {
        assert_eq!(only(&message(NLMSG_DONE, 2, 7, &[0; 4])), Reply::Done(Ok(())));
        assert_eq!(only(&message(NLMSG_DONE, 2, 7, &[])), Reply::Done(Ok(())));
        let refused = message(NLMSG_DONE, 2, 7, &(-2_i32).to_ne_bytes());
        assert_eq!(only(&refused), Reply::Done(Err(Errno::ENOENT)));
    }

    #[test]
    fn the_mtu_of_a_route() {
        let route = |metrics: &[u8]| {
            let attributes = [nla(RTA_OIF, &[5, 0, 0, 0]), nla(RTA_METRICS, metrics)].concat();
            [&[2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], attributes.as_slice()].concat()
        };
        let mtu = |mtu: u32| nla(RTAX_MTU, &mtu.to_ne_bytes());
        assert_eq!(route_mtu(&route(&[nla(1, &[0; 4]), mtu(1300)].concat())), Some(1300));
        assert_eq!(route_mtu(&route(&mtu(0))), None);
        assert_eq!(route_mtu(&route(&nla(1, &[0; 4]))), None);
        assert_eq!(route_mtu(&[2; 11]), None);
    }

    #[test]
    fn the_kernels_words_are_kept() {
        let extack = [nla(2, &[1, 2, 3, 4]), nla(NLMSGERR_ATTR_MSG, b"mtu greater\nthan all\0")].concat();
        let expected = Reply::Refused(Errno::EINVAL, Some("mtu greater than all".to_owned()));
        assert_eq!(only(&error(-22, NLM_F_CAPPED | NLM_F_ACK_TLVS, &extack)), expected);
        assert_eq!(only(&error(-22, NLM_F_ACK_TLVS, &extack)), expected, "the copied request has no body");
        assert_eq!(only(&error(-22, NLM_F_ACK_TLVS, &[])), Reply::Refused(Errno::EINVAL, None));
    }

    #[test]
    fn unknown_and_broken_attributes_are_passed_over() {
        let mtu = nla(IFLA_MTU, &1472u32.to_ne_bytes());
        let up = LinkState { up: true, mtu: 1472 };
        // malformed IFLA_STATS64 and IFLA_LINKINFO, and an unassigned type
        let strange = [nla(23, &[1]), nla(18, &[255; 7]), nla(999, &[0; 3]), mtu.clone()].concat();
        assert_eq!(link_state(&link(0, 3, 0x1043, &strange)), Some(up));
        assert_eq!(link_state(&link(0, 3, 0x1042, &mtu)), Some(LinkState { up: false, mtu: 1472 }));
        let cut = [mtu.clone(), vec![200, 0, 1, 0]].concat();
        assert_eq!(link_state(&link(0, 3, 1, &cut)), Some(up), "a broken tail loses only itself");
        assert_eq!(link_state(&link(0, 3, 1, &[])), None);
        assert_eq!(link_state(&link(0, 3, 1, &nla(IFLA_MTU, &[1, 2]))), None);
        assert_eq!(link_state(&[0; 15]), None);
    }

    #[test]
    fn a_router_is_distinguished_from_a_host() {
        let device = |settings: &[u8]| {
            let inet6 = [nla(1, &[0; 4]), nla(IFLA_INET6_CONF, settings)].concat();
            let families = [nla(AF_INET, &nla(IFLA_INET_CONF, &[1; 8])), nla(AF_INET6, &inet6)].concat();
            link(0, 3, 0, &[nla(IFLA_MTU, &[0; 4]), nla(IFLA_AF_SPEC | 0x8000, &families)].concat())
        };
        assert_eq!(forwards(&device(&[1, 0, 0, 0, 64, 0, 0, 0]), true), Some(true));
        assert_eq!(forwards(&device(&[0, 0, 0, 0, 64, 0, 0, 0]), true), Some(false));
        assert_eq!(forwards(&device(&[1, 0]), true), None);
        assert_eq!(forwards(&link(0, 3, 0, &[]), true), None);
        assert_eq!(forwards(&device(&[]), false), Some(true));
    }

    #[test]
    fn a_route_that_leads_nowhere_has_no_device() {
        let oif = nla(RTA_OIF, &5u32.to_ne_bytes());
        let route = |kind: u8| [&[2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0], oif.as_slice()].concat();
        assert_eq!(route_interface(&route(1)), Some(5));
        assert_eq!(route_interface(&route(2)), Some(5), "our own address");
        for kind in 6..=9 {
            assert_eq!(route_interface(&route(kind)), None);
        }
        assert_eq!(route_interface(&[2; 11]), None);
    }

    #[test]
    fn two_messages_in_one_datagram() {
        let datagram =
            [message(RTM_NEWLINK, 0, 1, &[9; 5]), vec![0; 3], message(NLMSG_ERROR, 0, 1, &[0; 20])];
        let found: Vec<_> =
            Messages::new(&datagram.concat()).map(|(h, p)| (h.message_type, p.len())).collect();
        assert_eq!(found, [(RTM_NEWLINK, 5), (NLMSG_ERROR, 20)]);
    }

    #[test]
    fn an_address_as_ip_sends_it() {
        let RouteNetlinkMessage::NewAddress(v4) = new_address(4, "10.8.0.1/24".parse().unwrap()) else {
            panic!()
        };
        let address: IpAddr = "10.8.0.1".parse().unwrap();
        assert_eq!((v4.header.index, v4.header.prefix_len), (4, 24));
        assert_eq!(v4.attributes, [AddressAttribute::Local(address), AddressAttribute::Address(address)]);
        assert!(v4.header.flags.is_empty());
        let RouteNetlinkMessage::NewAddress(v6) = new_address(4, "fd00::1/64".parse().unwrap()) else {
            panic!()
        };
        assert_eq!(v6.header.flags, AddressHeaderFlags::Nodad);
        assert_eq!(v6.header.family, AddressFamily::Inet6);
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            for (header, payload) in Messages::new(&datagram) {
                let _ = Reply::parse(header, payload);
            }
            let _ = (link_header(&datagram), link_state(&datagram), route_interface(&datagram));
            let _ = (forwards(&datagram, true), route_mtu(&datagram), gso_max_size(&datagram));
        }

        #[test]
        fn any_body_is_survived(
            kind in prop_oneof![Just(NLMSG_ERROR), Just(RTM_NEWLINK), any::<u16>()],
            flags: u16,
            body in prop::collection::vec(any::<u8>(), 0..120),
            cut in 0usize..140,
        ) {
            let mut datagram = message(kind, flags, 1, &body);
            datagram.truncate(cut);
            for (header, payload) in Messages::new(&datagram) {
                let _ = Reply::parse(header, payload);
                let _ = (link_state(payload), route_interface(payload));
            }
        }
    }
}
