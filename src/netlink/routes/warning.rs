//! Warnings about routing that could not be set up while the tunnel runs.

use std::fmt;

use wontun_proto::allowed_ips::Prefix;

/// Maximum number of networks named in one line.
const MAX_LISTED: usize = 16;

/// A warning for the user. Displays as one line with a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteWarning {
    /// IPv6 is disabled on the device: its routes were left out.
    Ipv6Disabled {
        /// The device's name.
        device: String,
        /// Number of allowed IPs affected.
        prefixes: usize,
    },
    /// The table contains another program's route to the same network.
    Taken {
        /// The device's name.
        device: String,
        /// The networks.
        prefixes: Vec<Prefix>,
        /// The routing table.
        table: u32,
    },
    /// The kernel refuses routes to these networks.
    Refused {
        /// The device's name.
        device: String,
        /// The networks.
        prefixes: Vec<Prefix>,
        /// The kernel's error message.
        reason: String,
    },
    /// `net.ipv4.conf.all.src_valid_mark` is 0 and could not be changed.
    SourceValidMark {
        /// The error of writing it.
        reason: String,
        /// True if a device filters strictly now (`rp_filter` is 1).
        strict: bool,
    },
    /// The nf_tables rules could not be installed.
    Nftables {
        /// The table's name.
        table: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The kernel's error message.
        reason: String,
    },
}

impl fmt::Display for RouteWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv6Disabled { device, prefixes } => write!(
                f,
                "IPv6 is disabled on {device}: {prefixes} of the allowed IPs have no route, and IPv6 does not go \
                 through the tunnel: enable it (docker run --sysctl net.ipv6.conf.all.disable_ipv6=0), or take \
                 them out of AllowedIPs"
            ),
            Self::Taken { device, prefixes, table } => {
                let (it, route) =
                    if prefixes.len() == 1 { ("it", "that route") } else { ("them", "these routes") };
                write!(
                    f,
                    "cannot route {} to {device}: table {table} has other routes to {it}: remove {route}, or \
                     split or \
                     narrow AllowedIPs",
                    join_prefixes(prefixes)
                )
            }
            Self::Refused { device, prefixes, reason } => write!(
                f,
                "cannot route {} to {device}: {reason}: take {} out of AllowedIPs",
                join_prefixes(prefixes),
                if prefixes.len() == 1 { "it" } else { "them" }
            ),
            Self::SourceValidMark { reason, strict } => write!(
                f,
                "cannot set net.ipv4.conf.all.src_valid_mark to 1: {reason}: {}: start the container with docker \
                 run --sysctl net.ipv4.conf.all.src_valid_mark=1, or set it on the host",
                if *strict {
                    "rp_filter is strict on this host, and drops packets from the peers"
                } else {
                    "this has no effect now, but a strict rp_filter (1) would drop packets from the peers"
                }
            ),
            Self::Nftables { table, family, reason } => write!(
                f,
                "cannot install the {family} nftables table {table}: {reason}: the tunnel's addresses are open to \
                 packets from other devices, and a strict rp_filter may drop packets from the peers: check that \
                  the kernel has nf_tables, nft_fib and nft_ct (modprobe nft_fib_ipv4 nft_fib_ipv6 nft_ct)"
            ),
        }
    }
}

/// Lists the networks in one line; of more than 16 only the first ones.
pub(in crate::netlink) fn join_prefixes(prefixes: &[Prefix]) -> String {
    let names: Vec<_> = prefixes.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    let more = prefixes.len().saturating_sub(MAX_LISTED);
    match (names.split_last(), more) {
        (Some((last, names)), 0) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_with_a_remedy() {
        let many =
            |count: u8| -> Vec<_> { (1..=count).map(|net| Prefix::of([net, 0, 0, 0].into(), 8)).collect() };
        let device = || "tun0".to_owned();
        let reason = || "Read-only file system (why)".to_owned();
        for (warning, remedy) in [
            (RouteWarning::Ipv6Disabled { device: device(), prefixes: 2 }, "--sysctl net.ipv6"),
            (
                RouteWarning::Taken { device: device(), prefixes: many(3), table: 254 },
                "cannot route 1.0.0.0/8, 2.0.0.0/8 and 3.0.0.0/8 to tun0",
            ),
            (RouteWarning::Taken { device: device(), prefixes: many(1), table: 7 }, "remove that route"),
            (
                RouteWarning::Taken { device: device(), prefixes: many(20), table: 7 },
                "16.0.0.0/8 and 4 more to",
            ),
            (
                RouteWarning::Refused { device: device(), prefixes: many(1), reason: reason() },
                "(why): take it out",
            ),
            (
                RouteWarning::SourceValidMark { reason: reason(), strict: true },
                "docker run --sysctl net.ipv4.conf.all.src_valid_mark=1",
            ),
            (RouteWarning::Nftables { table: device(), family: "IPv4", reason: reason() }, "modprobe"),
        ] {
            let line = warning.to_string();
            assert!(line.contains(remedy) && !line.contains('\n') && !line.contains("  "), "{line}");
        }
    }
}
