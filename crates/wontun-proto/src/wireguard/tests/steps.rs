//! Handshakes in steps, and what may happen between two of them.

use super::super::interface::{HandshakeProgress, HandshakeStep, HandshakeStepResult};
use super::super::mac::{MacKeys, Macs as _};
use super::super::message::Message;
use super::wire::*;
use super::*;
use wontun_packet::split::PacketLengths;

const fn assert_send<T: Send>() {}
const _: () = assert_send::<(HandshakeStep, HandshakeStepResult)>();

/// Returns a world without sessions in which nothing arrives, and an initiation of the first host.
fn initiated() -> (World, Vec<u8>) {
    let mut world = World::new(1);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    (world, initiation)
}

/// Begins the handshake of a message that `host` receives.
fn begin(world: &mut World, host: usize, message: &[u8]) -> HandshakeProgress {
    let (from, now) = (world.hosts[1 - host].at, world.now);
    let interface = &mut world.hosts[host].interface;
    assert_eq!(interface.handle_datagram(from, 0, &mut message.to_vec(), now), Ok(Incoming::Queued));
    interface.begin_handshake(now).unwrap()
}

/// Does the next step.
fn compute(progress: HandshakeProgress) -> HandshakeStepResult {
    match progress {
        HandshakeProgress::Next(step) => step.compute(),
        HandshakeProgress::Done(handled) => panic!("no step follows: {handled:?}"),
    }
}

fn apply(world: &mut World, host: usize, result: HandshakeStepResult) -> HandshakeProgress {
    let now = world.now;
    world.hosts[host].interface.continue_handshake(result, now)
}

fn end(progress: HandshakeProgress) -> Result<PeerId, DropReason> {
    match progress {
        HandshakeProgress::Next(_) => panic!("a step follows"),
        HandshakeProgress::Done(handled) => handled,
    }
}

/// Changes the state of `host` between two steps.
type Change = fn(&mut World, host: usize);

fn remove_peer(world: &mut World, host: usize) {
    let Host { interface, peer, .. } = &mut world.hosts[host];
    assert!(interface.remove_peer(*peer).is_some());
}

fn replace_private_key(world: &mut World, host: usize) {
    let now = world.now;
    world.hosts[host].interface.set_private_key(Some(PrivateKey::from_bytes(&[77; 32])), now);
}

fn replace_preshared_key(world: &mut World, host: usize) {
    let Host { interface, peer, .. } = &mut world.hosts[host];
    interface.set_preshared_key(*peer, PresharedKey::from_bytes([78; 32]));
}

#[test]
fn the_steps_of_a_handshake_make_a_session_with_packets_between_them() {
    let (mut world, initiation) = initiated();
    let mut progress = begin(&mut world, 1, &initiation);
    let mut steps = 0;
    while let HandshakeProgress::Next(step) = progress {
        let result = step.compute();
        // the interface is free meanwhile
        let (now, peer) = (world.now, world.hosts[1].peer);
        let sent = world.hosts[1].interface.begin_send(peer, PacketLengths::single(100), now);
        assert!(!matches!(sent, Ok(Some(_))), "there is no session yet");
        progress = apply(&mut world, 1, result);
        steps += 1;
    }
    assert_eq!((end(progress), steps), (Ok(world.hosts[1].peer), 2));
    world.weather.loss = 0;
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
}

#[test]
fn nothing_is_made_of_an_initiation_once_the_keys_or_the_peer_have_changed() {
    let cases: [(Change, usize, DropReason); 6] = [
        (remove_peer, 0, DropReason::UnknownPeer),
        (remove_peer, 1, DropReason::UnknownPeer),
        (replace_private_key, 0, DropReason::Handshake),
        (replace_private_key, 1, DropReason::Handshake),
        // the key is read after the first step
        (replace_preshared_key, 1, DropReason::Handshake),
        (
            |world, host| {
                // as a later initiation does
                let later = Some(Timestamp::from_bytes([0xff; TIMESTAMP_LEN]));
                let Host { interface, peer, .. } = &mut world.hosts[host];
                interface.restore_peer(*peer, None, later);
            },
            1,
            DropReason::OldInitiation,
        ),
    ];
    for (number, (change, after, reason)) in cases.into_iter().enumerate() {
        let (mut world, initiation) = initiated();
        let mut progress = begin(&mut world, 1, &initiation);
        for _ in 0..after {
            let result = compute(progress);
            progress = apply(&mut world, 1, result);
        }
        let result = compute(progress);
        change(&mut world, 1);
        let progress = apply(&mut world, 1, result);
        assert_eq!(end(progress), Err(reason), "case {number}");
        assert_eq!(world.hosts[1].interface.indices(), 0, "case {number}");
    }
}

#[test]
fn nothing_is_made_of_a_response_once_the_keys_or_the_peer_have_changed() {
    let cases: [(Change, DropReason); 3] = [
        (remove_peer, DropReason::UnknownIndex),
        (replace_private_key, DropReason::Handshake),
        (replace_preshared_key, DropReason::Handshake),
    ];
    for (change, reason) in cases {
        let (mut world, initiation) = initiated();
        let from = world.hosts[0].at;
        world.deliver(1, from, &initiation);
        let response = world.last.clone();
        let progress = begin(&mut world, 0, &response);
        let result = compute(progress);
        change(&mut world, 0);
        let progress = apply(&mut world, 0, result);
        assert_eq!(end(progress), Err(reason));
        assert!(
            world.hosts[0]
                .interface
                .peer(world.hosts[0].peer)
                .is_none_or(|peer| !peer.has_session(world.now))
        );
    }
}

#[test]
fn two_threads_may_read_the_same_response_and_one_makes_a_session() {
    let (mut world, initiation) = initiated();
    let from = world.hosts[0].at;
    world.deliver(1, from, &initiation);
    let response = world.last.clone();
    let [first, second] = [0, 1].map(|_| begin(&mut world, 0, &response));
    let HandshakeProgress::Next(second) = second else { panic!() };
    let first = compute(first);
    let second = std::thread::spawn(move || second.compute()).join().unwrap();
    let peer = world.hosts[0].peer;
    let progress = apply(&mut world, 0, first);
    assert_eq!(end(progress), Ok(peer));
    let progress = apply(&mut world, 0, second);
    assert_eq!(end(progress), Err(DropReason::Handshake));
    assert!(world.peer(0).has_session(world.now));
}

#[test]
fn a_forged_response_spoils_no_later_one() {
    let (mut world, initiation) = initiated();
    let from = world.hosts[0].at;
    world.deliver(1, from, &initiation);
    let response = world.last.clone();
    let genuine = begin(&mut world, 0, &response);
    // with another ephemeral key; mac1 is anybody's to compute
    let Some(Message::Response(mut forged)) = Message::parse(&response) else { panic!() };
    forged.noise[20] ^= 1;
    forged.sign(&MacKeys::new(world.hosts[0].interface.public_key().unwrap()), None);
    let forged = compute(begin(&mut world, 0, &forged.to_bytes()));
    let progress = apply(&mut world, 0, forged);
    assert_eq!(end(progress), Err(DropReason::Handshake));
    let genuine = compute(genuine);
    let progress = apply(&mut world, 0, genuine);
    assert_eq!(end(progress), Ok(world.hosts[0].peer));
}
