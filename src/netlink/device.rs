//! Addresses, MTU and state of the tunnel device.

use std::net::IpAddr;
use std::num::NonZeroU32;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::LinkFlags;
use nix::errno::Errno;

use super::error::LinkError;
use super::interfaces::{self, TUNNEL_GROUP};
use super::message::{self, LinkState};
use super::request_error::RequestError;
use super::socket::NetlinkSocket;
use super::tun::{self, ExistingLink};
use crate::config::Cidr;
use wontun_packet::ip;

const MTU_REMEDY: &str = "choose an MTU from 68 to 65535";

/// A device identified by its index, which survives a rename, and the netlink socket for it.
#[derive(Debug)]
pub struct Link {
    netlink: NetlinkSocket,
    name: String,
    index: u32,
    addresses: Vec<Cidr>,
    /// The description by which the device is recognized, as stored by
    /// [`Link::record_fingerprint`].
    fingerprint: Option<Fingerprint>,
}

/// The kernel's description of a device without its index and name, which may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    tun: ExistingLink,
    group: Option<u32>,
}

impl Fingerprint {
    fn of(body: &[u8]) -> Self {
        let tun = match tun::parse(body) {
            ExistingLink::Tun(state) => ExistingLink::Tun(tun::TunState { index: 0, ..state }),
            ExistingLink::Undescribed { .. } => ExistingLink::Undescribed { index: 0 },
            other => other,
        };
        Self { tun, group: message::link_group(body) }
    }
}

/// Settings that [`Link::configure`] and [`Link::restore`] could not apply, for the caller to
/// report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Addresses that were not set because IPv6 is disabled on the device or absent from the
    /// kernel.
    pub ipv6_disabled: Vec<Cidr>,
}

impl Link {
    /// Finds the device called `name` in this thread's network namespace.
    ///
    /// # Errors
    /// Netlink is unavailable, or there is no such device.
    pub fn open(name: &str) -> Result<Self, LinkError> {
        let action = || format!("find the device {name}");
        let mut netlink =
            NetlinkSocket::open().map_err(|source| LinkError::Socket { action: action(), source })?;
        let body = netlink
            .request(message::get_link_by_name(name), 0)
            .map_err(|failure| LinkError::new(action(), failure, "give a name of 1 to 15 bytes"))?;
        let index = body.and_then(|body| message::link_header(&body)).map(|header| header.index);
        let index = index.ok_or_else(|| LinkError::NoReply { action: action() })?;
        Ok(Self { netlink, name: name.to_owned(), index, addresses: Vec::new(), fingerprint: None })
    }

    /// Returns the index of the device.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns the name of the device, as last read by [`Link::state`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Turns off the device's multicast flag and generated addresses, sets its MTU (bytes) and its
    /// addresses, and sets it up. Idempotent.
    ///
    /// # Errors
    /// The privilege or the device is missing, or the kernel refuses the MTU, or an address for
    /// another reason than that IPv6 is disabled.
    pub fn configure(&mut self, addresses: &[Cidr], mtu: u32) -> Result<Configured, LinkError> {
        for &address in addresses {
            // the kernel accepts 0.0.0.0 without effect, and accepts 224.0.0.1 too
            if !is_unicast(address.address()) {
                return Err(LinkError::Unusable { device: self.name.clone(), address });
            }
        }
        self.addresses = addresses.to_vec();
        self.set_flags(LinkFlags::empty(), LinkFlags::Multicast, "clear the multicast flag of")?;
        self.leave_router_group()?;
        self.change_mtu(mtu)?;
        self.disable_autoconfiguration()?;
        let configured = self.add_addresses(addresses)?;
        self.set_flags(LinkFlags::Up, LinkFlags::Up, "bring up")?;
        Ok(configured)
    }

    /// Puts the device into the group of wontun's tunnels, unless it is in another group already.
    ///
    /// # Errors
    /// As for [`Link::set_mtu`].
    pub fn join_tunnel_group(&mut self) -> Result<(), LinkError> {
        if message::link_group(&self.read()?).is_some_and(|group| group != 0) {
            return Ok(());
        }
        let outcome = self.netlink.request(message::set_group(self.index, TUNNEL_GROUP), 0);
        self.done(outcome, || format!("put {} into the device group {TUNNEL_GROUP}", self.name), "")
    }

    /// Restores the settings that the kernel drops when the device goes down or its MTU falls below
    /// IPv6's 1280 bytes: the addresses given to [`Link::configure`]. Addresses still present stay
    /// unchanged.
    ///
    /// # Errors
    /// As for [`Link::configure`].
    pub fn restore(&mut self) -> Result<Configured, LinkError> {
        self.disable_autoconfiguration()?;
        self.add_addresses(&self.addresses.clone())
    }

    /// Returns true if [`Link::configure`] was given this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|cidr| cidr.address() == address)
    }

    /// Sets the device up.
    ///
    /// # Errors
    /// As for [`Link::set_mtu`].
    pub fn set_up(&mut self) -> Result<(), LinkError> {
        self.set_flags(LinkFlags::Up, LinkFlags::Up, "bring up")
    }

    /// Returns the kernel's description of the tun device: its owner, and the number of queues held
    /// by processes.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub fn describe(&mut self) -> Result<ExistingLink, LinkError> {
        self.read().map(|body| tun::parse(&body))
    }

    /// Returns the configured addresses that the device lacks. IPv6 addresses are included only if
    /// `takes_ipv6` is true, which requires an MTU of at least 1280 bytes.
    ///
    /// # Errors
    /// The device is missing, or netlink fails.
    pub fn missing_addresses(&mut self, takes_ipv6: bool) -> Result<Vec<Cidr>, LinkError> {
        let action = || format!("read the addresses of {}", self.name);
        let present = interfaces::addresses(&mut self.netlink, self.index)
            .map_err(|failure| LinkError::new(action(), failure, ""))?;
        let is_present = |cidr: &&Cidr| {
            present
                .iter()
                .any(|each| each.address == cidr.address() && each.network.length() == cidr.prefix())
        };
        let is_possible = |cidr: &&Cidr| takes_ipv6 || cidr.address().is_ipv4();
        let missing = self.addresses.iter().filter(|cidr| !is_present(cidr)).filter(is_possible);
        Ok(missing.copied().collect())
    }

    /// Adds addresses returned by [`Self::missing_addresses`]. Returns the addresses that the
    /// device has now, without IPv6 addresses where IPv6 is disabled.
    ///
    /// # Errors
    /// As for [`Link::configure`].
    pub fn add_missing(&mut self, mut missing: Vec<Cidr>) -> Result<Vec<Cidr>, LinkError> {
        self.disable_autoconfiguration()?;
        let configured = self.add_addresses(&missing)?;
        missing.retain(|cidr| !configured.ipv6_disabled.contains(cidr));
        Ok(missing)
    }

    /// Stores the addresses that [`Link::restore`] will set, while the device cannot be reached.
    pub fn set_desired_addresses(&mut self, addresses: &[Cidr]) {
        self.addresses = addresses.to_vec();
    }

    /// Replaces the addresses of the device. Addresses in both lists stay unchanged.
    ///
    /// # Errors
    /// As for [`Link::configure`].
    pub fn replace_addresses(&mut self, addresses: &[Cidr]) -> Result<Configured, LinkError> {
        for &address in addresses {
            if !is_unicast(address.address()) {
                return Err(LinkError::Unusable { device: self.name.clone(), address });
            }
        }
        let old = std::mem::replace(&mut self.addresses, addresses.to_vec());
        let configured = self.add_addresses(addresses)?;
        for address in old.into_iter().filter(|address| !addresses.contains(address)) {
            match self.netlink.request(message::del_address(self.index, address), 0) {
                // removed already, with IPv6 or by another program
                Err(RequestError::Refused { errno: Errno::EADDRNOTAVAIL, .. }) => {}
                outcome => self.done(outcome, || format!("remove {address} from {}", self.name), "")?,
            }
        }
        Ok(configured)
    }

    /// Sets the MTU of the device, in bytes.
    ///
    /// Below 1280 the kernel removes IPv6 from the device with all its addresses; [`Link::restore`]
    /// sets them again after the MTU was raised. If the device is up when the MTU is raised, the
    /// kernel generates a link-local address and solicits routers before that can be prevented.
    /// Setting the device down first would remove its IPv4 routes, so this is accepted.
    ///
    /// # Errors
    /// The privilege or the device is missing, or the MTU is out of the device's range.
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), LinkError> {
        self.change_mtu(mtu)?;
        self.disable_autoconfiguration()
    }

    /// Sets the length of the device's transmit queue (`txqueuelen`), in packets; a super-packet
    /// counts as one, and with 0 the device drops all packets. The ring of a tun device is resized
    /// to that length at once.
    ///
    /// # Errors
    /// The privilege or the device is missing. A tun driver that lacks the memory for the queue
    /// reports "not permitted" too.
    pub fn set_queue_len(&mut self, packets: u32) -> Result<(), LinkError> {
        let outcome = self.netlink.request(message::set_queue_len(self.index, packets), 0);
        self.done(outcome, || format!("set the queue length of {} to {packets}", self.name), "")
    }

    /// Sets the maximum size of the super-packets that the kernel builds for the device, to
    /// `bytes`, at most 65,536; TCP fills them to about 320 bytes less. Returns true if the kernel
    /// has that limit afterwards: kernels before 4.16 do not support it, and others have a minimum.
    /// That is no error, since the limit affects only the throughput.
    ///
    /// # Errors
    /// The privilege or the device is missing, or netlink fails.
    pub fn set_gso_max_size(&mut self, bytes: u32) -> Result<bool, LinkError> {
        match self.netlink.request(message::set_gso_max_size(self.index, bytes), 0) {
            Ok(_) => {}
            Err(RequestError::Refused {
                errno: Errno::EINVAL | Errno::ERANGE | Errno::EOPNOTSUPP, ..
            }) => {
                return Ok(false);
            }
            outcome => self.done(outcome, || format!("set the GSO size of {} to {bytes}", self.name), "")?,
        }
        // old kernels ignore attributes that they do not know
        Ok(message::gso_max_size(&self.read()?) == Some(bytes))
    }

    /// Returns the state of the device (up or down) and its MTU.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub fn state(&mut self) -> Result<LinkState, LinkError> {
        let body = self.read()?;
        self.take_state(&body)
    }

    /// Stores the description of the device by which [`Link::find_moved`] recognizes it.
    ///
    /// # Errors
    /// As for [`Link::state`].
    pub fn record_fingerprint(&mut self) -> Result<(), LinkError> {
        self.fingerprint = Some(Fingerprint::of(&self.read()?));
        Ok(())
    }

    /// Returns the state as [`Link::state`] does, for a device that returns from another network
    /// namespace, where its index was `other_index`. Tries that index, then the index before the
    /// move, then the name, and compares the description of the device found.
    ///
    /// # Errors
    /// As for [`Link::state`].
    pub fn find_moved(&mut self, other_index: Option<u32>) -> Result<LinkState, LinkError> {
        let by_index = other_index.into_iter().chain([self.index]).map(message::get_link);
        let requests: Vec<_> = by_index.chain([message::get_link_by_name(&self.name)]).collect();
        for request in requests {
            let Ok(Some(body)) = self.netlink.request(request, 0) else { continue };
            if self.fingerprint == Some(Fingerprint::of(&body))
                && let Some(header) = message::link_header(&body)
            {
                self.index = header.index;
                return self.take_state(&body);
            }
        }
        let action = format!("find {} again", self.name);
        let not_found = RequestError::Refused { errno: Errno::ENODEV, extack: None };
        Err(LinkError::new(action, not_found, ""))
    }

    fn take_state(&mut self, body: &[u8]) -> Result<LinkState, LinkError> {
        if let Some(name) = message::link_name(body) {
            self.name = name;
        }
        message::link_state(body)
            .ok_or_else(|| LinkError::NoReply { action: format!("read the state of {}", self.name) })
    }

    /// Returns the index of the device by which packets of this host to `destination` leave, or
    /// `None` if there is no route. A local address is routed to the loopback device; a link-local
    /// address may be on any device.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn route_interface(&mut self, destination: IpAddr) -> Result<Option<u32>, LinkError> {
        self.marked_route_interface(destination, None)
    }

    /// Like [`Link::route_interface`], for packets that carry `mark`: policy routing may route them
    /// elsewhere.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn marked_route_interface(
        &mut self,
        destination: IpAddr,
        mark: Option<NonZeroU32>,
    ) -> Result<Option<u32>, LinkError> {
        Ok(self.route(destination, mark)?.and_then(|route| message::route_interface(&route)))
    }

    /// Returns the known MTU of the path to `destination`, in bytes, for packets that carry `mark`:
    /// the MTU of the route if it has one, else of the output device. `None` if there is no route.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn path_mtu(
        &mut self,
        destination: IpAddr,
        mark: Option<NonZeroU32>,
    ) -> Result<Option<u32>, LinkError> {
        let Some(route) = self.route(destination, mark)? else { return Ok(None) };
        let Some(index) = message::route_interface(&route) else { return Ok(None) };
        if let Some(mtu) = message::route_mtu(&route) {
            return Ok(Some(mtu));
        }
        match self.netlink.request(message::get_link(index), 0) {
            Ok(body) => Ok(body.and_then(|body| message::link_state(&body)).map(|state| state.mtu)),
            // deleted since the route was looked up
            Err(RequestError::Refused { errno: Errno::ENODEV, .. }) => Ok(None),
            Err(failure) => Err(LinkError::new(format!("read the MTU towards {destination}"), failure, "")),
        }
    }

    /// Returns the kernel's `RTM_NEWROUTE` for one destination.
    fn route(&mut self, destination: IpAddr, mark: Option<NonZeroU32>) -> Result<Option<Vec<u8>>, LinkError> {
        self.route_from(destination, None, mark)
    }

    /// Like [`Self::route`], for packets from `source`, if given.
    pub(super) fn route_from(
        &mut self,
        destination: IpAddr,
        source: Option<IpAddr>,
        mark: Option<NonZeroU32>,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        // IPv4-mapped destinations of an IPv6 socket use the IPv4 routes
        let (destination, source) = (destination.to_canonical(), source.map(|source| source.to_canonical()));
        match self.netlink.request(message::get_route(destination, source, mark), 0) {
            Ok(body) => Ok(body),
            Err(RequestError::Refused {
                // no route; an IPv4 route of type unreachable, prohibit or blackhole; an IPv4
                // source that is not this host's; no such family
                errno:
                    Errno::ENETUNREACH
                    | Errno::EHOSTUNREACH
                    | Errno::EACCES
                    | Errno::EINVAL
                    | Errno::EAFNOSUPPORT
                    | Errno::EOPNOTSUPP,
                ..
            }) => Ok(None),
            Err(failure) => Err(LinkError::new(format!("look up the route to {destination}"), failure, "")),
        }
    }

    /// Makes the device leave the all-routers group.
    ///
    /// On a host that forwards IPv6, such as a server, a new device has joined that group and would
    /// report it whenever it comes up. The kernel forgets the group with all other IPv6 state when
    /// the MTU is too small for IPv6, and does not join again without the multicast flag.
    fn leave_router_group(&mut self) -> Result<(), LinkError> {
        let body = self.read()?;
        // a device that is up has reported already, and routes may depend on it
        if message::forwards(&body, true) == Some(true)
            && message::link_state(&body).is_some_and(|state| !state.up)
        {
            self.change_mtu(ip::IPV6_MIN_MTU - 1)?;
        }
        Ok(())
    }

    /// Turns off acceptance of router advertisements and generated addresses. Both settings are
    /// lost when IPv6 is removed from the device, so they are set again after it returns.
    fn disable_autoconfiguration(&mut self) -> Result<(), LinkError> {
        // A solicitation needs a link-local address, which may be a configured one; only this
        // setting prevents it then. It also keeps the peer from becoming this host's default router
        // by an advertisement. Best effort: /proc/sys is read-only in most containers, and missing
        // without IPv6.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/accept_ra", self.name), "0");
        match self.netlink.request(message::set_no_generated_address(self.index), 0) {
            // no IPv6 in the kernel, or none on a device with this MTU: no address will be
            // generated
            Err(RequestError::Refused { errno: Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, .. }) => Ok(()),
            outcome => self.done(outcome, || format!("turn off generated addresses on {}", self.name), ""),
        }
    }

    /// Returns the kernel's `RTM_NEWLINK` of the device.
    fn read(&mut self) -> Result<Vec<u8>, LinkError> {
        let action = || format!("read the state of {}", self.name);
        let outcome = self.netlink.request(message::get_link(self.index), 0);
        let body = outcome.map_err(|failure| LinkError::new(action(), failure, ""))?;
        body.ok_or_else(|| LinkError::NoReply { action: action() })
    }

    fn change_mtu(&mut self, mtu: u32) -> Result<(), LinkError> {
        let outcome = self.netlink.request(message::set_mtu(self.index, mtu), 0);
        self.done(outcome, || format!("set the MTU of {} to {mtu}", self.name), MTU_REMEDY)
    }

    fn set_flags(&mut self, flags: LinkFlags, mask: LinkFlags, what: &str) -> Result<(), LinkError> {
        let outcome = self.netlink.request(message::set_flags(self.index, flags, mask), 0);
        self.done(outcome, || format!("{what} {}", self.name), "")
    }

    fn add_addresses(&mut self, addresses: &[Cidr]) -> Result<Configured, LinkError> {
        let mut configured = Configured::default();
        for &address in addresses {
            let outcome =
                self.netlink.request(message::new_address(self.index, address), NLM_F_CREATE | NLM_F_REPLACE);
            if let Err(RequestError::Refused { errno, .. }) = &outcome
                && address.address().is_ipv6()
                && matches!(errno, Errno::EACCES | Errno::ENODEV | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
            {
                // ENODEV may mean that the device itself is missing
                self.state()?;
                configured.ipv6_disabled.push(address);
                continue;
            }
            let remedy = match &outcome {
                Err(RequestError::Refused { errno, .. }) => address_remedy(*errno, address.address()),
                _ => "",
            };
            self.done(outcome, || format!("add {address} to {}", self.name), remedy)?;
        }
        Ok(configured)
    }

    fn done(
        &self,
        outcome: Result<Option<Vec<u8>>, RequestError>,
        action: impl FnOnce() -> String,
        remedy: &'static str,
    ) -> Result<(), LinkError> {
        outcome.map(drop).map_err(|failure| LinkError::new(action(), failure, remedy))
    }
}

const fn address_remedy(errno: Errno, address: IpAddr) -> &'static str {
    match errno {
        Errno::EEXIST => "take the address away from the device that has it, or choose another",
        // RFC 8200: IPv6 requires an MTU of 1280; below that the kernel removes IPv6 from the
        // device
        Errno::EINVAL | Errno::ENOBUFS if address.is_ipv6() => {
            "IPv6 needs an MTU of at least 1280 on the device"
        }
        _ => "choose another address, one that a host can have",
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no privilege: the addresses are checked first, and the last case tests the kernel's
    /// refusal.
    #[test]
    fn addresses_that_no_host_has_are_refused_unasked() {
        let mut link = Link::open("lo").unwrap();
        assert_eq!((link.name(), link.index()), ("lo", 1));
        for text in ["0.0.0.0/0", "224.0.0.1/24", "255.255.255.255/32", "::/64", "ff02::1/64"] {
            let address: Cidr = text.parse().unwrap();
            let error = link.configure(&[address], 1472).unwrap_err();
            assert!(matches!(error, LinkError::Unusable { .. }), "{error}");
            assert!(error.to_string().contains(text));
        }
        assert_eq!(link.restore_list(), &[] as &[Cidr]);
    }

    impl Link {
        fn restore_list(&self) -> &[Cidr] {
            &self.addresses
        }
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = Link::open("no-such-link").unwrap_err();
        assert!(matches!(error, LinkError::NoDevice { .. }));
        assert!(error.to_string().contains("no-such-link"), "{error}");
        assert!(Link::open("a-name-of-more-than-15-bytes").is_err());
        assert!(Link::open("").is_err());
    }

    #[test]
    fn loopback_is_read_and_routed() {
        let mut link = Link::open("lo").unwrap();
        assert!(link.state().unwrap().mtu > 0);
        // the namespace's loopback device may be down: only the request itself is tested
        let _ = link.route_interface("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(
            link.route_interface("2001:db8:ffff::1".parse().unwrap()).unwrap().filter(|&i| i == 1),
            None
        );
    }
}
