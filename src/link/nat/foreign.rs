//! Who else drops what this host forwards. An accept ends the turn of its own chain, and no other's: where a table of
//! somebody's drops by default, only a rule of theirs helps.

use super::warning::{NatWarning, Remedy};
use crate::link::legacy;
use crate::link::nft::{FoundChain, Nft, Packet, ends_with_drop, may_accept};

/// How tables of this program begin.
const OWN: &str = "wontun";

/// A line for each firewall that has to let the device through; `families` say whether IPv4 and IPv6 matter.
pub(super) fn look_for_drops(nft: &mut Nft, device: &str, families: [bool; 2]) -> Vec<NatWarning> {
    // a list that cannot be had drops nothing that we know of
    let chains = nft.chains().unwrap_or_default();
    let [v4, v6] = families;
    let others = chains.iter().filter(|chain| {
        let matters = v4 && chain.concerns(false) || v6 && chain.concerns(true);
        chain.is_forward() && matters && !chain.table.starts_with(OWN)
    });
    let mut warnings: Vec<NatWarning> = Vec::new();
    for chain in others {
        let Ok(rules) = nft.rules(chain, Packet::Forward(device)) else { continue };
        let drops = if chain.drops() {
            // rules about other devices, such as Docker's, may seem to accept
            !may_accept(&chain.name, &rules, true)
        } else {
            ends_with_drop(&chain.name, &rules) && !may_accept(&chain.name, &rules, false)
        };
        if !drops {
            continue;
        }
        let remedy = remedy(chain, &chains);
        // ufw and firewalls of the family inet have one command for both families
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
        if matters && legacy::has_filter(v6) {
            warnings.push(NatWarning::Legacy { device: device.to_owned(), v6 });
        }
    }
    warnings
}

/// Which rule helps where `chain` drops; `chains` are all there are.
fn remedy(chain: &FoundChain, chains: &[FoundChain]) -> Remedy {
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
        None if chain.table == "firewalld" => Remedy::Firewalld,
        // Docker asks its users' chain before everything else
        Some(v6) if beside("DOCKER-USER") => Remedy::Docker { v6 },
        Some(_) if beside("ufw-") || beside("ufw6-") => Remedy::Ufw,
        Some(v6) => Remedy::Iptables { v6 },
        None => {
            Remedy::Nft { family: chain.family_name(), table: chain.table.clone(), chain: chain.name.clone() }
        }
    }
}
