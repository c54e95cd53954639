//! The TUN driver, the capability and the kernel's features.

use std::path::Path;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::finding::Finding;
use super::subject::Subject;
use crate::control::health;
use crate::net::tun;
use crate::netlink::KillSwitch;
use crate::privileges;

/// Folder with the kernel's character devices of no other kind; `tun` is there once its driver is.
const DRIVERS: &str = "/sys/class/misc";

pub(super) fn look(subject: &Subject, findings: &mut Vec<Finding>) {
    tun_driver(findings);
    findings.push(match privileges::require_net_admin() {
        Ok(()) => Finding::ok("capability", "CAP_NET_ADMIN is there"),
        Err(error) if nix::unistd::geteuid().is_root() => Finding::problem("capability", error),
        Err(_) => Finding::unknown(
            "capability",
            "this user has no CAP_NET_ADMIN, which the user who starts the tunnel needs",
        ),
    });
    tables(subject, findings);
    findings.extend(udp_offloads());
}

/// Looks at the node and its driver. Opening the node would load the driver, so that is left to the
/// start.
fn tun_driver(findings: &mut Vec<Finding>) {
    let is_listed = |name: &str| Path::new(DRIVERS).join(name).exists();
    if is_listed("") && !is_listed("tun") && Path::new(tun::NODE).exists() {
        findings.push(Finding::unknown(
            tun::NODE,
            "its driver is not loaded: the first start loads it, outside of containers; or run 'modprobe tun' on the host",
        ));
        return;
    }
    match tun::features() {
        Ok(features) => {
            findings.push(Finding::ok(tun::NODE, "can be opened"));
            findings.push(if features.has_many_queues && features.has_offloads {
                Finding::ok("TUN features", "several queues and offloads (IFF_MULTI_QUEUE, IFF_VNET_HDR)")
            } else {
                Finding::warning(
                    "TUN features",
                    "the kernel has no multi-queue TUN devices with offloads: packets are carried one by one, by one worker",
                )
            });
        }
        Err(error) => findings.push(Finding::problem(tun::NODE, error)),
    }
}

/// Looks whether nf_tables works, and for kill switches that block this host.
fn tables(subject: &Subject, findings: &mut Vec<Finding>) {
    if !subject.is_privileged {
        findings.push(Finding::unprivileged("nf_tables"));
        return;
    }
    let found = match KillSwitch::list() {
        Ok(found) => found,
        Err(error) if subject.wants_kill_switch => {
            return findings.push(Finding::problem("nf_tables", error));
        }
        Err(error) => {
            let without = "without it there is no NAT, no kill switch and no guard against forged sources";
            return findings.push(Finding::warning("nf_tables", format!("{error}; {without}")));
        }
    };
    findings.push(Finding::ok("nf_tables", "can be used"));
    let running = health::running_tunnels();
    for switch in found {
        let is_running = running.iter().any(|name| name.as_str() == switch.device);
        let name = &switch.tunnel;
        findings.push(if is_running {
            Finding::ok("kill switch", format!("that of {name}, which runs, is on"))
        } else {
            Finding::warning(
                "kill switch",
                format!("that of {name} is on, and {name} does not run: it blocks this host's traffic until 'wontun kill-switch off {name}'"),
            )
        });
    }
}

/// Looks whether the kernel joins and splits datagrams.
fn udp_offloads() -> Option<Finding> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    let segments = setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok();
    let coalesces = setsockopt(&socket, sockopt::UdpGroSegment, &true).is_ok();
    let missing: Vec<_> = [(segments, "UDP_SEGMENT (Linux 4.18)"), (coalesces, "UDP_GRO (Linux 5.0)")]
        .into_iter()
        .filter_map(|(is_there, name)| (!is_there).then_some(name))
        .collect();
    Some(if missing.is_empty() {
        Finding::ok("UDP offloads", "GSO and GRO (UDP_SEGMENT, UDP_GRO)")
    } else {
        let missing = missing.join(" and ");
        Finding::warning(
            "UDP offloads",
            format!(
                "the kernel has no {missing}: datagrams are carried one by one, which takes more processor time"
            ),
        )
    })
}
