//! Firewalls of this host that drop what comes to the tunnel's own UDP port.

use std::collections::BTreeSet;
use std::fmt;

use super::nft::{FoundChain, InputRule, Nft};

/// How tables of this program begin.
const OWN: &str = "wontun";

/// A chain that drops what comes to a UDP port. Displays as one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputWarning {
    port: u16,
    family: &'static str,
    table: String,
    chain: String,
    remedy: Remedy,
}

/// A command that opens the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Ufw,
    Firewalld,
    Iptables,
    Ip6tables,
    Nft,
}

impl fmt::Display for InputWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, family, table, chain, remedy } = self;
        write!(
            f,
            "the chain {chain} of the nftables table {family} {table} drops what comes to UDP port {port}, so no peer \
             can begin a connection: let it in: "
        )?;
        match remedy {
            Remedy::Ufw => write!(f, "ufw allow {port}/udp"),
            Remedy::Firewalld => {
                write!(f, "firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload")
            }
            Remedy::Iptables => write!(f, "iptables -I INPUT -p udp --dport {port} -j ACCEPT"),
            Remedy::Ip6tables => write!(f, "ip6tables -I INPUT -p udp --dport {port} -j ACCEPT"),
            Remedy::Nft => write!(f, "nft insert rule {family} {table} {chain} udp dport {port} accept"),
        }
    }
}

/// Returns the chains that drop what comes to `port`. Rules that cannot be read, such as those of
/// legacy iptables, drop nothing that is known here.
pub fn input_drops(port: u16) -> Vec<InputWarning> {
    let Ok(mut nft) = Nft::open() else { return Vec::new() };
    let chains = nft.chains().unwrap_or_default();
    let mut warnings: Vec<InputWarning> = Vec::new();
    for chain in chains.iter().filter(|chain| chain.is_input() && !chain.table.starts_with(OWN)) {
        let Ok(rules) = nft.input_rules(chain, port) else { continue };
        if !drops(chain.drops(), &chain.name, &rules) {
            continue;
        }
        let remedy = remedy(chain, &chains);
        // ufw and firewalld have one command for both families
        let is_told = matches!(remedy, Remedy::Ufw | Remedy::Firewalld)
            && warnings.iter().any(|warning| warning.remedy == remedy);
        if !is_told {
            warnings.push(InputWarning {
                port,
                family: chain.family_name(),
                table: chain.table.clone(),
                chain: chain.name.clone(),
                remedy,
            });
        }
    }
    warnings
}

/// Returns true if no rule that the base chain `base` leads to may accept the datagram, and the
/// chain's policy or its last rule drops it.
fn drops(by_policy: bool, base: &str, rules: &[InputRule]) -> bool {
    let of_chain = |chain: &str| {
        let chain = chain.to_owned();
        rules.iter().filter(move |rule| rule.chain == chain)
    };
    if !by_policy && !of_chain(base).next_back().is_some_and(|rule| rule.drops_all) {
        return false;
    }
    let mut seen = BTreeSet::from([base]);
    let mut next = vec![base];
    while let Some(chain) = next.pop() {
        for rule in of_chain(chain) {
            if rule.accepts {
                return false;
            }
            next.extend(rule.next.as_deref().filter(|chain| seen.insert(chain)));
        }
    }
    true
}

/// Returns the command for where `chain` drops; `chains` are all there are.
fn remedy(chain: &FoundChain, chains: &[FoundChain]) -> Remedy {
    let is_ufw = || {
        let mut same = chains.iter().filter(|c| c.family == chain.family && c.table == chain.table);
        same.any(|chain| chain.name.starts_with("ufw-") || chain.name.starts_with("ufw6-"))
    };
    match (chain.family_name(), chain.table.as_str(), chain.name.as_str()) {
        (_, "firewalld", _) => Remedy::Firewalld,
        ("ip" | "ip6", "filter", "INPUT") if is_ufw() => Remedy::Ufw,
        ("ip", "filter", "INPUT") => Remedy::Iptables,
        ("ip6", "filter", "INPUT") => Remedy::Ip6tables,
        _ => Remedy::Nft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(chain: &str, next: Option<&str>, accepts: bool, drops_all: bool) -> InputRule {
        InputRule { chain: chain.to_owned(), next: next.map(str::to_owned), accepts, drops_all }
    }

    #[test]
    fn only_rules_that_are_reached_let_in() {
        let other = rule("FORWARD", None, true, false);
        let into_user = rule("INPUT", Some("user"), false, false);
        let back = rule("user", Some("INPUT"), false, false);
        let open = rule("user", None, true, false);
        assert!(drops(true, "INPUT", &[]));
        assert!(!drops(false, "INPUT", &[]));
        assert!(drops(true, "INPUT", std::slice::from_ref(&other)));
        assert!(drops(true, "INPUT", &[into_user.clone(), back.clone()]), "a circle ends");
        assert!(!drops(true, "INPUT", &[into_user.clone(), back, open.clone()]));
        assert!(drops(true, "INPUT", &[open]));
        // firewalld's last rule
        let reject = rule("INPUT", None, false, true);
        assert!(drops(false, "INPUT", &[into_user.clone(), reject.clone()]));
        assert!(!drops(false, "INPUT", &[reject, into_user]));
    }

    #[test]
    fn a_warning_is_one_line_with_a_command() {
        for (remedy, command) in [
            (Remedy::Ufw, "ufw allow 51820/udp"),
            (Remedy::Firewalld, "--add-port=51820/udp"),
            (Remedy::Iptables, "iptables -I INPUT -p udp --dport 51820 -j ACCEPT"),
            (Remedy::Ip6tables, "ip6tables -I INPUT -p udp --dport 51820 -j ACCEPT"),
            (Remedy::Nft, "nft insert rule inet fw in udp dport 51820 accept"),
        ] {
            let (family, table, chain) = ("inet", "fw".to_owned(), "in".to_owned());
            let line = InputWarning { port: 51820, family, table, chain, remedy }.to_string();
            assert!(line.contains(command) && !line.contains('\n') && !line.contains("  "), "{line}");
        }
    }
}
