//! Devices of the host and their addresses.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};

use super::message;
use super::request_error::RequestError;
use super::socket::NetlinkSocket;
use wontun_proto::allowed_ips::Prefix;

/// The device group of wontun's WireGuard tunnels, listed by `ip link show group 51820`. Packets
/// that come in by one of them have passed the allowed IPs of its peers.
pub(super) const TUNNEL_GROUP: u32 = 51_820;

/// A device of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_loopback: bool,
    /// True if the device is in the group [`TUNNEL_GROUP`].
    pub(super) is_tunnel: bool,
    pub(super) addresses: Vec<InterfaceAddress>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterfaceAddress {
    /// The host's own address.
    pub(super) address: IpAddr,
    /// The network of the address; on a point-to-point link the peer's address.
    pub(super) network: Prefix,
}

impl Interface {
    pub(super) fn has_family(&self, v6: bool) -> bool {
        self.addresses.iter().any(|address| address.address.is_ipv6() == v6)
    }
}

/// Returns all devices with their addresses.
pub(super) fn interfaces(netlink: &mut NetlinkSocket) -> Result<Vec<Interface>, RequestError> {
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut interfaces = netlink.dump(&links, |body| {
        let header = message::link_header(body)?;
        Some(Interface {
            index: header.index,
            name: message::link_name(body)?,
            is_loopback: header.flags.contains(LinkFlags::Loopback),
            is_tunnel: message::link_group(body) == Some(TUNNEL_GROUP),
            addresses: Vec::new(),
        })
    })?;
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for (index, address) in netlink.dump(&addresses, interface_address)? {
        if let Some(interface) = interfaces.iter_mut().find(|interface| interface.index == index) {
            interface.addresses.push(address);
        }
    }
    Ok(interfaces)
}

/// Returns the index of a device.
pub(super) fn index_of(name: &str) -> Result<u32, RequestError> {
    let mut netlink = NetlinkSocket::open().map_err(RequestError::Socket)?;
    let link = netlink.request(message::get_link_by_name(name), 0)?;
    let header = link.and_then(|body| message::link_header(&body));
    header.map(|header| header.index).ok_or(RequestError::NoReply)
}

/// Returns true if a device of this network namespace sends packets in UDP datagrams, such as VXLAN.
///
/// # Errors
/// Netlink is unavailable.
pub(crate) fn has_udp_tunnel() -> io::Result<bool> {
    let mut netlink = NetlinkSocket::open()?;
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let found = netlink.dump(&links, |body| message::is_udp_tunnel(body).then_some(()));
    found.map(|found| !found.is_empty()).map_err(|failure| io::Error::other(failure.description()))
}

/// Returns the addresses of all devices.
///
/// # Errors
/// Netlink is unavailable.
pub(crate) fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let all =
        interfaces(&mut NetlinkSocket::open()?).map_err(|failure| io::Error::other(failure.description()))?;
    Ok(all.iter().flat_map(|interface| &interface.addresses).map(|address| address.address).collect())
}

/// Returns the addresses of the device with that index.
pub(super) fn addresses(
    netlink: &mut NetlinkSocket,
    index: u32,
) -> Result<Vec<InterfaceAddress>, RequestError> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let all = netlink.dump(&all, interface_address)?;
    Ok(all.into_iter().filter(|(device, _)| *device == index).map(|(_, address)| address).collect())
}

/// Parses an `RTM_NEWADDR` into the device's index and the address.
fn interface_address(body: &[u8]) -> Option<(u32, InterfaceAddress)> {
    let (far, length, index) = message::address_network(body)?;
    let network = Prefix::new(far, length)?;
    Some((index, InterfaceAddress { address: message::address_of(body)?, network }))
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::nla;
    use super::*;

    #[test]
    fn an_address_has_its_network() {
        let v4 =
            [&[2, 24, 0, 0, 7, 0, 0, 0][..], &nla(1, &[192, 0, 2, 1]), &nla(2, &[192, 0, 2, 9])].concat();
        let (index, read) = interface_address(&v4).unwrap();
        assert_eq!((index, read.address), (7, IpAddr::from([192, 0, 2, 9])));
        assert_eq!(read.network, Prefix::new([192, 0, 2, 0].into(), 24).unwrap());
        assert_eq!(interface_address(&v4[..9]), None);
        let too_long = [&[2, 64, 0, 0, 7, 0, 0, 0][..], &nla(1, &[192, 0, 2, 1])].concat();
        assert_eq!(interface_address(&too_long), None);
    }

    #[test]
    fn loopback_is_found() {
        let all = interfaces(&mut NetlinkSocket::open().unwrap()).unwrap();
        let loopback = all.iter().find(|interface| interface.is_loopback).unwrap();
        assert_eq!((loopback.name.as_str(), loopback.index, loopback.is_tunnel), ("lo", 1, false));
    }
}
