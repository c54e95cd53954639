//! A failure of one peer, one address or one file must not affect the others.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use wontun::net::random::SystemRandom;
use wontun_proto::wireguard::message::RESPONSE_LEN;
use wontun_proto::wireguard::{Endpoint, Interface, PrivateKey};

use super::implementation::Implementation::{ConfigFile, Wontun};
use super::node::Node;
use super::pair::{Outer, PORT, Pair, SERVER_V4};
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::descriptors::{allow_descriptors, allow_no_descriptor};
use crate::lab::{Lab, heavy, unanswered};
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, finish, holds_within, uninterrupted};

/// The type of a response, section 5.4.3 of the white paper.
const RESPONSE: u8 = 2;

/// Longer than the 15 s of silence after which the source address is considered suspect.
const DOUBT: Duration = Duration::from_secs(30);

/// As when a laptop changes from cable to wireless: the address stays, but its route no longer
/// leads anywhere.
#[test]
fn a_source_address_without_a_way_is_given_up() {
    let pair = Pair::new(ConfigFile, ConfigFile, Outer::V4);
    let (server, client) = (&pair.server.site, &pair.client.site);
    pair.client.ping(SERVER_V4);
    server.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", client.name()]);
    for (site, address) in [(server, "198.51.100.1/24"), (client, "198.51.100.2/24")] {
        site.ip(&["address", "add", address, "dev", "eth1"]);
        site.ip(&["link", "set", "eth1", "up"]);
    }
    client.ip(&["link", "set", "eth0", "down"]);
    client.ip(&["route", "add", "192.0.2.1", "via", "198.51.100.1"]);
    server.ip(&["link", "set", "eth0", "down"]);
    client.ping_within(DOUBT, SERVER_V4.parse::<IpAddr>().unwrap());
    assert!(pair.server.only_peer().endpoint.starts_with("198.51.100.2:"));
}

/// Many peers behind one address, whose server was restarted, all send initiations at once.
#[test]
fn a_burst_of_handshakes_from_one_address_is_answered() {
    const PEERS: usize = 60;
    let lab = Arc::new(Lab::new(2));
    let site = Arc::new(Site::new(&lab, 0));
    let keys = Keys::new();
    let peers: Vec<_> =
        (0..PEERS).map(|_| PrivateKey::generate(&mut SystemRandom::open().unwrap())).collect();
    let mut settings = Settings::new(&keys, &["10.9.0.1/24"]).port(PORT);
    settings.peers = peers.iter().map(|key| Peer::new(&key.public_key().to_string(), &[])).collect();
    let _server = Node::start(&site, ConfigFile, &settings);

    let server = SocketAddr::new(site.v4.into(), PORT);
    let socket = lab.client().udp((lab.client().v4, 0));
    let now = wontun_proto::time::Instant::from_boot(Duration::from_secs(1));
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let initiations: Vec<Vec<u8>> = peers
        .into_iter()
        .map(|key| {
            let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
            engine.set_private_key(Some(key), now);
            let peer = engine.add_peer(keys.public.parse().unwrap()).unwrap();
            engine.set_endpoint(peer, Some(Endpoint::new(server)), now);
            engine.send_keepalive(peer, now);
            let mut datagram = vec![0; 2048];
            let transmit = engine.poll_transmit(now, unix, &mut datagram).unwrap();
            datagram.truncate(transmit.len);
            datagram
        })
        .collect();
    let start = Instant::now();
    for initiation in &initiations {
        socket.send_to(initiation, server).unwrap();
    }
    // Each answer names the index of its receiver.
    let (mut answered, mut datagram) = (HashSet::new(), [0; 2048]);
    while answered.len() < PEERS {
        let length = uninterrupted(|| socket.recv(&mut datagram))
            .unwrap_or_else(|error| panic!("{error}: {}", answered.len()));
        assert_eq!((length, datagram[0]), (RESPONSE_LEN, RESPONSE));
        answered.insert(<[u8; 4]>::try_from(&datagram[8..12]).unwrap());
    }
    // Beyond the first five, a thousand a second are accepted.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

/// Datagrams to an unresponsive neighbour wait, and are charged to the socket that all peers share.
#[test]
fn dead_neighbours_do_not_stop_the_others() {
    const DEAD: std::ops::Range<u8> = 2..5;
    let lab = Arc::new(Lab::new(2));
    let [server_site, client_site] = [0, 1].map(|index| Arc::new(Site::new(&lab, index)));
    let keys: Vec<Keys> = (0..=DEAD.end).map(|_| Keys::new()).collect();
    let mut settings = Settings::new(&keys[0], &["10.9.0.1/16"]).port(PORT);
    let inner = |peer: u8| format!("10.9.1.{peer}");
    for peer in 1..DEAD.end {
        let allowed = format!("{}/32", inner(peer));
        settings = settings.peer(Peer::new(&keys[usize::from(peer)].public, &[&allowed]));
    }
    let server = Node::start(&server_site, ConfigFile, &settings);
    let mut nodes = Vec::new();
    for peer in 1..DEAD.end {
        let at = Outer::V4.endpoint(&server_site);
        let mut settings = Settings::new(&keys[usize::from(peer)], &[&format!("{}/32", inner(peer))])
            .peer(Peer::new(&keys[0].public, &["10.9.0.1/32"]).at(at).keepalive(1));
        settings.table = Some("off".to_owned());
        nodes.push(Node::named(&format!("wg{peer}"), &client_site, ConfigFile, &settings));
    }
    client_site.ip(&["route", "add", "10.9.0.1", "dev", "wg1"]);
    eventually("all have shaken hands", || server.peers().iter().all(|peer| peer.handshake > 0));
    nodes.truncate(1);
    for peer in DEAD {
        // no host has these addresses
        let endpoint = format!("192.0.2.{}:1000", 100 + peer);
        server.set(&["peer", &keys[usize::from(peer)].public, "endpoint", &endpoint]);
    }
    let _guard = heavy();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = SetAtEnd(&stop);
        for peer in DEAD {
            let to: IpAddr = inner(peer).parse().unwrap();
            let socket = server_site.udp(([10, 9, 0, 1], 0));
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&[0; 1300], (to, 9));
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(1));
        let mut ping = server_site.command("ping");
        let said = finish(ping.args(["-n", "-c", "51", "-i", "0.1", "-W", "1", &inner(1)]), TIMEOUT);
        assert_eq!(unanswered(&said.stdout, 50), [0; 0], "{said:?}");
    });
}

/// No further client connects, and no edge of the listener announces that descriptors are available
/// again.
#[test]
fn who_asks_while_there_are_no_descriptors_is_answered_once_there_are() {
    let node = node_of(&Settings::new(&Keys::new(), &["10.9.0.1/24"]));
    let pid = node.daemon.pid();
    let allowed = allow_no_descriptor(pid);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| node.site.try_wg(&["show", "wg0"]));
        node.daemon.wait_for("cannot accept a connection");
        allow_descriptors(pid, &allowed);
        let answer = asked.join().unwrap();
        assert!(answer.status.success(), "{answer:?}");
    });
}

/// `--config <(…)`: nothing is written into that pipe again.
#[test]
fn a_file_that_is_a_pipe_does_not_stop_the_tunnel_at_a_reload() {
    let lab = Arc::new(Lab::new(2));
    let site = Site::new(&lab, 0);
    let pipe = site.path().join("wg0.conf");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let daemon = site.launch(&Wontun.binary(), &["--config", pipe.to_str().unwrap()]).spawn();
    std::fs::write(&pipe, Settings::new(&Keys::new(), &["10.9.0.1/24"]).wg_quick()).unwrap();
    daemon.wait_for(" ready mode=");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("cannot be reloaded");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

fn node_of(settings: &Settings) -> Node {
    Node::start(&Arc::new(Site::new(&Arc::new(Lab::new(2)), 0)), ConfigFile, settings)
}

/// IPv6 is disabled on a device with an MTU below 1280 bytes.
#[test]
fn an_mtu_that_leaves_no_room_for_ipv6_and_one_that_does() {
    let keys = Keys::new();
    let (small, large) = (
        Settings::new(&keys, &["10.9.0.1/24"]).mtu(1200),
        Settings::new(&keys, &["10.9.0.1/24", "fd00:9::1/64"])
            .mtu(1400)
            .peer(Peer::new(&Keys::new().public, &["fd00:99::/64"])),
    );
    let node = node_of(&small);
    let has_ipv6 = || {
        let addresses = node.site.ip(&["-6", "address", "show", "dev", "wg0"]);
        let routes = node.site.ip(&["-6", "route", "show", "dev", "wg0"]);
        addresses.contains("fd00:9::1/64") && routes.contains("fd00:99::/64")
    };
    for (settings, mtu) in [(&large, 1400), (&small, 1200), (&large, 1400)] {
        node.site.write("wg0.conf", &settings.wg_quick());
        node.daemon.signal(Signal::SIGHUP);
        eventually("the file is in force", || node.site.mtu("wg0") == mtu && has_ipv6() == (mtu == 1400));
    }
    assert_eq!(node.daemon.count("WARN"), 0, "{:?}", node.daemon.lines());
    // By hand: the file names an MTU, which is restored.
    node.set_link(&["mtu", "1200"]);
    eventually("MTU, addresses and routes are back", || node.site.mtu("wg0") == 1400 && has_ipv6());
    node.daemon.wait_for("MTU 1400 instead of 1200");
    // A file without an MTU leaves it to other programs. Back once with a pause, once without.
    let any = Settings::new(&keys, &["10.9.0.1/24", "fd00:9::1/64"])
        .peer(Peer::new(&Keys::new().public, &["fd00:99::/64"]));
    node.site.write("wg0.conf", &any.wg_quick());
    node.daemon.signal(Signal::SIGHUP);
    eventually("the file is in force", || node.site.mtu("wg0") == 1420 && has_ipv6());
    let before = node.daemon.count("WARN");
    for pause in [500, 0] {
        node.set_link(&["mtu", "1200"]);
        std::thread::sleep(Duration::from_millis(pause));
        node.set_link(&["mtu", "1400"]);
        eventually("addresses and routes are back", has_ipv6);
    }
    assert_eq!(node.daemon.count("WARN"), before, "{:?}", node.daemon.lines());
}

#[test]
fn a_peer_that_wg_removed_comes_back_whole_with_a_reload() {
    let peer = Keys::new().public;
    let settings = Settings::new(&Keys::new(), &["10.9.0.1/24"])
        .peer(Peer::new(&peer, &["10.9.0.2/32"]).at("192.0.2.77:1000"));
    let node = node_of(&settings);
    node.set(&["peer", &peer, "remove"]);
    assert_eq!(node.peers(), []);
    node.daemon.signal(Signal::SIGHUP);
    eventually("it is back", || node.peers().len() == 1);
    assert_eq!(node.only_peer().endpoint, "192.0.2.77:1000");
}

/// The resolver process parses input from unknown senders.
#[test]
fn the_resolver_does_not_have_our_keys() {
    let keys = Keys::new();
    let node = node_of(&Settings::new(&keys, &["10.9.0.1/24"]));
    let key: PrivateKey = keys.private.parse().unwrap();
    let processes = node.daemon.processes();
    assert!(occurs_in(processes.tunnel, key.as_bytes()), "it is found where it must be");
    for other in [processes.resolver.expect("a resolver"), processes.nursery.expect("a nursery")] {
        assert!(!occurs_in(other, key.as_bytes()));
        assert!(!occurs_in(other, keys.private.trim_end_matches('=').as_bytes()));
    }
}

fn occurs_in(pid: Pid, needle: &[u8]) -> bool {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let ranges = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with('r'));
    ranges.into_iter().any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        // some of the kernel's own pages cannot be read
        memory.read_exact_at(&mut bytes, from).is_ok()
            && bytes.windows(needle.len()).any(|part| part == needle)
    })
}

/// stderr is /dev/null once it runs in the background.
#[test]
fn warnings_of_a_start_in_the_background_are_told() {
    let lab = Arc::new(Lab::new(2));
    let site = Site::new(&lab, 0);
    for _ in 0..10 {
        let mut command = site.command(Wontun.binary().to_str().unwrap());
        let started = finish(command.args(["interface", "wg0"]).env("WONTUN_TYPO", "1"), TIMEOUT);
        assert_eq!(started.code(), 0, "{started:?}");
        assert!(started.stderr.contains("WONTUN_TYPO"), "{started:?}");
        site.ip(&["link", "delete", "wg0"]);
        assert!(holds_within(TIMEOUT, || site.processes().is_empty()));
    }
}

#[test]
fn names_come_from_where_they_are_said_to() {
    let node = node_of(&Settings::new(&Keys::new(), &["10.9.0.1/24"]));
    let file = node.site.path().join("wg0.conf");
    let run = |variable: (&str, &str), args: &[&str]| {
        let mut command = node.site.command(Wontun.binary().to_str().unwrap());
        finish(command.args(args).env(variable.0, variable.1), TIMEOUT)
    };
    let healthy = run(("WONTUN_CONFIG", file.to_str().unwrap()), &["health"]);
    assert_eq!(healthy.code(), 0, "{healthy:?}");
    let shown = run(("WONTUN_TUN", "other"), &["show", "wg0"]);
    assert!(shown.stdout.contains("interface: wg0"), "{shown:?}");
    let both = run(("WONTUN_TUN", ""), &["wg0", "show"]);
    assert_eq!(both.code(), 2, "{both:?}");
    assert!(both.stderr.contains("'wg0'") && both.stdout.is_empty(), "{both:?}");
}
