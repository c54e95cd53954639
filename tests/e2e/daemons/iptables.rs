//! iptables in both variants (nft and legacy), as administrators' scripts use it: flushed, and with
//! policies that drop.

use std::time::Instant;

use super::client::Stage;
use super::need;
use super::server::Server;

/// Flushes all tables of `iptables` and `ip6tables`, and drops packets that no rule accepts.
fn script(kind: &str) -> String {
    let mut script = String::new();
    for program in [format!("iptables{kind}"), format!("ip6tables{kind}")] {
        for table in ["filter", "nat", "mangle", "raw"] {
            script += &format!("{program} -t {table} -F; {program} -t {table} -X\n");
        }
        script += &format!(
            "{program} -P FORWARD DROP; {program} -P INPUT DROP
             {program} -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
             {program} -A INPUT -i lo -j ACCEPT\n"
        );
    }
    // neighbour discovery
    script + &format!("ip6tables{kind} -A INPUT -p icmpv6 -j ACCEPT\n")
}

fn client(kind: &str, arguments: &[&str]) {
    need(&["iptables", "iptables-legacy"]);
    let stage = Stage::new();
    let client = stage.start(arguments);
    for what in ["the first flush", "the second"] {
        stage.site().shell(&script(kind));
        client.is_as_before(what);
    }
    client.finish(&format!("iptables{kind}, client"));
}

#[test]
fn a_client_outlives_iptables_nft() {
    client("-nft", &[]);
}

#[test]
fn a_client_outlives_iptables_legacy() {
    client("-legacy", &["--kill-switch"]);
}

#[test]
fn a_server_names_the_rules_that_iptables_nft_needs() {
    need(&["iptables"]);
    let server = Server::start();
    let (since, title) = (Instant::now(), "iptables-nft, server");
    server.site().shell(&script("-nft"));
    let needles = [
        "iptables -I INPUT -p udp --dport 51820",
        "ip6tables -I INPUT -p udp --dport 51820",
        "iptables -I FORWARD -i wg0",
        "ip6tables -I FORWARD -i wg0",
    ];
    let commands = needles.map(|needle| server.command_of_warning(title, &format!(": {needle}"), since));
    assert_eq!(server.forwards(), [false; 2]);
    server.is_fixed_by(&commands);
    server.is_as_before("iptables -F");
    server.finish(title);
}

/// The kernel does not announce rules of legacy iptables: the next comparison finds them.
#[test]
fn a_server_names_the_rules_that_iptables_legacy_needs() {
    need(&["iptables-legacy"]);
    let server = Server::start();
    server.site().shell(&script("-legacy"));
    let (since, title) = (Instant::now(), "iptables-legacy, server");
    server.ask_for_health();
    let needles = ["iptables-legacy -I FORWARD -i wg0", "ip6tables-legacy -I FORWARD -i wg0"];
    // the command is not at the end of the line
    let commands = needles.map(|needle| {
        server.command_of_warning(title, &format!(": {needle}"), since);
        format!("{needle} -j ACCEPT; {} -j ACCEPT", needle.replace("-i wg0", "-o wg0"))
    });
    assert_eq!(server.forwards(), [false; 2]);
    server.is_fixed_by(&commands);
    server.is_as_before("iptables-legacy -F");
    server.finish(title);
}
