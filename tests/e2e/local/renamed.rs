//! Another program renames the device of a running tunnel: `ip link set wg0 name home`, udev, a
//! network manager.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use crate::bare::INNER_SERVER;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::setup::server::Server;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};
use crate::wireguard::kill_switch::{Stage, kill, launch, reaches_the_world, start, talk};
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

fn wontun(site: &Site, arguments: &[&str]) -> Finished {
    finish(site.command(BINARY).args(arguments), TIMEOUT)
}

fn health(site: &Site, tun: &str) -> Finished {
    wontun(site, &["health", "--tun", tun])
}

/// Renames a device that is up, and waits until the health follows.
fn rename(site: &Site, old: &str, new: &str) {
    site.ip(&["link", "set", old, "name", new]);
    follows(site, old, new);
}

/// Panics unless the tunnel answers by its new name, and nothing answers by the old one.
fn follows(site: &Site, old: &str, new: &str) {
    eventually("the health has the new name", || health(site, new).status.success());
    eventually("and not the old one", || {
        health(site, old).stderr.contains(&format!("no tunnel is running on {old}"))
    });
    eventually("wg has the new name", || site.try_wg(&["show", new]).status.success());
    assert!(!site.try_wg(&["show", old]).status.success() && !site.socket(old).exists());
    let shown = wontun(site, &["show", new]);
    assert!(shown.status.success() && shown.stdout.contains(&format!("interface: {new}")), "{shown:?}");
    let shown = wontun(site, &["show", old]);
    assert!(shown.stderr.contains(&format!("tunnel {old} is not running")), "{shown:?}");
}

/// Returns the ruleset without the test's own part.
fn ruleset(site: &Site) -> String {
    site.shell("nft delete table inet tally 2>/dev/null || true; nft list ruleset")
}

#[test]
fn a_full_tunnel_with_a_kill_switch_goes_on_under_its_new_name() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    let rules = client.shell("ip -4 rule; ip -6 rule");
    tally.reset();
    rename(client, "wg0", "home");
    daemon.wait_for("wg0 was renamed to home");
    reaches_the_world(&stage);
    // down and up again, as older kernels require
    client.shell("ip link set home down; ip link set home name wg1; ip link set wg1 up");
    follows(client, "home", "wg1");
    reaches_the_world(&stage);
    talk(client);
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    assert_eq!(client.shell("ip -4 rule; ip -6 rule"), rules);
    assert_eq!(daemon.count("deleted by another program"), 0, "{:?}", daemon.lines());
    let ruleset = ruleset(client);
    assert!(ruleset.contains("oifname \"wg1\" accept") && !ruleset.contains("name \"wg0\""), "{ruleset}");
    assert!(!ruleset.contains("\"home\""), "{ruleset}");
    // and all of it is deleted with the tunnel
    assert!(daemon.stop().status.success());
    assert!(!client.shell("nft list tables; ip rule; ip -6 rule").contains("wontun"));
    assert!(!client.shell("ip rule").contains("51820") && !client.socket("wg1").exists());
}

/// Another program's device with the old name gets nothing out.
#[test]
fn the_kill_switch_does_not_open_for_who_takes_the_old_name() {
    let stage = Stage::new();
    let client = stage.client();
    let _daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    rename(client, "wg0", "home");
    client.shell(
        "ip link add wg0 type veth peer name far; ip link set wg0 up; ip link set far up
         ip address add 172.31.0.1/24 dev wg0
         ip neighbour add 172.31.0.2 lladdr 02:00:00:00:00:01 dev wg0
         ip route add 203.0.113.0/24 via 172.31.0.2 dev wg0 table 99
         ip rule add to 203.0.113.0/24 lookup 99 priority 10",
    );
    let (before, _) = client.device_packets("far");
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    for _ in 0..20 {
        assert!(socket.send_to(b"by the other device", "203.0.113.1:9").is_err(), "it is let out");
    }
    let (after, _) = client.device_packets("far");
    // a device that comes up sends IPv6 discovery by itself
    let sent = client.shell("nft list table inet wontun-lock-wg0");
    assert!(after - before < 20, "{before} {after}: {sent}");
    client.ip(&["rule", "delete", "priority", "10"]);
    reaches_the_world(&stage);
}

#[test]
fn the_kill_switch_goes_by_either_name() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    rename(client, "wg0", "home");
    let has_kill_switch = || client.shell("nft list tables").contains("wontun-lock-");
    for name in ["home", "wg0"] {
        let off = wontun(client, &["kill-switch", "off", name]);
        assert_eq!((off.code(), off.stdout), (0, format!("{name}: kill switch off\n")), "{}", off.stderr);
        assert!(!has_kill_switch());
        let on = wontun(client, &["kill-switch", "on", "home"]);
        assert_eq!(
            (on.code(), on.stdout.as_str()),
            (0, "home: kill switch on, set by the running tunnel\n"),
            "{}",
            on.stderr
        );
        assert!(has_kill_switch());
    }
    let on = wontun(client, &["kill-switch", "on", "wg0"]);
    assert_eq!(
        (on.code(), on.stdout.as_str()),
        (0, "wg0: kill switch on, set by the running tunnel\n"),
        "{}",
        on.stderr
    );
    reaches_the_world(&stage);
    let off = wontun(client, &["kill-switch", "off"]);
    assert_eq!((off.code(), off.stdout.as_str()), (0, "home: kill switch off\n"), "{}", off.stderr);
    assert!(!has_kill_switch());
    assert_eq!(wontun(client, &["kill-switch", "on", "home"]).code(), 0);
    kill(daemon);
    // its table still exists, and both names find it
    assert!(has_kill_switch());
    let off = wontun(client, &["kill-switch", "off", "home"]);
    assert_eq!((off.code(), off.stdout.as_str()), (0, "home: kill switch off\n"), "{}", off.stderr);
    assert!(!has_kill_switch());
}

/// The next start uses the configured name: nothing of the killed run locks it out or remains.
#[test]
fn a_killed_run_is_found_by_the_name_that_it_was_started_with() {
    let stage = Stage::new();
    let client = stage.client();
    let before = client.shell("nft list tables; ip -4 rule; ip -6 rule; ip route show table all proto 119");
    let arguments = ["--kill-switch"];
    let daemon = start(client, &stage.plan.client, &arguments);
    rename(client, "wg0", "home");
    let tally = stage.count();
    kill(daemon);
    talk(client);
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);
    let daemon = start(client, &stage.plan.client, &arguments);
    reaches_the_world(&stage);
    let tables = client.shell("nft list tables");
    assert_eq!(tables.matches("wontun-lock-").count(), 1, "{tables}");
    talk(client);
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    assert!(daemon.stop().status.success());
    client.ping(crate::wireguard::kill_switch::NEIGHBOUR_V4);
    let after = client.shell("nft list tables; ip -4 rule; ip -6 rule; ip route show table all proto 119");
    assert_eq!(after, before);
}

/// A second start would take over the state of the running tunnel. (Since Linux 6.9, which supports
/// owners of tables.)
#[test]
fn a_second_start_with_the_old_name_disturbs_nothing() {
    let stage = Stage::new();
    let client = stage.client();
    let mut daemon = start(client, &stage.plan.client, &[]);
    rename(client, "wg0", "home");
    let state = || client.shell("ip -4 rule; ip -6 rule; ip route show table all; nft list ruleset; ip link");
    let before = state();
    for arguments in [&[][..], &["--kill-switch"]] {
        let second = launch(client, &stage.plan.client, arguments).wait_exit();
        assert!(second.status.code() != Some(0), "{:?}", second.lines);
        let said = second.lines.iter().any(|line| line.contains("a running process owns it"));
        // the second has its own kill switch to leave
        if arguments.is_empty() {
            assert!(said, "{:?}", second.lines);
            assert_eq!(state(), before);
        }
    }
    client.shell("nft delete table inet wontun-lock-wg0");
    assert!(daemon.is_running());
    reaches_the_world(&stage);
}

/// The server's own file is recognized by its key.
#[test]
fn peers_are_added_to_a_server_whose_device_is_renamed() {
    let server = Server::with_file();
    let _daemon = server.serve(&[]);
    server.output(&["peer", "add", "phone"]);
    rename(&server.site, "tun0", "vpn");
    server.output(&["peer", "add", "tablet"]);
    let peers = || server.site.wg(&["show", "vpn", "peers"]).lines().count();
    assert_eq!(peers(), 2);
    assert_eq!(server.output(&["peer", "list", "--json"]).matches("\"running\":true").count(), 2);
    server.output(&["peer", "remove", "phone"]);
    assert_eq!(peers(), 1);
}

/// Starts two tunnels to the same server, each with its own network.
fn two_tunnels(lab: &Arc<Lab>, arguments: &[&str]) -> (Plan, Vec<Daemon>) {
    let plan = Plan::new(lab, Outer::V4);
    let other = Keys::new();
    let mut server = plan.server.clone();
    server.peers.push(Peer::new(&other.public, &["10.9.0.3/32"]));
    let mut second = Settings::new(&other, &["10.9.0.3/32"]);
    let endpoint = Outer::V4.endpoint(&plan.server_site);
    server.addresses.push("10.9.1.1/32".to_owned());
    second = second.peer(Peer::new(&plan.server_keys.public, &["10.9.1.1/32"]).at(endpoint));
    let start = |site: &Site, name: &str, settings: &Settings| {
        let file = site.write(&format!("{name}.conf"), &settings.wg_quick());
        let config = ["--config", file.to_str().unwrap()];
        let daemon = site.launch(Path::new(BINARY), &[&config[..], arguments].concat()).spawn();
        daemon.wait_for(" ready mode=");
        daemon
    };
    let client = &plan.client_site;
    let daemons = vec![
        start(&plan.server_site, "wg0", &server),
        start(client, "a", &plan.client),
        start(client, "b", &second),
    ];
    (plan, daemons)
}

#[test]
fn two_tunnels_may_swap_their_names() {
    let lab = Arc::new(Lab::new(2));
    let (plan, daemons) = two_tunnels(&lab, &[]);
    let client = &plan.client_site;
    let own_key = |name: &str| client.wg(&["show", name, "public-key"]).trim().to_owned();
    let (a, b) = (own_key("a"), own_key("b"));
    for _ in 0..3 {
        let (first, second) = (own_key("a"), own_key("b"));
        client.shell("ip link set dev a name c; ip link set dev b name a; ip link set dev c name b");
        eventually("wg shows them by their new names", || {
            let key = |name: &str| client.try_wg(&["show", name, "public-key"]).stdout.trim().to_owned();
            key("b") == first && key("a") == second
        });
        eventually("and nobody is called c", || !client.socket("c").exists());
        for name in ["a", "b"] {
            eventually("the health is well", || {
                health(client, name).stdout.contains(&format!("ok: {name} is up"))
            });
        }
        client.ping(SERVER_V4.parse::<Ipv4Addr>().unwrap());
        client.ping("10.9.1.1".parse::<Ipv4Addr>().unwrap());
    }
    assert_eq!((own_key("a"), own_key("b")), (b, a), "an odd number of times");
    for daemon in daemons {
        assert!(daemon.stop().status.success());
    }
    let tables = client.shell("nft list tables");
    assert!(!tables.contains("wontun"), "{tables}");
    assert!(!client.socket("a").exists() && !client.socket("b").exists());
}

/// NAT and forwarding with the sysctls of single devices.
#[test]
fn address_translation_has_the_new_name() {
    let lab = Arc::new(Lab::routed(1500));
    let mut plan = Plan::new(&lab, Outer::V4);
    plan.client.peers[0].allowed.push("2001:db8::fe/128".to_owned());
    plan.client.peers[0].allowed.push("192.0.2.254/32".to_owned());
    let file = plan.server_site.write("wg0.conf", &plan.server.wg_quick());
    let arguments = ["--config", file.to_str().unwrap(), "--nat", "auto"];
    let server = plan.server_site.launch(Path::new(BINARY), &arguments).spawn();
    server.wait_for(" ready mode=");
    let site = &plan.server_site;
    let _client = start(&plan.client_site, &plan.client, &[]);
    let router = lab.host(2);
    // only this server routes to the tunnel's networks
    router.ping(plan.client_site.v4);
    plan.client_site.ping(Ipv4Addr::new(192, 0, 2, 254));
    rename(site, "wg0", "vpn");
    let ruleset = site.shell("nft list ruleset");
    assert!(ruleset.contains("oifname != \"vpn\" masquerade") && !ruleset.contains("\"wg0\""), "{ruleset}");
    plan.client_site.ping(Ipv4Addr::new(192, 0, 2, 254));
    plan.client_site.ping(SERVER_V4.parse::<Ipv4Addr>().unwrap());
    assert_eq!(site.shell("cat /proc/sys/net/ipv4/conf/vpn/forwarding"), "1\n");
    assert!(server.stop().status.success());
    assert_eq!(site.shell("nft list tables; cat /proc/sys/net/ipv4/conf/eth0/forwarding"), "0\n");
}

/// Removing the socket of the new name ends the tunnel, as with the old one; the renaming itself
/// does not.
#[test]
fn the_renamed_socket_is_watched() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let mut daemon = start(&plan.server_site, &plan.server, &[]);
    // a stale socket of a killed process does not matter
    let stale = plan.server_site.socket("vpn");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    rename(&plan.server_site, "wg0", "vpn");
    let _client = start(&plan.client_site, &plan.client, &[]);
    plan.client_site.ping(SERVER_V4.parse::<Ipv4Addr>().unwrap());
    assert!(daemon.is_running());
    std::fs::remove_file(stale).unwrap();
    let stopped = daemon.wait_exit();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert!(stopped.lines.iter().any(|line| line.contains("the socket for wg(8) was removed")));
}

#[test]
fn plain_mode_answers_by_the_new_name() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.server().ip(&["link", "set", "tun0", "name", "home"]);
    let health = |tun: &str| {
        let mut command = lab.server().command(BINARY);
        finish(command.args(["health", "--tun", tun]), TIMEOUT)
    };
    eventually("the health has the new name", || {
        health("home").stdout == "ok: home is up and its event loop responds\n"
    });
    eventually("and not the old one", || health("tun0").stderr.contains("no tunnel is running on tun0"));
    lab.client().ping(INNER_SERVER);
    // its addresses are restored as before
    lab.server().ip(&["address", "flush", "dev", "home"]);
    let address = format!("inet {INNER_SERVER}/");
    eventually("the addresses are back", || {
        let shown = lab.server().ip(&["address", "show", "dev", "home"]);
        shown.contains(&address)
    });
    lab.client().ping(INNER_SERVER);
    assert!(server.stop().status.success());
}
