//! The life of a session, one aspect per test.

use super::message::Message;
use super::wire::*;
use super::*;
use std::time::Duration;

#[test]
fn a_session_in_use_is_replaced_once_every_two_minutes_by_its_initiator() {
    let mut world = World::connected(1);
    for _ in 0..3600 {
        world.run(seconds(1.0));
        world.send(0, &packet(100, 1));
        world.send(1, &packet(100, 2));
    }
    world.run(seconds(0.0));
    let times: Vec<_> = world.sent(0, 1).iter().map(|seen| seen.at.as_secs()).collect();
    assert_eq!(times, (1..=30).map(|i| i * 120).collect::<Vec<_>>());
    assert_eq!(world.sent(1, 1), []);
    assert_eq!(world.sent(1, 2).len(), 30);
    assert!(world.hosts.iter().all(|host| host.drops.is_empty()));
    assert!(world.hosts.iter().all(|host| host.received.len() >= 3599));
    assert!(world.hosts.iter().all(|host| host.interface.indices() <= 3));
}

#[test]
fn an_initiator_that_only_receives_replaces_the_session_before_it_ends() {
    let mut world = World::connected(1);
    for _ in 0..200 {
        world.run(seconds(1.0));
        // acknowledged by keepalives only, which also notice the age
        world.send(1, &packet(100, 2));
    }
    world.run(seconds(0.0));
    assert_eq!(world.hosts[0].received.len(), 200);
    let first = world.sent(0, 1).first().unwrap().at;
    assert!((120..=166).contains(&first.as_secs()), "{first:?}");
}

#[test]
fn data_without_an_answer_brings_a_handshake_after_fifteen_seconds() {
    let mut world = World::connected(1);
    world.run(seconds(30.0));
    world.seen.clear();
    world.weather.loss = 100;
    let sent = world.elapsed();
    world.send(0, &packet(100, 1));
    world.run(seconds(15.4));
    let initiations = world.sent(0, 1);
    assert_eq!(initiations.len(), 1);
    let pause = initiations[0].at - sent;
    assert!(pause >= seconds(15.0) && pause <= seconds(15.333), "{pause:?}");
}

#[test]
fn after_nine_minutes_without_new_keys_none_is_left() {
    let mut world = World::connected(1);
    world.run(seconds(539.0));
    assert_eq!((world.hosts[0].interface.indices(), world.hosts[0].interface.ended_sessions()), (1, 0));
    world.run(seconds(1.0));
    assert_eq!(world.hosts.each_ref().map(|host| host.interface.indices()), [0, 0]);
    assert_eq!(world.hosts.each_ref().map(|host| host.interface.ended_sessions()), [1, 1]);
    assert_eq!(world.hosts.each_ref().map(|host| host.interface.poll_timeout()), [None, None]);
}

#[test]
fn a_persistent_keepalive_is_sent_only_into_silence() {
    let mut world = World::connected(1);
    world.run(seconds(20.0));
    let (peer, now) = (world.hosts[0].peer, world.now);
    world.hosts[0].interface.set_persistent_keepalive(peer, Some(seconds(25.0)), now);
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].keepalives, 1, "the first at once");
    world.seen.clear();
    for _ in 0..60 {
        world.run(seconds(1.0));
        world.send(1, &packet(100, 1));
    }
    let data: Vec<_> = world.sent(0, 4);
    // the answers to data, every ten seconds; no persistent keepalive among them
    assert!(data.len() <= 6, "{}", data.len());
    world.run(seconds(20.0));
    world.seen.clear();
    world.run(seconds(1000.0));
    let sent: Vec<_> =
        world.seen.iter().filter(|seen| seen.from == 0 && seen.kind == 4).map(|seen| seen.at).collect();
    assert!(sent.windows(2).all(|pair| (pair[1] - pair[0]).as_secs() <= 25), "{sent:?}");
    assert!((38..=60).contains(&sent.len()), "{}", sent.len());
    assert!(world.peer(0).has_session(world.now), "it also keeps the session alive");
}

#[test]
fn messages_that_came_together_do_what_they_do_one_by_one() {
    let lives = [true, false].map(|together| {
        let mut world = World::connected(1);
        world.run(seconds(20.0));
        let mut datagrams = vec![];
        for len in [100, 0, 60] {
            let mut buffer = [0; BUFFER];
            buffer[16..16 + len].copy_from_slice(&packet(100, 1)[..len]);
            let (peer, now) = (world.hosts[1].peer, world.now);
            let sent = world.hosts[1].interface.handle_packet(peer, &mut buffer, len, now);
            let Ok(Outgoing::Transmit(transmit)) = sent else { panic!("{sent:?}") };
            datagrams.push(buffer[..transmit.len].to_vec());
        }
        let (moved, now) = (endpoint("192.0.2.2:4000"), world.now);
        if together {
            let interface = &mut world.hosts[0].interface;
            let headers = datagrams.iter().map(|datagram| match Message::parse(datagram) {
                Some(Message::Data(header)) => header,
                other => panic!("{other:?}"),
            });
            let headers: Vec<_> = headers.collect();
            let opening = interface.begin_receive(headers[0].receiver, now).unwrap();
            for header in &headers {
                assert_eq!(interface.check(&opening, *header), Ok(()));
            }
            for (datagram, header) in datagrams.iter_mut().zip(&headers) {
                assert!(opening.open(*header, 0, datagram).is_ok());
            }
            let mut receiving = interface.receive(opening.peer(), now).unwrap();
            for (datagram, header) in datagrams.iter().zip(&headers) {
                assert_eq!(receiving.accept(*header, datagram.len()), Ok(()));
                let again = receiving.accept(*header, datagram.len());
                assert_eq!(again, Err(DropReason::Replay), "and is not counted");
            }
            receiving.finish(Some(moved));
            // without accepted messages nothing was heard
            interface.receive(opening.peer(), now).unwrap().finish(Some(endpoint("192.0.2.9:9")));
            world.flush(0);
        } else {
            datagrams.iter().for_each(|datagram| world.deliver(0, moved, datagram));
        }
        assert_eq!(world.peer(0).endpoint(), Some(moved));
        let transfer = world.peer(0).transfer();
        assert_eq!(transfer.packets_received, 2);
        world.seen.clear();
        world.run(seconds(300.0));
        let events = world.events();
        (transfer, events, world.seen)
    });
    assert_eq!(lives[0], lives[1]);
    assert!(lives[0].2.iter().any(|seen| seen.from == 0 && seen.kind == 4), "what came is acknowledged");
}

#[test]
fn crossing_initiations_give_a_session_at_once() {
    let mut world = World::new(1);
    let (peer, there, now) = (world.hosts[1].peer, world.hosts[0].at, world.now);
    world.hosts[1].interface.set_endpoint(peer, Some(there), now);
    world.weather.delay = 20;
    world.send(0, &packet(100, 1));
    world.send(1, &packet(100, 2));
    world.run(seconds(1.0));
    assert_eq!(world.hosts[0].received, [packet(100, 2)]);
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    for tag in 0..20 {
        world.run(seconds(0.5));
        world.send(0, &packet(200, tag));
        world.send(1, &packet(200, tag));
    }
    world.run(seconds(1.0));
    assert!(world.hosts.iter().all(|host| host.received.len() == 21 && host.drops.is_empty()));
}

#[test]
fn old_initiations_are_refused_and_stamps_survive_a_clock_set_back() {
    let mut world = World::new(1);
    world.send(0, &packet(100, 1));
    let old = world.last.clone();
    world.run(seconds(200.0));
    let from = world.hosts[0].at;
    world.deliver(1, from, &old);
    assert_eq!(world.hosts[1].drops, [DropReason::OldInitiation]);
    world.hosts[1].drops.clear();
    world.unix -= Duration::from_secs(1_000_000);
    world.hosts[1].received.clear();
    world.send(0, &packet(100, 2));
    world.run(seconds(1.0));
    assert_eq!(world.hosts[1].received, [packet(100, 2)]);
    assert_eq!(world.hosts[1].drops, []);
}

/// Growing stamps that are all too old mean a clock that was set back; a repeated message does not.
#[test]
fn a_clock_that_was_set_back_is_reported_and_a_replay_is_not() {
    let mut world = World::new(1);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let mut initiations = vec![world.last.clone()];
    for _ in 0..3 {
        world.run(seconds(5.4));
        initiations.push(world.last.clone());
    }
    let from = world.hosts[0].at;
    let behind = |world: &mut World, number: usize| {
        world.deliver(1, from, &initiations[number]);
        world.run(seconds(0.1));
        let [_, events] = world.events();
        events.into_iter().find_map(|event| match event {
            Event::ClockBehind { behind, .. } => Some(behind),
            _ => None,
        })
    };
    assert_eq!(behind(&mut world, 3), None, "accepted");
    for number in [3, 0, 0, 0] {
        assert_eq!(behind(&mut world, number), None, "{number}");
    }
    let behind_by = behind(&mut world, 2).unwrap();
    assert!((4..=7).contains(&behind_by.as_secs()), "{behind_by:?}");
    assert_eq!(behind(&mut world, 1), None, "older than the last");
    assert!(world.hosts[1].drops.iter().all(|drop| *drop == DropReason::OldInitiation));
}

/// A flood costs one event for each call.
#[test]
fn an_unknown_key_is_reported_with_its_source() {
    let mut world = World::new(1);
    let (key, now) = (PrivateKey::from_bytes(&[9; 32]), world.now);
    let (public, from) = (key.public_key(), world.hosts[0].at.remote);
    world.hosts[0].interface.set_private_key(Some(key), now);
    world.send(0, &packet(100, 1));
    world.run(seconds(11.0));
    assert_eq!(world.hosts[1].drops, [DropReason::UnknownPeer; 3]);
    assert_eq!(world.events()[1], [Event::UnknownPeer { from, public }; 3]);
    let initiation = world.last.clone();
    let Host { interface, at, .. } = &mut world.hosts[1];
    for _ in 0..5 {
        let _ = interface.handle_datagram(*at, 0, &mut initiation.clone(), now);
        assert_eq!(interface.handle_queued(now), Some(Err(DropReason::UnknownPeer)));
    }
    let event = Event::UnknownPeer { from: at.remote, public };
    assert_eq!([interface.poll_event(), interface.poll_event()], [Some(event), None]);
}

#[test]
fn a_peer_is_answered_fifty_times_a_second_at_most() {
    let mut world = World::new(1);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let first = world.last.clone();
    world.run(seconds(5.4));
    let second = world.last.clone();
    let from = world.hosts[0].at;
    world.deliver(1, from, &first);
    world.deliver(1, from, &second);
    assert_eq!(world.hosts[1].drops, [DropReason::InitiationFlood]);
    world.run(seconds(0.02));
    world.deliver(1, from, &second);
    assert_eq!(world.hosts[1].drops.len(), 1);
}

#[test]
fn our_own_key_is_no_peer() {
    let mut world = World::connected(1);
    let now = world.now;
    let interface = &mut world.hosts[0].interface;
    let own = *interface.public_key().unwrap();
    assert_eq!(interface.add_peer(own), Err(AddPeerError::OwnKey));
    // nor does it become a peer when the key changes
    let peer = world.hosts[0].peer;
    let theirs = PrivateKey::from_bytes(&[2; 32]);
    assert_eq!(interface.set_private_key(Some(theirs), now), Some(peer));
    assert!(interface.peer(peer).is_none());
    assert_eq!(interface.indices(), 0);
    assert_ne!(interface.add_peer(own), Ok(peer), "an id is never used again");
}

#[test]
fn to_peers_with_low_order_keys_nothing_is_ever_sent() {
    let mut world = World::new(1);
    let now = world.now;
    let interface = &mut world.hosts[0].interface;
    let mut buffer = [0; BUFFER];
    for point in LOW_ORDER {
        let peer = interface.add_peer(PublicKey::from_bytes(point)).unwrap();
        interface.set_endpoint(peer, Some(endpoint("192.0.2.9:9")), now);
        interface.set_persistent_keepalive(peer, Some(seconds(1.0)), now);
        buffer[16..116].copy_from_slice(&packet(100, 1));
        assert_eq!(interface.handle_packet(peer, &mut buffer, 100, now), Err(DropReason::LowOrder));
    }
    world.run(seconds(600.0));
    assert_eq!(world.seen, []);
}

#[test]
fn a_changed_private_key_ends_what_was_agreed_and_begins_anew() {
    let mut world = World::connected(1);
    let private = PrivateKey::from_bytes(&[77; 32]);
    let now = world.now;
    assert_eq!(world.hosts[0].interface.set_private_key(Some(private.clone()), now), None);
    world.send(0, &packet(100, 1));
    world.run(seconds(1.0));
    assert_eq!(world.hosts[1].drops, [DropReason::UnknownPeer]);
    // messages of the other side in flight are still received
    world.send(1, &packet(100, 2));
    world.run(seconds(0.0));
    assert_eq!(world.hosts[0].received, [packet(100, 2)]);
    let old = world.hosts[1].peer;
    assert!(world.hosts[1].interface.remove_peer(old).is_some());
    assert_eq!(world.hosts[1].interface.indices(), 0);
    world.hosts[1].peer = world.hosts[1].interface.add_peer(private.public_key()).unwrap();
    world.run(seconds(6.0));
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
}

#[test]
fn after_a_suspension_nothing_is_sealed_with_old_keys_and_new_ones_are_made() {
    let mut world = World::connected(1);
    world.run(seconds(1.0));
    let now = world.now;
    world.hosts[0].interface.handle_suspended(Duration::ZERO, now);
    assert_eq!(world.hosts[0].interface.indices(), 0);
    world.send(0, &packet(100, 1));
    // messages that the other side still encrypts with the old keys match no session
    world.send(1, &packet(100, 2));
    world.run(seconds(0.0));
    assert_eq!(world.sent(0, 1).len(), 1, "an initiation, although the last one is young");
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert_eq!(world.hosts[0].drops, [DropReason::UnknownIndex]);
    world.send(1, &packet(100, 3));
    world.run(seconds(0.0));
    assert_eq!(world.hosts[0].received, [packet(100, 3)]);
    // no handshakes with peers without a session
    let mut world = World::new(1);
    let now = world.now;
    world.hosts[0].interface.handle_suspended(Duration::ZERO, now);
    world.run(seconds(20.0));
    assert_eq!(world.sent(0, 1), []);
}

#[test]
fn without_a_key_or_an_endpoint_nothing_happens_and_nothing_waits() {
    let mut world = World::new(1);
    let now = world.now;
    world.send(1, &packet(100, 1));
    assert_eq!(world.hosts[1].drops, [DropReason::NoEndpoint]);
    let peer = world.hosts[1].peer;
    world.hosts[1].interface.set_persistent_keepalive(peer, Some(seconds(5.0)), now);
    world.run(seconds(60.0));
    assert_eq!(world.seen, []);
    let (there, now) = (world.hosts[0].at, world.now);
    world.hosts[1].interface.set_endpoint(peer, Some(there), now);
    world.run(seconds(1.0));
    assert!(world.peer(1).has_session(world.now), "the keepalive waited for the endpoint");

    let now = world.now;
    world.hosts[0].interface.set_private_key(None, now);
    world.send(0, &packet(100, 1));
    assert_eq!(world.hosts[0].drops, [DropReason::NoKey]);
    world.run(seconds(1000.0));
}

#[test]
fn hostile_datagrams_of_any_kind_are_dropped_and_hurt_nothing() {
    let mut world = World::new(1);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    let from = world.hosts[0].at;
    for bit in 0..initiation.len() * 8 {
        let mut forged = initiation.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        // only mac2 is not checked now
        if bit < 132 * 8 {
            world.deliver(1, from, &forged);
        }
    }
    for len in 0..initiation.len() {
        world.deliver(1, from, &initiation[..len]);
    }
    assert_eq!(world.seen.len(), 1, "none is answered");
    assert!(
        world.hosts[1]
            .drops
            .iter()
            .all(|d| matches!(d, DropReason::NoMessage | DropReason::BadMac1 | DropReason::UnknownIndex))
    );
    world.deliver(1, from, &initiation);
    let response = world.last.clone();
    assert_eq!(response[0], 2);
    let from = world.hosts[1].at;
    for bit in 0..76 * 8 {
        let mut forged = response.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        world.deliver(0, from, &forged);
    }
    world.weather.loss = 0;
    world.deliver(0, from, &response);
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
}

#[test]
fn a_payload_that_is_no_packet_is_dropped_and_counts_as_heard() {
    let mut world = World::connected(1);
    world.send(0, &[0x15; 64]);
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].drops, [DropReason::Malformed]);
    world.run(seconds(10.0));
    assert_eq!(world.hosts[0].keepalives, 1);
}

#[test]
fn the_path_is_left_to_the_system_when_nobody_answers() {
    let mut world = World::connected(1);
    let (peer, now) = (world.hosts[0].peer, world.now);
    let pinned = Endpoint { local: Some("192.0.2.1".parse().unwrap()), ..world.hosts[1].at };
    world.hosts[0].interface.set_endpoint(peer, Some(pinned), now);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    assert_eq!(world.peer(0).endpoint(), Some(pinned));
    world.run(seconds(16.0));
    assert_eq!(world.peer(0).endpoint(), Some(world.hosts[1].at));
    assert!(matches!(world.events()[0][..], [Event::EndpointMoved { .. }]));
}

#[test]
fn an_interface_may_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Interface>();
}

proptest::proptest! {
    #[test]
    fn arbitrary_datagrams_are_dropped(kind in 0_u8..6, right_index: bool, mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let mut world = World::connected(1);
        world.weather.loss = 100;
        world.send(0, &packet(100, 1));
        let index: [u8; 4] = world.last[4..8].try_into().unwrap();
        for (byte, value) in bytes.iter_mut().zip([kind, 0, 0, 0]) {
            *byte = value;
        }
        if right_index && bytes.len() >= 8 {
            bytes[4..8].copy_from_slice(&index);
        }
        world.hosts[1].events.clear();
        world.deliver(1, endpoint("203.0.113.9:9"), &bytes);
        proptest::prop_assert_eq!(world.hosts[1].drops.len(), 1);
        proptest::prop_assert_eq!(&world.hosts[1].received, &Vec::<Vec<u8>>::new());
        proptest::prop_assert_eq!(&world.hosts[1].events, &[]);
    }
}

#[test]
fn transfer_counts_whole_messages_of_both_sides_alike() {
    let mut world = World::new(1);
    world.send(0, &packet(100, 1));
    world.run(seconds(0.0));
    world.send(1, &packet(1000, 1));
    world.run(seconds(0.0));
    let [a, b] = [0, 1].map(|host| world.peer(host).transfer());
    assert_eq!((a.sent, a.received), (b.received, b.sent));
    assert_eq!(a.sent, 148 + 32 + 112);
    assert_eq!(a.received, 92 + 32 + 1008);
    assert_eq!(world.peer(0).last_handshake(), Some(world.now));
    assert!(world.peer(0).timers().next().is_some());
}
