//! Warnings about forwarding and NAT that could not be set up while the tunnel runs.

use std::fmt;

/// A warning for the user. Displays as one line with a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NatWarning {
    /// The nf_tables rules could not be installed.
    Nftables {
        /// The table's name.
        table: String,
        /// The kernel's error message.
        reason: String,
    },
    /// Forwarding is off on this host, or cannot be read, and could not be turned on.
    Forwarding {
        /// The device's name.
        device: String,
        /// The name of the setting, as sysctl(8) uses it.
        key: &'static str,
        /// True if forwarding is known to be off.
        off: bool,
        /// The error of reading or writing the setting.
        reason: String,
    },
    /// Rules of another program drop forwarded packets.
    Dropped {
        /// The device's name.
        device: String,
        /// The table with its family in front.
        table: String,
        /// The chain that drops.
        chain: String,
        /// The rule to add.
        remedy: NatRemedy,
    },
    /// Legacy iptables has a filter table, whose rules cannot be read.
    Legacy {
        /// The device's name.
        device: String,
        /// True for IPv6.
        v6: bool,
    },
}

/// A rule that makes a firewall accept the tunnel's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NatRemedy {
    /// A rule in Docker's chain for its users.
    Docker {
        /// True for Docker's IPv6 rules.
        v6: bool,
    },
    /// A route rule of ufw.
    Ufw,
    /// A zone of firewalld.
    Firewalld,
    /// A rule of plain iptables.
    Iptables {
        /// True for ip6tables.
        v6: bool,
    },
    /// A rule in an nftables table.
    Nft {
        /// `ip`, `ip6` or `inet`.
        family: &'static str,
        /// The table's name.
        table: String,
        /// The chain that drops.
        chain: String,
    },
}

impl NatWarning {
    /// Returns true if the warning is about the rules of another program.
    pub(super) const fn is_about_foreign_rules(&self) -> bool {
        matches!(self, Self::Dropped { .. } | Self::Legacy { .. })
    }

    /// Returns true if the warning suggests the remedy `other`.
    pub(super) fn is_remedied_by(&self, other: &NatRemedy) -> bool {
        matches!(self, Self::Dropped { remedy, .. } if remedy == other)
    }
}

impl fmt::Display for NatWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nftables { table, reason } => write!(
                f,
                "cannot install the nftables table {table}: {reason}: the peers can reach only this host: check \
                 that the kernel is Linux 5.2 or newer with nf_tables (modprobe nft_masq nft_chain_nat), or set \
                  up NAT by other means and use --nat off"
            ),
            Self::Forwarding { device, key, off, reason } => write!(
                f,
                "{key} {}: {reason}: packets from {device} are not forwarded{}: start the \
                 container with docker run --sysctl {key}=1, or run sysctl -w {key}=1 on the host",
                if *off { "is off and cannot be turned on" } else { "cannot be read" },
                if *off { "" } else { ", unless it is on" }
            ),
            Self::Dropped { device, table, chain, remedy } => write!(
                f,
                "the chain {chain} of the nftables table {table} drops forwarded packets, which wontun's rules \
                 cannot override: allow {device}: {}",
                remedy.command(device)
            ),
            Self::Legacy { device, v6 } => write!(
                f,
                "legacy iptables filters {} on this host, and wontun cannot read its rules: if its FORWARD \
                 chain drops packets ({}-legacy -S FORWARD), allow {device}: {} (on a Docker host, DOCKER-USER \
                  instead of FORWARD)",
                if *v6 { "IPv6" } else { "IPv4" },
                iptables(*v6),
                both_directions(&format!("{}-legacy -I FORWARD", iptables(*v6)), device)
            ),
        }
    }
}

impl NatRemedy {
    fn command(&self, device: &str) -> String {
        match self {
            Self::Docker { v6 } => both_directions(&format!("{} -I DOCKER-USER", iptables(*v6)), device),
            // ufw accepts answers anyway
            Self::Ufw => format!("ufw route allow in on {device}"),
            Self::Firewalld => {
                format!(
                    "firewall-cmd --permanent --zone=trusted --add-interface={device} && firewall-cmd --reload"
                )
            }
            Self::Iptables { v6 } => both_directions(&format!("{} -I FORWARD", iptables(*v6)), device),
            Self::Nft { family, table, chain } => {
                let add = format!("nft insert rule {family} {table} {chain}");
                format!("{add} iifname {device} accept && {add} oifname {device} accept")
            }
        }
    }
}

fn both_directions(add: &str, device: &str) -> String {
    format!("{add} -i {device} -j ACCEPT && {add} -o {device} -j ACCEPT")
}

const fn iptables(v6: bool) -> &'static str {
    if v6 { "ip6tables" } else { "iptables" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_with_a_remedy() {
        let device = || "tun0".to_owned();
        let dropped = |remedy| NatWarning::Dropped {
            device: device(),
            table: "ip filter".to_owned(),
            chain: "FORWARD".to_owned(),
            remedy,
        };
        let nft = NatRemedy::Nft { family: "inet", table: "fw".to_owned(), chain: "fwd".to_owned() };
        for (warning, remedy) in [
            (NatWarning::Nftables { table: device(), reason: "no".to_owned() }, "--nat off"),
            (
                NatWarning::Forwarding {
                    device: device(),
                    key: "net.ipv4.ip_forward",
                    off: true,
                    reason: "Read-only file system".to_owned(),
                },
                "docker run --sysctl net.ipv4.ip_forward=1",
            ),
            (dropped(NatRemedy::Docker { v6: false }), "iptables -I DOCKER-USER -i tun0 -j ACCEPT"),
            (dropped(NatRemedy::Ufw), "ufw route allow in on tun0"),
            (dropped(NatRemedy::Firewalld), "firewall-cmd --permanent --zone=trusted --add-interface=tun0"),
            (dropped(NatRemedy::Iptables { v6: true }), "ip6tables -I FORWARD -i tun0 -j ACCEPT"),
            (dropped(nft), "nft insert rule inet fw fwd iifname tun0 accept"),
            (
                NatWarning::Legacy { device: device(), v6: false },
                "(iptables-legacy -S FORWARD), allow tun0: iptables-legacy -I FORWARD -i tun0",
            ),
        ] {
            let line = warning.to_string();
            assert!(line.contains(remedy) && !line.contains('\n') && !line.contains("  "), "{line}");
        }
    }
}
