//! Subnets of a VPN and the allocation of their addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::config::{Cidr, CidrError};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::Random;

/// Longest prefix in bits of a subnet with room for the server and one client.
const MAX_PREFIX_V4: u8 = 30;
const MAX_PREFIX_V6: u8 = 126;
/// Shortest prefix in bits that is not considered a typing error.
const MIN_PREFIX: u8 = 8;

/// A network that clients get their addresses from. The first host address is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(Prefix);

/// Error of parsing a [`Subnet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not an address with a prefix length.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// An address with host bits instead of a network.
    #[error("{given} has host bits: write {network}")]
    HostBits {
        /// The address as given.
        given: Cidr,
        /// The network that contains it.
        network: Prefix,
    },
    /// A network that has no room for clients, or is suspiciously large.
    #[error("{0} has no room for clients: expected a prefix length from 8 to 30, or for IPv6 to 126")]
    Length(Prefix),
    /// A loopback, multicast, link-local or otherwise reserved network.
    #[error("{0} cannot be used for a VPN: choose a private network, such as 10.77.0.0/24 or fd00:77::/64")]
    Unusable(Prefix),
}

impl Subnet {
    /// Returns 10.8.0.0/24.
    pub const fn default_v4() -> Self {
        Self(Prefix::of(IpAddr::V4(Ipv4Addr::new(10, 8, 0, 0)), 24))
    }

    /// Returns a random unique local /64: fd00::/8, 40 random bits, subnet 0 (RFC 4193, section 3).
    pub fn random_v6(random: &mut dyn Random) -> Self {
        let mut global_id = [0; 5];
        random.fill(&mut global_id);
        let [a, b, c, d, e] = global_id;
        let address = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Self(Prefix::of(IpAddr::V6(address), 64))
    }

    /// Returns the network.
    pub const fn prefix(self) -> Prefix {
        self.0
    }

    /// Returns the server's address: the first host address.
    pub fn server(self) -> Option<Cidr> {
        Cidr::new(FreeAddresses::new(self.0, std::iter::empty()).next()?, self.0.length())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let given: Cidr = text.parse()?;
        let network = Prefix::of(given.address(), given.prefix());
        let max = if given.address().is_ipv4() { MAX_PREFIX_V4 } else { MAX_PREFIX_V6 };
        if !(MIN_PREFIX..=max).contains(&given.prefix()) {
            return Err(SubnetError::Length(network));
        }
        if network.network() != given.address() {
            return Err(SubnetError::HostBits { given, network });
        }
        let unusable = match network.network() {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_multicast() || v4.is_link_local() || v4.octets()[0] == 0
            }
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local() || v6.segments()[0] == 0,
        };
        if unusable { Err(SubnetError::Unusable(network)) } else { Ok(Self(network)) }
    }
}

/// Returns true if two networks have an address in common.
pub(super) fn overlap(a: Prefix, b: Prefix) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The host addresses of a network that are free, in ascending order. Each is returned once.
#[derive(Debug)]
pub(super) struct FreeAddresses {
    network: Prefix,
    /// The next address to try, unless all were.
    candidate: Option<u128>,
    last: u128,
    /// First and last addresses that are in use, in descending order.
    taken: Vec<(u128, u128)>,
}

impl FreeAddresses {
    /// Returns the addresses of `network` that no prefix in `used` covers. Prefixes in `used` that
    /// are as large as `network` or larger are ignored: the more specific route has precedence.
    pub(super) fn new(network: Prefix, used: impl Iterator<Item = Prefix>) -> Self {
        let (first, last) = hosts(network);
        let inside =
            |prefix: &Prefix| network.contains(prefix.network()) && prefix.length() > network.length();
        let mut taken: Vec<_> = used.filter(inside).map(range).collect();
        taken.sort_unstable_by(|a, b| b.cmp(a));
        Self { network, candidate: Some(first), last, taken }
    }
}

impl Iterator for FreeAddresses {
    type Item = IpAddr;

    fn next(&mut self) -> Option<IpAddr> {
        let mut candidate = self.candidate?;
        while let Some((_, end)) = self.taken.pop_if(|(begin, _)| *begin <= candidate) {
            let after = end.checked_add(1);
            self.candidate = after;
            candidate = candidate.max(after?);
        }
        self.candidate = candidate.checked_add(1);
        (candidate <= self.last).then(|| address(self.network, candidate)).flatten()
    }
}

/// Returns the first and the last address of a network that hosts may have, as numbers.
///
/// The first address is the network itself, in IPv6 the subnet-router anycast address (RFC 4291,
/// section 2.6.1); the last of IPv4 is the broadcast address. Networks of two addresses have
/// neither (RFC 3021, RFC 6164).
fn hosts(network: Prefix) -> (u128, u128) {
    let (first, last) = range(network);
    match (last - first, network.network()) {
        (0 | 1, _) => (first, last),
        (_, IpAddr::V4(_)) => (first + 1, last - 1),
        (_, IpAddr::V6(_)) => (first + 1, last),
    }
}

/// Returns true if no host may have this address of the network.
pub(super) fn is_reserved(network: Prefix, address: IpAddr) -> bool {
    let (first, last) = hosts(network);
    let (number, _) = range(host(address));
    !(first..=last).contains(&number)
}

/// A key by which networks are sorted: the networks that are part of another one follow it.
pub(super) type Order = (bool, u128, u8);

/// Returns the key of a network.
pub(super) fn order(prefix: Prefix) -> Order {
    (prefix.network().is_ipv6(), range(prefix).0, prefix.length())
}

/// Returns the keys of the first and the last network that are part of `prefix`.
pub(super) fn first_and_last(prefix: Prefix) -> std::ops::RangeInclusive<Order> {
    order(prefix)..=(prefix.network().is_ipv6(), range(prefix).1, u8::MAX)
}

/// Returns a network's first and last address as numbers.
fn range(prefix: Prefix) -> (u128, u128) {
    let (number, bits) = match prefix.network() {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits = u32::from(bits - prefix.length());
    (number, number | !u128::MAX.unbounded_shl(host_bits))
}

/// Returns the address with this number, in the family of `network`.
fn address(network: Prefix, number: u128) -> Option<IpAddr> {
    match network.network() {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(_) => Some(Ipv6Addr::from_bits(number).into()),
    }
}

/// Returns the prefix of a single host: /32 or /128.
pub(super) const fn host(address: IpAddr) -> Prefix {
    Prefix::of(address, if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn prefix(text: &str) -> Prefix {
        let cidr: Cidr = text.parse().unwrap();
        Prefix::new(cidr.address(), cidr.prefix()).unwrap()
    }

    fn next_free(network: Prefix, used: &[Prefix]) -> Option<IpAddr> {
        FreeAddresses::new(network, used.iter().copied()).next()
    }

    fn next(network: &str, used: &[&str]) -> Option<String> {
        let used: Vec<_> = used.iter().map(|text| prefix(text)).collect();
        next_free(prefix(network), &used).map(|address| address.to_string())
    }

    #[test]
    fn the_lowest_free_address() {
        assert_eq!(next("10.8.0.0/24", &[]).unwrap(), "10.8.0.1");
        assert_eq!(next("10.8.0.0/24", &["10.8.0.1", "10.8.0.3"]).unwrap(), "10.8.0.2");
        assert_eq!(next("10.8.0.0/24", &["10.8.0.2", "10.8.0.1"]).unwrap(), "10.8.0.3");
        // the whole network of a site is in use
        assert_eq!(next("10.8.0.0/24", &["10.8.0.1", "10.8.0.0/28"]).unwrap(), "10.8.0.16");
        // other networks and larger networks are ignored
        assert_eq!(
            next("10.8.0.0/24", &["10.9.0.1", "0.0.0.0/0", "10.8.0.0/24", "fd00::1"]).unwrap(),
            "10.8.0.1"
        );
        assert_eq!(next("fd00::/64", &["fd00::1"]).unwrap(), "fd00::2");
        assert_eq!(next("fd00::/64", &["fd00::/65"]).unwrap(), "fd00::8000:0:0:0");
    }

    #[test]
    fn a_full_network_has_none() {
        assert_eq!(next("10.8.0.0/30", &["10.8.0.1"]).unwrap(), "10.8.0.2");
        assert_eq!(next("10.8.0.0/30", &["10.8.0.1", "10.8.0.2"]), None);
        assert_eq!(next("10.8.0.0/24", &["10.8.0.0/25", "10.8.0.128/25"]), None);
        assert_eq!(next("10.8.0.0/31", &["10.8.0.0"]).unwrap(), "10.8.0.1");
        assert_eq!(next("10.8.0.1/32", &[]).unwrap(), "10.8.0.1");
        assert_eq!(next("255.255.255.252/30", &["255.255.255.253", "255.255.255.254"]), None);
        let end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126";
        assert_eq!(
            next(end, &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"]).unwrap().chars().last(),
            Some('d')
        );
        assert_eq!(next("::/0", &["::/1", "8000::/1"]), None);
    }

    #[test]
    fn subnets_that_cannot_be_are_told() {
        for (text, part) in [
            ("10.8.0.0", "no room"),
            ("10.8.0.0/31", "no room"),
            ("10.0.0.0/7", "no room"),
            ("0.0.0.0/0", "no room"),
            ("fd00::/127", "no room"),
            ("10.8.0.1/24", "write 10.8.0.0/24"),
            ("fd00::1/64", "write fd00::/64"),
            ("127.0.0.0/8", "10.77.0.0/24"),
            ("224.0.0.0/8", "cannot be"),
            ("169.254.0.0/16", "cannot be"),
            ("fe80::/64", "cannot be"),
            ("ff00::/8", "cannot be"),
            ("::/64", "cannot be"),
            ("ten", "not an IP address"),
        ] {
            let error = text.parse::<Subnet>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!("10.8.0.0/24".parse(), Ok(Subnet::default_v4()));
        assert_eq!(Subnet::default_v4().server().unwrap().to_string(), "10.8.0.1/24");
    }

    #[test]
    fn a_random_subnet_is_a_unique_local_one() {
        struct Counting(u8);
        impl Random for Counting {
            fn fill(&mut self, out: &mut [u8]) {
                for byte in out {
                    self.0 += 1;
                    *byte = self.0;
                }
            }
        }
        let subnet = Subnet::random_v6(&mut Counting(0));
        assert_eq!(subnet.to_string(), "fd01:203:405::/64");
        assert_eq!(subnet.to_string().parse(), Ok(subnet));
        assert_eq!(subnet.server().unwrap().to_string(), "fd01:203:405::1/64");
    }

    #[test]
    fn overlap_goes_both_ways_and_not_across_families() {
        for (a, b, expected) in [
            ("10.8.0.0/24", "10.0.0.0/8", true),
            ("10.8.0.0/24", "10.8.0.128/25", true),
            ("10.8.0.0/24", "10.8.1.0/24", false),
            ("0.0.0.0/0", "::/0", false),
            ("fd00::/8", "fd12::/64", true),
        ] {
            assert_eq!(overlap(prefix(a), prefix(b)), expected, "{a} {b}");
            assert_eq!(overlap(prefix(b), prefix(a)), expected, "{b} {a}");
        }
    }

    proptest! {
        /// Compares with a search that tries every address in turn.
        #[test]
        fn as_if_all_were_tried(
            base in 0_u32..=3,
            length in 26_u8..=32,
            used in proptest::collection::vec((0_u32..256, 24_u8..=32), 0..40),
        ) {
            let network = Prefix::new(Ipv4Addr::from_bits(0x0a08_0000 | base << 6).into(), length).unwrap();
            let used: Vec<_> = used.into_iter()
                .map(|(host, length)| Prefix::new(Ipv4Addr::from_bits(0x0a08_0000 | host).into(), length).unwrap())
                .collect();
            let (first, last) = range(network);
            let mut hosts: Vec<_> = (first..=last).filter_map(|number| address(network, number)).collect();
            if hosts.len() > 2 {
                hosts.pop();
                hosts.remove(0);
            }
            let is_free = |host: &IpAddr| !used.iter()
                .any(|prefix| prefix.length() > network.length() && prefix.contains(*host));
            let free: Vec<_> = FreeAddresses::new(network, used.iter().copied()).collect();
            prop_assert_eq!(free, hosts.into_iter().filter(is_free).collect::<Vec<_>>());
        }

        #[test]
        fn no_address_is_given_twice(v6: bool, count in 1_usize..70) {
            let network = if v6 { prefix("fd00::/122") } else { prefix("10.8.0.0/26") };
            let room = if v6 { 63 } else { 62 };
            let mut used = Vec::new();
            for _ in 0..count {
                used.extend(next_free(network, &used).map(host));
            }
            let distinct: HashSet<_> = used.iter().collect();
            prop_assert_eq!(distinct.len(), count.min(room));
        }
    }
}
