//! Encoding and parsing of routes.

use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::libc::{RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_TABLE};

use super::marker::OwnershipMarker;
use super::plan::{IpFamily, MAIN};
use super::rule::PROTOCOL;
use crate::netlink::message::{ROUTE_HEADER, attribute, attribute_u32};
use wontun_proto::allowed_ips::Prefix;

/// Metrics of routes that make a network unreachable: higher than that of a route to the device,
/// which is 0 or 1024, and lower than that of an ownership marker.
const BLOCK_V4: u32 = 1;
const BLOCK_V6: u32 = 2048;

/// The parts of a route that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
    pub(super) metric: u32,
    /// Index of the output device; 0 for none.
    pub(super) device: u32,
    /// True for a route of type throw, after which the next policy rule is evaluated.
    pub(super) throws: bool,
    /// True for a route that makes its network unreachable.
    is_unreachable: bool,
    protocol: RouteProtocol,
}

impl Route {
    /// Parses an `RTM_NEWROUTE` of `family`.
    pub(super) fn parse(body: &[u8], family: IpFamily) -> Option<Self> {
        let header =
            RouteHeader::parse(body).ok().filter(|header| header.address_family == family.netlink())?;
        let attributes = body.get(ROUTE_HEADER..)?;
        let network = match (attribute(attributes, RTA_DST), family) {
            (Some(bytes), IpFamily::V4) => IpAddr::from(*bytes.first_chunk::<4>()?),
            (Some(bytes), IpFamily::V6) => IpAddr::from(*bytes.first_chunk::<16>()?),
            (None, _) => family.unspecified(),
        };
        Some(Self {
            table: attribute_u32(attributes, RTA_TABLE).unwrap_or(u32::from(header.table)),
            prefix: Prefix::new(network, header.destination_prefix_length)?,
            metric: attribute_u32(attributes, RTA_PRIORITY).unwrap_or(0),
            device: attribute_u32(attributes, RTA_OIF).unwrap_or(0),
            throws: header.kind == RouteType::Throw,
            is_unreachable: header.kind == RouteType::Unreachable,
            protocol: header.protocol,
        })
    }

    /// Returns true if this or another wontun process added the route.
    pub(super) fn is_own(&self) -> bool {
        self.protocol == RouteProtocol::from(PROTOCOL)
    }

    /// Returns true for routes that [`unreachable`] adds.
    pub(super) fn is_block(&self) -> bool {
        self.is_own() && self.is_unreachable
    }

    /// Returns true if the kernel added the route for the network of an address.
    pub(super) fn is_connected(&self) -> bool {
        self.protocol == RouteProtocol::Kernel && self.table == MAIN
    }
}

/// Builds the message that adds or deletes a route to the device `index`.
pub(super) fn to_device(table: u32, prefix: Prefix, index: u32) -> RouteMessage {
    let family = IpFamily::of(prefix.network());
    let mut message = header(table, family, prefix.length());
    message.header.kind = RouteType::Unicast;
    if family == IpFamily::V4 {
        message.header.scope = RouteScope::Link;
    }
    if prefix.length() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(prefix.network())));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// Builds the message that adds or deletes a route that makes its network unreachable.
pub(super) fn unreachable(table: u32, prefix: Prefix) -> RouteMessage {
    let family = IpFamily::of(prefix.network());
    let mut message = header(table, family, prefix.length());
    message.header.kind = RouteType::Unreachable;
    if prefix.length() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(prefix.network())));
    }
    let metric = if family == IpFamily::V4 { BLOCK_V4 } else { BLOCK_V6 };
    message.attributes.push(RouteAttribute::Priority(metric));
    message
}

/// Builds the message that adds or deletes an ownership marker.
pub(super) fn marker(marker: OwnershipMarker) -> RouteMessage {
    let mut message = header(marker.table, IpFamily::V4, 0);
    message.header.kind = RouteType::Throw;
    message.attributes.push(RouteAttribute::Priority(marker.metric));
    message
}

fn header(table: u32, family: IpFamily, length: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.netlink();
    message.header.destination_prefix_length = length;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// Builds a request for the routes to the device `index`, in all tables.
pub(super) fn list_of_device(family: IpFamily, index: u32) -> RouteMessage {
    let mut message = list(family);
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// Builds a request for all routes in one table.
pub(super) fn list_of_table(family: IpFamily, table: u32) -> RouteMessage {
    let mut message = list(family);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// Builds a request for the ownership markers of all tunnels.
pub(super) fn list_of_markers() -> RouteMessage {
    let mut message = list(IpFamily::V4);
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Throw;
    message
}

fn list(family: IpFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.netlink();
    message
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    use super::*;

    fn echoed(message: &RouteMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_label_survives_the_wire() {
        let marker = OwnershipMarker { table: 51_820, metric: 7 };
        let route = Route::parse(&echoed(&super::marker(marker)), IpFamily::V4).unwrap();
        assert!(route.throws && route.is_own() && !route.is_connected());
        assert_eq!((route.table, route.metric, route.prefix.length(), route.device), (51_820, 7, 0, 0));
    }

    #[test]
    fn a_block_is_behind_routes_to_the_device_and_before_a_label() {
        let network = Prefix::new([0, 0, 0, 0].into(), 1).unwrap();
        let route = Route::parse(&echoed(&unreachable(51_820, network)), IpFamily::V4).unwrap();
        assert!(route.is_block() && !route.throws);
        assert_eq!((route.table, route.metric, route.prefix), (51_820, 1, network));
        let marker =
            Route::parse(&echoed(&super::marker(OwnershipMarker { table: 51_820, metric: 2 })), IpFamily::V4);
        assert!(marker.is_some_and(|marker| !marker.is_block() && marker.metric > route.metric));
    }

    /// The kernel's `RTM_NEWROUTE` for `10.8.0.0/24 dev eth0 proto kernel scope link`, where eth0
    /// has index 5.
    #[test]
    fn a_connected_route() {
        let mut bytes = vec![2, 24, 0, 0, 254, 2, 253, 1, 0, 0, 0, 0];
        bytes.extend([8, 0, 15, 0, 254, 0, 0, 0, 8, 0, 1, 0, 10, 8, 0, 0, 8, 0, 4, 0, 5, 0, 0, 0]);
        let route = Route::parse(&bytes, IpFamily::V4).unwrap();
        assert!(route.is_connected() && !route.is_own() && !route.throws);
        assert_eq!((route.prefix.to_string().as_str(), route.device), ("10.8.0.0/24", 5));
        assert_eq!(Route::parse(&bytes, IpFamily::V6), None);
        bytes[1] = 33;
        assert_eq!(Route::parse(&bytes, IpFamily::V4), None, "no address is that long");
    }

    proptest! {
        #[test]
        fn a_route_survives_the_wire(address: [u8; 16], length in 0_u8..=128, v4: bool, table: u32, device: u32) {
            let [a, b, c, d, ..] = address;
            let network = if v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(address) };
            let prefix = Prefix::new(network, if v4 { length / 4 } else { length }).unwrap();
            let family = IpFamily::of(network);
            let route = Route::parse(&echoed(&to_device(table, prefix, device)), family).unwrap();
            prop_assert_eq!((route.table, route.prefix, route.device), (table, prefix, device));
            prop_assert!(route.is_own() && !route.throws && !route.is_connected());
        }

        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..100), v6: bool) {
            let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
            let body = [&[if v6 { 10 } else { 2 }], &body[..]].concat();
            let _ = Route::parse(&body, family);
        }
    }
}
