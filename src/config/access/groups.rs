//! The networks of the groups `lan` and `internet`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wontun_proto::allowed_ips::Prefix;

/// Private networks (RFC 1918), shared addresses of providers (RFC 6598) and link-local ones (RFC
/// 3927).
const LAN_V4: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
];
/// Unique local (RFC 4193), link-local, and formerly site-local addresses, and those of a NAT64 of
/// the local network (RFC 8215).
const LAN_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];
/// "This" network, loopback, protocol assignments, benchmarks, multicast, and reserved addresses:
/// the registry of RFC 6890.
const SPECIAL_V4: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The unspecified address, loopback, embedded IPv4 addresses, discard, 6to4, and multicast.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// The networks of the groups, of IPv4 and IPv6.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub(super) lan: [Vec<Prefix>; 2],
    pub(super) not_internet: [Vec<Prefix>; 2],
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { lan: [false, true].map(lan), not_internet: [false, true].map(not_internet) }
    }

    /// Returns true if the address is in any of these networks.
    pub(super) fn contain(networks: &[Vec<Prefix>; 2], address: IpAddr) -> bool {
        let [v4, v6] = networks;
        let networks = if address.is_ipv6() { v6 } else { v4 };
        networks.iter().any(|network| network.contains(address))
    }
}

/// Returns the networks of the group `lan` of one family.
pub(crate) fn lan(v6: bool) -> Vec<Prefix> {
    if !v6 {
        return LAN_V4.iter().map(|(network, length)| Prefix::of((*network).into(), *length)).collect();
    }
    let own = LAN_V6.iter().map(|(network, length)| Prefix::of((*network).into(), *length));
    own.chain(LAN_V4.iter().map(|network| by_nat64(*network))).collect()
}

/// Returns the networks of one family that are not in the group `internet`.
pub(crate) fn not_internet(v6: bool) -> Vec<Prefix> {
    let mut networks = lan(v6);
    if v6 {
        networks.extend(SPECIAL_V6.iter().map(|(network, length)| Prefix::of((*network).into(), *length)));
        networks.extend(SPECIAL_V4.iter().map(|network| by_nat64(*network)));
    } else {
        networks.extend(SPECIAL_V4.iter().map(|(network, length)| Prefix::of((*network).into(), *length)));
    }
    networks
}

/// Returns the IPv6 addresses by which a NAT64 reaches an IPv4 network (RFC 6052).
fn by_nat64((network, length): (Ipv4Addr, u8)) -> Prefix {
    let [a, b, c, d] = network.octets();
    let embedded =
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Prefix::of(IpAddr::V6(embedded), 96 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_what_their_names_say() {
        let is_in = |networks: fn(bool) -> Vec<Prefix>, text: &str| {
            let address: IpAddr = text.parse().unwrap();
            networks(address.is_ipv6()).iter().any(|network| network.contains(address))
        };
        for private in [
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "fd00::1",
            "fe80::1",
            "64:ff9b::a00:1",
        ] {
            assert!(is_in(lan, private) && is_in(not_internet, private), "{private}");
        }
        for special in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::ffff:10.0.0.1",
            "ff02::1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_in(lan, special) && is_in(not_internet, special), "{special}");
        }
        for global in ["9.9.9.9", "172.32.0.1", "192.0.1.1", "2620:fe::fe", "64:ff9b::909:909", "64:ff9c::1"]
        {
            assert!(!is_in(not_internet, global), "{global}");
        }
    }
}
