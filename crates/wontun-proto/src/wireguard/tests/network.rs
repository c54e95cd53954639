//! Hosts that move to another network, or sleep.

use super::wire::*;
use super::*;

const ONLY: &str = "192.0.2.2:2";

fn path(there: Option<f64>, back: Option<f64>) -> Path {
    Path { address: endpoint(ONLY), there: there.map(seconds), back: back.map(seconds) }
}

fn change_path(world: &mut World, is_reachable: bool) {
    let (peer, now) = (world.hosts[0].peer, world.now);
    world.hosts[0].interface.handle_path_changed(peer, is_reachable, now);
    world.run(seconds(0.0));
}

/// Returns times in seconds, rounded, of the first host's initiations since `from`.
fn initiations(world: &World, from: f64) -> Vec<f64> {
    let sent = world.sent(0, 1);
    let times = sent.iter().map(|seen| ((seen.at.as_secs_f64() - from) * 10.0).round() / 10.0);
    times.filter(|at| *at >= 0.0).collect()
}

#[test]
fn another_path_is_shown_to_work_at_once() {
    let mut world = World::connected(1);
    world.run(seconds(1.0));
    let confirmed = world.peer(0).last_handshake();
    change_path(&mut world, true);
    assert_eq!(world.sent(0, 1).len(), 1, "although the last handshake is young");
    assert!(world.peer(0).last_handshake() > confirmed);
    world.run(seconds(60.0));
    assert_eq!(world.sent(0, 1).len(), 1, "it was answered");
}

#[test]
fn a_peer_that_is_not_in_use_is_left_alone() {
    let mut world = World::connected(1);
    world.run(seconds(200.0));
    world.seen.clear();
    change_path(&mut world, true);
    world.run(seconds(20.0));
    assert_eq!(world.seen, []);
    let (peer, now) = (world.hosts[0].peer, world.now);
    world.hosts[0].interface.set_persistent_keepalive(peer, Some(seconds(600.0)), now);
    world.run(seconds(1.0));
    world.run(seconds(300.0));
    world.seen.clear();
    change_path(&mut world, true);
    assert_eq!(world.sent(0, 1).len(), 1, "one that is to be reachable");
}

#[test]
fn without_a_route_nothing_is_sent_until_there_is_one() {
    let mut world = World::connected(1);
    world.run(seconds(1.0));
    change_path(&mut world, false);
    world.run(seconds(2.0));
    assert_eq!(world.sent(0, 1), []);
    change_path(&mut world, true);
    assert_eq!(world.sent(0, 1).len(), 1);
}

/// As behind a captive portal.
#[test]
fn a_network_that_works_later_is_noticed_within_a_second() {
    let mut world = World::connected(1);
    world.run(seconds(1.0));
    world.paths = vec![path(None, None)];
    change_path(&mut world, true);
    for _ in 0..60 {
        world.send(0, &packet(100, 1));
        world.run(seconds(1.0));
    }
    assert_eq!(initiations(&world, 1.0).len(), 61);
    world.paths.clear();
    world.run(seconds(1.0));
    assert_eq!(world.peer(0).last_handshake(), Some(world.now));
    assert_eq!(world.hosts[0].interface.indices(), 2, "two sessions, and no initiation is left");
}

#[test]
fn a_peer_that_has_moved_is_tried_at_the_usual_intervals() {
    let mut world = World::connected(1);
    // the second host knows the first from its datagrams only
    let (peer, now) = (world.hosts[1].peer, world.now);
    world.weather = Weather { loss: 100, ..Weather::default() };
    world.hosts[1].interface.handle_path_changed(peer, true, now);
    world.run(seconds(19.0));
    assert_eq!(world.sent(1, 1).len(), 4, "at once and every five seconds");
}

#[test]
fn short_intervals_end_after_two_minutes() {
    let mut world = World::connected(1);
    world.paths = vec![path(None, None)];
    change_path(&mut world, true);
    for _ in 0..150 {
        world.send(0, &packet(100, 1));
        world.run(seconds(1.0));
    }
    let times = initiations(&world, 0.0);
    let (early, late): (Vec<f64>, Vec<f64>) = times.iter().partition(|at| **at < 120.0);
    assert_eq!(early.len(), 120);
    assert!((5..=7).contains(&late.len()), "{late:?}");
    assert!(late.windows(2).all(|pair| pair[1] - pair[0] >= 5.0), "{late:?}");
}

#[test]
fn an_answer_that_takes_longer_than_the_interval_is_accepted() {
    let mut world = World::connected(1);
    world.run(seconds(1.0));
    world.paths = vec![path(Some(1.4), Some(1.4))];
    change_path(&mut world, true);
    let confirmed = world.peer(0).last_handshake();
    world.run(seconds(3.0));
    assert!(world.peer(0).last_handshake() > confirmed, "the first answer");
    world.run(seconds(20.0));
    for tag in 0..3 {
        world.hosts[1].received.clear();
        world.send(0, &packet(100, tag));
        world.run(seconds(2.0));
        assert_eq!(world.hosts[1].received, [packet(100, tag)]);
    }
    assert!(world.hosts[0].interface.indices() <= 3);
}

#[test]
fn an_address_without_a_route_costs_no_time() {
    let mut world = World::new(1);
    let remotes = ["[2001:db8::2]:2", "[2001:db8::3]:2", ONLY].map(|text| endpoint(text).remote);
    let (peer, now) = (world.hosts[0].peer, world.now);
    let interface = &mut world.hosts[0].interface;
    interface.set_endpoint(peer, Some(Endpoint::new(remotes[0])), now);
    interface.set_candidates(peer, &remotes);
    world.send(0, &packet(100, 1));
    for remote in &remotes[..2] {
        assert_eq!(world.sent(0, 1).last().unwrap().to.remote, *remote);
        let now = world.now;
        world.hosts[0].interface.handle_unreachable(peer, *remote, now);
        world.run(seconds(0.0));
    }
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert_eq!(world.elapsed(), seconds(0.0));
}

#[test]
fn addresses_without_a_route_are_not_tried_in_a_loop() {
    let mut world = World::new(1);
    let remotes = ["[2001:db8::2]:2", "[2001:db8::3]:2"].map(|text| endpoint(text).remote);
    let (peer, now) = (world.hosts[0].peer, world.now);
    let interface = &mut world.hosts[0].interface;
    interface.set_endpoint(peer, Some(Endpoint::new(remotes[0])), now);
    interface.set_candidates(peer, &remotes);
    world.send(0, &packet(100, 1));
    for _ in 0..100 {
        let now = world.now;
        for remote in remotes {
            world.hosts[0].interface.handle_unreachable(peer, remote, now);
        }
        world.run(seconds(0.01));
    }
    assert_eq!(world.sent(0, 1).len(), 2);
}

#[test]
fn a_night_ends_with_a_handshake_if_there_was_a_session() {
    for (idle, expected) in [(20.0, 1), (400.0, 0)] {
        let mut world = World::connected(1);
        world.run(seconds(idle));
        world.seen.clear();
        let night = seconds(8.0 * 3600.0);
        world.now = world.now + night;
        let now = world.now;
        world.hosts[0].interface.handle_suspended(night, now);
        world.run(seconds(1.0));
        assert_eq!(world.sent(0, 1).len(), expected, "idle for {idle} s");
        assert_eq!(world.peer(0).has_session(world.now), expected == 1);
    }
}
