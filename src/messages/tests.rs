//! Any bytes that the other process sends are an error or decode to a message that encodes to the
//! same value.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::process::{decode, encode};
use crate::traffic::{Bytes, PeriodTraffic};
use wontun_proto::wireguard::Transfer;

/// Number of variants of the larger enum, and some invalid ones.
const VARIANTS: u8 = 30;

/// Returns `body` after a valid header.
fn framed(body: &[u8]) -> Vec<u8> {
    let empty = encode(&()).unwrap();
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&empty[..2], &length, body].concat()
}

fn check<M: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = decode::<M>(bytes) else { return Ok(()) };
    let written = encode(&message).unwrap();
    prop_assert!(written.len() <= bytes.len());
    let again: M = decode(&written).unwrap();
    prop_assert_eq!(&*encode(&again).unwrap(), &*written);
    Ok(())
}

fn check_both(bytes: &[u8]) -> Result<(), TestCaseError> {
    check::<ToTunnel>(bytes)?;
    check::<FromTunnel>(bytes)
}

fn samples() -> Vec<Vec<u8>> {
    let peer = PublicKey::from_bytes([7; 32]);
    let connected = ConnectedSocket {
        peer,
        worker: 1,
        remote: "[2001:db8::1]:51820".parse::<SocketAddr>().unwrap().into(),
        local: Some("2001:db8::2".parse().unwrap()),
        has_gso: true,
    };
    let to = [
        ToTunnel::Start(Box::new(TunnelConfig {
            tun: "tun0".parse().unwrap(),
            index: 3,
            link: DeviceState { mtu: 1420, is_up: true, is_in_other_netns: false },
            workers: 2,
            clamps_mss: true,
            offload: true,
            awaits_sessions: true,
            is_sandboxed: true,
            user: 0,
            log: LogConfig { to_journald: false, is_json: true, covers_stderr: false, level: 3 },
            has_health: true,
            metrics: Some(MetricsConfig {
                address: "127.0.0.1:9100".parse().unwrap(),
                hosts: vec!["vpn.example".to_owned()],
            }),
            mode: ModeConfig::Plain {
                is_client: true,
                server: None,
                name: None,
                keepalive: Duration::from_secs(25),
            },
        })),
        ToTunnel::Sockets {
            port: 51820,
            sockets: vec![BaseSocket {
                worker: 1,
                role: SocketRole::Handshakes,
                address: "::".parse().unwrap(),
                has_gso: true,
            }],
        },
        ToTunnel::DeviceRenamed { tun: "home".parse().unwrap(), index: 7 },
        ToTunnel::Health { user: 1000 },
        ToTunnel::Name { peer, name: Some(("vpn.example".to_owned(), 51820)) },
        ToTunnel::Addresses { peer: Some(peer), result: Err("no such name".to_owned()) },
        ToTunnel::Import(vec![connected]),
        ToTunnel::Restore {
            sent: Some([9; 12]),
            peers: vec![RestoredPeer {
                public_key: peer,
                remote: Some(Address::from("[2001:db8::1]:7".parse::<SocketAddr>().unwrap())),
                local: "192.0.2.1".parse().ok(),
                latest: Some([8; 12]),
                last_handshake: Duration::from_secs(9),
                traffic: traffic(7),
                is_greeted: true,
            }],
        },
        ToTunnel::PathChanged { peer: Some(peer), is_reachable: true },
    ];
    let from = [
        FromTunnel::Endpoint { peer, address: "2001:db8::1".parse().unwrap(), is_confirmed: true },
        FromTunnel::State {
            sent: Some([9; 12]),
            peers: vec![PeerReport {
                public_key: peer,
                remote: Some(Address::from("192.0.2.1:7".parse::<SocketAddr>().unwrap())),
                local: "2001:db8::1".parse().ok(),
                handshake_age: Some(Duration::from_millis(1500)),
                latest: Some([8; 12]),
                traffic: traffic(u64::MAX),
            }],
        },
        FromTunnel::Path { peer: None, remote: "192.0.2.1".parse().unwrap(), local: None },
        FromTunnel::Alive {
            probe: 9,
            status: Status::WireGuard {
                connected: 1,
                peers: 2,
                handshake: Some(Duration::from_millis(1500)),
            },
        },
        FromTunnel::Exported(Ok(vec![connected])),
        FromTunnel::Imported(Err("they are damaged".to_owned())),
    ];
    let to = to.iter().map(|message| encode(message).unwrap().to_vec());
    to.chain(from.iter().map(|message| encode(message).unwrap().to_vec())).collect()
}

fn traffic(bytes: u64) -> Traffic {
    let both = Bytes { received: bytes, sent: bytes };
    let period = PeriodTraffic { number: u32::MAX, current: both, previous: both };
    let total = Transfer { received: bytes, sent: bytes, packets_received: bytes, packets_sent: bytes };
    Traffic { total, day: period, month: period }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(variant in 0..VARIANTS, rest: Vec<u8>) {
        check_both(&framed(&[&[variant][..], &rest].concat()))?;
    }

    #[test]
    fn a_damaged_message_is_another_or_an_error(sample in 0..15_usize, at: prop::sample::Index, byte: u8) {
        let mut bytes = samples()[sample].clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check_both(&bytes)?;
    }
}

#[test]
fn the_state_of_many_peers_fits_a_message() {
    let peer = PeerReport {
        public_key: PublicKey::from_bytes([0xff; 32]),
        remote: Some(Address::from(
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse::<SocketAddr>().unwrap(),
        )),
        local: "2001:db8:1111:2222:3333:4444:5555:6666".parse().ok(),
        handshake_age: Some(Duration::new(u64::MAX, 999_999_999)),
        latest: Some([0xff; 12]),
        traffic: traffic(u64::MAX),
    };
    let peers = vec![peer; MAX_PEERS_PER_MESSAGE];
    let restored = peers.iter().map(|peer| RestoredPeer {
        public_key: peer.public_key,
        remote: peer.remote,
        local: peer.local,
        latest: peer.latest,
        last_handshake: Duration::new(u64::MAX, 999_999_999),
        traffic: peer.traffic,
        is_greeted: true,
    });
    let restored = restored.collect();
    assert!(encode(&ToTunnel::Restore { sent: Some([0xff; 12]), peers: restored }).is_ok());
    assert!(encode(&FromTunnel::State { sent: Some([0xff; 12]), peers }).is_ok());
}

#[test]
fn messages_come_back_and_cut_ones_do_not() {
    for (number, bytes) in samples().iter().enumerate() {
        let is_read = |bytes: &[u8]| {
            if number < 9 { decode::<ToTunnel>(bytes).is_ok() } else { decode::<FromTunnel>(bytes).is_ok() }
        };
        assert!(is_read(bytes), "{number}");
        assert!((0..bytes.len()).all(|length| !is_read(&bytes[..length])), "{number}");
    }
}
