//! IP networks: an address and a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A network address and prefix length; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "(IpAddr, u8)", try_from = "(IpAddr, u8)")]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

impl Prefix {
    /// Returns the network of `length` bits that contains `address`; `None` if the address has
    /// fewer bits.
    pub const fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length <= bits { Some(Self::of(address, length)) } else { None }
    }

    /// Like [`Self::new`], for a `length` that is known to fit.
    pub const fn of(address: IpAddr, length: u8) -> Self {
        let network = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !u32::MAX.unbounded_shr(length as u32)))
            }
            IpAddr::V6(v6) => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::MAX.unbounded_shr(length as u32)))
            }
        };
        Self { network, length }
    }

    /// Returns the first address of the network.
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// Returns the prefix length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Returns true if the network contains `address`. An IPv4-mapped IPv6 address counts as an
    /// IPv6 address.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.length) == Some(self)
    }

    /// Returns true if one of the two networks contains the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) && self.length <= other.length
            || other.contains(self.network) && other.length <= self.length
    }
}

impl From<Prefix> for (IpAddr, u8) {
    fn from(prefix: Prefix) -> Self {
        (prefix.network, prefix.length)
    }
}

impl TryFrom<(IpAddr, u8)> for Prefix {
    type Error = &'static str;

    fn try_from((network, length): (IpAddr, u8)) -> Result<Self, Self::Error> {
        let prefix = Self::new(network, length).filter(|prefix| prefix.network == network);
        prefix.ok_or("a prefix is longer than the address, or has host bits")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Option<String> {
        Prefix::new(address.parse().unwrap(), length).map(|prefix| prefix.to_string())
    }

    #[test]
    fn the_hosts_bits_are_cleared() {
        assert_eq!(prefix("10.1.2.3", 8).unwrap(), "10.0.0.0/8");
        assert_eq!(prefix("10.1.2.3", 0).unwrap(), "0.0.0.0/0");
        assert_eq!(prefix("10.1.2.3", 32).unwrap(), "10.1.2.3/32");
        assert_eq!(prefix("fd00::ffff", 127).unwrap(), "fd00::fffe/127");
        assert_eq!(prefix("fd00::ffff", 0).unwrap(), "::/0");
        assert_eq!(prefix("10.1.2.3", 33), None);
        assert_eq!(prefix("fd00::1", 129), None);
    }

    #[test]
    fn networks_overlap_whichever_is_the_larger() {
        let of = |address: &str, length| Prefix::of(address.parse().unwrap(), length);
        let (ten, vpn) = (of("10.0.0.0", 8), of("10.8.0.0", 24));
        let (lan, v6, all) = (of("192.0.2.0", 24), of("fd08::", 64), of("0.0.0.0", 0));
        assert!(ten.overlaps(vpn) && vpn.overlaps(ten) && vpn.overlaps(vpn) && all.overlaps(lan));
        assert!(!vpn.overlaps(lan) && !lan.overlaps(v6) && !v6.overlaps(vpn) && !all.overlaps(v6));
        assert!(!of("10.8.0.0", 16).overlaps(of("10.9.0.0", 16)));
    }

    #[test]
    fn families_do_not_mix() {
        let all_v4 = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        assert!(all_v4.contains("192.0.2.1".parse().unwrap()));
        assert!(!all_v4.contains("::ffff:192.0.2.1".parse().unwrap()));
    }
}
