//! `--nat auto`: a server whose peers reach the network behind it, without another program.
//!
//! The router of the laboratory is the VPN's server, host 1 its client, and host 0 an outside web
//! server whose only route back leads to the server itself.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::implementation::Implementation::ConfigFile;
use super::no_nftables;
use super::node::Node;
use super::pair::{PORT, Plan};
use super::settings::Settings;
use super::site::Site;
use super::tally::Tally;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, uninterrupted};

const WEB_V4: &str = "192.0.2.1";
const WEB_V6: &str = "2001:db8::1";
/// The server's address, as the web server sees it.
const OUTSIDE_V4: &str = "192.0.2.254";
const OUTSIDE_V6: &str = "2001:db8::fe";
const FORWARDING: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
/// MTU of the server's device. The client's is larger: only the server knows the smaller one.
const MTU: u32 = 1300;

/// Returns the three hosts; nothing runs yet, and the server does not forward.
fn stage() -> (Arc<Lab>, Plan) {
    let lab = Arc::new(Lab::routed(1500));
    let mut plan = Plan::between(&lab, [2, 1], super::pair::Outer::V4);
    plan.server.mtu = Some(MTU);
    let peer = &mut plan.client.peers[0];
    peer.endpoint = Some(format!("198.51.100.254:{PORT}"));
    peer.allowed.extend(["192.0.2.0/24".to_owned(), "2001:db8::/64".to_owned()]);
    for file in FORWARDING {
        plan.server_site.shell(&format!("echo 0 >{file}"));
    }
    for family in ["-4", "-6"] {
        lab.host(0).ip(&[family, "route", "delete", "default"]);
    }
    (lab, plan)
}

fn serve(site: &Site, settings: &Settings, arguments: &[&str]) -> Daemon {
    let file = site.write("wg0.conf", &settings.wg_quick());
    let config = ["--config", file.to_str().unwrap()];
    let daemon = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

/// Returns the ruleset without the owners of its tables.
fn ruleset(site: &Site) -> String {
    site.shell(r#"nft list ruleset | sed -e 's/ # progname .*//' -e '/^\tflags/d'"#)
}

/// Returns the source of a datagram from the client, as the web server sees it, if it gets there;
/// the answer must get back.
fn seen_from(lab: &Lab, client: &Site, web: &str) -> Option<IpAddr> {
    let web: IpAddr = web.parse().unwrap();
    let at_web = lab.host(0).udp((web, 7));
    let any: IpAddr = if web.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let at_client = client.udp((any, 0));
    let mut buffer = [0; 64];
    at_web.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let from = (0..6).find_map(|_| {
        at_client.send_to(b"to the web", (web, 7)).ok();
        uninterrupted(|| at_web.recv_from(&mut buffer)).ok().map(|(_, from)| from)
    })?;
    at_web.send_to(b"and back", from).unwrap();
    assert_eq!(uninterrupted(|| at_client.recv_from(&mut buffer)).unwrap(), (8, SocketAddr::new(web, 7)));
    Some(from.ip())
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// Exchanges some 300 kB in each direction over one connection.
fn exchange(lab: &Lab, client: &Site, web: &str) {
    const SIZE: usize = 300_000;
    let web: IpAddr = web.parse().unwrap();
    let listener = lab.host(0).listen((web, 80));
    let server = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut got = vec![0; SIZE];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        from.ip()
    });
    let mut stream = client.connect((web, 80));
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let sent: Vec<u8> = (0..SIZE).map(|place| (place % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let write = thread::spawn(move || writer.write_all(&bytes).unwrap());
    let mut back = vec![0; SIZE];
    stream.read_exact(&mut back).unwrap();
    write.join().unwrap();
    assert!(back == sent, "other bytes came back");
    let from = server.join().unwrap();
    assert_eq!(Some(from), address(if web.is_ipv4() { OUTSIDE_V4 } else { OUTSIDE_V6 }));
}

#[test]
fn peers_reach_the_world_with_the_servers_address() {
    let (lab, plan) = stage();
    let server = serve(&plan.server_site, &plan.server, &["--nat", "auto"]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    for (file, family) in FORWARDING.iter().zip(["IPv4", "IPv6"]) {
        assert_eq!(plan.server_site.shell(&format!("cat {file}")), "0\n", "on for all devices");
        server.wait_for(&format!("{family} is forwarded between wg0 and left, right, not among these"));
    }
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), address(OUTSIDE_V4));
    assert_eq!(seen_from(&lab, &client.site, WEB_V6), address(OUTSIDE_V6));

    // Connections agree on segments that fit the device with the smallest MTU, which neither end
    // can see.
    let syn = |family: u32, mss: u32| {
        format!("meta nfproto ipv{family} tcp flags & syn == syn tcp option maxseg size {mss}")
    };
    let rules =
        [("v4", syn(4, MTU - 40)), ("v6", syn(6, MTU - 60)), ("other", "tcp flags & syn == syn".to_owned())];
    let rules: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule.as_str())).collect();
    let web = Site::new(&lab, 0);
    let tallies = [&web, &*client.site].map(|site| Tally::start(site, "input", &rules));
    exchange(&lab, &client.site, WEB_V4);
    exchange(&lab, &client.site, WEB_V6);
    for tally in &tallies {
        let [v4, v6, other] = ["v4", "v6", "other"].map(|name| tally.count(name));
        assert!(v4 > 0 && v6 > 0 && other == 0, "{v4}, {v6}, {other}");
    }

    // Packets from one peer to another, or to the server, keep their source.
    let at_server = plan.server_site.udp(([10, 9, 0, 1], 7));
    client.site.udp(([10, 9, 0, 2], 0)).send_to(b"inside", "10.9.0.1:7").unwrap();
    assert_eq!(
        uninterrupted(|| at_server.recv_from(&mut [0; 64])).unwrap().1.ip(),
        IpAddr::from([10, 9, 0, 2])
    );

    let stopped = server.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert!(!stopped.lines.iter().any(|line| line.contains("WARN")), "{:?}", stopped.lines);
    assert_eq!(ruleset(&plan.server_site), "");
}

/// The control for all the others: without NAT nothing answers.
#[test]
fn off_is_off_and_what_a_file_asks_for_by_itself() {
    let (lab, plan) = stage();
    let _server = serve(&plan.server_site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping("10.9.0.1");
    assert_eq!(plan.server_site.shell(&format!("cat {}", FORWARDING.join(" "))), "0\n0\n");
    assert!(!ruleset(&plan.server_site).contains("wontun-nat"));
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), None);
}

#[test]
fn leftovers_of_a_killed_run_are_replaced_or_removed() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    let up = ruleset(site);
    assert!(up.contains("table inet wontun-nat-wg0"), "{up}");
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    assert_eq!(ruleset(site), up, "nothing is left, so this test shows nothing");
    site.shell("nft add rule inet wontun-nat-wg0 forward drop");
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    assert_eq!(ruleset(site), up);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), address(OUTSIDE_V4));
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    let _server = serve(site, &plan.server, &[]);
    assert!(!ruleset(site).contains("wontun-nat"));
    let switches =
        "cat /proc/sys/net/ipv4/conf/left/forwarding /proc/sys/net/ipv6/conf/left/force_forwarding";
    assert_eq!(site.shell(switches), "0\n0\n", "still turned on");
}

#[test]
fn the_table_follows_the_file_and_comes_back() {
    let (lab, mut plan) = stage();
    let site = &plan.server_site;
    // a peer outside the server's network, as with Address = 10.9.0.1/32
    plan.server.peers[0].allowed.push("10.77.0.1/32".to_owned());
    plan.client.addresses.push("10.77.0.1/32".to_owned());
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    let networks = |family: &str| site.shell(&format!("nft list set inet wontun-nat-wg0 {family}"));
    assert!(networks("v4").contains("10.9.0.0/24, 10.77.0.1"), "{}", networks("v4"));
    assert!(networks("v6").contains("fd00:9::/64"), "{}", networks("v6"));
    client.site.ip(&["route", "replace", "192.0.2.0/24", "dev", "wg0", "src", "10.77.0.1"]);
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), address(OUTSIDE_V4));

    // `nft flush ruleset` deletes the tables of all programs.
    site.shell("nft flush ruleset");
    plan.server.addresses.push("10.10.0.1/16".to_owned());
    site.write("wg0.conf", &plan.server.wg_quick());
    server.signal(Signal::SIGHUP);
    eventually("the table has the new network", || ruleset(site).contains("10.9.0.0/24, 10.10.0.0/16"));
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), address(OUTSIDE_V4));

    // A peer with the default route: this host no longer offers NAT.
    plan.server.peers[0].allowed.push("::/0".to_owned());
    site.write("wg0.conf", &plan.server.wg_quick());
    server.signal(Signal::SIGHUP);
    eventually("the table is gone", || !ruleset(site).contains("wontun-nat"));
}

/// The rule that the log names accepts the tunnel's packets, and then nothing more is logged.
#[test]
fn a_firewall_that_drops_is_named_with_its_remedy() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    site.shell(
        "nft 'table inet fw { chain through { type filter hook forward priority 0; policy drop; }; }'",
    );
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    let line = server.wait_for("the chain through of the nftables table inet fw drops forwarded packets");
    assert_eq!(server.count("drops forwarded packets"), 1);
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), None);
    let (_, remedy) = line.split_once("allow wg0: ").unwrap();
    site.shell(remedy);
    assert_eq!(seen_from(&lab, &client.site, WEB_V4), address(OUTSIDE_V4));
    assert_eq!(seen_from(&lab, &client.site, WEB_V6), address(OUTSIDE_V6));
    server.stop();
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    assert_eq!(server.count("drops forwarded packets"), 0, "{:?}", server.lines());
}

#[test]
fn known_firewalls_have_remedies_of_their_own() {
    let (_lab, plan) = stage();
    let site = &plan.server_site;
    let forward = |family: &str, others: &str| {
        format!(
            "table {family} filter {{ chain FORWARD {{ type filter hook forward priority 0; policy drop; }}; {others} }}\n"
        )
    };
    for (tables, remedies) in [
        (
            forward("ip", "chain DOCKER-USER { }; chain ufw-before-forward { };"),
            vec!["iptables -I DOCKER-USER -i wg0 -j ACCEPT && iptables -I DOCKER-USER -o wg0 -j ACCEPT"],
        ),
        (
            forward("ip", "chain ufw-before-forward { };")
                + &forward("ip6", "chain ufw6-before-forward { };"),
            vec!["ufw route allow in on wg0"],
        ),
        (
            forward("ip", "") + &forward("ip6", ""),
            vec!["iptables -I FORWARD -i wg0 -j ACCEPT", "ip6tables -I FORWARD -i wg0 -j ACCEPT"],
        ),
        (forward("bridge", ""), vec![]),
    ] {
        let file = site.write("firewall.nft", &tables);
        site.shell(&format!("nft flush ruleset; nft -f {}", file.display()));
        let stopped = serve(site, &plan.server, &["--nat", "auto"]).stop();
        let said: Vec<_> = stopped.lines.iter().filter(|line| line.contains("allow wg0")).collect();
        assert_eq!(said.len(), remedies.len(), "{said:?}");
        for (said, remedy) in said.iter().zip(remedies) {
            assert!(said.contains(&format!("allow wg0: {remedy}")), "{said}");
        }
    }
}

#[test]
fn forwarding_that_cannot_be_turned_on_is_named_with_its_flag() {
    let (_lab, plan) = stage();
    let site = &plan.server_site;
    site.shell("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let line = server.wait_for(&format!("{key} is off and cannot be turned on"));
        assert!(
            line.contains("Read-only file system") && line.contains(&format!("docker run --sysctl {key}=1"))
        );
    }
    // the tunnel itself runs
    client.ping("10.9.0.1");
    drop(server);
    site.shell("umount /proc/sys");
    for file in FORWARDING {
        site.shell(&format!("echo 1 >{file}"));
    }
    site.shell("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    assert_eq!(server.count("WARN"), 0, "{:?}", server.lines());
}

/// As under systemd's ProcSubset=pid: the state is read over netlink.
#[test]
fn forwarding_is_known_without_proc_sys() {
    let (_lab, plan) = stage();
    let site = &plan.server_site;
    site.shell(&format!(
        "echo 1 >{}; mount -t proc -o subset=pid none /proc; ! test -e /proc/sys",
        FORWARDING[0]
    ));
    let server = serve(site, &plan.server, &["--nat", "auto"]);
    server.wait_for("net.ipv6.conf.all.forwarding is off and cannot be turned on: No such file or directory");
    assert_eq!(server.count("WARN"), 1, "{:?}", server.lines());
}

#[test]
fn without_nftables_the_tunnel_runs_and_says_so() {
    let (_lab, plan) = stage();
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &plan.server.wg_quick());
    let arguments = ["--config", file.to_str().unwrap(), "--nat", "auto"];
    // the first such socket looks for a kill switch, then come the watch, the guard, the check of
    // INPUT, NAT, and one for later
    let refuse = no_nftables::refuse(site, &arguments, |places| places.nth(4));
    let server = site.launch(BINARY.as_ref(), &arguments).wrap(&refuse).spawn();
    server.wait_for("cannot install the nftables table wontun-nat-wg0: Protocol not supported");
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping("10.9.0.1");
}

/// Without the guard's table the tunnel runs, unless its peers are to be isolated.
#[test]
fn without_nftables_peers_are_not_served_if_they_are_to_be_isolated() {
    let (_lab, plan) = stage();
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &plan.server.wg_quick());
    let arguments = ["--config", file.to_str().unwrap()];
    // the first such socket looks for a kill switch, the second watches
    let refuse = no_nftables::refuse(site, &arguments, |places| places.nth(2));
    let isolate = [&arguments[..], &["--policy", "isolate"]].concat();
    let ended = site.launch(BINARY.as_ref(), &isolate).wrap(&refuse).spawn().wait_exit();
    let failure = "cannot install the nftables table wontun-guard-wg0: Protocol not supported";
    assert_eq!(ended.status.code(), Some(69), "{:?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains(failure)), "{:?}", ended.lines);
    let server = site.launch(BINARY.as_ref(), &arguments).wrap(&refuse).spawn();
    let line = server.wait_for(failure);
    assert!(line.contains("WARN") && line.contains("hosts on this host's other networks"), "{line}");
    Node::start(&plan.client_site, ConfigFile, &plan.client).ping("10.9.0.1");
}

/// A client whose default route is the tunnel offers no NAT to others, and does not forward.
#[test]
fn a_client_with_a_full_tunnel_does_not_masquerade() {
    let (_lab, mut plan) = stage();
    let site = &plan.client_site;
    for file in FORWARDING {
        site.shell(&format!("echo 0 >{file}"));
    }
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let client = serve(site, &plan.client, &["--nat", "auto"]);
    client.wait_for("no NAT: a peer has the default route");
    assert!(!ruleset(site).contains("wontun-nat"));
    assert_eq!(site.shell(&format!("cat {}", FORWARDING.join(" "))), "0\n0\n");
}
