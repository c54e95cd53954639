//! Prefixes of NAT64: their discovery (RFC 7050) and the addresses made with them (RFC 6052).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name that a name server with DNS64 gives IPv6 addresses of (RFC 7050, section 2.2).
pub(super) const IPV4ONLY: &str = "ipv4only.arpa";
/// Its IPv4 addresses.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// Lengths of prefixes, in bits (RFC 6052, section 2.2), the usual one first.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
/// The byte of bits 64 to 71, which is zero and not part of the IPv4 address.
const RESERVED: usize = 8;
/// Maximum number of prefixes of one network.
const MAX_PREFIXES: usize = 2;

/// A prefix for IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    network: Ipv6Addr,
    /// In bits, one of [`LENGTHS`].
    length: u8,
}

impl Prefix {
    /// Returns the prefixes that the addresses of [`IPV4ONLY`] were made with, each once.
    pub(super) fn find(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Self> {
        let mut prefixes = Vec::new();
        for address in addresses {
            let IpAddr::V6(address) = address else { continue };
            let found = LENGTHS.into_iter().map(|length| Self { network: address, length });
            let found = found.map(Self::truncated).find(|prefix| {
                WELL_KNOWN.iter().any(|known| prefix.translate(*known) == address) && prefix.is_usable()
            });
            if let Some(prefix) = found.filter(|prefix| !prefixes.contains(prefix)) {
                prefixes.push(prefix);
            }
        }
        prefixes.truncate(MAX_PREFIXES);
        prefixes
    }

    /// Returns the IPv6 address by which the translator reaches `address`.
    pub(super) fn translate(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut bytes = self.network.octets();
        let places = (usize::from(self.length / 8)..).filter(|place| *place != RESERVED || self.length == 96);
        for (place, byte) in places.zip(address.octets()) {
            if let Some(slot) = bytes.get_mut(place) {
                *slot = byte;
            }
        }
        bytes.into()
    }

    /// Clears all bits after the prefix.
    fn truncated(self) -> Self {
        let bits = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or_default();
        Self { network: (self.network.to_bits() & bits).into(), ..self }
    }

    /// Returns true if datagrams to the prefix may leave this host and its link.
    const fn is_usable(&self) -> bool {
        let network = self.network;
        !(network.is_multicast()
            || network.is_unicast_link_local()
            || network.is_loopback()
            || network.is_unspecified()
            || network.to_ipv4_mapped().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// The table of RFC 6052, section 2.4.
    #[test]
    fn addresses_are_made_as_the_standard_says() {
        let address = Ipv4Addr::new(192, 0, 2, 33);
        for (network, length, expected) in [
            ("2001:db8::", 32, "2001:db8:c000:221::"),
            ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
            ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
        ] {
            assert_eq!(
                Prefix { network: v6(network), length }.translate(address),
                v6(expected),
                "{expected}"
            );
        }
    }

    #[test]
    fn a_prefix_of_each_length_is_found() {
        for (network, length) in [
            ("2001:db8::", 32),
            ("2001:db8:100::", 40),
            ("2001:db8:122::", 48),
            ("2001:db8:122:300::", 56),
            ("2001:db8:122:344::", 64),
            ("2001:db8:122:344::", 96),
            ("64:ff9b::", 96),
        ] {
            let prefix = Prefix { network: v6(network), length };
            let addresses = WELL_KNOWN.map(|known| IpAddr::from(prefix.translate(known)));
            let all = WELL_KNOWN.map(IpAddr::from).into_iter().chain(addresses);
            assert_eq!(Prefix::find(all), [prefix]);
        }
    }

    #[test]
    fn a_lie_is_no_prefix() {
        for address in ["2001:db8::1", "::", "::ffff:192.0.0.170", "ff02::192.0.0.170", "fe80::192.0.0.170"] {
            assert_eq!(Prefix::find([address.parse().unwrap()]), [], "{address}");
        }
        let many =
            (0..9).map(|n| Prefix { network: Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), length: 96 });
        let many = many.map(|prefix| prefix.translate(WELL_KNOWN[0]).into());
        assert_eq!(Prefix::find(many).len(), MAX_PREFIXES);
    }
}
