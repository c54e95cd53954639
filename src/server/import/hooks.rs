//! Classifies the commands in a wg-quick file. They are never run.

use std::collections::BTreeSet;

/// The purpose of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// No effect that matters.
    Nothing,
    /// Address translation, forwarding or MSS clamping, as `--nat auto` sets up.
    Nat,
    /// A table or chain of nft: for address translation, if the file has any.
    NftTable,
    /// Accepts datagrams in this host's firewall.
    OpenPort,
    /// Passes the private key to the tunnel.
    PrivateKey,
    /// Anything that wontun does not do.
    Other,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) purpose: Purpose,
    /// The first word without its path. The rest may contain secrets.
    pub(super) program: String,
}

/// Splits a hook, which is a line of shell, into its commands.
pub(super) fn commands(hook: &str) -> Vec<Command> {
    split(hook).into_iter().filter_map(|text| command(&text)).collect()
}

/// Returns the programs of the commands with this purpose, without duplicates.
pub(super) fn programs(commands: &[Command], purpose: Purpose) -> BTreeSet<&str> {
    commands
        .iter()
        .filter(|command| command.purpose == purpose)
        .map(|command| command.program.as_str())
        .collect()
}

/// Splits at `;`, `&` and `|`, and hence at `&&` and `||`, outside of quotes.
fn split(hook: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for c in hook.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if matches!(c, ';' | '&' | '|') => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn command(text: &str) -> Option<Command> {
    let mut words = text.split_whitespace().filter(|word| *word != "sudo").peekable();
    let first = words.peek()?.trim_matches(['\'', '"']);
    let program = first.rsplit('/').next().unwrap_or_default().to_owned();
    let words: Vec<_> = words.map(|word| word.trim_matches(['\'', '"', '{', '}'])).collect();
    let has = |wanted: &str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
    let says = |part: &str| text.contains(part);
    let purpose = match program.as_str() {
        ":" | "true" | "exit" | "sleep" => Purpose::Nothing,
        "nft" if has("masquerade") || has("snat") => Purpose::Nat,
        "nft" if has("table") || has("chain") => Purpose::NftTable,
        "firewall-cmd" if says("masquerade") => Purpose::Nat,
        "firewall-cmd" if says("-port=") || says("-service=") => Purpose::OpenPort,
        "ufw" if has("route") => Purpose::Nat,
        "ufw" if has("allow") => Purpose::OpenPort,
        "sysctl" | "echo" if says("forward") && (says("=1") || says("= 1") || has("1")) => Purpose::Nat,
        "sysctl" | "echo" if says("src_valid_mark") => Purpose::Nothing,
        "wg" if has("private-key") => Purpose::PrivateKey,
        name if name.starts_with("iptables") || name.starts_with("ip6tables") => {
            let table = ["MASQUERADE", "SNAT", "TCPMSS"].into_iter().any(has);
            if table || (has("FORWARD") && has("ACCEPT")) {
                Purpose::Nat
            } else if has("INPUT") && has("ACCEPT") {
                Purpose::OpenPort
            } else {
                Purpose::Other
            }
        }
        _ => Purpose::Other,
    };
    Some(Command { purpose, program })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duties(hook: &str) -> Vec<Purpose> {
        commands(hook).iter().map(|command| command.purpose).collect()
    }

    #[test]
    fn what_people_write_is_known() {
        use Purpose::{Nat, NftTable, Nothing, OpenPort, Other, PrivateKey};
        for (hook, expected) in [
            ("", vec![]),
            (" ; ", vec![]),
            (
                "iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
                vec![Nat, Nat],
            ),
            ("/sbin/ip6tables -t nat -D POSTROUTING -o eth0 -j MASQUERADE", vec![Nat]),
            ("iptables-nft -t nat -A POSTROUTING -s 10.8.0.0/24 -j SNAT --to-source 192.0.2.1", vec![Nat]),
            ("iptables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT;", vec![OpenPort]),
            ("iptables -t mangle -A FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu", vec![Nat]),
            ("iptables -P FORWARD ACCEPT", vec![Nat]),
            ("iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.8.0.2", vec![Other]),
            ("iptables -A FORWARD -i wg0 -j DROP", vec![Other]),
            ("sysctl -w net.ipv4.ip_forward=1 && sysctl -q net.ipv6.conf.all.forwarding=1", vec![Nat, Nat]),
            ("echo 1 > /proc/sys/net/ipv4/ip_forward", vec![Nat]),
            ("sysctl -w net.ipv4.ip_forward=0", vec![Other]),
            ("nft add table ip wg", vec![NftTable]),
            (
                "nft 'add chain ip wg nat { type nat hook postrouting priority 100 ; }'; nft add rule ip wg nat oifname eth0 masquerade",
                vec![NftTable, Nat],
            ),
            ("firewall-cmd --zone=public --add-masquerade", vec![Nat]),
            ("firewall-cmd --add-port=51820/udp", vec![OpenPort]),
            ("ufw route allow in on wg0 out on eth0", vec![Nat]),
            ("wg set %i private-key <(cat /etc/wireguard/key)", vec![PrivateKey]),
            ("wg set %i peer x preshared-key /etc/psk", vec![Other]),
            ("curl -H 'token: secret; x' https://example.com || true", vec![Other, Nothing]),
            ("ip route add 10.0.0.0/8 via 10.8.0.2", vec![Other]),
        ] {
            assert_eq!(duties(hook), expected, "{hook}");
        }
        let told = commands("/usr/bin/curl -H secret https://example.com; 'ip' rule add x; sudo ip link");
        assert_eq!(programs(&told, Purpose::Other).into_iter().collect::<Vec<_>>(), ["curl", "ip"]);
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(hook in ".{0,80}|[;&|'\" a-z/]{0,40}") {
            for command in commands(&hook) {
                prop_assert!(!command.program.contains(char::is_whitespace));
            }
        }
    }
}
