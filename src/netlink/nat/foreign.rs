//! Detection of other programs' rules that drop forwarded packets. An accept ends only its own
//! chain: where a table of another program drops by default, only a rule in that table helps.

use super::warning::{NatRemedy, NatWarning};
use crate::netlink::legacy_iptables;
use crate::netlink::nft::{FoundChain, Nft, Packet, ends_with_drop, may_accept};

/// Returns a warning for each firewall that has to let the device through; `families` are true for
/// IPv4 and IPv6 if they matter.
pub(super) fn find_forward_drops(nft: &mut Nft, device: &str, families: [bool; 2]) -> Vec<NatWarning> {
    // if the chains cannot be listed, no drops are known
    let chains = nft.chains().unwrap_or_default();
    let [v4, v6] = families;
    let others = chains.iter().filter(|chain| {
        let matters = v4 && chain.applies_to(false) || v6 && chain.applies_to(true);
        chain.is_forward() && matters && chain.is_foreign()
    });
    let mut warnings: Vec<NatWarning> = Vec::new();
    for chain in others {
        let Ok(rules) = nft.rules(chain, Packet::Forward(device)) else { continue };
        let drops = if chain.drops() {
            // rules about other devices, such as Docker's, may appear to accept
            !may_accept(&chain.name, &rules, true)
        } else {
            ends_with_drop(&chain.name, &rules) && !may_accept(&chain.name, &rules, false)
        };
        if !drops {
            continue;
        }
        let remedy = remedy(chain, &chains);
        // one command of ufw or of a firewall of the family inet covers both families
        if !warnings.iter().any(|warning| warning.is_remedied_by(&remedy)) {
            warnings.push(NatWarning::Dropped {
                device: device.to_owned(),
                table: format!("{} {}", chain.family_name(), chain.table),
                chain: chain.name.clone(),
                remedy,
            });
        }
    }
    for (matters, v6) in [(v4, false), (v6, true)] {
        if matters && legacy_iptables::has_filter(v6) {
            warnings.push(NatWarning::Legacy { device: device.to_owned(), v6 });
        }
    }
    warnings
}

/// Returns the rule that helps where `chain` drops; `chains` lists all chains.
fn remedy(chain: &FoundChain, chains: &[FoundChain]) -> NatRemedy {
    let beside = |name: &str| {
        let mut same = chains.iter().filter(|c| c.family == chain.family && c.table == chain.table);
        same.any(|chain| chain.name.starts_with(name))
    };
    let iptables = match (chain.family_name(), chain.table.as_str(), chain.name.as_str()) {
        ("ip", "filter", "FORWARD") => Some(false),
        ("ip6", "filter", "FORWARD") => Some(true),
        _ => None,
    };
    match iptables {
        None if chain.table == "firewalld" => NatRemedy::Firewalld,
        // Docker evaluates its users' chain before all others
        Some(v6) if beside("DOCKER-USER") => NatRemedy::Docker { v6 },
        Some(_) if beside("ufw-") || beside("ufw6-") => NatRemedy::Ufw,
        Some(v6) => NatRemedy::Iptables { v6 },
        None => NatRemedy::Nft {
            family: chain.family_name(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
        },
    }
}
