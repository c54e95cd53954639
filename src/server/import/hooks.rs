//! Classifies the commands in a wg-quick file. They are never run.

use std::collections::BTreeSet;

/// The purpose of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// No effect that matters.
    Nothing,
    /// Address translation, forwarding or MSS clamping, as `--nat auto` sets up.
    Nat,
    /// A table or chain of nft: for address translation, if the file has any.
    Scaffold,
    /// Accepts datagrams in this host's firewall.
    LetIn,
    /// Passes the private key to the tunnel.
    PrivateKey,
    /// Anything that wontun does not do.
    Other,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) duty: Duty,
    /// The first word without its path. The rest may contain secrets.
    pub(super) program: String,
}

/// Splits a hook, which is a line of shell, into its commands.
pub(super) fn commands(hook: &str) -> Vec<Command> {
    split(hook).into_iter().filter_map(|text| command(&text)).collect()
}

/// Returns the programs of the commands with this purpose, without duplicates.
pub(super) fn programs(commands: &[Command], duty: Duty) -> BTreeSet<&str> {
    commands.iter().filter(|command| command.duty == duty).map(|command| command.program.as_str()).collect()
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
    let duty = match program.as_str() {
        ":" | "true" | "exit" | "sleep" => Duty::Nothing,
        "nft" if has("masquerade") || has("snat") => Duty::Nat,
        "nft" if has("table") || has("chain") => Duty::Scaffold,
        "firewall-cmd" if says("masquerade") => Duty::Nat,
        "firewall-cmd" if says("-port=") || says("-service=") => Duty::LetIn,
        "ufw" if has("route") => Duty::Nat,
        "ufw" if has("allow") => Duty::LetIn,
        "sysctl" | "echo" if says("forward") && (says("=1") || says("= 1") || has("1")) => Duty::Nat,
        "sysctl" | "echo" if says("src_valid_mark") => Duty::Nothing,
        "wg" if has("private-key") => Duty::PrivateKey,
        name if name.starts_with("iptables") || name.starts_with("ip6tables") => {
            let table = ["MASQUERADE", "SNAT", "TCPMSS"].into_iter().any(has);
            if table || (has("FORWARD") && has("ACCEPT")) {
                Duty::Nat
            } else if has("INPUT") && has("ACCEPT") {
                Duty::LetIn
            } else {
                Duty::Other
            }
        }
        _ => Duty::Other,
    };
    Some(Command { duty, program })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duties(hook: &str) -> Vec<Duty> {
        commands(hook).iter().map(|command| command.duty).collect()
    }

    #[test]
    fn what_people_write_is_known() {
        use Duty::{LetIn, Nat, Nothing, Other, PrivateKey, Scaffold};
        for (hook, expected) in [
            ("", vec![]),
            (" ; ", vec![]),
            (
                "iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
                vec![Nat, Nat],
            ),
            ("/sbin/ip6tables -t nat -D POSTROUTING -o eth0 -j MASQUERADE", vec![Nat]),
            ("iptables-nft -t nat -A POSTROUTING -s 10.8.0.0/24 -j SNAT --to-source 192.0.2.1", vec![Nat]),
            ("iptables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT;", vec![LetIn]),
            ("iptables -t mangle -A FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu", vec![Nat]),
            ("iptables -P FORWARD ACCEPT", vec![Nat]),
            ("iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.8.0.2", vec![Other]),
            ("iptables -A FORWARD -i wg0 -j DROP", vec![Other]),
            ("sysctl -w net.ipv4.ip_forward=1 && sysctl -q net.ipv6.conf.all.forwarding=1", vec![Nat, Nat]),
            ("echo 1 > /proc/sys/net/ipv4/ip_forward", vec![Nat]),
            ("sysctl -w net.ipv4.ip_forward=0", vec![Other]),
            ("nft add table ip wg", vec![Scaffold]),
            (
                "nft 'add chain ip wg nat { type nat hook postrouting priority 100 ; }'; nft add rule ip wg nat oifname eth0 masquerade",
                vec![Scaffold, Nat],
            ),
            ("firewall-cmd --zone=public --add-masquerade", vec![Nat]),
            ("firewall-cmd --add-port=51820/udp", vec![LetIn]),
            ("ufw route allow in on wg0 out on eth0", vec![Nat]),
            ("wg set %i private-key <(cat /etc/wireguard/key)", vec![PrivateKey]),
            ("wg set %i peer x preshared-key /etc/psk", vec![Other]),
            ("curl -H 'token: secret; x' https://example.com || true", vec![Other, Nothing]),
            ("ip route add 10.0.0.0/8 via 10.8.0.2", vec![Other]),
        ] {
            assert_eq!(duties(hook), expected, "{hook}");
        }
        let told = commands("/usr/bin/curl -H secret https://example.com; 'ip' rule add x; sudo ip link");
        assert_eq!(programs(&told, Duty::Other).into_iter().collect::<Vec<_>>(), ["curl", "ip"]);
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
