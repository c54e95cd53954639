//! Behaviour that the white paper leaves open, as implemented in the kernel.

use super::wire::*;
use super::*;
use std::time::Duration;

#[test]
fn what_waits_for_a_handshake_outlives_the_old_keys() {
    let mut world = World::connected(1);
    world.run(seconds(539.0));
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    world.run(seconds(1.0));
    assert_eq!(world.peer(0).staged(), 1);
    assert_eq!(world.hosts[0].interface.indices(), 1, "only the handshake's, the keys are gone");
    // and its response is still accepted
    world.weather.loss = 0;
    world.deliver(1, world.hosts[0].at, &initiation);
    world.run(seconds(0.0));
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert_eq!(world.peer(0).lost(), 0);
}

#[test]
fn a_changed_private_key_lets_arrive_what_is_under_way_in_an_unconfirmed_session_too() {
    let mut world = World::new(1);
    let [here, there] = world.hosts.each_ref().map(|host| host.at);
    world.weather.loss = 100;
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    world.deliver(1, here, &initiation);
    let response = world.last.clone();
    world.deliver(0, there, &response);
    let data = world.last.clone();
    assert_eq!((initiation[0], response[0], data[0]), (1, 2, 4));

    let now = world.now;
    world.hosts[1].interface.set_private_key(Some(PrivateKey::from_bytes(&[77; 32])), now);
    world.deliver(1, here, &data);
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert!(!world.peer(1).has_session(now), "but nothing leaves");
    world.send(1, &packet(100, 2));
    assert_eq!(world.last[0], 1);
}

#[test]
fn what_cannot_leave_for_want_of_a_key_or_an_endpoint_leaves_later() {
    let mut world = World::new(1);
    let (now, peer, there) = (world.now, world.hosts[0].peer, world.hosts[1].at);
    let private = world.hosts[0].interface.private_key().unwrap().clone();
    world.hosts[0].interface.send_keepalive(peer, now);
    world.hosts[0].interface.set_private_key(None, now);
    world.run(seconds(1.0));
    assert_eq!(world.seen, []);
    let now = world.now;
    world.hosts[0].interface.set_private_key(Some(private), now);
    world.run(seconds(1.0));
    assert!(world.peer(0).has_session(world.now));

    // a packet waits, the session is established, and the endpoint is removed before the packet is
    // sent
    world.run(seconds(600.0));
    world.send(0, &packet(100, 1));
    let initiation = world.last.clone();
    let (now, mut buffer) = (world.now, [0; BUFFER]);
    let far = &mut world.hosts[1].interface;
    far.handle_datagram(world.hosts[0].at, 0, &mut initiation.clone(), now).unwrap();
    far.handle_queued(now).unwrap().unwrap();
    let len = far.poll_transmit(now, Duration::ZERO, &mut buffer).unwrap().len;
    let near = &mut world.hosts[0].interface;
    near.handle_datagram(there, 0, &mut buffer[..len], now).unwrap();
    near.handle_queued(now).unwrap().unwrap();
    near.set_endpoint(peer, None, now);
    assert_eq!(near.poll_transmit(now, Duration::ZERO, &mut buffer), None);
    near.set_endpoint(peer, Some(there), now);
    assert_eq!(near.poll_transmit(now, Duration::ZERO, &mut buffer).map(|transmit| transmit.len), Some(144));
}

#[test]
fn a_peer_is_in_the_timetable_once_whatever_it_does_and_not_when_it_is_gone() {
    let mut world = World::connected(1);
    for pause in (1..200).chain((1..200).rev()) {
        world.run(Duration::from_millis(100 * pause));
        world.send(0, &packet(100, 1));
        world.send(1, &packet(100, 1));
        assert_eq!(world.hosts.each_ref().map(|host| host.interface.scheduled()), [1, 1]);
    }
    for host in &mut world.hosts {
        host.interface.remove_peer(host.peer);
        assert_eq!((host.interface.scheduled(), host.interface.poll_timeout()), (0, None));
    }
}

#[test]
fn a_thousand_peers_behind_one_address_connect_within_two_seconds_and_without_cookies() {
    let mut world = World::new(1);
    let (start, hub_at) = (world.now, world.hosts[1].at);
    let hub = &mut world.hosts[1].interface;
    let hub_key = *hub.public_key().unwrap();
    let mut buffer = [0; BUFFER];
    let mut clients: Vec<_> = (0..1000_u16)
        .map(|i| {
            // not in the first byte, of which three bits are ignored
            let [low, high] = i.to_le_bytes();
            let mut bytes = [3; 32];
            (bytes[1], bytes[2]) = (low, high);
            let private = PrivateKey::from_bytes(&bytes);
            let random = super::super::random::Seeded::new(u64::from(i));
            let mut client = Interface::new(MTU, Box::new(random));
            hub.add_peer(private.public_key()).unwrap();
            client.set_private_key(Some(private), start);
            let peer = client.add_peer(hub_key).unwrap();
            client.set_endpoint(peer, Some(hub_at), start);
            client.send_keepalive(peer, start);
            (client, peer)
        })
        .collect();
    let nat = |port: u16| Endpoint::new((std::net::Ipv4Addr::new(203, 0, 113, 1), port).into());
    for (i, (client, _)) in (0..).zip(&mut clients) {
        let len = client.poll_transmit(start, Duration::ZERO, &mut buffer).unwrap().len;
        assert_eq!(hub.handle_datagram(nat(i), 0, &mut buffer[..len], start), Ok(Incoming::Queued));
    }
    let mut now = start;
    loop {
        hub.handle_timeout(now);
        while let Some(handled) = hub.handle_queued(now) {
            handled.unwrap();
        }
        while let Some(transmit) = hub.poll_transmit(now, Duration::ZERO, &mut buffer) {
            assert!(transmit.peer.is_some(), "no cookie reply");
            let (client, _) = &mut clients[usize::from(transmit.endpoint.remote.port())];
            client.handle_datagram(hub_at, 0, &mut buffer[..transmit.len], now).unwrap();
            client.handle_queued(now).unwrap().unwrap();
        }
        if clients.iter().all(|(client, peer)| client.peer(*peer).unwrap().has_session(now)) {
            break;
        }
        now = hub.poll_timeout().unwrap();
    }
    assert!(now.since(start) <= seconds(2.0), "{:?}", now.since(start));
}
