//! Our device: its addresses, MTU and state.

use std::net::IpAddr;
use std::num::NonZeroU32;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::LinkFlags;
use nix::errno::Errno;

use super::error::LinkError;
use super::failure::Failure;
use super::interfaces::{self, TUNNELS};
use super::message::{self, LinkState};
use super::socket::Requests;
use super::tun::{self, Occupant};
use crate::config::Cidr;

/// The kernel has no IPv6 on a device that takes less, in bytes.
const IPV6_MIN_MTU: u32 = 1280;
const MTU_REMEDY: &str = "choose an MTU from 68 to 65535";

/// One device, known by its index (a rename does not lose it), and the socket to ask about it.
#[derive(Debug)]
pub struct Link {
    requests: Requests,
    name: String,
    index: u32,
    addresses: Vec<Cidr>,
    /// What tells it from other devices, as [`Link::remember`] found it.
    looks: Option<Looks>,
}

/// The kernel's description of a device, without what others change: its index and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    tun: Occupant,
    group: Option<u32>,
}

impl Looks {
    fn of(body: &[u8]) -> Self {
        let tun = match tun::parse(body) {
            Occupant::Tun(state) => Occupant::Tun(tun::TunState { index: 0, ..state }),
            Occupant::Undescribed { .. } => Occupant::Undescribed { index: 0 },
            other => other,
        };
        Self { tun, group: message::link_group(body) }
    }
}

/// What [`Link::configure`] and [`Link::restore`] could not do and the caller may want to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Addresses that were not set because IPv6 is disabled on the device or absent from the kernel.
    pub ipv6_disabled: Vec<Cidr>,
}

impl Link {
    /// Finds the device called `name` in this thread's network namespace.
    ///
    /// # Errors
    /// Netlink is unavailable, or there is no such device.
    pub fn open(name: &str) -> Result<Self, LinkError> {
        let action = || format!("find the device {name}");
        let mut requests =
            Requests::open().map_err(|source| LinkError::Socket { action: action(), source })?;
        let body = requests
            .ask(message::get_link_by_name(name), 0)
            .map_err(|failure| LinkError::new(action(), failure, "give a name of 1 to 15 bytes"))?;
        let index = body.and_then(|body| message::link_header(&body)).map(|header| header.index);
        let index = index.ok_or_else(|| LinkError::Unanswered { action: action() })?;
        Ok(Self { requests, name: name.to_owned(), index, addresses: Vec::new(), looks: None })
    }

    /// The kernel's number of the device.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The device's name, as [`Link::state`] last read it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Silences the device, gives it an MTU (bytes) and addresses, and sets it up. Repeating it does no harm.
    ///
    /// # Errors
    /// The privilege or the device is missing, or the kernel refuses the MTU or an address for another
    /// reason than that IPv6 is disabled.
    pub fn configure(&mut self, addresses: &[Cidr], mtu: u32) -> Result<Configured, LinkError> {
        for &address in addresses {
            // the kernel takes 0.0.0.0 and does nothing, and takes 224.0.0.1 too
            if !is_unicast(address.address()) {
                return Err(LinkError::Unusable { device: self.name.clone(), address });
            }
        }
        self.addresses = addresses.to_vec();
        self.set_flags(LinkFlags::empty(), LinkFlags::Multicast, "clear the multicast flag of")?;
        self.leave_router_group()?;
        self.change_mtu(mtu)?;
        self.be_quiet()?;
        let configured = self.add_addresses(addresses)?;
        self.set_flags(LinkFlags::Up, LinkFlags::Up, "bring up")?;
        Ok(configured)
    }

    /// Puts the device into the group of wontun's tunnels, unless somebody else has given it one.
    ///
    /// # Errors
    /// As for [`Link::set_mtu`].
    pub fn join_tunnels(&mut self) -> Result<(), LinkError> {
        if message::link_group(&self.read()?).is_some_and(|group| group != 0) {
            return Ok(());
        }
        let outcome = self.requests.ask(message::set_group(self.index, TUNNELS), 0);
        self.done(outcome, || format!("put {} into the device group {TUNNELS}", self.name), "")
    }

    /// Puts back what the kernel forgets when the device goes down, or its MTU below IPv6's 1280 bytes: the
    /// addresses that [`Link::configure`] was given. Those still there stay as they are.
    ///
    /// # Errors
    /// As for [`Link::configure`].
    pub fn restore(&mut self) -> Result<Configured, LinkError> {
        self.be_quiet()?;
        self.add_addresses(&self.addresses.clone())
    }

    /// Returns true if [`Link::configure`] was given this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|cidr| cidr.address() == address)
    }

    /// Sets the device up.
    ///
    /// # Errors
    /// As for [`Link::set_mtu`].
    pub fn set_up(&mut self) -> Result<(), LinkError> {
        self.set_flags(LinkFlags::Up, LinkFlags::Up, "bring up")
    }

    /// Returns the kernel's description of the tun device: its owner, and how many queues processes
    /// hold.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub fn describe(&mut self) -> Result<Occupant, LinkError> {
        self.read().map(|body| tun::parse(&body))
    }

    /// Returns those addresses that the device should have and has not; IPv6's only if it
    /// `takes_ipv6`, which needs an MTU of 1280 bytes.
    ///
    /// # Errors
    /// The device is missing, or netlink fails.
    pub fn missing(&mut self, takes_ipv6: bool) -> Result<Vec<Cidr>, LinkError> {
        let action = || format!("read the addresses of {}", self.name);
        let present = interfaces::addresses(&mut self.requests, self.index)
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

    /// Puts back addresses that are [`Self::missing`]. Returns those that the device has now: it
    /// has none of IPv6 where that is disabled.
    ///
    /// # Errors
    /// As for [`Link::configure`].
    pub fn put_back(&mut self, mut missing: Vec<Cidr>) -> Result<Vec<Cidr>, LinkError> {
        self.be_quiet()?;
        let configured = self.add_addresses(&missing)?;
        missing.retain(|cidr| !configured.ipv6_disabled.contains(cidr));
        Ok(missing)
    }

    /// Has [`Link::restore`] give the device these addresses, while it cannot be reached.
    pub fn want(&mut self, addresses: &[Cidr]) {
        self.addresses = addresses.to_vec();
    }

    /// Gives the device other addresses than it was given before; those in both stay untouched.
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
            match self.requests.ask(message::del_address(self.index, address), 0) {
                // gone already, with IPv6 or by somebody's hand
                Err(Failure::Refused { errno: Errno::EADDRNOTAVAIL, .. }) => {}
                outcome => self.done(outcome, || format!("remove {address} from {}", self.name), "")?,
            }
        }
        Ok(configured)
    }

    /// Sets the largest packet that the device takes, in bytes.
    ///
    /// Below 1280 the kernel takes IPv6 off the device with all its addresses; [`Link::restore`] brings them
    /// back after it was raised again. If that happens while the device is up, the kernel generates a
    /// link-local address and solicits routers before anybody can forbid it; setting the device down for it
    /// would cost its IPv4 routes, so it is let be.
    ///
    /// # Errors
    /// The privilege or the device is missing, or the MTU is out of the device's range.
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), LinkError> {
        self.change_mtu(mtu)?;
        self.be_quiet()
    }

    /// Bounds what waits in the device until we read it: `packets`, a super-packet being one; with 0 it drops all.
    /// (`txqueuelen`; a tun device's own ring has that size, at once.)
    ///
    /// # Errors
    /// The privilege or the device is missing. A tun driver that has no memory for so many says "not permitted" too.
    pub fn set_queue_len(&mut self, packets: u32) -> Result<(), LinkError> {
        let outcome = self.requests.ask(message::set_queue_len(self.index, packets), 0);
        self.done(outcome, || format!("set the queue length of {} to {packets}", self.name), "")
    }

    /// Bounds the super-packets that the kernel builds for the device, to `bytes`, at most 65,536; TCP fills them to
    /// about 320 bytes less. Whether it is so afterwards: kernels before 4.16 cannot, and others have a least value. It
    /// makes the tunnel faster, not right, so that is no error.
    ///
    /// # Errors
    /// The privilege or the device is missing, or netlink fails.
    pub fn set_gso_max_size(&mut self, bytes: u32) -> Result<bool, LinkError> {
        match self.requests.ask(message::set_gso_max_size(self.index, bytes), 0) {
            Ok(_) => {}
            Err(Failure::Refused { errno: Errno::EINVAL | Errno::ERANGE | Errno::EOPNOTSUPP, .. }) => {
                return Ok(false);
            }
            outcome => self.done(outcome, || format!("set the GSO size of {} to {bytes}", self.name), "")?,
        }
        // an old kernel passes over what it does not know
        Ok(message::gso_max_size(&self.read()?) == Some(bytes))
    }

    /// Whether the device is up, and its MTU.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub fn state(&mut self) -> Result<LinkState, LinkError> {
        let body = self.read()?;
        self.take_state(&body)
    }

    /// Takes note of what tells the device from others, for [`Link::find_again`].
    ///
    /// # Errors
    /// As for [`Link::state`].
    pub fn remember(&mut self) -> Result<(), LinkError> {
        self.looks = Some(Looks::of(&self.read()?));
        Ok(())
    }

    /// As [`Link::state`], of a device that was in another network namespace, where its index was
    /// `elsewhere`. Here it has that index, or the one that it had before, unless other devices
    /// have them; then it is looked for by its name.
    ///
    /// # Errors
    /// As for [`Link::state`].
    pub fn find_again(&mut self, elsewhere: Option<u32>) -> Result<LinkState, LinkError> {
        let by_index = elsewhere.into_iter().chain([self.index]).map(message::get_link);
        let requests: Vec<_> = by_index.chain([message::get_link_by_name(&self.name)]).collect();
        for request in requests {
            let Ok(Some(body)) = self.requests.ask(request, 0) else { continue };
            if self.looks == Some(Looks::of(&body))
                && let Some(header) = message::link_header(&body)
            {
                self.index = header.index;
                return self.take_state(&body);
            }
        }
        let action = format!("find {} again", self.name);
        let gone = Failure::Refused { errno: Errno::ENODEV, said: None };
        Err(LinkError::new(action, gone, ""))
    }

    fn take_state(&mut self, body: &[u8]) -> Result<LinkState, LinkError> {
        if let Some(name) = message::link_name(body) {
            self.name = name;
        }
        message::link_state(body)
            .ok_or_else(|| LinkError::Unanswered { action: format!("read the state of {}", self.name) })
    }

    /// The index of the device that packets of this host to `destination` leave by; `None` if there is no
    /// route. A local address is on the loopback device; a link-local one may be on any device.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn route_interface(&mut self, destination: IpAddr) -> Result<Option<u32>, LinkError> {
        self.marked_route_interface(destination, None)
    }

    /// As [`Link::route_interface`], for packets that carry `mark`: policy routing may send them elsewhere.
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

    /// The largest packet, in bytes, that the way to `destination` is known to take: the MTU of the route itself
    /// if it has one, else of the device that it leaves by. `None` if there is no route. `mark` is what the
    /// packets will carry.
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
        match self.requests.ask(message::get_link(index), 0) {
            Ok(body) => Ok(body.and_then(|body| message::link_state(&body)).map(|state| state.mtu)),
            // gone since we asked for the route
            Err(Failure::Refused { errno: Errno::ENODEV, .. }) => Ok(None),
            Err(failure) => Err(LinkError::new(format!("read the MTU towards {destination}"), failure, "")),
        }
    }

    /// The kernel's `RTM_NEWROUTE` for one destination.
    fn route(&mut self, destination: IpAddr, mark: Option<NonZeroU32>) -> Result<Option<Vec<u8>>, LinkError> {
        // an IPv4 peer of an IPv6 socket goes by the IPv4 routes
        match self.requests.ask(message::get_route(destination.to_canonical(), mark), 0) {
            Ok(body) => Ok(body),
            Err(Failure::Refused {
                // no route, an IPv4 route of type unreachable, prohibit or blackhole, no such family
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

    /// On a host that forwards IPv6 (a server does), a new device has joined the all-routers group, and would
    /// report that whenever it comes up. The kernel forgets the group with everything else about IPv6 when the
    /// MTU is too small for it, and without the multicast flag it does not join again.
    fn leave_router_group(&mut self) -> Result<(), LinkError> {
        let body = self.read()?;
        // one that is up has reported already, and belongs to somebody's routes
        if message::forwards(&body, true) == Some(true)
            && message::link_state(&body).is_some_and(|state| !state.up)
        {
            self.change_mtu(IPV6_MIN_MTU - 1)?;
        }
        Ok(())
    }

    /// Anew after IPv6 went from the device and came back: both settings are lost then.
    fn be_quiet(&mut self) -> Result<(), LinkError> {
        // A solicitation needs a link-local address, which may be one that we were given, and that only this
        // setting stops. It also keeps the far end from becoming this host's default router by an
        // advertisement. Best effort: /proc/sys is read-only in most containers, and missing without IPv6.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/accept_ra", self.name), "0");
        match self.requests.ask(message::set_no_generated_address(self.index), 0) {
            // no IPv6 in the kernel, or none on a device with this MTU: nothing will be generated
            Err(Failure::Refused { errno: Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, .. }) => Ok(()),
            outcome => self.done(outcome, || format!("turn off generated addresses on {}", self.name), ""),
        }
    }

    /// The kernel's `RTM_NEWLINK` about the device.
    fn read(&mut self) -> Result<Vec<u8>, LinkError> {
        let action = || format!("read the state of {}", self.name);
        let outcome = self.requests.ask(message::get_link(self.index), 0);
        let body = outcome.map_err(|failure| LinkError::new(action(), failure, ""))?;
        body.ok_or_else(|| LinkError::Unanswered { action: action() })
    }

    fn change_mtu(&mut self, mtu: u32) -> Result<(), LinkError> {
        let outcome = self.requests.ask(message::set_mtu(self.index, mtu), 0);
        self.done(outcome, || format!("set the MTU of {} to {mtu}", self.name), MTU_REMEDY)
    }

    fn set_flags(&mut self, flags: LinkFlags, mask: LinkFlags, what: &str) -> Result<(), LinkError> {
        let outcome = self.requests.ask(message::set_flags(self.index, flags, mask), 0);
        self.done(outcome, || format!("{what} {}", self.name), "")
    }

    fn add_addresses(&mut self, addresses: &[Cidr]) -> Result<Configured, LinkError> {
        let mut configured = Configured::default();
        for &address in addresses {
            let outcome =
                self.requests.ask(message::new_address(self.index, address), NLM_F_CREATE | NLM_F_REPLACE);
            if let Err(Failure::Refused { errno, .. }) = &outcome
                && address.address().is_ipv6()
                && matches!(errno, Errno::EACCES | Errno::ENODEV | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
            {
                // ENODEV may mean just that
                self.state()?;
                configured.ipv6_disabled.push(address);
                continue;
            }
            let remedy = match &outcome {
                Err(Failure::Refused { errno, .. }) => address_remedy(*errno, address.address()),
                _ => "",
            };
            self.done(outcome, || format!("add {address} to {}", self.name), remedy)?;
        }
        Ok(configured)
    }

    fn done(
        &self,
        outcome: Result<Option<Vec<u8>>, Failure>,
        action: impl FnOnce() -> String,
        remedy: &'static str,
    ) -> Result<(), LinkError> {
        outcome.map(drop).map_err(|failure| LinkError::new(action(), failure, remedy))
    }
}

const fn address_remedy(errno: Errno, address: IpAddr) -> &'static str {
    match errno {
        Errno::EEXIST => "take the address away from the device that has it, or choose another",
        // RFC 8200: a link that carries less is no link for IPv6, and the kernel takes IPv6 off it
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

    /// Nothing here needs a privilege: the checks come first, and the kernel's refusal is what is tested.
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
        // the namespace's loopback may be down: only that it is answered
        let _ = link.route_interface("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(
            link.route_interface("2001:db8:ffff::1".parse().unwrap()).unwrap().filter(|&i| i == 1),
            None
        );
    }
}
