//! Hours of a tunnel on a wire that loses, repeats, delays and reorders.

use super::wire::*;
use super::*;
use proptest::prelude::*;

/// Simulates two hours of occasional traffic. Returns the world, and the number of packets sent by
/// each host.
fn live(seed: u64, weather: Weather, pauses: &[u16]) -> (World, [usize; 2]) {
    let mut world = World::connected(seed);
    world.weather = weather;
    let mut given = [0; 2];
    let mut pauses = pauses.iter().cycle();
    while world.elapsed() < seconds(7200.0) {
        for (host, given) in given.iter_mut().enumerate() {
            world.send(host, &packet(20 + *given % 1400, 1));
            *given += 1;
        }
        world.run(std::time::Duration::from_millis(u64::from(*pauses.next().unwrap())));
    }
    (world, given)
}

#[test]
fn two_hours_of_steady_traffic_shake_hands_every_two_minutes() {
    let (world, given) = live(3, Weather { loss: 0, repeat: 0, delay: 30 }, &[900]);
    let handshakes = world.sent(0, 1).len() + world.sent(1, 1).len();
    assert_eq!(handshakes, 59, "two hours hold sixty sessions, the first of which was there");
    for (host, other) in [(0, 1), (1, 0)] {
        assert!(given[other] - world.hosts[host].received.len() <= 2, "none is lost but those under way");
        assert_eq!(world.hosts[host].drops, []);
    }
}

#[test]
fn an_idle_tunnel_is_silent() {
    let mut world = World::connected(4);
    world.run(seconds(30.0));
    world.seen.clear();
    world.run(seconds(24.0 * 3600.0));
    assert_eq!(world.seen, []);
    assert_eq!(world.hosts.each_ref().map(|host| host.interface.poll_timeout()), [None, None]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_bad_wire_costs_packets_but_neither_the_tunnel_nor_its_manners(
        seed in 0_u64..1000, loss in 0_u8..40, repeat in 0_u8..30, delay in 0_u16..800,
        pauses in prop::collection::vec(prop_oneof![3 => 100_u16..5000, 1 => 5000_u16..60_000], 5..20),
    ) {
        let (mut world, given) = live(seed, Weather { loss, repeat, delay }, &pauses);
        for (host, other) in [(0, 1), (1, 0)] {
            let got = world.hosts[host].received.len();
            prop_assert!(got <= given[other], "nothing arrives twice");
            let due = given[other] * usize::from(100 - loss) / 100;
            prop_assert!(got * 10 >= due * 8, "{} of {} arrived, loss {}%", got, given[other], loss);
            // refused datagrams were repeated or late, never corrupt
            let lawful = |reason: &DropReason| matches!(
                reason,
                DropReason::Replay | DropReason::UnknownIndex | DropReason::OldInitiation
                    | DropReason::InitiationFlood | DropReason::Handshake | DropReason::Expired
            );
            prop_assert!(world.hosts[host].drops.iter().all(lawful), "{:?}", world.hosts[host].drops);
            prop_assert!(world.hosts[host].interface.indices() <= 4);
            // no initiation is sent sooner than five seconds after the previous one
            let times: Vec<_> = world.sent(host, 1).iter().map(|seen| seen.at).collect();
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= REKEY_TIMEOUT));
        }
        // without loss and delay, both recover, and are then silent
        world.weather = Weather::default();
        // these may be lost in a session that the other end has dropped: it has answered an
        // initiation, and the response was lost
        for host in 0..2 {
            world.send(host, &packet(100, 98));
        }
        world.run(seconds(20.0));
        for host in 0..2 {
            world.hosts[host].received.clear();
            world.send(host, &packet(100, 99));
        }
        world.run(seconds(1.0));
        prop_assert!(world.hosts.iter().all(|host| host.received.contains(&packet(100, 99))));
        world.run(seconds(60.0));
        world.seen.clear();
        world.run(seconds(3600.0));
        prop_assert_eq!(&world.seen, &[]);
        prop_assert_eq!(world.hosts.each_ref().map(|host| host.interface.indices()), [0, 0]);
    }
}
