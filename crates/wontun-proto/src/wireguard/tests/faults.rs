//! Known faults of other implementations that an engine can have, by their numbers in the design.

use super::wire::*;
use super::*;
use crate::time::Instant;
use std::time::Duration;

/// Sets the counter of the first host's next message.
fn set_next_counter(world: &mut World, counter: u64) {
    let Host { interface, peer, .. } = &mut world.hosts[0];
    interface.peer_mut(*peer).keypairs().current.as_mut().unwrap().set_next_counter(counter);
}

#[test]
fn fault_07_at_reject_after_messages_the_engine_shakes_hands_anew() {
    let mut world = World::connected(1);
    set_next_counter(&mut world, REJECT_AFTER_MESSAGES - 1);
    world.run(seconds(20.0));
    world.seen.clear();
    for tag in 0..3 {
        world.send(0, &packet(100, tag));
    }
    assert_eq!(world.sent(0, 4).len(), 1, "one message was left");
    assert_eq!(world.sent(0, 1).len(), 1);
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].received.len(), 3);
}

#[test]
fn fault_07_past_rekey_after_messages_a_handshake_is_due() {
    let mut world = World::connected(1);
    world.run(seconds(20.0));
    world.seen.clear();
    set_next_counter(&mut world, REKEY_AFTER_MESSAGES);
    world.send(0, &packet(100, 1));
    assert_eq!(world.sent(0, 1).len(), 1);
}

#[test]
fn fault_08_keepalives_do_not_answer_keepalives() {
    let mut world = World::connected(1);
    world.run(seconds(3600.0));
    assert_eq!(world.sent(1, 4).iter().map(|seen| seen.at).collect::<Vec<_>>(), [KEEPALIVE_TIMEOUT]);
    assert_eq!(world.seen.len(), 1, "one keepalive for the one packet, then silence: {:?}", world.seen);
}

#[test]
fn fault_09_a_cookie_reply_does_not_move_the_endpoint() {
    let mut world = World::connected(1);
    world.run(seconds(20.0));
    let elsewhere = endpoint("203.0.113.9:9");
    let before = world.peer(0).endpoint();
    // the second host received too much from there: it answers with a cookie, which arrives from
    // elsewhere
    world.run(seconds(110.0));
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    assert_eq!(initiation[0], 1);
    let mut reply = None;
    for _ in 0..2 * MAX_BACKLOG_OF_SOURCE {
        let mut datagram = initiation.clone();
        let host = &mut world.hosts[1].interface;
        let mut out = [0; BUFFER];
        if host.handle_datagram(world.hosts[0].at, 0, &mut datagram, world.now) == Err(DropReason::NoCookie) {
            reply = host
                .poll_transmit(world.now, world.unix, &mut out)
                .map(|transmit| out[..transmit.len].to_vec());
            break;
        }
    }
    let reply = reply.unwrap();
    assert_eq!(reply[0], 3);
    world.events();
    let transfer = world.peer(0).transfer();
    world.deliver(0, elsewhere, &reply);
    assert_eq!(world.hosts[0].drops, []);
    assert_eq!(world.peer(0).transfer(), transfer, "nor is it counted");
    assert_eq!(world.peer(0).endpoint(), before);
    assert_eq!(world.events()[0], []);
    // and the cookie is used: the next initiation has a mac2
    world.weather.loss = 100;
    world.run(seconds(6.0));
    assert_eq!(world.last[0], 1);
    assert_ne!(world.last[132..], [0; 16]);
}

#[test]
fn fault_09_the_endpoint_follows_authentic_data_and_handshakes_and_nothing_else() {
    let mut world = World::connected(1);
    let (peer, elsewhere) = (world.hosts[1].peer, endpoint("203.0.113.9:9"));
    assert_eq!(world.peer(1).endpoint(), Some(world.hosts[0].at));

    // forged, replayed and truncated datagrams from elsewhere
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    world.weather.loss = 0;
    let datagram = world.last.clone();
    world.deliver(1, world.hosts[0].at, &datagram);
    world.deliver(1, elsewhere, &datagram);
    for byte in 0..datagram.len() {
        let mut forged = datagram.clone();
        forged[byte] ^= 0x10;
        world.deliver(1, elsewhere, &forged);
    }
    assert_eq!(world.peer(1).endpoint(), Some(world.hosts[0].at));
    assert_eq!(world.events()[1], []);

    // data
    world.hosts[0].at = endpoint("192.0.2.1:77");
    world.send(0, &packet(100, 2));
    world.run(seconds(0.0));
    let moved = Event::EndpointMoved { peer, endpoint: world.hosts[0].at };
    assert_eq!(world.events()[1], [moved]);
    assert_eq!(world.peer(1).endpoint(), Some(world.hosts[0].at));

    // a keepalive, over IPv6
    world.hosts[0].at = endpoint("[2001:db8::1]:77");
    let (now, id) = (world.now, world.hosts[0].peer);
    world.hosts[0].interface.send_keepalive(id, now);
    world.run(seconds(0.0));
    assert_eq!(world.peer(1).endpoint(), Some(world.hosts[0].at));

    // an initiation
    world.run(seconds(130.0));
    world.hosts[0].at = endpoint("192.0.2.1:78");
    world.send(0, &packet(100, 3));
    world.run(seconds(0.0));
    assert_eq!(world.peer(1).endpoint(), Some(world.hosts[0].at));

    // a change of the local address counts too
    let mut here = world.hosts[0].at;
    here.local = Some("192.0.2.2".parse().unwrap());
    world.weather.loss = 100;
    world.send(0, &packet(100, 4));
    let datagram = world.last.clone();
    world.deliver(1, here, &datagram);
    assert_eq!(world.peer(1).endpoint(), Some(here));
}

#[test]
fn fault_10_a_changed_preshared_key_is_used_by_the_next_handshake() {
    let mut world = World::connected(1);
    let set = |world: &mut World, host: usize, byte: u8| {
        let peer = world.hosts[host].peer;
        world.hosts[host].interface.set_preshared_key(peer, PresharedKey::from_bytes([byte; 32]));
    };
    // the session continues, and the next handshake fails until both have the key
    set(&mut world, 0, 9);
    world.send(0, &packet(100, 1));
    world.run(seconds(130.0));
    assert_eq!(world.hosts[1].received.len(), 1);
    world.seen.clear();
    world.send(0, &packet(100, 2));
    world.run(seconds(70.0));
    assert!(world.hosts[0].drops.contains(&DropReason::Handshake));
    assert!(!world.peer(0).has_session(world.now));
    world.send(0, &packet(100, 3));
    set(&mut world, 1, 9);
    world.run(seconds(6.0));
    assert!(world.peer(0).has_session(world.now));
    assert_eq!(world.hosts[1].received.last(), Some(&packet(100, 3)));

    // also a handshake in progress
    world.run(seconds(200.0));
    world.weather.delay = 1000;
    world.send(0, &packet(100, 4));
    set(&mut world, 0, 10);
    set(&mut world, 1, 10);
    world.run(seconds(4.0));
    assert_eq!(world.hosts[1].received.last(), Some(&packet(100, 4)));
}

#[test]
fn fault_11_datagrams_are_padded_and_never_longer_than_the_mtu_allows() {
    let mut world = World::connected(1);
    world.hosts[0].interface.set_mtu(1420);
    for (len, datagram) in
        [(20, 64), (32, 64), (33, 80), (1408, 1440), (1409, 1452), (1420, 1452), (1424, 1456)]
    {
        let mut buffer = [0xee; BUFFER];
        buffer[16..16 + len].copy_from_slice(&packet(len, 1));
        let Host { interface, peer, .. } = &mut world.hosts[0];
        let Ok(Outgoing::Transmit(transmit)) = interface.handle_packet(*peer, &mut buffer, len, world.now)
        else {
            panic!("{len}");
        };
        assert_eq!(transmit.len, datagram);
        world.deliver(1, world.hosts[0].at, &buffer[..transmit.len]);
        assert_eq!(world.hosts[1].received.last(), Some(&packet(len, 1)), "the padding is cut off again");
    }
}

#[test]
fn fault_12_each_handshake_has_a_new_random_index() {
    let mut world = World::connected(1);
    let mut indices = Vec::new();
    for _ in 0..50 {
        world.run(seconds(200.0));
        world.send(0, &packet(100, 1));
        indices.push(u32::from_le_bytes(world.last[4..8].try_into().unwrap()));
        world.run(seconds(0.0));
    }
    assert!((0..32).all(|bit| (5..45).contains(&indices.iter().filter(|i| *i >> bit & 1 == 1).count())));
}

#[test]
fn fault_13_the_kernels_whole_window_may_arrive_late() {
    let mut world = World::connected(1);
    world.weather.loss = 100;
    let mut datagrams = Vec::new();
    for _ in 0..=REPLAY_WINDOW {
        world.send(0, &packet(20, 1));
        datagrams.push(world.last.clone());
    }
    for datagram in datagrams.iter().rev() {
        world.deliver(1, world.hosts[0].at, datagram);
    }
    assert_eq!(world.hosts[1].received.len(), datagrams.len());
    assert_eq!(world.hosts[1].drops, []);
    for datagram in &datagrams {
        world.deliver(1, world.hosts[0].at, datagram);
    }
    assert_eq!(world.hosts[1].received.len(), datagrams.len());
    assert!(world.hosts[1].drops.iter().all(|reason| *reason == DropReason::Replay));
}

#[test]
fn fault_14_handshakes_are_retried_with_jitter_and_given_up_after_90_seconds() {
    let mut pauses = Vec::new();
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.weather.loss = 100;
        for tag in 0..200 {
            world.send(0, &packet(100, tag));
        }
        assert_eq!(world.peer(0).staged(), MAX_STAGED);
        world.run(seconds(700.0));
        let times: Vec<_> = world.sent(0, 1).iter().map(|seen| seen.at).collect();
        assert_eq!(times.len(), world.seen.len(), "initiations and nothing else");
        assert!((17..=19).contains(&times.len()), "{}", times.len());
        assert!(*times.last().unwrap() <= REKEY_ATTEMPT_TIME + seconds(0.4));
        pauses.extend(times.windows(2).map(|pair| pair[1] - pair[0]));
        let failing = Event::HandshakeFailing { peer: world.hosts[0].peer };
        let [events, _] = world.events();
        let (last, unanswered) = events.split_last().unwrap();
        assert_eq!(*last, failing);
        // each initiation but the first, and the end
        assert_eq!(unanswered.len(), times.len());
        let elapsed = unanswered.iter().map(|event| match event {
            Event::Unanswered { elapsed, .. } => *elapsed,
            other => panic!("{other:?}"),
        });
        let elapsed: Vec<_> = elapsed.collect();
        assert!(elapsed[0] >= REKEY_TIMEOUT && elapsed[0] < seconds(5.4), "{elapsed:?}");
        assert!(elapsed.is_sorted() && elapsed.last().unwrap() < &seconds(95.5), "{elapsed:?}");
        assert_eq!(world.peer(0).staged(), 0);
        assert_eq!(world.peer(0).lost(), 200, "what waited is dropped and counted");
        assert_eq!(world.hosts[0].interface.indices(), 0, "no residue is left");
        assert_eq!(world.hosts[0].interface.poll_timeout(), None);
    }
    let (least, most) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
    assert!(least >= REKEY_TIMEOUT && least < REKEY_TIMEOUT + seconds(0.05), "{least:?}");
    assert!(most <= REKEY_TIMEOUT + REKEY_TIMEOUT_JITTER && most > REKEY_TIMEOUT + seconds(0.28), "{most:?}");
}

#[test]
fn fault_15_a_flood_from_one_address_does_not_touch_another_peers_handshake() {
    let mut world = World::new(1);
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    let mut flooder = World::new(99);
    flooder.send(0, &packet(100, 1));
    let (flood, from) = (flooder.last.clone(), endpoint("198.51.100.1:5"));
    let host = &mut world.hosts[1].interface;
    for _ in 0..10_000 {
        let _ = host.handle_datagram(from, 0, &mut flood.clone(), world.now);
    }
    assert!(host.queued() <= 5);
    assert_eq!(
        host.handle_datagram(world.hosts[0].at, 0, &mut initiation.clone(), world.now),
        Ok(Incoming::Queued)
    );
}

#[test]
fn under_a_flood_from_everywhere_a_peer_gets_in_by_its_cookie() {
    let mut world = World::new(1);
    let mut flooder = World::new(99);
    flooder.send(0, &packet(100, 1));
    let mut out = [0; BUFFER];
    let flood = |host: &mut Interface, now: Instant| {
        let mut out = [0; BUFFER];
        for source in 0..2_000_u32 {
            let from = Endpoint::new((std::net::Ipv4Addr::from(0xc612_0000 + source), 5).into());
            let _ = host.handle_datagram(from, 0, &mut flooder.last.clone(), now);
            if source % 100 == 0 {
                while host.poll_transmit(now, Duration::ZERO, &mut out).is_some() {}
            }
        }
        while host.poll_transmit(now, Duration::ZERO, &mut out).is_some() {}
    };
    let now = world.now;
    flood(&mut world.hosts[1].interface, now);
    assert_eq!(world.hosts[1].interface.queued(), LOAD_THRESHOLD);
    world.send(0, &packet(100, 1));
    let first = world.last.clone();
    let host = &mut world.hosts[1].interface;
    assert_eq!(
        host.handle_datagram(world.hosts[0].at, 0, &mut first.clone(), now),
        Err(DropReason::NoCookie)
    );
    let transmit = host.poll_transmit(now, Duration::ZERO, &mut out).unwrap();
    assert_eq!((transmit.peer, transmit.endpoint), (None, world.hosts[0].at));
    let from = world.hosts[1].at;
    world.deliver(0, from, &out[..transmit.len]);

    // five seconds later, still under load, the initiation is repeated with its mac2
    world.weather.loss = 100;
    world.run(seconds(5.4));
    let (second, now) = (world.last.clone(), world.now);
    assert_eq!(second[0], 1);
    let host = &mut world.hosts[1].interface;
    flood(host, now);
    assert_eq!(host.handle_datagram(world.hosts[0].at, 0, &mut second.clone(), now), Ok(Incoming::Queued));
    let elsewhere = endpoint("192.0.2.1:2");
    assert_eq!(host.handle_datagram(elsewhere, 0, &mut second.clone(), now), Err(DropReason::NoCookie));
}
