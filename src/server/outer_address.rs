//! The addresses of this host that clients could connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// A destination outside of every local network, of each family: TEST-NET-1 (RFC 5737) and the
/// documentation prefix (RFC 3849). Nothing is sent to them.
const OUTSIDE: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// Returns the source address of packets to the Internet, IPv4 first, as the routes determine it.
/// Sends no packet.
pub(crate) fn outer_addresses() -> Vec<IpAddr> {
    let source = |(any, outside): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        // connect(2) of a UDP socket only looks up the route
        socket.connect(SocketAddr::new(outside, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    OUTSIDE.into_iter().filter_map(source).collect()
}

/// Returns true if hosts on the Internet can reach the address, unless a firewall drops their
/// packets: it is in none of the special-purpose ranges of RFC 6890 that hosts have addresses of.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598: shared by the customers of a provider
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(is_shared || v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified())
        }
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|first| first & 0xe000 == 0x2000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_shared_addresses_are_not_public() {
        for (address, expected) in [
            ("203.0.113.5", true),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("192.168.1.2", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("169.254.0.1", false),
            ("2001:4860::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }
}
