//! Detection of what keeps a server's clients from the IPv6 Internet.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::device::Link;
use super::forwarding::Forwarding;
use super::legacy_iptables;
use super::nft::Nft;
use super::path::Path;
use crate::config::Cidr;

/// Addresses of the IPv6 Internet that are looked up: the lowest, which a default route and
/// 2000::/3 contain, and, for a router without either, those of two root servers and of a public
/// name server.
const PROBES: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30),
    Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe),
];

/// Reason why a server's clients do not reach the IPv6 Internet through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv6Obstacle {
    /// No route to the IPv6 Internet, or none with an address of this host.
    NoRoute,
    /// IPv6 packets are not forwarded from the tunnel.
    NotForwarded,
    /// The clients' addresses are private, and nothing translates them: no answer gets back.
    NotTranslated,
}

impl fmt::Display for Ipv6Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("this host has no route to the IPv6 Internet"),
            Self::NotForwarded => {
                write!(f, "this host does not forward IPv6 ({} = 0)", Forwarding::key(true))
            }
            Self::NotTranslated => f.write_str(
                "the clients' IPv6 addresses are private, and this host does not translate them (--nat off), so no answer \
                 gets back",
            ),
        }
    }
}

/// Returns what keeps clients of the tunnel called `tun`, which has these addresses, from the IPv6
/// Internet now, or, if the tunnel does not run, once `wontun serve` runs it. What cannot be found
/// out is no obstacle.
pub(crate) fn find_ipv6_obstacle(tun: &str, addresses: &[Cidr]) -> Option<Ipv6Obstacle> {
    // a route into the tunnel itself leads nowhere
    let own = Link::open(tun).ok();
    let is_running = own.is_some();
    if let Some(mut link) = own.or_else(|| Link::open("lo").ok()) {
        let paths: Vec<_> = PROBES.iter().map(|probe| link.path(IpAddr::V6(*probe), None, None)).collect();
        if paths.iter().all(|path| matches!(path, Ok(path) if !path.as_ref().is_some_and(has_source))) {
            return Some(Ipv6Obstacle::NoRoute);
        }
    }
    let forwarding = Forwarding::new();
    let forwards = forwarding.is_on(tun, true)?;
    let will_forward = !is_running && forwarding.is_writable(true);
    if !forwards && !will_forward {
        return Some(Ipv6Obstacle::NotForwarded);
    }
    let is_private = |cidr: &Cidr| match cidr.address() {
        IpAddr::V6(address) => address.is_unique_local(),
        IpAddr::V4(_) => true,
    };
    let is_lost = is_running && addresses.iter().all(is_private) && !may_translate();
    is_lost.then_some(Ipv6Obstacle::NotTranslated)
}

/// Returns false if nothing on this host gives IPv6 packets another source address.
fn may_translate() -> bool {
    let found = Nft::open().ok().and_then(|mut nft| nft.translates_source(true).ok());
    found != Some(false) || legacy_iptables::has_nat(true)
}

/// Returns true if this host has an address for packets on the path: NAT gives it to those of
/// clients. Of a path without one the kernel chooses none before it is used.
fn has_source(path: &Path) -> bool {
    match path.source {
        Some(IpAddr::V6(source)) => !source.is_unicast_link_local() && !source.is_loopback(),
        Some(IpAddr::V4(_)) => false,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_link_alone_is_none() {
        let path = |source: Option<&str>| Path {
            interface: 2,
            gateway: None,
            source: source.map(|source| source.parse().unwrap()),
        };
        assert!(has_source(&path(Some("2001:db8::1"))) && has_source(&path(Some("fd00::1"))));
        assert!(has_source(&path(None)));
        assert!(!has_source(&path(Some("fe80::1"))) && !has_source(&path(Some("::1"))));
    }
}
