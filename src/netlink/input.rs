//! Detection of firewalls on this host that drop packets to the tunnel's own UDP port.

use std::fmt;

use super::legacy_iptables;
use super::nft::{FoundChain, Nft, Packet, ends_with_drop, may_accept};

/// A firewall that drops packets to a UDP port. Displays as one line with a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InputWarning {
    /// A chain drops the packets.
    Drops {
        /// The port.
        port: u16,
        /// The family of the chain's table, as nft(8) names it.
        family: &'static str,
        /// The chain's table.
        table: String,
        /// The chain.
        chain: String,
        /// The command that opens the port.
        remedy: InputRemedy,
    },
    /// Legacy iptables has a filter table, whose rules cannot be read.
    Legacy {
        /// The port.
        port: u16,
        /// True for ip6tables.
        v6: bool,
    },
}

/// A command that opens the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputRemedy {
    /// The command of ufw.
    Ufw,
    /// The command of firewalld.
    Firewalld,
    /// The command of iptables.
    Iptables,
    /// The command of ip6tables.
    Ip6tables,
    /// The command of nft.
    Nft,
}

impl fmt::Display for InputWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, family, table, chain, remedy) = match self {
            Self::Drops { port, family, table, chain, remedy } => (port, family, table, chain, remedy),
            Self::Legacy { port, v6 } => {
                let (protocol, iptables) = if *v6 { ("IPv6", "ip6tables") } else { ("IPv4", "iptables") };
                return write!(
                    f,
                    "legacy iptables filters {protocol} on this host, and wontun cannot read its rules: if its \
                     INPUT chain drops packets ({iptables}-legacy -S INPUT), peers cannot connect to UDP port \
                      {port}: allow it: \
                     {iptables}-legacy -I INPUT -p udp --dport {port} -j ACCEPT"
                );
            }
        };
        write!(
            f,
            "the chain {chain} of the nftables table {family} {table} drops packets to UDP port {port}, so \
             peers cannot connect: allow it: "
        )?;
        match remedy {
            InputRemedy::Ufw => write!(f, "ufw allow {port}/udp"),
            InputRemedy::Firewalld => {
                write!(f, "firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload")
            }
            InputRemedy::Iptables => write!(f, "iptables -I INPUT -p udp --dport {port} -j ACCEPT"),
            InputRemedy::Ip6tables => write!(f, "ip6tables -I INPUT -p udp --dport {port} -j ACCEPT"),
            InputRemedy::Nft => write!(f, "nft insert rule {family} {table} {chain} udp dport {port} accept"),
        }
    }
}

impl InputWarning {
    /// Returns true if the warning suggests the remedy `other`.
    fn is_remedied_by(&self, other: InputRemedy) -> bool {
        matches!(self, Self::Drops { remedy, .. } if *remedy == other)
    }
}

/// Returns the chains that drop packets to `port` for the tunnel called `device`, and legacy
/// iptables where it may drop them.
pub(crate) fn find_input_drops(device: &str, port: u16) -> Vec<InputWarning> {
    let legacy = [false, true].into_iter().filter(|v6| legacy_iptables::has_filter(*v6));
    let legacy = legacy.map(|v6| InputWarning::Legacy { port, v6 });
    let Ok(mut nft) = Nft::open() else { return legacy.collect() };
    let chains = nft.chains().unwrap_or_default();
    let mut warnings: Vec<InputWarning> = Vec::new();
    for chain in chains.iter().filter(|chain| chain.is_input() && chain.is_foreign()) {
        let Ok(rules) = nft.rules(chain, Packet::Input { device, port }) else { continue };
        let drops = chain.drops() || ends_with_drop(&chain.name, &rules);
        if !drops || may_accept(&chain.name, &rules, false) {
            continue;
        }
        let remedy = remedy(chain, &chains);
        // one command of ufw or firewalld covers both families
        let is_reported = matches!(remedy, InputRemedy::Ufw | InputRemedy::Firewalld)
            && warnings.iter().any(|warning| warning.is_remedied_by(remedy));
        if !is_reported {
            warnings.push(InputWarning::Drops {
                port,
                family: chain.family_name(),
                table: chain.table.clone(),
                chain: chain.name.clone(),
                remedy,
            });
        }
    }
    warnings.extend(legacy);
    warnings
}

/// Returns the command that opens the port in `chain`; `chains` lists all chains.
fn remedy(chain: &FoundChain, chains: &[FoundChain]) -> InputRemedy {
    let is_ufw = || {
        let mut same = chains.iter().filter(|c| c.family == chain.family && c.table == chain.table);
        same.any(|chain| chain.name.starts_with("ufw-") || chain.name.starts_with("ufw6-"))
    };
    match (chain.family_name(), chain.table.as_str(), chain.name.as_str()) {
        (_, "firewalld", _) => InputRemedy::Firewalld,
        ("ip" | "ip6", "filter", "INPUT") if is_ufw() => InputRemedy::Ufw,
        ("ip", "filter", "INPUT") => InputRemedy::Iptables,
        ("ip6", "filter", "INPUT") => InputRemedy::Ip6tables,
        _ => InputRemedy::Nft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_with_a_command() {
        for (remedy, command) in [
            (InputRemedy::Ufw, "ufw allow 51820/udp"),
            (InputRemedy::Firewalld, "--add-port=51820/udp"),
            (InputRemedy::Iptables, "iptables -I INPUT -p udp --dport 51820 -j ACCEPT"),
            (InputRemedy::Ip6tables, "ip6tables -I INPUT -p udp --dport 51820 -j ACCEPT"),
            (InputRemedy::Nft, "nft insert rule inet fw in udp dport 51820 accept"),
        ] {
            let (family, table, chain) = ("inet", "fw".to_owned(), "in".to_owned());
            let line = InputWarning::Drops { port: 51820, family, table, chain, remedy }.to_string();
            assert!(line.contains(command) && !line.contains('\n') && !line.contains("  "), "{line}");
        }
        let line = InputWarning::Legacy { port: 51820, v6: true }.to_string();
        let command = "ip6tables-legacy -I INPUT -p udp --dport 51820 -j ACCEPT";
        assert!(line.ends_with(command) && !line.contains('\n') && !line.contains("  "), "{line}");
    }
}
