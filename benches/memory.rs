//! Memory per peer of the WireGuard engine in bytes, including its allowed IPs: idle, and with a
//! session. `cargo bench --bench memory`. Measured as the resident memory of the process, over
//! 10,000 peers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod seeded;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use seeded::Seeded;
use wontun_proto::allowed_ips::{AllowedIps, Prefix};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{Endpoint, Interface, PeerId, PrivateKey};

const PEERS: u32 = 10_000;

/// Returns the bytes of anonymous resident memory of the process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon is told");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn private(number: u32) -> PrivateKey {
    let mut bytes = [9; 32];
    let (_, place) = bytes.split_first_chunk_mut::<4>().unwrap();
    *place.first_chunk_mut().unwrap() = number.to_le_bytes();
    PrivateKey::from_bytes(&bytes)
}

fn interface(seed: u64, own: PrivateKey, now: Instant) -> Interface {
    let mut interface = Interface::new(1420, Box::new(Seeded::new(seed)));
    interface.set_private_key(Some(own), now);
    interface
}

/// Performs one handshake between a temporary client and the hub.
fn connect(hub: &mut Interface, number: u32, now: Instant) {
    let mut buffer = [0; 2048];
    let (hub_at, at) = (
        Endpoint::new(([192, 0, 2, 1], 51820).into()),
        Endpoint::new((Ipv4Addr::from(0x0a00_0000 + number), 51820).into()),
    );
    let mut client = interface(u64::from(number), private(number), now);
    let peer = client.add_peer(*hub.public_key().unwrap()).unwrap();
    client.set_endpoint(peer, Some(hub_at), now);
    client.send_keepalive(peer, now);
    let unix = now.since_boot();
    let len = client.poll_transmit(now, unix, &mut buffer).unwrap().len;
    hub.handle_datagram(at, 0, buffer.get_mut(..len).unwrap(), now).unwrap();
    hub.handle_queued(now).unwrap().unwrap();
    let len = hub.poll_transmit(now, unix, &mut buffer).unwrap().len;
    client.handle_datagram(hub_at, 0, buffer.get_mut(..len).unwrap(), now).unwrap();
    client.handle_queued(now).unwrap().unwrap();
    let len = client.poll_transmit(now, unix, &mut buffer).unwrap().len;
    hub.handle_datagram(at, 0, buffer.get_mut(..len).unwrap(), now).unwrap();
    while hub.poll_event().is_some() {}
}

fn main() {
    let mut now = Instant::from_boot(Duration::from_secs(1000));
    let peers: Vec<_> = (0..PEERS).map(|number| private(number).public_key()).collect();
    let mut hub = interface(0, PrivateKey::from_bytes(&[1; 32]), now);
    let mut allowed_ips = AllowedIps::<PeerId>::new();
    let mut before = resident();
    let mut print = |what: &str| {
        let after = resident();
        println!("{what}: {} bytes a peer", (after as f64 - before as f64) / f64::from(PEERS));
        before = after;
    };
    let ids: Vec<_> = peers.iter().map(|public| hub.add_peer(*public).unwrap()).collect();
    print("without a session");
    for (number, id) in (0..).zip(&ids) {
        let v4 = Ipv4Addr::from(0x0a00_0000 + number);
        let v6 = Ipv6Addr::from(0xfd00 << 112 | u128::from(number));
        allowed_ips.insert(Prefix::new(v4.into(), 32).unwrap(), *id);
        allowed_ips.insert(Prefix::new(v6.into(), 128).unwrap(), *id);
    }
    print("two allowed IPs");
    for sessions in 1..=3 {
        for number in 0..PEERS {
            connect(&mut hub, number, now);
        }
        print(&format!("session {sessions}"));
        now = now + Duration::from_secs(121);
        hub.handle_timeout(now);
        while hub.poll_transmit(now, Duration::ZERO, &mut [0; 2048]).is_some() {}
    }
    now = now + Duration::from_secs(1000);
    hub.handle_timeout(now);
    assert_eq!(hub.indices(), 0);
    print("after nine minutes of silence");
}
