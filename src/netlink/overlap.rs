//! Detection of networks of this host's other devices that overlap the allowed IPs.

use std::fmt;

use super::interfaces::{Interface, interfaces};
use super::routes::join_prefixes;
use super::socket::NetlinkSocket;
use crate::config::Cidr;
use wontun_proto::allowed_ips::Prefix;

/// A network of another device that overlaps allowed IPs of the tunnel. Displays as one line with a
/// remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    device: String,
    other: String,
    network: Prefix,
    allowed_ips: Vec<Prefix>,
}

impl Overlap {
    /// Returns true if both are the same network of the same device, regardless of the allowed IPs.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.other, self.network) == (&other.other, other.network)
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, other, network, allowed_ips } = self;
        write!(
            f,
            "the network {network} of {other} overlaps {} of {device}'s allowed IPs: an address in both is \
             routed only to the device with the longer prefix: renumber one of the networks, or narrow AllowedIPs",
            join_prefixes(allowed_ips)
        )
    }
}

/// Returns the networks of other devices that overlap `allowed_ips` now. Default routes, whole or
/// in halves, are excluded, since they are meant to overlap; so are the networks of the tunnel's
/// own `addresses`, which the guard handles. Returns an empty list if the devices cannot be read.
pub(crate) fn find_overlaps(
    device: &str,
    addresses: &[Cidr],
    allowed_ips: impl Iterator<Item = Prefix>,
) -> Vec<Overlap> {
    let interfaces = NetlinkSocket::open().ok().and_then(|mut netlink| interfaces(&mut netlink).ok());
    let own = addresses.iter().filter_map(|cidr| Prefix::new(cidr.address(), cidr.prefix())).collect();
    overlaps_among(&interfaces.unwrap_or_default(), device, own, allowed_ips)
}

fn overlaps_among(
    interfaces: &[Interface],
    device: &str,
    own: Vec<Prefix>,
    allowed_ips: impl Iterator<Item = Prefix>,
) -> Vec<Overlap> {
    let others = interfaces.iter().filter(|interface| interface.name != device);
    let others = others.filter(|interface| !interface.is_loopback && !interface.is_tunnel);
    let mut found: Vec<Overlap> = Vec::new();
    for other in others {
        for address in other.addresses.iter().filter(|address| !is_single_host_or_link_local(address.network))
        {
            let overlap = Overlap {
                device: device.to_owned(),
                other: other.name.clone(),
                network: address.network,
                allowed_ips: Vec::new(),
            };
            if !found.iter().any(|known| known.is_same(&overlap)) {
                found.push(overlap);
            }
        }
    }
    let is_own = |prefix: Prefix| {
        own.iter().any(|own| own.length() <= prefix.length() && own.contains(prefix.network()))
    };
    for prefix in allowed_ips.filter(|prefix| prefix.length() > 1 && !is_own(*prefix)) {
        for overlap in found.iter_mut().filter(|overlap| prefix.overlaps(overlap.network)) {
            overlap.allowed_ips.push(prefix);
        }
    }
    found.retain(|overlap| !overlap.allowed_ips.is_empty());
    found
}

/// Returns true if the network has a single address or is link-local.
fn is_single_host_or_link_local(network: Prefix) -> bool {
    match network.network() {
        std::net::IpAddr::V4(_) => network.length() == 32,
        std::net::IpAddr::V6(address) => network.length() == 128 || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::InterfaceAddress;
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| InterfaceAddress {
            address: text.split_once('/').unwrap().0.parse().unwrap(),
            network: prefix(text),
        });
        Interface {
            index: 7,
            name: name.to_owned(),
            is_loopback: name == "lo",
            is_tunnel: name == "wg7",
            addresses: addresses.collect(),
        }
    }

    /// Returns the device and network of each overlap, and the allowed IPs.
    fn found(allowed_ips: &[&str]) -> Vec<(String, String)> {
        let interfaces = [
            interface("lo", &["127.0.0.1/8"]),
            interface("eth0", &["192.168.1.7/24", "192.168.1.8/24", "fd01::7/64", "fe80::7/64"]),
            interface("ppp0", &["203.0.113.9/32"]),
            interface("wg0", &["10.8.0.2/24"]),
            interface("wg7", &["10.7.0.2/24"]),
            interface("docker0", &["10.8.0.1/24"]),
        ];
        let allowed_ips = allowed_ips.iter().map(|text| prefix(text));
        let overlaps = overlaps_among(&interfaces, "wg0", vec![prefix("10.8.0.0/24")], allowed_ips);
        let shown = overlaps.iter().map(|overlap| {
            assert_eq!(overlap.device, "wg0");
            (format!("{} {}", overlap.other, overlap.network), join_prefixes(&overlap.allowed_ips))
        });
        shown.collect()
    }

    #[test]
    fn networks_of_others_that_overlap_allowed_ips() {
        let lan = "eth0 192.168.1.0/24";
        for (allowed_ips, expected) in [
            (&["192.168.1.0/24"][..], vec![(lan, "192.168.1.0/24")]),
            (&["192.168.0.0/16", "192.168.1.5/32"], vec![(lan, "192.168.0.0/16 and 192.168.1.5/32")]),
            (&["192.168.2.0/24", "10.9.0.0/24", "fd02::/64"], vec![]),
            (&["fd00::/8"], vec![("eth0 fd01::/64", "fd00::/8")]),
            // default routes, whole and in halves; the tunnel's own network; another tunnel; one
            // address
            (&["0.0.0.0/0", "128.0.0.0/1", "::/0", "8000::/1"], vec![]),
            (&["10.8.0.0/24", "10.8.0.3/32", "10.7.0.0/24", "203.0.113.0/24", "127.0.0.0/8"], vec![]),
            // wider than the tunnel's own network
            (&["10.8.0.0/16"], vec![("docker0 10.8.0.0/24", "10.8.0.0/16")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            assert_eq!(found(allowed_ips), expected, "{allowed_ips:?}");
        }
    }

    #[test]
    fn a_warning_is_one_line() {
        let overlap = Overlap {
            device: "wg0".to_owned(),
            other: "eth0".to_owned(),
            network: prefix("192.168.1.0/24"),
            allowed_ips: vec![prefix("192.168.0.0/16")],
        };
        let line = overlap.to_string();
        assert!(
            line.starts_with(
                "the network 192.168.1.0/24 of eth0 overlaps 192.168.0.0/16 of wg0's allowed IPs"
            ),
            "{line}"
        );
        assert!(!line.contains('\n') && !line.contains("  "), "{line}");
    }
}
