//! The paths of datagrams: the source address of answers, tunnels in tunnels, and keys to which
//! nothing is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use wontun_packet::DropReason;
use wontun_proto::wireguard::PublicKey;

use super::capture::Capture;
use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, PORT, Pair, Plan, SERVER_V4};
use super::probe::{DATA, INITIATION, RESPONSE};
use super::settings::{Keys, Peer, Settings};
use crate::lab::{Lab, heavy};
use crate::streams::Connection;
use crate::waiting::uninterrupted;

/// The server has two addresses. Its answers leave from the one that the client uses; when that is
/// removed, the server's next packet leaves from the other, and the client follows.
fn the_source_address_is_sticky(server: Implementation, client: Implementation, outer: Outer) {
    let lab = Arc::new(Lab::new(2));
    let mut plan = Plan::new(&lab, outer);
    let (second, prefix): (IpAddr, _) = match outer {
        Outer::V4 => ("192.0.2.77".parse().unwrap(), 24),
        // The kernel prefers the newest.
        Outer::V6 => (lab.server().v6.into(), 64),
    };
    match outer {
        Outer::V4 => lab.server().ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]),
        Outer::V6 => lab.server().ip(&["address", "add", "2001:db8::77/64", "dev", "eth0", "nodad"]),
    };
    plan.client.peers[0].endpoint = Some(std::net::SocketAddr::new(second, PORT).to_string());
    let capture = Capture::start(lab.client());
    let pair = plan.start(server, client);
    pair.client.ping(SERVER_V4);
    pair.server.ping(CLIENT_V4);
    let answers: Vec<_> =
        capture.stop().into_iter().filter(|frame| frame.from.1 == PORT).map(|frame| frame.from.0).collect();
    assert!(answers.len() >= 3 && answers.iter().all(|from| *from == second), "{answers:?}");
    lab.server().ip(&["address", "delete", &format!("{second}/{prefix}"), "dev", "eth0"]);
    // Sooner than the fifteen seconds of silence after which a session is considered dead.
    pair.server.site.ping_within(Duration::from_secs(8), CLIENT_V4.parse::<IpAddr>().unwrap());
    pair.client.ping(SERVER_V4);
    assert!(!pair.client.only_peer().endpoint.contains(&second.to_string()), "{:?}", pair.client.peers());
}

between!(the_source_address_is_sticky: {
    wontun_and_wontun: (ConfigFile, Wontun, Outer::V4),
    wontun_and_wontun_over_v6: (Wontun, ConfigFile, Outer::V6),
    wireguard_go_to_wontun: (Wontun, WireguardGo, Outer::V4),
});

/// WireGuard in WireGuard, with the same program at all ends.
fn a_tunnel_in_a_tunnel(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    let keys = [Keys::new(), Keys::new()];
    let at_server = Settings::new(&keys[0], &["10.10.0.1/24"])
        .port(PORT + 1)
        .mtu(1340)
        .peer(Peer::new(&keys[1].public, &["10.10.0.2/32"]));
    let at_client = Settings::new(&keys[1], &["10.10.0.2/24"])
        .mtu(1340)
        .peer(Peer::new(&keys[0].public, &["10.10.0.0/24"]).at(format!("{SERVER_V4}:{}", PORT + 1)));
    let server = Node::named("wg1", &pair.server.site, server, &at_server);
    let client = Node::named("wg1", &pair.client.site, client, &at_client);
    client.ping("10.10.0.1");
    server.ping_exactly("10.10.0.2", 3, 1340 - 28);
    let _guard = heavy();
    let inner: IpAddr = "10.10.0.1".parse().unwrap();
    Connection::open(&server.site, (inner, 0), &client.site).exchange(1 << 20);
}

between!(a_tunnel_in_a_tunnel: {
    wontun_and_wontun: (ConfigFile, Wontun),
    wontun_and_wireguard_go: (WireguardGo, ConfigFile),
});

/// The points of low order of Curve25519, with which every key agrees on the same "secret".
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn public_key(hex: &str) -> String {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    PublicKey::from_bytes(bytes).to_string()
}

/// They may be configured, as in the kernel, and nothing is ever sent to them.
fn nothing_goes_to_keys_of_low_order(implementation: Implementation) {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let mut settings = plan.client.clone();
    settings.peers.clear();
    for (index, hex) in LOW_ORDER.iter().enumerate() {
        let allowed = format!("10.50.{index}.0/24");
        let peer =
            Peer::new(&public_key(hex), &[&allowed]).at(format!("192.0.2.1:{}", 1000 + index)).keepalive(1);
        settings = settings.peer(peer);
    }
    let capture = Capture::start(lab.server());
    // An honest peer, to show that the capture sees what is sent.
    settings =
        settings.peer(Peer::new(&Keys::new().public, &["10.51.0.0/24"]).at("192.0.2.1:2000").keepalive(1));
    let mut node = Node::start(&plan.client_site, implementation, &settings);
    assert_eq!(node.peers().len(), 8);
    for index in 0..8 {
        let inner: IpAddr = if index < 7 { [10, 50, index, 1].into() } else { [10, 51, 0, 1].into() };
        let socket = node.site.udp(([0, 0, 0, 0], 0));
        for _ in 0..3 {
            socket.send_to(b"anybody there?", (inner, 7)).ok();
        }
    }
    // Long enough for a second attempt and some keepalives.
    sleep(Duration::from_secs(6));
    let ports: Vec<_> =
        capture.stop().iter().filter(|frame| frame.to.0 == lab.server().v4).map(|frame| frame.to.1).collect();
    assert!(ports.len() >= 2 && ports.iter().all(|port| *port == 2000), "{ports:?}");
    assert!(node.daemon.is_running());
}

between!(nothing_goes_to_keys_of_low_order: {
    from_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

/// Sends `text` to the server in a packet with the traffic class `class`.
fn send_with_class(socket: &std::net::UdpSocket, class: u32, text: &[u8]) {
    socket2::SockRef::from(socket).set_tos_v4(class).unwrap();
    socket.send_to(text, (SERVER_V4.parse::<IpAddr>().unwrap(), 7)).unwrap();
}

/// Handshakes have DSCP AF41, data none; only the inner packet's ECN field is visible outside, and
/// marks that it gets on the path are copied inside (RFC 6040).
fn congestion_marks_go_in_and_out(server: Implementation, client: Implementation) {
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    let lab = Arc::new(Lab::new(2));
    let pair = Plan::new(&lab, Outer::V4).start(server, client);
    let at_server = pair.server.site.udp(([10, 9, 0, 1], 7));
    // One socket, one flow: its packets stay in order.
    let at_client = pair.client.site.udp(([10, 9, 0, 2], 0));
    let capture = Capture::start(lab.server());
    let receive = |text: &[u8]| {
        let mut buffer = [0; 64];
        assert_eq!(uninterrupted(|| at_server.recv(&mut buffer)).unwrap(), text.len());
        assert_eq!(buffer[..text.len()], *text);
    };
    send_with_class(&at_client, 0xb8 | u32::from(ECT_0), b"capable");
    receive(b"capable");
    lab.server().shell(
        "nft 'table ip way { chain in { type filter hook prerouting priority -300; udp dport 51820 ip ecn set ce; }; }'",
    );
    send_with_class(&at_client, u32::from(ECT_0), b"marked");
    receive(b"marked");
    // The sender does not support ECN, so the packet has to be dropped.
    send_with_class(&at_client, 0, b"incapable");
    send_with_class(&at_client, u32::from(ECT_0), b"behind it");
    receive(b"behind it");
    let frames = capture.stop();
    let classes = |to: u16, kind: Option<u8>, payload: &[u8]| -> Vec<u8> {
        let of_kind = |frame: &&super::capture::Frame| {
            frame.to.1 == to
                && kind.is_none_or(|kind| frame.kind() == Some(kind))
                && frame.payload.starts_with(payload)
        };
        frames.iter().filter(of_kind).map(|frame| frame.class).collect()
    };
    assert_eq!(classes(PORT, Some(INITIATION), b""), [0x88]);
    assert_eq!(classes(pair.client.port(), Some(RESPONSE), b""), [0x88]);
    assert_eq!(classes(7, None, b"capable"), [0xb8 | ECT_0]);
    assert_eq!(classes(7, None, b"marked"), [CE]);
    assert_eq!(classes(7, None, b"incapable"), [0_u8; 0]);
    // The capture sees incoming packets before nftables marks them.
    let data = classes(PORT, Some(DATA), b"");
    assert_eq!(data, [ECT_0, ECT_0, 0, ECT_0]);
    assert_eq!(pair.server.daemon.summary().dropped(DropReason::Congested.name()), 1);
}

between!(congestion_marks_go_in_and_out: {
    wontun_and_wontun: (ConfigFile, Wontun),
});
