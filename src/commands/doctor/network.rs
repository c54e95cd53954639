//! The UDP port, forwarding, firewalls, and the paths to the endpoints.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::endpoint::{Endpoint, endpoints};
use super::finding::Finding;
use super::subject::Subject;
use crate::netlink::{InputWarning, Link, Nat, NatWarning, find_input_drops};
use wontun_packet::ip;

/// The kernel's lists of UDP sockets in this network namespace.
const UDP_SOCKETS: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];
/// Outer headers: IP, UDP 8, data message 32.
const OVERHEAD_V4: u32 = 60;
const OVERHEAD_V6: u32 = 80;

pub(super) fn look(subject: &Subject, findings: &mut Vec<Finding>) {
    let interface = subject.configuration.as_ref().map(|configuration| &configuration.interface);
    let port = interface.and_then(|interface| interface.listen_port).map(u16::from);
    if let Some(port) = port {
        findings.push(self::port(subject, port));
        input(subject, port, findings);
    }
    if subject.has_nat() {
        forwarding(subject, findings);
        forward(subject, findings);
    }
    for Endpoint { peer, address } in endpoints(subject.configuration.as_ref()) {
        findings.extend(path(subject, &peer, address));
    }
}

/// Looks at the path to an endpoint of `peer`, as far as this host knows it.
pub(super) fn path(subject: &Subject, peer: &str, address: IpAddr) -> Option<Finding> {
    let interface = &subject.configuration.as_ref()?.interface;
    // the loopback device is always there, and the request is not about it
    let known = Link::open("lo").and_then(|mut link| link.path_mtu(address, interface.fwmark));
    let [_, has_ipv6] = subject.families();
    Some(match known {
        Ok(Some(path)) => mtu(peer, address, path, interface.mtu, has_ipv6),
        Ok(None) => Finding::problem(
            "path",
            format!(
                "there is no route to {address} of {peer}: connect this host to a network, or correct Endpoint"
            ),
        ),
        Err(error) => Finding::unknown("path", error),
    })
}

fn port(subject: &Subject, port: u16) -> Finding {
    if subject.is_running {
        return Finding::ok("UDP port", format!("{port}; the tunnel {} runs", subject.name));
    }
    let lists: Vec<_> = UDP_SOCKETS.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    if lists.is_empty() {
        return Finding::unknown("UDP port", "the list of sockets cannot be read: mount /proc");
    }
    if lists.iter().any(|list| has_port(list, port)) {
        return Finding::problem(
            "UDP port",
            format!(
                "{port} is in use: stop the program that has it (ss -ulpn sport = :{port}), or set another ListenPort"
            ),
        );
    }
    Finding::ok("UDP port", format!("{port} is free"))
}

/// Returns true if a socket of the kernel's list has this local port. A line has the number, the
/// local address and port in hexadecimal, and more.
fn has_port(list: &str, port: u16) -> bool {
    let ports = list.lines().filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(':'));
    ports.into_iter().any(|(_, local)| u16::from_str_radix(local, 16) == Ok(port))
}

fn input(subject: &Subject, port: u16, findings: &mut Vec<Finding>) {
    if !subject.is_privileged {
        return findings.push(Finding::unprivileged("INPUT"));
    }
    let drops = find_input_drops(subject.name.as_str(), port);
    if drops.is_empty() {
        findings
            .push(Finding::ok("INPUT", format!("no firewall of this host drops packets to UDP port {port}")));
    }
    findings.extend(drops.into_iter().map(|warning| match warning {
        InputWarning::Drops { .. } => Finding::problem("INPUT", warning),
        InputWarning::Legacy { .. } => Finding::unknown("INPUT", warning),
    }));
}

fn forward(subject: &Subject, findings: &mut Vec<Finding>) {
    if !subject.is_privileged {
        return findings.push(Finding::unprivileged("FORWARD"));
    }
    match Nat::find_drops(subject.name.as_str(), subject.families()) {
        Ok(drops) if drops.is_empty() => {
            findings.push(Finding::ok(
                "FORWARD",
                format!("no firewall of this host drops what {} forwards", subject.name),
            ));
        }
        Ok(drops) => findings.extend(drops.into_iter().map(|warning| match warning {
            NatWarning::Legacy { .. } => Finding::unknown("FORWARD", warning),
            warning => Finding::problem("FORWARD", warning),
        })),
        Err(error) => findings.push(Finding::unknown("FORWARD", error)),
    }
}

/// Looks whether forwarding is on, or can be turned on by a start.
fn forwarding(subject: &Subject, findings: &mut Vec<Finding>) {
    for (v6, is_needed) in [false, true].into_iter().zip(subject.families()) {
        if !is_needed {
            continue;
        }
        let key = Nat::forwarding_key(v6);
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let value = fs::read_to_string(&path);
        let is_writable = access(Path::new(&path), AccessFlags::W_OK).is_ok();
        findings.push(match value {
            Ok(value) if value.trim() != "0" => Finding::ok("forwarding", format!("{key} is on")),
            Ok(_) if is_writable => Finding::ok("forwarding", format!("{key} is off: a start turns on what the tunnel needs")),
            Ok(_) if !subject.is_privileged => Finding::unprivileged("forwarding"),
            Ok(_) => Finding::problem(
                "forwarding",
                format!("{key} is off and cannot be turned on here: start the container with docker run --sysctl {key}=1, or run sysctl -w {key}=1 on the host"),
            ),
            Err(error) => Finding::unknown("forwarding", format!("{key} cannot be read: {error}")),
        });
    }
}

/// Compares the MTU of the path with that of the tunnel, as far as it is given.
fn mtu(peer: &str, address: IpAddr, path: u32, given: Option<u32>, has_ipv6: bool) -> Finding {
    let overhead = if address.to_canonical().is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let fits = path.saturating_sub(overhead);
    let to = format!("{address} of {peer}");
    match given {
        Some(mtu) if mtu > fits => Finding::problem(
            "path",
            format!(
                "MTU = {mtu} does not fit the path to {to}, whose MTU is {path}: leave MTU out, or set at most {fits}"
            ),
        ),
        _ if has_ipv6 && fits < ip::IPV6_MIN_MTU => Finding::problem(
            "path",
            format!(
                "the path to {to} has an MTU of {path}: IPv6 in the tunnel needs {}, so datagrams are fragmented",
                ip::IPV6_MIN_MTU + overhead
            ),
        ),
        _ => Finding::ok("path", format!("MTU {path} to {to}, as far as this host knows")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Verdict;

    #[test]
    fn a_port_is_found_in_the_kernels_list() {
        let list = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n  \
            12: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 17 2\n";
        assert!(has_port(list, 51820) && !has_port(list, 51821) && !has_port("", 51820));
    }

    #[test]
    fn the_mtu_is_compared_with_the_path() {
        let verdict = |address: &str, path, given, has_ipv6| {
            mtu("alice", address.parse().unwrap(), path, given, has_ipv6).verdict
        };
        assert_eq!(verdict("192.0.2.1", 1500, Some(1440), false), Verdict::Ok);
        assert_eq!(verdict("192.0.2.1", 1500, Some(1441), false), Verdict::Problem);
        assert_eq!(verdict("2001:db8::1", 1500, Some(1421), false), Verdict::Problem);
        assert_eq!(verdict("192.0.2.1", 1300, None, true), Verdict::Problem);
        assert_eq!(verdict("192.0.2.1", 1300, None, false), Verdict::Ok);
    }
}
