//! What of the host's routing could not be had, although the tunnel runs.

use std::fmt;

use crate::routing::Prefix;

/// Something that the user should know. Displays as one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteWarning {
    /// There is no IPv6 on the device: its routes were left out.
    Ipv6Disabled {
        /// The device's name.
        device: String,
        /// How many allowed IPs that concerns.
        prefixes: usize,
    },
    /// Somebody else's route to the same network is in the table.
    Taken {
        /// The device's name.
        device: String,
        /// The first of the networks.
        prefix: Prefix,
        /// How many more there are.
        more: usize,
        /// The routing table.
        table: u32,
    },
    /// The kernel does not take routes to such networks.
    Refused {
        /// The device's name.
        device: String,
        /// The first of the networks.
        prefix: Prefix,
        /// How many more there are.
        more: usize,
        /// The kernel's words.
        reason: String,
    },
    /// `net.ipv4.conf.all.src_valid_mark` is 0 and could not be changed.
    SourceValidMark {
        /// What the write said.
        reason: String,
        /// Whether a device filters strictly now (`rp_filter` is 1).
        strict: bool,
    },
    /// The nf_tables rules could not be put up.
    Nftables {
        /// The table's name.
        table: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// What the kernel said.
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
            Self::Taken { device, prefix, more, table } => write!(
                f,
                "cannot route {prefix}{} to {device}: table {table} has another route to it: remove that route, or \
                 split or narrow AllowedIPs",
                and(*more)
            ),
            Self::Refused { device, prefix, more, reason } => write!(
                f,
                "cannot route {prefix}{} to {device}: {reason}: take it out of AllowedIPs",
                and(*more)
            ),
            Self::SourceValidMark { reason, strict } => write!(
                f,
                "cannot set net.ipv4.conf.all.src_valid_mark to 1: {reason}: {}: start the container with docker \
                 run --sysctl net.ipv4.conf.all.src_valid_mark=1, or set it on the host",
                if *strict {
                    "rp_filter is strict here, and drops what the peers send before it arrives"
                } else {
                    "no harm as things are, but a strict rp_filter (1) would drop what the peers send"
                }
            ),
            Self::Nftables { table, family, reason } => write!(
                f,
                "cannot put up the {family} nftables table {table}: {reason}: the tunnel's addresses are open to \
                 packets from other devices, and a strict rp_filter may drop what the peers send: see that the \
                 kernel has nf_tables, nft_fib and nft_ct (modprobe nft_fib_ipv4 nft_fib_ipv6 nft_ct)"
            ),
        }
    }
}

fn and(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_with_a_remedy() {
        let prefix = Prefix::new("10.0.0.0".parse().unwrap(), 8).unwrap();
        let device = || "tun0".to_owned();
        let reason = || "Read-only file system (why)".to_owned();
        for (warning, remedy) in [
            (RouteWarning::Ipv6Disabled { device: device(), prefixes: 2 }, "--sysctl net.ipv6"),
            (RouteWarning::Taken { device: device(), prefix, more: 3, table: 254 }, "10.0.0.0/8 and 3 more"),
            (
                RouteWarning::Refused { device: device(), prefix, more: 0, reason: reason() },
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
