//! A restart: what an interface knows of its peers afterwards, and how soon they are back.

use std::time::Duration;

use super::super::random::Seeded;
use super::wire::*;
use super::*;

/// State that is kept over a restart.
struct Kept {
    endpoint: Option<Endpoint>,
    latest: Option<Timestamp>,
    sent: Option<Timestamp>,
}

impl World {
    /// Replaces the interface of the second host by a new one with the same key and peer, and
    /// returns what the old one knew.
    fn restart(&mut self, seed: u64) -> Kept {
        let host = &mut self.hosts[1];
        let peer = host.interface.peer(host.peer).unwrap();
        let kept = Kept {
            endpoint: peer.confirmed_endpoint(),
            latest: peer.latest_timestamp(),
            sent: host.interface.sent_timestamp(),
        };
        let (private, public) = (host.interface.private_key().cloned(), *peer.public_key());
        drop(peer);
        host.interface = Interface::new(MTU, Box::new(Seeded::new(seed)));
        host.interface.set_private_key(private, self.now);
        host.peer = host.interface.add_peer(public).unwrap();
        kept
    }

    fn restore(&mut self, kept: &Kept) {
        let Host { interface, peer, .. } = &mut self.hosts[1];
        interface.restore_peer(*peer, kept.endpoint, kept.latest);
        if let Some(sent) = kept.sent {
            interface.skip_timestamps(sent);
        }
    }

    fn greet(&mut self) {
        let (peer, now) = (self.hosts[1].peer, self.now);
        self.hosts[1].interface.greet(peer, now);
        self.flush(1);
    }
}

#[test]
fn a_greeted_peer_is_back_after_one_round_trip() {
    for is_greeted in [true, false] {
        let mut world = World::connected(1);
        world.run(seconds(30.0));
        let kept = world.restart(50);
        assert_eq!(kept.endpoint.map(|endpoint| endpoint.remote), Some(world.hosts[0].at.remote));
        world.restore(&kept);
        assert_eq!(world.peer(1).confirmed_endpoint(), None, "nothing has shown it yet");
        if is_greeted {
            world.greet();
        }
        world.run(seconds(0.1));
        world.send(0, &packet(100, 1));
        world.run(seconds(0.1));
        let received = usize::from(is_greeted);
        assert_eq!(world.hosts[1].received.len(), received);
        assert_eq!(world.hosts[1].drops.len(), 1 - received, "of a session that is unknown");
        assert_eq!((world.sent(1, 1).len(), world.sent(0, 1).len()), (received, 0));
        // nor does a second greeting disturb the session
        world.greet();
        world.run(seconds(60.0));
        assert_eq!(world.sent(1, 1).len(), 1);
        assert!(world.peer(1).has_session(world.now));
    }
}

#[test]
fn a_peer_that_is_gone_is_greeted_twice_and_not_reported() {
    let mut world = World::connected(1);
    let kept = world.restart(50);
    world.restore(&kept);
    world.weather.loss = 100;
    world.greet();
    world.run(seconds(600.0));
    assert_eq!(world.sent(1, 1).len(), 2);
    assert_eq!(world.events()[1], []);
    // a packet starts an ordinary run, whose failure is reported
    world.seen.clear();
    world.send(1, &packet(100, 1));
    world.run(seconds(100.0));
    assert!((17..=19).contains(&world.sent(1, 1).len()), "{}", world.sent(1, 1).len());
    let events = world.events();
    assert!(events[1].iter().any(|event| matches!(event, Event::Unanswered { .. })), "{events:?}");
    assert!(events[1].iter().any(|event| matches!(event, Event::HandshakeFailing { .. })), "{events:?}");
}

#[test]
fn a_packet_turns_a_greeting_into_an_ordinary_run() {
    let mut world = World::connected(1);
    let kept = world.restart(50);
    world.restore(&kept);
    world.weather.loss = 100;
    world.greet();
    world.run(seconds(1.0));
    world.send(1, &packet(100, 1));
    world.run(seconds(60.0));
    assert!(world.sent(1, 1).len() > 9, "{}", world.sent(1, 1).len());
    world.weather.loss = 0;
    world.run(seconds(6.0));
    assert_eq!(world.hosts[0].received, [packet(100, 1)]);
}

#[test]
fn an_initiation_recorded_before_a_restart_is_rejected_if_the_timestamp_is_kept() {
    for is_kept in [true, false] {
        let mut world = World::new(1);
        world.send(0, &packet(100, 1));
        let initiation = world.last.clone();
        world.run(seconds(1.0));
        let kept = world.restart(50);
        assert!(kept.latest.is_some());
        if is_kept {
            world.restore(&kept);
        }
        let from = endpoint("203.0.113.9:9");
        world.deliver(1, from, &initiation);
        let expected = if is_kept { vec![DropReason::OldInitiation] } else { vec![] };
        assert_eq!(world.hosts[1].drops, expected);
        assert_eq!(world.peer(1).endpoint() == Some(from), !is_kept);
    }
}

#[test]
fn a_clock_set_back_before_a_restart_is_refused_unless_the_sent_timestamp_is_kept() {
    for is_kept in [true, false] {
        let mut world = World::connected(1);
        // the second host initiates, too
        world.run(seconds(200.0));
        world.send(1, &packet(100, 1));
        world.run(seconds(1.0));
        let mut kept = world.restart(50);
        assert!(kept.sent.is_some());
        world.unix = Duration::from_secs(0);
        world.hosts[0].received.clear();
        if !is_kept {
            kept.sent = None;
        }
        world.restore(&kept);
        world.send(1, &packet(100, 2));
        world.run(seconds(1.0));
        assert_eq!(world.hosts[0].received.len(), usize::from(is_kept));
    }
}

#[test]
fn a_peer_whose_clock_was_in_the_future_is_accepted_after_a_reset() {
    let mut world = World::connected(1);
    let far = Timestamp::from_unix(Duration::from_secs(2_500_000_000));
    let kept = Kept { endpoint: None, latest: Some(far), sent: None };
    world.restart(50);
    world.restore(&kept);
    world.run(seconds(200.0));
    world.hosts[1].drops.clear();
    world.events();
    world.send(0, &packet(100, 1));
    world.run(seconds(6.0));
    assert!(!world.hosts[1].drops.is_empty() && world.hosts[1].received.is_empty());
    assert!(world.hosts[1].drops.iter().all(|reason| *reason == DropReason::OldInitiation));
    let peer = world.hosts[1].peer;
    world.hosts[1].interface.forget_timestamp(peer);
    world.flush(1);
    assert!(world.events()[1].contains(&Event::StateChanged { peer }));
    world.run(seconds(6.0));
    assert_eq!(world.hosts[1].received, [packet(100, 1)]);
    assert!(world.peer(1).latest_timestamp().is_some_and(|latest| latest < far));
}

#[test]
fn what_is_restored_replaces_nothing_newer() {
    let mut world = World::connected(1);
    let state = |world: &World| {
        let peer = world.peer(1);
        (peer.endpoint(), peer.latest_timestamp())
    };
    let before = state(&world);
    let old = Kept {
        endpoint: Some(super::wire::endpoint("203.0.113.9:9")),
        latest: Some(Timestamp::from_unix(Duration::from_secs(1))),
        sent: None,
    };
    world.restore(&old);
    assert_eq!(state(&world), before);
}
