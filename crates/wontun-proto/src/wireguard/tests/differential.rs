//! The engine against another implementation: boringtun's noise.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use proptest::prelude::*;

use super::super::random::Seeded;
use super::wire::{BUFFER, endpoint, packet};
use super::*;
use crate::time::Instant;

const NOW: Instant = Instant::from_boot(Duration::from_secs(1000));
const UNIX: Duration = Duration::from_secs(1_800_000_000);

/// Datagrams that boringtun sends, and packets that it received.
type Theirs = (Vec<Vec<u8>>, Vec<Vec<u8>>);

struct Pair {
    ours: Interface,
    peer: PeerId,
    theirs: Tunn,
    /// Packets received by this engine.
    received: Vec<Vec<u8>>,
}

impl Pair {
    fn new(seed: u64, own: [u8; 32], other: [u8; 32], psk: Option<[u8; 32]>) -> Self {
        let mut ours = Interface::new(1420, Box::new(Seeded::new(seed)));
        let own = PrivateKey::from_bytes(&own);
        let secret = x25519::StaticSecret::from(other);
        let public = PublicKey::from_bytes(x25519::PublicKey::from(&secret).to_bytes());
        let own_public = x25519::PublicKey::from(*own.public_key().as_bytes());
        ours.set_private_key(Some(own), NOW);
        let peer = ours.add_peer(public).unwrap();
        ours.set_endpoint(peer, Some(endpoint("192.0.2.2:2")), NOW);
        ours.set_preshared_key(peer, psk.map(PresharedKey::from_bytes).unwrap_or_default());
        Self { ours, peer, theirs: Tunn::new(secret, own_public, psk, None, 7, None), received: Vec::new() }
    }

    /// Returns the datagrams that this engine sends.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut out = [0; BUFFER];
        let ours = &mut self.ours;
        std::iter::from_fn(|| ours.poll_transmit(NOW, UNIX, &mut out).map(|sent| out[..sent.len].to_vec()))
            .collect()
    }

    fn send_ours(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut buffer = [0; BUFFER];
        buffer[16..16 + packet.len()].copy_from_slice(packet);
        let mut sent = Vec::new();
        match self.ours.handle_packet(self.peer, &mut buffer, packet.len(), NOW).unwrap() {
            Outgoing::Transmit(transmit) => sent.push(buffer[..transmit.len].to_vec()),
            Outgoing::Staged => {}
        }
        sent.extend(self.poll());
        sent
    }

    fn send_theirs(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = [0; BUFFER];
        match self.theirs.encapsulate(packet, &mut out) {
            TunnResult::WriteToNetwork(datagram) => vec![datagram.to_vec()],
            TunnResult::Done => vec![],
            other => panic!("{other:?}"),
        }
    }

    fn deliver_ours(&mut self, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        for mut datagram in datagrams {
            let incoming = self.ours.handle_datagram(endpoint("192.0.2.2:2"), 0, &mut datagram, NOW).unwrap();
            if let Incoming::Packet { len, .. } = incoming {
                self.received.push(datagram[16..16 + len].to_vec());
            }
            while let Some(handled) = self.ours.handle_queued(NOW) {
                handled.unwrap();
            }
        }
        self.poll()
    }

    fn deliver_theirs(&mut self, datagrams: Vec<Vec<u8>>) -> Theirs {
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for datagram in datagrams {
            let mut input = datagram.as_slice();
            loop {
                let mut out = [0; BUFFER];
                match self.theirs.decapsulate(None, input, &mut out) {
                    TunnResult::WriteToNetwork(datagram) => sent.push(datagram.to_vec()),
                    TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                        received.push(packet.to_vec());
                        break;
                    }
                    TunnResult::Done => break,
                    TunnResult::Err(error) => panic!("{error:?}"),
                }
                input = &[];
            }
        }
        (sent, received)
    }

    /// Carries datagrams in both directions until there are none; returns the packets that
    /// boringtun received.
    fn finish_receive(&mut self, mut to_theirs: Vec<Vec<u8>>, mut to_ours: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        while !to_theirs.is_empty() || !to_ours.is_empty() {
            let next = self.deliver_ours(std::mem::take(&mut to_ours));
            let (sent, got) = self.deliver_theirs(std::mem::replace(&mut to_theirs, next));
            to_ours = sent;
            received.extend(got);
        }
        received
    }
}

fn v6_packet(len: usize) -> Vec<u8> {
    let mut packet = vec![3; len.max(40)];
    let payload = u16::try_from(packet.len() - 40).unwrap();
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn both_roles_and_both_ways(
        seed: u64, own: [u8; 32], other: [u8; 32], psk in prop::option::of(any::<[u8; 32]>()), we_begin: bool,
        sizes in prop::collection::vec((any::<bool>(), 20_usize..=1420), 1..30),
    ) {
        let mut pair = Pair::new(seed, own, other, psk);
        let first = packet(333, 1);
        if we_begin {
            let sent = pair.send_ours(&first);
            prop_assert_eq!(pair.finish_receive(sent, vec![]), [first]);
        } else {
            let sent = pair.send_theirs(&first);
            prop_assert_eq!(pair.finish_receive(vec![], sent), Vec::<Vec<u8>>::new());
            prop_assert_eq!(&pair.received, &[first]);
        }
        // data in one burst in each direction, the later half first
        pair.received.clear();
        let (mut to_theirs, mut to_ours, mut ours, mut theirs) = (vec![], vec![], vec![], vec![]);
        for (ours_sends, size) in sizes {
            let packet = if size % 2 == 0 { packet(size, 5) } else { v6_packet(size) };
            if ours_sends {
                to_theirs.extend(pair.send_ours(&packet));
                ours.push(packet);
            } else {
                to_ours.extend(pair.send_theirs(&packet));
                theirs.push(packet);
            }
        }
        for (datagrams, packets) in [(&mut to_theirs, &mut ours), (&mut to_ours, &mut theirs)] {
            prop_assert_eq!(datagrams.len(), packets.len());
            let half = packets.len() / 2;
            datagrams.rotate_left(half);
            packets.rotate_left(half);
        }
        prop_assert_eq!(pair.finish_receive(to_theirs, to_ours), ours);
        prop_assert_eq!(&pair.received, &theirs);
    }

    #[test]
    fn another_preshared_key_is_no_session(seed: u64, own: [u8; 32], other: [u8; 32], psk: [u8; 32]) {
        let mut pair = Pair::new(seed, own, other, Some(psk));
        pair.ours.set_preshared_key(pair.peer, PresharedKey::default());
        let sent = pair.send_ours(&packet(100, 1));
        let (response, _) = pair.deliver_theirs(sent);
        let mut response = response[0].clone();
        prop_assert_eq!(pair.ours.handle_datagram(endpoint("192.0.2.2:2"), 0, &mut response, NOW), Ok(Incoming::Queued));
        prop_assert_eq!(pair.ours.handle_queued(NOW), Some(Err(DropReason::Handshake)));
    }
}

#[test]
fn their_cookie_is_understood() {
    let mut pair = Pair::new(1, [1; 32], [2; 32], None);
    // ten messages a second put boringtun under load
    let sent = pair.send_ours(&packet(100, 1));
    let mut reply = None;
    for _ in 0..30 {
        let mut out = [0; BUFFER];
        let from = Some("192.0.2.1".parse().unwrap());
        if let TunnResult::WriteToNetwork(datagram) = pair.theirs.decapsulate(from, &sent[0], &mut out)
            && datagram[0] == 3
        {
            reply = Some(datagram.to_vec());
        }
    }
    let from = endpoint("192.0.2.2:2");
    let incoming = pair.ours.handle_datagram(from, 0, &mut reply.unwrap(), NOW);
    assert_eq!(incoming, Ok(Incoming::Cookie(pair.peer)));
}
