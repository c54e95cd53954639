//! The paths of datagrams through the host's network, and notifications that they may have changed.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{self, RTA_GATEWAY, RTA_PREFSRC};
use socket2::SockRef;

use super::device::Link;
use super::error::LinkError;
use super::message::{self, ROUTE_HEADER};
use super::monitor::group;
use crate::interrupted::retry;

/// `RTA_VIA` of linux/rtnetlink.h.
const RTA_VIA: u16 = 18;
/// `RTNLGRP_NEXTHOP` of linux/rtnetlink.h.
const RTNLGRP_NEXTHOP: u32 = 32;
/// The multicast groups of all changes that may move a path.
const GROUPS: u32 = group(libc::RTNLGRP_LINK)
    | group(libc::RTNLGRP_IPV4_IFADDR)
    | group(libc::RTNLGRP_IPV6_IFADDR)
    | group(libc::RTNLGRP_IPV4_ROUTE)
    | group(libc::RTNLGRP_IPV4_RULE)
    | group(libc::RTNLGRP_IPV6_ROUTE)
    | group(libc::RTNLGRP_IPV6_RULE)
    | group(RTNLGRP_NEXTHOP);
/// Size of the receive buffer in bytes. Only the fact that something changed counts, so a few
/// notifications are enough.
const RECEIVE_BUFFER: usize = 4096;
/// Maximum number of notifications that are discarded at once.
const MAX_DISCARDED: usize = 64;

/// The path of datagrams to a destination, as the kernel's routes choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Index of the output device.
    pub interface: u32,
    /// Next hop; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel chooses, if none was given.
    pub source: Option<IpAddr>,
}

impl Path {
    /// Returns the path in an `RTM_NEWROUTE`; `None` if the route rejects packets.
    fn parse(route: &[u8]) -> Option<Self> {
        let attributes = route.get(ROUTE_HEADER..)?;
        // RTA_VIA begins with the address family
        let via = || message::attribute(attributes, RTA_VIA)?.get(2..).and_then(address);
        let gateway = message::attribute(attributes, RTA_GATEWAY);
        Some(Self {
            interface: message::route_interface(route)?,
            gateway: gateway.as_deref().and_then(address).or_else(via),
            source: message::attribute(attributes, RTA_PREFSRC).as_deref().and_then(address),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from).or_else(v4)
}

impl Link {
    /// Returns the path of this host's datagrams to `destination` that carry `mark`, from `source`
    /// or the address that the kernel chooses; `None` if there is none, or if it leads into this
    /// device.
    ///
    /// # Errors
    /// Netlink fails.
    pub(crate) fn path(
        &mut self,
        destination: IpAddr,
        source: Option<IpAddr>,
        mark: Option<NonZeroU32>,
    ) -> Result<Option<Path>, LinkError> {
        let path = self.route_from(destination, source, mark)?.as_deref().and_then(Path::parse);
        Ok(path.filter(|path| path.interface != self.index()))
    }
}

/// A non-blocking socket that becomes readable when something changes that may move a path: routes,
/// rules, addresses, devices. What changed is not read: on a router there may be thousands of
/// changes a second.
#[derive(Debug)]
pub(crate) struct PathMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl PathMonitor {
    /// Subscribes to the notifications.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub(crate) fn open() -> Result<Self, LinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            Ok(Self { socket, buffer: Vec::with_capacity(1) })
        };
        open().map_err(|source| LinkError::Socket { action: "watch for route changes".to_owned(), source })
    }

    /// Discards the notifications received so far, up to a limit.
    ///
    /// # Errors
    /// The error of the receive, except lost notifications.
    pub(crate) fn discard(&mut self) -> io::Result<()> {
        for _ in 0..MAX_DISCARDED {
            self.buffer.clear();
            match retry(|| self.socket.recv_from(&mut self.buffer, 0)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for PathMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::nla;
    use super::*;

    #[test]
    fn a_path_is_read_from_a_route() {
        // struct rtmsg of a unicast route
        let header = [2, 32, 0, 0, 254, 0, 0, 1, 0, 2, 0, 0];
        let route = |attributes: &[Vec<u8>]| [&header[..], &attributes.concat()].concat();
        let device = nla(4, &7_u32.to_ne_bytes());
        let (gateway, source) = ([192, 0, 2, 1], [192, 0, 2, 9]);
        assert_eq!(Path::parse(&header), None);
        assert_eq!(
            Path::parse(&route(std::slice::from_ref(&device))),
            Some(Path { interface: 7, gateway: None, source: None })
        );
        assert_eq!(
            Path::parse(&route(&[device.clone(), nla(5, &gateway), nla(7, &source)])),
            Some(Path { interface: 7, gateway: Some(gateway.into()), source: Some(source.into()) })
        );
        let via = [&[10, 0][..], &[0xfe; 16]].concat();
        assert_eq!(
            Path::parse(&route(&[device, nla(18, &via)])),
            Some(Path { interface: 7, gateway: Some([0xfe; 16].into()), source: None })
        );
    }

    #[test]
    fn the_kernel_tells_the_path() {
        let Ok(mut link) = Link::open("lo") else { return };
        // datagrams to this host itself leave by this very device
        assert_eq!(link.path(IpAddr::from([127, 0, 0, 1]), None, None).unwrap(), None);
        // no host has this source address
        let source = IpAddr::from([198, 51, 100, 77]);
        assert_eq!(link.path(IpAddr::from([127, 0, 0, 1]), Some(source), None).unwrap(), None);
    }

    #[test]
    fn nothing_new_does_not_block() {
        PathMonitor::open().unwrap().discard().unwrap();
    }
}
