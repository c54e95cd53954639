//! Any bytes that the other process sends are an error or decode to a message that encodes to the
//! same value.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::process::{decode, encode};

/// Number of variants of the larger enum, and some invalid ones.
const VARIANTS: u8 = 28;

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
            log: LogConfig { to_journald: false, covers_stderr: false, level: 3 },
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
                is_for_handshakes: true,
                address: "::".parse().unwrap(),
                has_gso: true,
            }],
        },
        ToTunnel::DeviceRenamed { tun: "home".parse().unwrap(), index: 7 },
        ToTunnel::Health { user: 1000 },
        ToTunnel::Name { peer, name: Some(("vpn.example".to_owned(), 51820)) },
        ToTunnel::Addresses { peer: Some(peer), result: Err("no such name".to_owned()) },
        ToTunnel::Import(vec![connected]),
        ToTunnel::PathChanged { peer: Some(peer), is_reachable: true },
    ];
    let from = [
        FromTunnel::Endpoint { peer, address: "2001:db8::1".parse().unwrap(), is_confirmed: true },
        FromTunnel::Reached { peer, address: "192.0.2.1".parse().unwrap() },
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

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(variant in 0..VARIANTS, rest: Vec<u8>) {
        check_both(&framed(&[&[variant][..], &rest].concat()))?;
    }

    #[test]
    fn a_damaged_message_is_another_or_an_error(sample in 0..14_usize, at: prop::sample::Index, byte: u8) {
        let mut bytes = samples()[sample].clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check_both(&bytes)?;
    }
}

#[test]
fn messages_come_back_and_cut_ones_do_not() {
    for (number, bytes) in samples().iter().enumerate() {
        let is_read = |bytes: &[u8]| {
            if number < 8 { decode::<ToTunnel>(bytes).is_ok() } else { decode::<FromTunnel>(bytes).is_ok() }
        };
        assert!(is_read(bytes), "{number}");
        assert!((0..bytes.len()).all(|length| !is_read(&bytes[..length])), "{number}");
    }
}
