//! Notifications about a device, for the event loop.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::AddressFamily;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{
    self, MSG_TRUNC, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWNETCONF, RTM_NEWROUTE, RTM_NEWRULE,
};
use socket2::{SockFilter, SockRef};

use super::error::LinkError;
use super::message::{self, LinkState, Messages};
use super::routes::PROTOCOL;
use super::socket::BUFFER;
use crate::interrupted::retry;
use wontun_sys::bpf;

/// The multicast groups of link, address, route and rule changes, and of settings such as
/// forwarding.
const GROUPS: u32 = group(libc::RTNLGRP_LINK)
    | group(libc::RTNLGRP_IPV4_IFADDR)
    | group(libc::RTNLGRP_IPV6_IFADDR)
    | group(libc::RTNLGRP_IPV4_ROUTE)
    | group(libc::RTNLGRP_IPV4_RULE)
    | group(libc::RTNLGRP_IPV6_ROUTE)
    | group(libc::RTNLGRP_IPV6_RULE)
    | group(libc::RTNLGRP_IPV4_NETCONF)
    | group(libc::RTNLGRP_IPV6_NETCONF);

/// Returns the bit of a group in an address to bind to.
pub(super) const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// Content of one datagram of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// The device was changed or announced; its current state.
    Changed(LinkState),
    /// The device was deleted.
    Deleted,
    /// The device was moved to another network namespace, where it has this index.
    Moved(Option<u32>),
    /// Another device appeared or was changed.
    OtherLink,
    /// The same for a device that sends packets in UDP datagrams, such as VXLAN.
    UdpTunnel,
    /// Events were lost or unreadable: read the state with [`super::Link::state`].
    Overrun,
    /// A route of wontun or of the device, or a policy rule, was deleted or replaced by any
    /// program.
    RoutingLost,
    /// This host no longer has that address, on any device.
    AddressLost(IpAddr),
    /// Another device has a new address, or a setting of devices such as forwarding was changed.
    HostChanged,
    /// The event concerns another device.
    Other,
}

/// A non-blocking socket that receives every link and address change in its network namespace, and
/// the deletion of routes and rules that may concern it. A socket filter drops the other route
/// changes, of which some hosts have many.
#[derive(Debug)]
pub(crate) struct LinkMonitor {
    socket: Socket,
    index: u32,
    buffer: Vec<u8>,
}

impl LinkMonitor {
    /// Subscribes to the notifications. Read the state afterwards, so that no change is missed.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub(crate) fn open(index: u32) -> Result<Self, LinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            SockRef::from(&socket).attach_filter(&filter())?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            Ok(Self { socket, index, buffer: Vec::with_capacity(BUFFER) })
        };
        open().map_err(|source| LinkError::Socket { action: "watch for link changes".to_owned(), source })
    }

    /// Sets the index of the device to watch.
    pub(crate) const fn set_index(&mut self, index: u32) {
        self.index = index;
    }

    /// Reads one datagram, so that the caller can keep a budget on a host where links come and go.
    /// Returns `None` when no more are queued: the edge may be waited for again.
    ///
    /// # Errors
    /// The error of the receive, except lost events.
    pub(crate) fn poll_event(&mut self) -> io::Result<Option<LinkEvent>> {
        self.buffer.clear();
        match retry(|| self.socket.recv_from(&mut self.buffer, MSG_TRUNC)) {
            Ok((_, sender)) if sender.port_number() != 0 => Ok(Some(LinkEvent::Other)),
            Ok((length, _)) if length > self.buffer.len() => Ok(Some(LinkEvent::Overrun)),
            Ok(_) => Ok(Some(event(&self.buffer, self.index))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(Some(LinkEvent::Overrun)),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns a classic BPF program. It drops new rules, and deleted routes that are neither wontun's
/// nor the kernel's own, which lead to the networks of a device's addresses. The tunnel's device is
/// not named: it has another index once it was in another network namespace, and the sandbox
/// forbids another program then. Of new routes it passes those that replace another one in a table
/// with a number above 255, such as that of policy routing: the replaced route may be wontun's.
const fn filter() -> [SockFilter; 14] {
    // nlmsg_type is in host order, and loaded in network order; rtm_protocol is in the message's
    // own header
    const TYPE: u32 = 4;
    const FLAGS: u32 = 6;
    const ROUTE_TABLE: u32 = 16 + 4;
    const ROUTE_PROTOCOL: u32 = 16 + 5;
    const fn kind(kind: u16) -> u32 {
        u16::from_be_bytes(kind.to_ne_bytes()) as u32
    }
    [
        SockFilter::new(bpf::LOAD_HALF, 0, 0, TYPE),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 6, 0, kind(RTM_NEWROUTE)),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 10, 0, kind(RTM_NEWRULE)),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 0, 8, kind(RTM_DELROUTE)),
        SockFilter::new(bpf::LOAD_BYTE, 0, 0, ROUTE_PROTOCOL),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 6, 0, PROTOCOL as u32),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 5, 0, libc::RTPROT_KERNEL as u32),
        SockFilter::new(bpf::RETURN, 0, 0, 0),
        SockFilter::new(bpf::LOAD_HALF, 0, 0, FLAGS),
        SockFilter::new(bpf::JUMP_IF_ANY_BIT, 0, 3, kind(NLM_F_REPLACE)),
        SockFilter::new(bpf::LOAD_BYTE, 0, 0, ROUTE_TABLE),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 0, 1, libc::RT_TABLE_COMPAT as u32),
        SockFilter::new(bpf::RETURN, 0, 0, u32::MAX),
        SockFilter::new(bpf::RETURN, 0, 0, 0),
    ]
}

/// Returns the last event about the device in a datagram; earlier ones are outdated.
fn event(datagram: &[u8], index: u32) -> LinkEvent {
    let mut event = LinkEvent::Other;
    for (header, body) in Messages::new(datagram) {
        let is_elsewhere = || message::address_network(body).is_some_and(|(_, _, device)| device != index);
        event = match header.message_type {
            RTM_DELADDR => message::address_of(body).map_or(event, LinkEvent::AddressLost),
            RTM_NEWADDR if is_elsewhere() => LinkEvent::HostChanged,
            RTM_NEWNETCONF => LinkEvent::HostChanged,
            RTM_NEWROUTE | RTM_DELROUTE | RTM_DELRULE => LinkEvent::RoutingLost,
            _ => event,
        };
        if !matches!(header.message_type, RTM_NEWLINK | RTM_DELLINK) {
            continue;
        }
        let Some(link) = message::link_header(body) else { continue };
        // a bridge reports its ports in its own family, and a removed port as deleted
        if link.interface_family != AddressFamily::Unspec {
            continue;
        }
        if link.index != index {
            if header.message_type == RTM_NEWLINK && matches!(event, LinkEvent::Other | LinkEvent::OtherLink)
            {
                event =
                    if message::is_udp_tunnel(body) { LinkEvent::UdpTunnel } else { LinkEvent::OtherLink };
            }
            continue;
        }
        event = match header.message_type {
            RTM_NEWLINK => message::link_state(body).map_or(LinkEvent::Overrun, LinkEvent::Changed),
            RTM_DELLINK => message::moved_to(body).map_or(LinkEvent::Deleted, LinkEvent::Moved),
            _ => continue,
        };
    }
    event
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{link, message, nla};
    use super::*;

    fn new_link(family: u8, index: u32, flags: u32) -> Vec<u8> {
        message(RTM_NEWLINK, 0, 0, &link(family, index, flags, &nla(4, &1400u32.to_ne_bytes())))
    }

    fn del_link(family: u8, index: u32) -> Vec<u8> {
        message(RTM_DELLINK, 0, 0, &link(family, index, 0, &[]))
    }

    #[test]
    fn our_device_is_distinguished_from_others() {
        let changed = |up| LinkEvent::Changed(LinkState { up, mtu: 1400 });
        assert_eq!(event(&new_link(0, 3, 1), 3), changed(true));
        assert_eq!(event(&new_link(0, 3, 0), 3), changed(false));
        assert_eq!(event(&new_link(0, 4, 0), 3), LinkEvent::OtherLink);
        let vxlan = message(RTM_NEWLINK, 0, 0, &link(0, 4, 0, &nla(18, &nla(1, b"vxlan\0"))));
        assert_eq!(event(&vxlan, 3), LinkEvent::UdpTunnel);
        assert_eq!(event(&del_link(0, 3), 3), LinkEvent::Deleted);
        assert_eq!(event(&del_link(0, 4), 3), LinkEvent::Other);
        assert_eq!(event(&del_link(7, 3), 3), LinkEvent::Other, "it left a bridge");
    }

    #[test]
    fn a_device_that_moves_is_not_deleted() {
        let left = |attributes: &[u8]| message(RTM_DELLINK, 0, 0, &link(0, 3, 0, attributes));
        let namespace = nla(45, &0u32.to_ne_bytes());
        assert_eq!(event(&left(&namespace), 3), LinkEvent::Moved(None));
        let index = nla(49, &7u32.to_ne_bytes());
        assert_eq!(event(&left(&[namespace, index].concat()), 3), LinkEvent::Moved(Some(7)));
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(event(&[new_link(0, 3, 1), del_link(0, 3)].concat(), 3), LinkEvent::Deleted);
        assert_eq!(event(&[del_link(0, 3), new_link(0, 4, 1)].concat(), 3), LinkEvent::Deleted);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_asked_for() {
        assert_eq!(event(&message(RTM_NEWLINK, 0, 0, &link(0, 3, 1, &[])), 3), LinkEvent::Overrun);
        assert_eq!(event(&new_link(0, 3, 1)[..30], 3), LinkEvent::Other);
        assert_eq!(event(&[], 3), LinkEvent::Other);
    }

    #[test]
    fn an_address_that_goes_is_named() {
        let v4 =
            [&[2, 24, 0, 0, 2, 0, 0, 0][..], &nla(1, &[192, 0, 2, 1]), &nla(2, &[192, 0, 2, 9])].concat();
        let gone = LinkEvent::AddressLost([192, 0, 2, 9].into());
        assert_eq!(event(&message(RTM_DELADDR, 0, 0, &v4), 3), gone, "the local end, not the other");
        let v6 = [&[10, 64, 0, 0, 2, 0, 0, 0][..], &nla(1, &[0xfd; 16])].concat();
        assert_eq!(event(&message(RTM_DELADDR, 0, 0, &v6), 3), LinkEvent::AddressLost([0xfd; 16].into()));
        let odd = [&[10, 64, 0, 0, 2, 0, 0, 0][..], &nla(1, &[0xfd; 7])].concat();
        assert_eq!(event(&message(RTM_DELADDR, 0, 0, &odd), 3), LinkEvent::Other);
        assert_eq!(event(&message(RTM_NEWADDR, 0, 0, &v4), 3), LinkEvent::HostChanged);
        assert_eq!(event(&message(RTM_NEWADDR, 0, 0, &v4), 2), LinkEvent::Other, "our own device's");
    }

    #[test]
    fn a_changed_setting_is_reported() {
        let body = [&[10, 0, 0, 0][..], &nla(1, &(-1_i32).to_ne_bytes()), &nla(2, &[1, 0, 0, 0])].concat();
        assert_eq!(event(&message(RTM_NEWNETCONF, 0, 0, &body), 3), LinkEvent::HostChanged);
    }

    #[test]
    fn nothing_new_does_not_block() {
        let mut monitor = LinkMonitor::open(1).unwrap();
        // other tests on this machine may create links
        while let Some(event) = monitor.poll_event().unwrap() {
            assert_ne!(event, LinkEvent::Deleted);
        }
    }
}
