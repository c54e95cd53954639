//! Sessions that another process continues.

use std::collections::BTreeSet;

use super::super::random::Seeded;
use super::wire::*;
use super::*;
use crate::time::Instant;
use proptest::prelude::*;

/// The records of a host: the interface's and its peer's.
fn records(world: &World, host: usize) -> [Vec<u8>; 2] {
    let Host { interface, peer, .. } = &world.hosts[host];
    let mut buffer = vec![0; MAX_RECORD];
    let len = interface.export(world.now, &mut buffer).unwrap();
    let first = buffer[..len].to_vec();
    let len = interface.export_peer(*peer, &mut buffer).unwrap();
    [first, buffer[..len].to_vec()]
}

/// Returns an interface as another process makes it from the same configuration.
fn successor(world: &World, host: usize) -> (Interface, PeerId) {
    let mut interface = Interface::new(MTU, Box::new(Seeded::new(99)));
    let byte = u8::try_from(host).unwrap() + 1;
    interface.set_private_key(Some(PrivateKey::from_bytes(&[byte; 32])), world.now);
    let other = PrivateKey::from_bytes(&[3 - byte; 32]).public_key();
    let peer = interface.add_peer(other).unwrap();
    if host == 0 {
        interface.set_endpoint(peer, Some(world.hosts[1].at), world.now);
    }
    (interface, peer)
}

/// Replaces a host's process by another one.
fn hand_over(world: &mut World, host: usize) {
    let [first, second] = records(world, host);
    let (mut interface, peer) = successor(world, host);
    interface.import(&first, world.now).unwrap();
    assert_eq!(interface.import_peer(&second, world.now), Ok(Some(peer)));
    (world.hosts[host].interface, world.hosts[host].peer) = (interface, peer);
    world.flush(host);
}

#[test]
fn sessions_continue_in_both_directions_and_no_nonce_is_used_twice() {
    for seed in 0..4 {
        let mut world = World::connected(seed);
        let mut nonces = BTreeSet::new();
        for turn in 0..10 {
            for host in [0, 1] {
                for sender in [0, 1] {
                    world.send(sender, &packet(100, 1));
                    // receiver index and counter
                    assert!(nonces.insert(world.last[4..16].to_vec()), "a nonce is used twice");
                }
                world.run(seconds(1.0));
                if turn % 2 == host {
                    hand_over(&mut world, host);
                }
            }
        }
        world.run(seconds(0.0));
        assert!(world.hosts.iter().all(|host| host.received.len() == 20 && host.drops.is_empty()));
        assert!(world.sent(0, 1).is_empty() && world.sent(1, 1).is_empty(), "no new handshake");
        let transfer = world.hosts[1].interface.peer(world.hosts[1].peer).unwrap().transfer();
        assert_eq!((transfer.packets_received, transfer.packets_sent), (21, 20), "counted on");
    }
}

#[test]
fn a_session_is_replaced_when_it_would_have_been() {
    let mut world = World::connected(1);
    // not while the response is on the way
    for _ in 0..7 {
        for _ in 0..25 {
            world.run(seconds(1.0));
            world.send(0, &packet(100, 1));
        }
        hand_over(&mut world, 0);
    }
    let times: Vec<_> = world.sent(0, 1).iter().map(|seen| seen.at.as_secs()).collect();
    assert_eq!(times, [120]);
}

#[test]
fn what_was_received_before_is_not_received_again() {
    let mut world = World::connected(2);
    world.send(0, &packet(100, 1));
    let datagram = world.last.clone();
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].received.len(), 1);
    hand_over(&mut world, 1);
    let from = world.hosts[0].at;
    let outcome = world.hosts[1].interface.handle_datagram(from, 0, &mut datagram.clone(), world.now);
    assert_eq!(outcome, Err(DropReason::Replay));
}

#[test]
fn counters_are_skipped_but_not_beyond_the_replay_window() {
    let mut world = World::connected(3);
    world.send(0, &packet(100, 1));
    let counter = |datagram: &[u8]| u64::from_le_bytes(datagram[8..16].try_into().unwrap());
    let before = counter(&world.last);
    hand_over(&mut world, 0);
    world.send(0, &packet(100, 1));
    assert_eq!(counter(&world.last), before + 1 + COUNTER_GAP);
    const { assert!(COUNTER_GAP < REPLAY_WINDOW) };
}

#[test]
fn an_endpoint_that_was_configured_since_is_kept() {
    let mut world = World::connected(4);
    let [first, second] = records(&world, 0);
    let (mut interface, peer) = successor(&world, 0);
    let other = endpoint("192.0.2.9:9");
    interface.set_endpoint(peer, Some(other), world.now);
    interface.import(&first, world.now).unwrap();
    interface.import_peer(&second, world.now).unwrap();
    assert_eq!(interface.peer(peer).unwrap().endpoint(), Some(other));
    // where the peer was is known without a configured endpoint
    hand_over(&mut world, 1);
    let at = world.hosts[0].at;
    assert_eq!(world.hosts[1].interface.peer(world.hosts[1].peer).unwrap().endpoint(), Some(at));
}

#[test]
fn a_peer_that_is_configured_no_more_is_left_out() {
    let world = World::connected(5);
    let [first, second] = records(&world, 0);
    let (mut interface, peer) = successor(&world, 0);
    interface.remove_peer(peer);
    interface.import(&first, world.now).unwrap();
    assert_eq!(interface.import_peer(&second, world.now), Ok(None));
    assert_eq!(interface.indices(), 0);
}

#[test]
fn sessions_that_do_not_fit_are_refused_and_nothing_changes() {
    let world = World::connected(6);
    let [first, second] = records(&world, 0);
    let (mut interface, peer) = successor(&world, 0);
    assert_eq!(interface.import(&[], world.now), Err(ImportError::Unknown));
    assert_eq!(interface.import(b"wontunHX", world.now), Err(ImportError::Unknown));
    let mut newer = first.clone();
    newer[8] += 1;
    assert_eq!(interface.import(&newer, world.now), Err(ImportError::Format { found: 2 }));
    assert_eq!(interface.import(&first, Instant::from_boot(START / 2)), Err(ImportError::Clock));
    let (mut other, _) = successor(&world, 1);
    assert_eq!(other.import(&first, world.now), Err(ImportError::OtherKey));
    assert_eq!(interface.import_peer(&second, Instant::from_boot(START / 2)), Err(ImportError::Clock));
    assert_eq!(interface.import_peer(&[0; MAX_RECORD + 1], world.now), Err(ImportError::Malformed));
    assert_eq!(interface.indices(), 0);
    assert_eq!(interface.import_peer(&second, world.now), Ok(Some(peer)));
    let indices = interface.indices();
    assert_eq!(interface.import_peer(&second, world.now), Err(ImportError::Index), "once only");
    assert_eq!(interface.indices(), indices);
    assert!(interface.peer(peer).unwrap().has_session(world.now));
}

#[test]
fn a_dead_session_is_not_continued() {
    let mut world = World::connected(7);
    let [_, second] = records(&world, 0);
    world.run(REJECT_AFTER_TIME);
    let (mut interface, peer) = successor(&world, 0);
    assert_eq!(interface.import_peer(&second, world.now), Ok(Some(peer)));
    assert_eq!(interface.indices(), 0);
}

#[test]
fn a_handshake_in_progress_begins_again() {
    let mut world = World::new(8);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    assert_eq!(world.sent(0, 1).len(), 1);
    world.weather.loss = 0;
    hand_over(&mut world, 0);
    world.run(seconds(6.0));
    assert_eq!(world.sent(0, 1).len(), 2);
    assert!(world.hosts[0].interface.peer(world.hosts[0].peer).unwrap().has_session(world.now));
}

proptest! {
    #[test]
    fn hostile_records_are_an_error_or_a_peer(
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let world = World::connected(9);
        let [first, second] = records(&world, 0);
        for record in [&first, &second] {
            let mut changed = record.clone();
            for (index, byte) in &at {
                let index = index.index(changed.len());
                changed[index] = *byte;
            }
            for bytes in [&changed[..], &record[..cut.index(record.len())], &noise[..]] {
                let (mut interface, peer) = successor(&world, 0);
                let _ = interface.import(bytes, world.now);
                let _ = interface.import_peer(bytes, world.now);
                // it can still be used
                interface.handle_timeout(world.now + REJECT_AFTER_TIME);
                let mut buffer = [0; BUFFER];
                let _ = interface.handle_packet(peer, &mut buffer, 100, world.now);
                while interface.poll_transmit(world.now, START, &mut buffer).is_some() {}
            }
        }
    }
}
