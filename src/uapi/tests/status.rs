//! Tests of answers in the format of the status, which wontun's commands read.

use std::time::Duration;

use super::codec::{KEY, empty_interface, public};
use super::*;
use crate::config::peer_settings::{ExcludedPeer, Exclusion};
use crate::traffic::Traffic;
use wontun_proto::wireguard::{PresharedKey, PrivateKey};

#[test]
fn the_status_has_no_secret() {
    let private = PrivateKey::from_bytes(&[0x48; 32]);
    let own = private.public_key();
    let interface = InterfaceStatus {
        private_key: Some(&private),
        public_key: Some(&own),
        listen_port: 0,
        fwmark: 0,
        mtu: Some(1420),
        is_up: true,
        repairs: &[("rule", 2), ("route", 0)],
        problems: &["a chain\u{1b} drops\n[31m".to_owned()],
    };
    let mut answer = Response::new(ResponseFormat::Status, &interface, [("replay", 3), ("buffer", 0)]);
    let status = PeerStatus {
        public_key: &public(KEY),
        name: Some(&"Anna's phone".parse().unwrap()),
        preshared_key: &PresharedKey::from_bytes([0xab; 32]),
        endpoint: None,
        last_handshake: Duration::ZERO,
        earlier_handshake: Duration::ZERO,
        tx_bytes: 0,
        rx_bytes: 0,
        traffic: None,
        persistent_keepalive: 0,
        has_session: false,
        is_over_quota: false,
    };
    answer.peer(&status, []);
    let text = answer.finish();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(!text.contains(&"48".repeat(32)) && !text.contains(&"ab".repeat(32)), "{text}");
    for line in [
        "own_public_key=",
        "mtu=1420\n",
        "device_up=true\n",
        "drop_replay=3\n",
        "repair_rule=2\n",
        "problem=a chain drops[31m\n",
        "has_preshared_key=true\n",
        "name=Anna's phone\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("buffer"), "{text}");
}

#[test]
fn a_peer_without_access_is_in_the_status_only() {
    let interface = empty_interface();
    let peer = ExcludedPeer {
        public_key: public(KEY),
        name: "phone".parse().ok(),
        exclusion: Exclusion::Expired,
        expires: Some(1_800_000_000),
    };
    let mut traffic = Traffic::NONE;
    traffic.month.previous.sent = 9;
    let answer = |format| {
        let mut answer = Response::new(format, &interface, []);
        answer.excluded_peer(&peer, Duration::from_secs(7), Some(traffic));
        String::from_utf8(answer.finish().to_vec()).unwrap()
    };
    assert_eq!(answer(ResponseFormat::Get), "errno=0\n\n", "wg(8) would set it without its networks");
    let mut status = TunnelStatus::new(&"tun0".parse().unwrap());
    for line in answer(ResponseFormat::Status).lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').unwrap();
        status.handle_line(key, value).unwrap();
    }
    let [found] = &status.peers[..] else { panic!("{status:?}") };
    let (expected, exclusion) = ((peer.public_key, &peer.name), Some(Exclusion::Expired));
    assert_eq!(((found.public_key, &found.name), found.exclusion), (expected, exclusion));
    assert_eq!((found.latest_handshake(), found.traffic), (Duration::from_secs(7), Some(traffic)));
}
