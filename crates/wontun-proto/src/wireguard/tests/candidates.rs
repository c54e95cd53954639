//! Peers with several possible addresses.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::mac::{MacKeys, cookie_reply};
use super::super::message::Message;
use super::super::random::Seeded;
use super::wire::*;
use super::*;

const V6: &str = "[2001:db8::2]:2";
const V4: &str = "203.0.113.2:2";

fn path(address: &str, there: Option<f64>, back: Option<f64>) -> Path {
    Path { address: endpoint(address), there: there.map(seconds), back: back.map(seconds) }
}

/// Returns a world in which the first host has these addresses of the second, the first of them as
/// its endpoint.
fn world(paths: Vec<Path>) -> World {
    let mut world = World::new(1);
    let remotes: Vec<SocketAddr> = paths.iter().map(|path| path.address.remote).collect();
    world.paths = paths;
    let (peer, now) = (world.hosts[0].peer, world.now);
    let interface = &mut world.hosts[0].interface;
    interface.set_endpoint(peer, Some(Endpoint::new(remotes[0])), now);
    interface.set_candidates(peer, &remotes);
    world
}

/// Returns times in seconds, rounded, and destinations of the first host's initiations.
fn initiations(world: &World) -> Vec<(f64, SocketAddr)> {
    let sent = world.sent(0, 1);
    sent.iter().map(|seen| ((seen.at.as_secs_f64() * 10.0).round() / 10.0, seen.to.remote)).collect()
}

fn remote(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Asserts that the session works in both directions, at that address.
fn assert_works(world: &mut World, at: &str) {
    world.hosts.iter_mut().for_each(|host| host.received.clear());
    world.send(0, &packet(100, 8));
    world.run(seconds(4.0));
    world.send(1, &packet(100, 9));
    world.run(seconds(4.0));
    assert_eq!(world.hosts[1].received, [packet(100, 8)]);
    assert_eq!(world.hosts[0].received, [packet(100, 9)]);
    assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(at));
    assert!(world.hosts[0].interface.indices() <= 3, "no initiation is left");
}

#[test]
fn the_next_address_is_tried_a_second_after_one_that_swallows() {
    let mut world = world(vec![path(V6, None, None), path(V4, Some(0.02), Some(0.02))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(1.1));
    assert_eq!(initiations(&world), [(0.0, remote(V6)), (1.0, remote(V4))]);
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert_eq!(world.peer(0).confirmed_address(), Some(remote(V4).ip()));
    world.run(seconds(20.0));
    assert_eq!(initiations(&world).len(), 2, "after an answer nothing more is sent");
    assert_works(&mut world, V4);
}

#[test]
fn an_address_that_answers_within_a_second_is_the_only_one_that_is_tried() {
    let mut world = world(vec![path(V6, Some(0.4), Some(0.4)), path(V4, Some(0.0), Some(0.0))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(60.0));
    assert_eq!(initiations(&world), [(0.0, remote(V6))]);
    assert_works(&mut world, V6);
}

#[test]
fn each_address_is_asked_again_after_rekey_timeout() {
    let mut world = world(vec![path(V6, None, None), path(V4, None, None)]);
    world.send(0, &packet(100, 1));
    world.run(seconds(200.0));
    for address in [V6, V4] {
        let mut times = initiations(&world);
        times.retain(|(_, to)| *to == remote(address));
        assert!((15..=18).contains(&times.len()), "as with one address: {times:?}");
        let pauses = times.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(
            pauses.clone().all(|pause| (4.95..=7.0).contains(&pause)),
            "{:?}",
            pauses.collect::<Vec<_>>()
        );
    }
    assert!(world.hosts[0].interface.indices() <= 1);
    let failing = |event: &&Event| matches!(event, Event::HandshakeFailing { .. });
    assert_eq!(world.hosts[0].events.iter().filter(failing).count(), 1, "the name is asked for again");
}

#[test]
fn a_round_trip_of_three_seconds_by_both_addresses_gives_a_session() {
    let mut world = world(vec![path(V6, Some(1.5), Some(1.5)), path(V4, Some(1.5), Some(1.5))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(4.5));
    assert_eq!(initiations(&world), [(0.0, remote(V6)), (1.0, remote(V4))]);
    assert_eq!(world.hosts.each_ref().map(|host| host.drops.contains(&DropReason::Handshake)), [false; 2]);
    // the second answer gave the keys, and the first the endpoint
    assert_works(&mut world, V6);
    world.run(seconds(60.0));
    assert_eq!(initiations(&world).len(), 2);
}

#[test]
fn a_round_trip_of_three_seconds_by_the_only_address_that_works_gives_a_session() {
    let mut world = world(vec![path(V6, None, None), path(V4, Some(1.5), Some(1.5))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(6.0));
    assert_eq!(initiations(&world), [(0.0, remote(V6)), (1.0, remote(V4))]);
    assert_works(&mut world, V4);
}

#[test]
fn an_address_that_only_carries_one_way_is_none() {
    for (there, back) in [(Some(0.02), None), (None, Some(0.02))] {
        let mut world = world(vec![path(V6, there, back), path(V4, Some(0.03), Some(0.03))]);
        world.send(0, &packet(100, 1));
        world.run(seconds(1.2));
        assert_eq!(world.hosts[1].received, [packet(100, 1)], "{there:?} {back:?}");
        assert_works(&mut world, V4);
    }
}

#[test]
fn a_session_that_a_newer_initiation_has_driven_out_is_replaced() {
    // the second address works in one direction only: the peer drops the first session for one that
    // the first host never receives
    let mut world = world(vec![path(V6, Some(1.2), Some(0.3)), path(V4, Some(0.1), None)]);
    world.send(0, &packet(100, 1));
    world.run(seconds(9.0));
    // the peer received the newer initiation first, and so refused the older
    let tried = initiations(&world);
    assert_eq!(tried.len(), 3, "{tried:?}");
    assert_works(&mut world, V6);

    let mut world = world_driven_out();
    world.send(0, &packet(100, 1));
    world.run(seconds(2.2));
    assert_eq!(initiations(&world), [(0.0, remote(V6)), (1.0, remote(V4))]);
    assert!(world.peer(0).has_session(world.now));
    world.run(seconds(8.0));
    let tried = initiations(&world);
    assert_eq!(tried[2].1, remote(V6), "where the answer came from: {tried:?}");
    assert_eq!(tried.len(), 3, "{tried:?}");
    assert_works(&mut world, V6);
}

/// Returns a world in which the newer initiation arrives at the peer after the older was answered,
/// and before that answer arrives.
fn world_driven_out() -> World {
    world(vec![path(V6, Some(0.5), Some(1.5)), path(V4, Some(0.1), None)])
}

#[test]
fn a_peer_that_falls_silent_is_tried_elsewhere_and_what_worked_last_comes_first() {
    let mut world = world(vec![path(V6, Some(0.02), Some(0.02)), path(V4, Some(0.02), Some(0.02))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(20.0));
    world.seen.clear();
    world.paths[0].there = None;
    let begun = world.elapsed();
    world.send(0, &packet(100, 2));
    world.run(seconds(17.0));
    let times: Vec<_> = world.sent(0, 1).iter().map(|seen| (seen.at - begun, seen.to.remote)).collect();
    assert_eq!(times.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [remote(V6), remote(V4)]);
    assert!(times[1].0 <= seconds(16.4), "15 s of silence, and one more: {times:?}");
    assert_works(&mut world, V4);
    // from now on the new address is tried first
    world.run(seconds(30.0));
    world.seen.clear();
    world.paths[1].there = None;
    world.send(0, &packet(100, 3));
    world.run(seconds(17.0));
    assert_eq!(world.sent(0, 1)[0].to.remote, remote(V4));
}

#[test]
fn the_preferred_address_is_taken_again_without_a_pause_in_traffic() {
    let mut world = world(vec![path(V6, None, None), path(V4, Some(0.02), Some(0.02))]);
    let mut at = vec![];
    for tag in 0..u8::MAX {
        world.send(0, &packet(100, tag));
        world.send(1, &packet(100, tag));
        world.run(seconds(5.0));
        at.push(world.peer(0).endpoint().unwrap().remote);
        if tag == 100 {
            world.paths[0] = path(V6, Some(0.02), Some(0.02));
        }
    }
    assert_eq!(at[100], remote(V4));
    assert_eq!(at.last(), Some(&remote(V6)));
    let received = world.hosts.each_ref().map(|host| host.received.len());
    assert_eq!(received, [254, 255], "the one that the server had before it knew the way");
    let to_v6 = world.sent(0, 1).iter().filter(|seen| seen.to.remote == remote(V6)).count();
    assert!(to_v6 <= 12, "seldom while it does not work: {to_v6}");
}

/// Sends a packet every 20 ms for `span`; the second host answers each.
fn talk(world: &mut World, span: Duration) {
    let end = world.elapsed() + span;
    while world.elapsed() < end {
        let answered = world.hosts[1].received.len();
        world.send(0, &packet(100, 1));
        world.run(seconds(0.02));
        for _ in answered..world.hosts[1].received.len() {
            world.send(1, &packet(100, 2));
        }
    }
    world.run(seconds(0.1));
}

#[test]
fn an_address_that_dies_while_traffic_runs_costs_two_seconds() {
    for (there, back) in [(None, None), (Some(0.02), None), (None, Some(0.02))] {
        // also while the last handshake is younger than REKEY_TIMEOUT
        for before in [1.0, 20.0] {
            let mut world = world(vec![path(V6, Some(0.02), Some(0.02)), path(V4, Some(0.03), Some(0.03))]);
            talk(&mut world, seconds(before));
            assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(V6));
            world.seen.clear();
            world.paths[0] = path(V6, there, back);
            let begun = world.elapsed();
            talk(&mut world, seconds(2.2));
            let times = initiations(&world);
            let tried: Vec<_> = times.iter().map(|(_, to)| *to).collect();
            assert_eq!(tried, [remote(V6), remote(V4)], "{there:?} {back:?} from {begun:?}: {times:?}");
            assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(V4));
            assert_works(&mut world, V4);
        }
    }
}

#[test]
fn slow_answers_raise_few_suspicions_and_do_not_move_the_peer() {
    let mut world = world(vec![path(V6, Some(0.02), Some(0.02)), path(V4, Some(0.02), Some(0.02))]);
    world.send(0, &packet(100, 1));
    world.run(seconds(1.0));
    let handshakes = |world: &World| world.sent(0, 1).len();
    for number in 0..170 {
        // an answer after three seconds to a request that is repeated, again and again
        world.send(0, &packet(100, 1));
        world.run(seconds(0.5));
        world.send(0, &packet(100, 1));
        world.run(seconds(2.5));
        world.send(1, &packet(100, 2));
        world.run(seconds(4.0));
        assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(V6), "{number}");
    }
    assert!(world.sent(0, 1).iter().all(|seen| seen.to.remote == remote(V6)));
    // 20 minutes hold ten sessions; each lowers the count by one false suspicion
    assert!((11..=1 + 4 + 10 + 10).contains(&handshakes(&world)), "{}", handshakes(&world));
    // one-way traffic expects no answer
    let before = handshakes(&world);
    for _ in 0..90 {
        world.send(0, &packet(100, 1));
        world.run(seconds(1.0));
    }
    assert!(handshakes(&world) <= before + 2, "{before} {}", handshakes(&world));
}

#[test]
fn conversations_that_end_raise_no_suspicion() {
    let mut world = world(vec![path(V6, Some(0.02), Some(0.02)), path(V4, Some(0.02), Some(0.02))]);
    for _ in 0..100 {
        // the last packets acknowledge the received data
        talk(&mut world, seconds(0.5));
        world.send(0, &packet(100, 1));
        world.run(seconds(0.1));
        world.send(0, &packet(100, 1));
        world.run(seconds(4.0));
    }
    // eight minutes hold four sessions, the first of which began with a packet of the first host
    assert!(world.sent(0, 1).len() <= 5, "{:?}", initiations(&world));
}

#[test]
fn a_pause_by_all_addresses_does_not_move_the_peer() {
    let mut world = world(vec![path(V6, Some(0.02), Some(0.02)), path(V4, Some(0.02), Some(0.02))]);
    talk(&mut world, seconds(10.0));
    let alive = world.paths.clone();
    for path in &mut world.paths {
        (path.there, path.back) = (None, None);
    }
    talk(&mut world, seconds(2.5));
    world.paths = alive;
    talk(&mut world, seconds(0.2));
    assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(V6), "data came again from there");
    talk(&mut world, seconds(10.0));
    assert_works(&mut world, V6);
}

#[test]
fn no_packet_is_lost_while_the_preferred_address_is_tried_again() {
    for works_again in [false, true] {
        let mut world = world(vec![path(V6, None, None), path(V4, Some(0.02), Some(0.02))]);
        talk(&mut world, seconds(100.0));
        if works_again {
            world.paths[0] = path(V6, Some(0.03), Some(0.03));
        }
        world.seen.clear();
        world.hosts.iter_mut().for_each(|host| host.received.clear());
        let sent = 800 * 50;
        talk(&mut world, seconds(800.0));
        let again = world.sent(0, 1).iter().filter(|seen| seen.to.remote == remote(V6)).count();
        assert!(again >= 1, "the preferred address was tried again: {:?}", initiations(&world));
        let received = world.hosts.each_ref().map(|host| host.received.len());
        assert_eq!(received[1], sent);
        assert!(received[0] >= sent - 2, "the last ones are not answered: {received:?}");
        let at = if works_again { V6 } else { V4 };
        assert_eq!(world.peer(0).endpoint().unwrap().remote, remote(at));
    }
}

#[test]
fn no_two_initiations_are_the_same_and_their_number_is_bounded() {
    let addresses: Vec<String> = (1..=12).map(|host| format!("203.0.113.{host}:1")).collect();
    let mut world = world(addresses.iter().map(|address| path(address, None, None)).collect());
    world.send(0, &packet(100, 1));
    let mut seen = HashSet::from([world.last.clone()]);
    for _ in 0..60 {
        world.run(seconds(1.0));
        seen.insert(world.last.clone());
        assert!(world.hosts[0].interface.indices() <= 4);
    }
    assert_eq!(seen.len(), world.sent(0, 1).len());
    let to: HashSet<_> = world.sent(0, 1).iter().map(|seen| seen.to.remote).collect();
    assert_eq!(to.len(), MAX_CANDIDATES);
    let times: Vec<_> = world.sent(0, 1).iter().map(|seen| seen.at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= CANDIDATE_PAUSE));
    let (peer, now) = (world.hosts[0].peer, world.now);
    world.hosts[0].interface.set_endpoint(peer, Some(endpoint(V4)), now);
    assert!(world.hosts[0].interface.indices() <= 1, "a plain address ends it");
    world.hosts[0].interface.remove_peer(peer);
    assert_eq!(world.hosts[0].interface.indices(), 0);
}

#[test]
fn one_candidate_is_none() {
    let lives = [true, false].map(|named| {
        let mut world = World::new(7);
        world.weather = Weather { loss: 30, repeat: 5, delay: 100 };
        let (peer, there) = (world.hosts[0].peer, world.hosts[1].at.remote);
        if named {
            world.hosts[0].interface.set_candidates(peer, &[there]);
        }
        for tag in 0..100 {
            world.send(0, &packet(100, tag));
            world.run(Duration::from_secs(7));
        }
        world.seen
    });
    assert_eq!(lives[0], lives[1]);
}

#[test]
fn a_cookie_is_for_the_address_that_gave_it() {
    // before the next address is tried, and after it
    for pause in [0.5, 1.2] {
        let mut world = world(vec![path(V6, None, None), path(V4, None, None)]);
        world.send(0, &packet(100, 1));
        let Some(Message::Initiation(first)) = Message::parse(&world.last) else { panic!("no initiation") };
        let keys = MacKeys::new(world.peer(0).public_key());
        let reply = cookie_reply(&keys, &first, [5; 16], &mut Seeded::new(1)).unwrap();
        world.run(seconds(pause));
        world.deliver(0, endpoint(V6), &reply.to_bytes());
        for (until, to, has_cookie) in [(1.3, V4, false), (6.2, V6, true), (8.2, V4, false)] {
            world.run(seconds(until).saturating_sub(world.elapsed()));
            assert_eq!(world.sent(0, 1).last().unwrap().to.remote, remote(to));
            assert_eq!(world.last[132..] != [0; 16], has_cookie, "{to} after {until} s");
        }
    }
}
