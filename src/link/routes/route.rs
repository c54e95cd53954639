//! Routes: what they look like on the wire.

use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::label::Label;
use super::plan::{Family, MAIN};
use super::rule::PROTOCOL;
use crate::link::message::{ROUTE_HEADER, RTA_OIF, attribute, attribute_u32};
use crate::routing::Prefix;

/// Attribute types, from linux/rtnetlink.h.
const RTA_DST: u16 = 1;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;

/// What of a route concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
    pub(super) metric: u32,
    /// The outgoing device's index, 0 for none.
    pub(super) device: u32,
    /// It sends packets back to the rules, to look elsewhere.
    pub(super) throws: bool,
    protocol: RouteProtocol,
}

impl Route {
    /// Reads an `RTM_NEWROUTE` of `family`.
    pub(super) fn parse(body: &[u8], family: Family) -> Option<Self> {
        let header =
            RouteHeader::parse(body).ok().filter(|header| header.address_family == family.netlink())?;
        let attributes = body.get(ROUTE_HEADER..)?;
        let network = match (attribute(attributes, RTA_DST), family) {
            (Some(bytes), Family::V4) => IpAddr::from(*bytes.first_chunk::<4>()?),
            (Some(bytes), Family::V6) => IpAddr::from(*bytes.first_chunk::<16>()?),
            (None, _) => family.unspecified(),
        };
        Some(Self {
            table: attribute_u32(attributes, RTA_TABLE).unwrap_or(u32::from(header.table)),
            prefix: Prefix::new(network, header.destination_prefix_length)?,
            metric: attribute_u32(attributes, RTA_PRIORITY).unwrap_or(0),
            device: attribute_u32(attributes, RTA_OIF).unwrap_or(0),
            throws: header.kind == RouteType::Throw,
            protocol: header.protocol,
        })
    }

    /// Whether we, or another wontun, put it up.
    pub(super) fn is_wontuns(&self) -> bool {
        self.protocol == RouteProtocol::from(PROTOCOL)
    }

    /// Whether the kernel made it for an address with a network.
    pub(super) fn is_connected(&self) -> bool {
        self.protocol == RouteProtocol::Kernel && self.table == MAIN
    }
}

/// The message that adds or deletes a route to the device `index`.
pub(super) fn to_device(table: u32, prefix: Prefix, index: u32) -> RouteMessage {
    let family = Family::of(prefix.network());
    let mut message = header(table, family, prefix.length());
    message.header.kind = RouteType::Unicast;
    if family == Family::V4 {
        message.header.scope = RouteScope::Link;
    }
    if prefix.length() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(prefix.network())));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// The message that adds or deletes a label.
pub(super) fn label(label: Label) -> RouteMessage {
    let mut message = header(label.table, Family::V4, 0);
    message.header.kind = RouteType::Throw;
    message.attributes.push(RouteAttribute::Priority(label.metric));
    message
}

fn header(table: u32, family: Family, length: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.netlink();
    message.header.destination_prefix_length = length;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// Asks for the routes to the device `index`, in all tables.
pub(super) fn list_of_device(family: Family, index: u32) -> RouteMessage {
    let mut message = list(family);
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// Asks for all routes in one table.
pub(super) fn list_of_table(family: Family, table: u32) -> RouteMessage {
    let mut message = list(family);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// Asks for the labels of all tunnels.
pub(super) fn list_of_labels() -> RouteMessage {
    let mut message = list(Family::V4);
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Throw;
    message
}

fn list(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.netlink();
    message
}
