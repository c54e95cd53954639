//! Firewalls of the server's own host that drop packets to its UDP port: a warning names the
//! command that opens the port, and that command works.

use std::sync::Arc;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};
use crate::wireguard::site::Site;

const DROPS: &str = "drops packets to UDP port 51820";
/// A firewall with all the usual rules except the tunnel's port.
const FIREWALL: &str = "table inet fw {
    chain wan { tcp dport 443 accept; }
    chain in {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname { wg0, tun0 } meta l4proto { icmp, tcp } accept
        tcp dport { 22, 51820 } accept
        udp dport { 53, 67, 40000-50000 } accept
        iifname vmap { eth0 : jump wan, lo : accept }
    }
}
";
/// The same with iptables.
const IPTABLES: &str = "iptables -P INPUT DROP
    iptables -A INPUT -i lo -j ACCEPT
    iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -A INPUT -i tun0 -j ACCEPT
    iptables -A INPUT -p tcp --dport 22 -j ACCEPT
    iptables -A INPUT -p udp --dport 53 -j ACCEPT";
const BY_NFT: &str = "nft insert rule inet fw in udp dport 51820 accept";

fn nft(site: &Site, tables: &str) {
    let file = site.write("firewall.nft", tables);
    site.shell(&format!("nft -f {}", file.display()));
}

/// Returns the command that a warning names.
fn remedy(line: &str) -> &str {
    line.split_once("allow it: ").unwrap_or_else(|| panic!("no command in: {line}")).1
}

/// Checks that there is one warning about the port, and runs its command.
fn mend(site: &Site, daemon: &Daemon, seen: usize, expected: &str) {
    let line = daemon.wait_for_more(DROPS, seen);
    assert!(line.contains(" WARN "), "{line}");
    assert!(line.ends_with(expected), "{line}");
    site.shell(remedy(&line));
}

#[test]
fn serve_and_peer_add_name_the_firewall_that_drops_the_port() {
    let lab = Arc::new(Lab::new(2));
    for (is_nft, expected) in [(true, BY_NFT), (false, "iptables -I INPUT -p udp --dport 51820 -j ACCEPT")] {
        let server = Server::new(&lab, 0);
        server.site.shell("nft flush ruleset");
        if is_nft {
            nft(&server.site, FIREWALL);
        } else {
            server.site.shell(IPTABLES);
        }
        let address = lab.host(0).v4.to_string();
        let daemon = server.serve(&["--endpoint", &address]);
        let line = daemon.wait_for(DROPS);
        let added = server.run(&["peer", "add", "phone"]);
        assert_eq!(added.code(), 0, "{added:?}");
        assert!(added.stderr.contains(DROPS), "{added:?}");
        assert!(added.stderr.trim_end().ends_with(expected), "{added:?}");
        let (phone, _phone) = client(&lab, 1, &added.stdout);
        assert!(!phone.ping_once([10, 8, 0, 1], 56), "the firewall lets it in");
        assert_eq!(remedy(&line), expected);
        mend(&server.site, &daemon, 0, expected);
        phone.ping([10, 8, 0, 1]);
        assert_eq!(daemon.count(DROPS), 1, "{:?}", daemon.lines());
        let added = server.run(&["peer", "add", "tablet"]);
        assert_eq!((added.code(), added.stderr.as_str()), (0, ""), "{added:?}");
        daemon.stop();
        let daemon = server.serve(&[]);
        assert_eq!(daemon.count(DROPS), 0, "{:?}", daemon.lines());
    }
}

#[test]
fn a_file_with_a_port_names_the_firewall_and_one_without_does_not() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    for site in [&plan.server_site, &plan.client_site] {
        nft(site, FIREWALL);
    }
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    mend(&server.site, &server.daemon, 0, BY_NFT);
    client.ping(SERVER_V4);
    assert_eq!((server.daemon.count(DROPS), client.daemon.count("drops packets to UDP port")), (1, 0));
}

/// A firewall that starts after the tunnel, and one that is reloaded without the tunnel's port.
#[test]
fn a_firewall_that_comes_later_is_named_each_time() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    assert_eq!(server.daemon.count(DROPS), 0, "{:?}", server.daemon.lines());
    let site = plan.server_site.as_ref();
    let load = format!("add table inet fw\ndelete table inet fw\n{FIREWALL}");
    for seen in 0..2 {
        nft(site, &load);
        mend(site, &server.daemon, seen, BY_NFT);
        // wait until a comparison finds no more problem
        let lists = || site.shell("nft list chain inet fw in").contains("udp dport 51820");
        eventually("the rule is there", lists);
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(server.daemon.count(DROPS), seen + 1, "{:?}", server.daemon.lines());
    }
    client.ping(SERVER_V4);
}

/// Its rules cannot be read with the tunnel's rights.
#[test]
fn legacy_iptables_is_named_with_a_command_that_opens_the_port() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let site = &plan.server_site;
    site.shell("iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -i wg0 -j ACCEPT");
    let server = Node::start(site, ConfigFile, &plan.server);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    let line = server.daemon.wait_for("peers cannot connect to UDP port 51820");
    assert!(line.contains(" WARN ") && line.contains("legacy iptables filters IPv4 on this host"), "{line}");
    assert!(!client.site.ping_once([10, 9, 0, 1], 56), "the firewall lets it in");
    site.shell(remedy(&line));
    client.site.ping_within(std::time::Duration::from_secs(30), [10, 9, 0, 1]);
}
