//! Limits for users who have the capability only through the program: a file with CAP_NET_ADMIN
//! (`setcap`) gives it to every user who may start it. Such a user has a tunnel of their own, and
//! must not redirect other users' traffic.
//!
//! The kernel marks such a process (`AT_SECURE`). Root is not marked, nor is a service with an
//! ambient capability.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::unistd::getuid;

use super::error::PrivilegeError;
use crate::config::{Cidr, TunName};
use wontun_proto::allowed_ips::Prefix;
use wontun_sys::process;

/// Networks that are not used on the public Internet: RFC 1918, RFC 6598, RFC 4193.
const PRIVATE: [(IpAddr, u8); 5] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];

/// Refuses `what`, which changes the host's network for all of its users.
///
/// # Errors
/// [`PrivilegeError::Setcap`].
pub(crate) fn refuse(what: &'static str) -> Result<(), PrivilegeError> {
    if process::is_secure_execution() {
        Err(PrivilegeError::Setcap { what: what.to_owned() })
    } else {
        Ok(())
    }
}

/// Refuses a device that exists and is not the user's: its packets belong to another user.
///
/// # Errors
/// [`PrivilegeError::Setcap`], [`PrivilegeError::Network`].
pub(crate) fn check_device(tun: &TunName) -> Result<(), PrivilegeError> {
    if !process::is_secure_execution() {
        return Ok(());
    }
    // /sys may belong to another network namespace: it can confirm the owner of a device, but not
    // that a device does not exist
    let devices = fs::read_to_string("/proc/self/net/dev").map_err(PrivilegeError::Network)?;
    let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let owner = || fs::read_to_string(format!("/sys/class/net/{tun}/owner")).unwrap_or_default();
    if !names.into_iter().any(|name| name == tun.as_str()) || owner().trim() == getuid().to_string() {
        return Ok(());
    }
    Err(PrivilegeError::Setcap {
        what: format!("the device {tun}, which exists and belongs to another user,"),
    })
}

/// Refuses addresses whose networks other users need, too, since each is a route into the tunnel:
/// those of the Internet, and those that the host has another route to.
///
/// # Errors
/// [`PrivilegeError::Setcap`], [`PrivilegeError::Network`].
pub(crate) fn check_addresses(tun: &TunName, addresses: &[Cidr]) -> Result<(), PrivilegeError> {
    if !process::is_secure_execution() {
        return Ok(());
    }
    let routes = host_routes(tun.as_str()).map_err(PrivilegeError::Network)?;
    match addresses.iter().find_map(|address| refusal_reason(*address, &routes)) {
        Some(what) => Err(PrivilegeError::Setcap { what }),
        None => Ok(()),
    }
}

/// Returns the reason for refusing an address, given these routes; `None` if it is accepted.
fn refusal_reason(address: Cidr, routes: &[Prefix]) -> Option<String> {
    let network = Prefix::of(address.address(), address.prefix());
    let is_private = |&(private, length): &(IpAddr, u8)| {
        network.length() >= length && Prefix::of(private, length).contains(network.network())
    };
    if !PRIVATE.iter().any(is_private) {
        return Some(format!("--address {address}, which is not in a private network (as 10.0.0.0/8 is),"));
    }
    let overlaps = |route: &&Prefix| route.contains(network.network()) || network.contains(route.network());
    let route = routes.iter().find(overlaps)?;
    Some(format!("--address {address}, which overlaps {route}, a network that this host has a route to,"))
}

/// Returns the networks that the host has routes to, except for the default routes and those to
/// `tun`.
fn host_routes(tun: &str) -> io::Result<Vec<Prefix>> {
    let v4 = fs::read_to_string("/proc/self/net/route")?;
    let v6 = match fs::read_to_string("/proc/self/net/ipv6_route") {
        // a kernel without IPv6
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let routes = v4.lines().filter_map(route_v4).chain(v6.lines().filter_map(route_v6));
    Ok(routes.filter(|(device, to)| *device != tun && to.length() > 0).map(|(_, to)| to).collect())
}

/// Parses a line `DEVICE DESTINATION GATEWAY FLAGS REFCNT USE METRIC MASK ...`; addresses are words
/// in the host's byte order.
fn route_v4(line: &str) -> Option<(&str, Prefix)> {
    let mut words = line.split_whitespace();
    let device = words.next()?;
    let bytes = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes);
    let to = Ipv4Addr::from(bytes(words.next()?)?);
    let mask = u32::from_be_bytes(bytes(words.nth(5)?)?);
    Some((device, Prefix::new(to.into(), u8::try_from(mask.leading_ones()).ok()?)?))
}

/// Parses a line `DESTINATION LENGTH ... DEVICE`.
fn route_v6(line: &str) -> Option<(&str, Prefix)> {
    let mut words = line.split_whitespace();
    let to = Ipv6Addr::from_bits(u128::from_str_radix(words.next()?, 16).ok()?);
    let length = u8::from_str_radix(words.next()?, 16).ok()?;
    Some((words.last()?, Prefix::new(to.into(), length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let cidr: Cidr = text.parse().unwrap();
        Prefix::of(cidr.address(), cidr.prefix())
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let lines = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000140A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found: Vec<_> = lines.lines().filter_map(route_v4).collect();
        // as a little-endian machine writes them
        if cfg!(target_endian = "little") {
            assert_eq!(found, [("eth0", prefix("0.0.0.0/0")), ("eth0", prefix("10.20.0.0/16"))]);
        }
        let line = "fd000008000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0";
        assert_eq!(route_v6(line), Some(("eth0", prefix("fd00:8::/64"))));
        for nonsense in ["", "eth0", "eth0 x y", "g h i j k l m n"] {
            assert_eq!((route_v4(nonsense), route_v6(nonsense)), (None, None));
        }
    }

    #[test]
    fn an_address_is_in_a_private_network_that_nobody_else_has() {
        let routes = [prefix("10.20.0.0/16"), prefix("fe80::/64"), prefix("192.0.2.0/24")];
        for (address, part) in [
            ("10.8.0.1/24", None),
            ("172.31.0.1/12", None),
            ("fd00::1/64", None),
            ("172.32.0.1/16", Some("private")),
            ("10.0.0.1/7", Some("private")),
            ("0.0.0.0/0", Some("private")),
            ("fe80::1/64", Some("private")),
            ("::1/128", Some("private")),
            ("10.0.0.1/8", Some("10.20.0.0/16")),
            ("10.20.1.1/32", Some("10.20.0.0/16")),
        ] {
            let said = refusal_reason(address.parse().unwrap(), &routes);
            assert_eq!(said.is_some(), part.is_some(), "{address}: {said:?}");
            assert!(part.is_none_or(|part| said.as_ref().unwrap().contains(part)), "{address}: {said:?}");
        }
    }
}
