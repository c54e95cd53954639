//! The engine alone, and two engines on a wire that loses, repeats and reorders, with a virtual
//! clock.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEEPALIVE: Duration = Duration::from_secs(25);

fn at(seconds: f64) -> Instant {
    Instant::from_boot(Duration::from_secs_f64(1000.0 + seconds))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn packet(payload: u8) -> Vec<u8> {
    let mut packet = vec![payload; 24];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&[0, 24]);
    packet
}

const SERVER: &str = "192.0.2.1:19988";
const CLIENT: &str = "192.0.2.2:19988";
const RIVAL: &str = "192.0.2.3:19988";

/// Runs a client's timers until `end` and returns the times (in seconds) of its `hello?`.
fn hellos(client: &mut Plain, end: f64) -> Vec<f64> {
    let mut times = Vec::new();
    while let Some(due) = client.poll_timeout().filter(|due| *due < at(end)) {
        client.handle_timeout(due);
        if client.poll_transmit().is_some() {
            times.push((due.since(at(0.0)).as_secs_f64() * 1000.0).round() / 1000.0);
        }
    }
    times
}

fn client() -> Plain {
    let mut client = Plain::new(Role::Client, KEEPALIVE);
    client.set_peer(address(SERVER), at(0.0));
    client
}

fn server_of(client: &str, now: f64) -> Plain {
    let mut server = Plain::new(Role::Server, KEEPALIVE);
    assert_eq!(server.handle_datagram(address(client), HELLO, at(now)), Ok(Datagram::NewPeer));
    server.set_peer(address(client), at(now));
    server
}

#[test]
fn a_client_says_hello_every_second_until_answered_and_then_every_keepalive() {
    let mut client = client();
    assert_eq!(hellos(&mut client, 3.5), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(client.handle_datagram(address(SERVER), &packet(1), at(3.5)), Ok(Datagram::Packet));
    assert_eq!(client.poll_event(), Some(Event::Answered));
    assert_eq!(client.poll_event(), None);
    assert_eq!(hellos(&mut client, 80.0), [28.5, 53.5, 78.5]);
}

#[test]
fn data_does_not_put_the_keepalive_off() {
    let mut client = client();
    hellos(&mut client, 0.5);
    for tenth in 5..600 {
        let now = at(f64::from(tenth) / 10.0);
        client.handle_datagram(address(SERVER), &packet(1), now).unwrap();
        client.handle_packet(&packet(2), now).unwrap();
    }
    assert_eq!(client.poll_timeout(), Some(at(25.5)));
}

#[test]
fn keepalive_zero_ends_the_hellos_once_answered() {
    let mut client = Plain::new(Role::Client, Duration::ZERO);
    client.set_peer(address(SERVER), at(0.0));
    hellos(&mut client, 1.5);
    client.handle_datagram(address(SERVER), &packet(1), at(1.5)).unwrap();
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn a_refused_client_searches_again_and_not_faster_than_every_second() {
    let mut client = client();
    hellos(&mut client, 0.5);
    client.handle_datagram(address(SERVER), &packet(1), at(0.5)).unwrap();
    for hundredth in 0..100 {
        client.handle_refused(at(10.0 + f64::from(hundredth) / 100.0));
    }
    assert_eq!(hellos(&mut client, 14.5), [11.0, 12.0, 13.0, 14.0]);
}

#[test]
fn a_client_whose_data_is_unanswered_for_two_seconds_searches_again() {
    let mut client = client();
    hellos(&mut client, 0.5);
    client.handle_datagram(address(SERVER), &packet(1), at(0.5)).unwrap();
    for second in [10.0, 11.0, 11.9] {
        client.handle_packet(&packet(2), at(second)).unwrap();
    }
    assert_eq!(client.poll_timeout(), Some(at(25.5)), "two seconds are not over");
    client.handle_packet(&packet(2), at(12.0)).unwrap();
    assert_eq!(hellos(&mut client, 14.5), [12.0, 13.0, 14.0]);
    client.handle_datagram(address(SERVER), &packet(1), at(14.5)).unwrap();
    assert_eq!(hellos(&mut client, 39.0), [] as [f64; 0]);
}

#[test]
fn one_last_unanswered_packet_does_not_wake_an_idle_client() {
    let mut client = client();
    hellos(&mut client, 0.5);
    client.handle_datagram(address(SERVER), &packet(1), at(0.5)).unwrap();
    client.handle_packet(&packet(2), at(0.6)).unwrap();
    assert_eq!(hellos(&mut client, 30.0), [25.5]);
    // nor does the next packet, long after, before it could be answered
    client.handle_packet(&packet(2), at(30.0)).unwrap();
    assert_eq!(hellos(&mut client, 60.0), [50.5]);
}

#[test]
fn a_silent_server_is_looked_up_again_ever_less_often() {
    let mut client = client();
    let mut looks = Vec::new();
    while let Some(due) = client.poll_timeout().filter(|due| *due < at(200.0)) {
        client.handle_timeout(due);
        client.poll_transmit();
        if client.poll_event() == Some(Event::EndpointStale) {
            looks.push(due.since(at(0.0)).as_secs());
            // the name resolved to the same address as before: nothing is restarted
            client.set_peer(address(SERVER), due);
        }
    }
    assert_eq!(looks, [5, 15, 35, 75, 135, 195]);
}

#[test]
fn a_client_hears_only_its_server() {
    let mut client = client();
    for datagram in [HELLO, &packet(1)[..]] {
        assert_eq!(client.handle_datagram(address(RIVAL), datagram, at(1.0)), Err(DropReason::UnknownSource));
    }
    assert_eq!(client.poll_event(), None);
    let mut unresolved = Plain::new(Role::Client, KEEPALIVE);
    assert_eq!(unresolved.handle_datagram(address(RIVAL), HELLO, at(1.0)), Err(DropReason::UnknownSource));
    assert_eq!(unresolved.handle_packet(&packet(1), at(1.0)), Err(DropReason::NoPeer));
    assert_eq!(unresolved.poll_timeout(), None);
}

#[test]
fn a_server_takes_the_first_hello_and_says_nothing() {
    let mut server = Plain::new(Role::Server, KEEPALIVE);
    assert_eq!(server.handle_packet(&packet(1), at(0.0)), Err(DropReason::NoPeer));
    assert_eq!(server.handle_datagram(address(CLIENT), &packet(1), at(0.0)), Err(DropReason::UnknownSource));
    let mut server = server_of(CLIENT, 1.0);
    assert_eq!(server.peer(), Some(address(CLIENT)));
    assert_eq!(server.handle_packet(&packet(1), at(2.0)), Ok(()));
    assert_eq!(server.handle_datagram(address(CLIENT), HELLO, at(3.0)), Ok(Datagram::Hello));
    assert_eq!(server.poll_transmit(), None);
    assert_eq!(server.poll_timeout(), None);
    assert_eq!(server.poll_event(), None);
}

#[test]
fn a_second_client_is_dropped_while_the_first_is_active() {
    let mut server = server_of(CLIENT, 0.0);
    for second in 0..300 {
        let now = at(f64::from(second));
        server.handle_datagram(address(CLIENT), HELLO, now).unwrap();
        assert_eq!(server.handle_datagram(address(RIVAL), HELLO, now), Err(DropReason::UnknownSource));
    }
}

#[test]
fn a_silent_peer_that_used_to_repeat_its_hello_gives_way_after_three_intervals() {
    let mut server = server_of(CLIENT, 0.0);
    server.handle_datagram(address(CLIENT), HELLO, at(1.0)).unwrap();
    server.handle_datagram(address(CLIENT), &packet(1), at(5.0)).unwrap();
    assert_eq!(server.handle_datagram(address(RIVAL), HELLO, at(79.9)), Err(DropReason::UnknownSource));
    assert_eq!(server.peer(), Some(address(CLIENT)), "it keeps its place until someone asks for it");
    assert_eq!(server.handle_datagram(address(RIVAL), &packet(1), at(80.0)), Err(DropReason::UnknownSource));
    assert_eq!(server.handle_datagram(address(RIVAL), HELLO, at(80.0)), Ok(Datagram::NewPeer));
}

#[test]
fn a_peer_that_said_hello_once_may_be_silent_for_ever() {
    let mut server = server_of(CLIENT, 0.0);
    server.handle_datagram(address(CLIENT), &packet(1), at(5.0)).unwrap();
    assert_eq!(server.handle_datagram(address(RIVAL), HELLO, at(1e6)), Err(DropReason::UnknownSource));
}

#[test]
fn a_new_port_of_the_same_host_takes_the_place_at_once() {
    let mut server = server_of(CLIENT, 0.0);
    let restarted = address("192.0.2.2:40000");
    assert_eq!(server.handle_datagram(restarted, &packet(1), at(1.0)), Err(DropReason::UnknownSource));
    assert_eq!(server.handle_datagram(restarted, HELLO, at(1.0)), Ok(Datagram::NewPeer));
    server.set_peer(restarted, at(1.0));
    assert_eq!(server.handle_datagram(address(CLIENT), &packet(1), at(2.0)), Err(DropReason::UnknownSource));
    assert_eq!(server.handle_datagram(restarted, &packet(1), at(2.0)), Ok(Datagram::Packet));
}

#[test]
fn only_whole_packets_pass() {
    let mut server = server_of(CLIENT, 0.0);
    let whole = packet(7);
    let cases: [(&[u8], _); 5] = [
        (&[], Err(DropReason::Empty)),
        (&whole, Ok(Datagram::Packet)),
        (&whole[..23], Err(DropReason::Malformed)),
        (b"hello", Err(DropReason::Malformed)),
        (b"hello?\n", Err(DropReason::Malformed)),
    ];
    for (datagram, result) in cases {
        assert_eq!(server.handle_datagram(address(CLIENT), datagram, at(1.0)), result);
    }
    assert_eq!(server.handle_packet(&whole[..23], at(1.0)), Err(DropReason::Malformed));
}

#[test]
fn only_a_server_that_never_answered_data_is_doubtful() {
    let mut client = client();
    hellos(&mut client, 8.0);
    assert!(!client.is_endpoint_suspect(), "hello? is not answered by a healthy server either");
    client.handle_packet(&packet(1), at(8.0)).unwrap();
    client.handle_packet(&packet(1), at(9.9)).unwrap();
    assert!(!client.is_endpoint_suspect());
    client.handle_packet(&packet(1), at(10.0)).unwrap();
    assert!(client.is_endpoint_suspect());
    client.handle_datagram(address(SERVER), &packet(1), at(11.0)).unwrap();
    for second in [12.0, 14.0, 16.0] {
        client.handle_packet(&packet(1), at(second)).unwrap();
    }
    assert!(!client.is_endpoint_suspect(), "it answered once");
    client.set_peer(address(RIVAL), at(20.0));
    assert!(!client.is_endpoint_suspect());
}

#[test]
fn a_datagram_of_the_tunnel_itself_does_not_enter_it() {
    let mut client = client();
    let mut own = vec![0; 28];
    own[0] = 0x45;
    own[3] = 28;
    own[9] = 17;
    own[16..20].copy_from_slice(&[192, 0, 2, 1]);
    own[22..24].copy_from_slice(&19_988u16.to_be_bytes());
    assert_eq!(client.handle_packet(&own, at(1.0)), Err(DropReason::OwnTun));
    own[23] += 1;
    assert_eq!(client.handle_packet(&own, at(1.0)), Ok(()));
}

#[test]
fn neighbour_discovery_crosses_neither_way() {
    let mut server = server_of(CLIENT, 0.0);
    let mut advertisement = vec![0; 56];
    advertisement[0] = 0x60;
    advertisement[5] = 16;
    advertisement[6] = 58;
    advertisement[40] = 134;
    let result = Err(DropReason::NeighbourDiscovery);
    assert_eq!(server.handle_datagram(address(CLIENT), &advertisement, at(1.0)), result);
    assert_eq!(server.handle_packet(&advertisement, at(1.0)), Err(DropReason::NeighbourDiscovery));
    advertisement[40] = 128;
    assert_eq!(server.handle_datagram(address(CLIENT), &advertisement, at(1.0)), Ok(Datagram::Packet));
}

/// Datagrams in flight: arrival time, sequence number, direction and bytes.
#[derive(Default)]
struct Wire(BTreeMap<(Instant, u32), (bool, Vec<u8>)>, u32);

impl Wire {
    fn carry(&mut self, now: Instant, to_server: bool, datagram: &[u8], outcome: u8) {
        // one in four is lost; others take up to 300 ms, so they overtake each other; some arrive
        // twice
        let copies = match outcome % 8 {
            0 | 1 => 0,
            2 => 2,
            _ => 1,
        };
        for copy in 0..copies {
            self.1 += 1;
            let delay = Duration::from_millis(u64::from(outcome) + 40 * copy);
            self.0.insert((now + delay, self.1), (to_server, datagram.to_vec()));
        }
    }
}

proptest! {
    /// For any behaviour of the wire: a packet that reaches a TUN device was sent into the other
    /// one, the server sends nothing but packets, and a tunnel whose server loses its state
    /// recovers by itself.
    #[test]
    fn two_engines_over_a_hostile_wire(
        outcomes in prop::collection::vec(any::<u8>(), 64..256),
        restart in 5.0..20.0f64,
    ) {
        let mut client = client();
        let mut server = Plain::new(Role::Server, KEEPALIVE);
        let mut wire = Wire::default();
        // whatever the random numbers are, every fourth datagram arrives
        let mut outcomes = outcomes.into_iter().cycle().zip([7, 0, 0, 0].into_iter().cycle()).map(|(outcome, arrives)| outcome | arrives);
        let (mut now, mut restarted, mut delivered_after) = (at(0.0), false, 0);
        let mut next_packet = at(0.0);
        while now < at(60.0) {
            let due = [client.poll_timeout(), wire.0.keys().next().map(|key| key.0), Some(next_packet)];
            now = due.into_iter().flatten().min().unwrap().max(now);
            if now >= at(restart) && !restarted {
                server = Plain::new(Role::Server, KEEPALIVE);
                restarted = true;
            }
            client.handle_timeout(now);
            if let Some(hello) = client.poll_transmit() {
                wire.carry(now, true, hello, outcomes.next().unwrap());
            }
            if now >= next_packet {
                next_packet = now + Duration::from_millis(500);
                if client.handle_packet(&packet(1), now).is_ok() {
                    wire.carry(now, true, &packet(1), outcomes.next().unwrap());
                }
                if server.handle_packet(&packet(2), now).is_ok() {
                    wire.carry(now, false, &packet(2), outcomes.next().unwrap());
                }
            }
            prop_assert_eq!(server.poll_transmit(), None);
            prop_assert_eq!(server.poll_timeout(), None);
            while let Some(entry) = wire.0.first_entry().filter(|entry| entry.key().0 <= now) {
                let (to_server, datagram) = entry.remove();
                if to_server {
                    match server.handle_datagram(address(CLIENT), &datagram, now) {
                        Ok(Datagram::NewPeer) => server.set_peer(address(CLIENT), now),
                        Ok(Datagram::Packet) => prop_assert_eq!(datagram, packet(1)),
                        Ok(Datagram::Hello) => prop_assert_eq!(&datagram[..], HELLO),
                        Err(reason) => prop_assert_eq!(reason, DropReason::UnknownSource),
                    }
                } else if client.handle_datagram(address(SERVER), &datagram, now) == Ok(Datagram::Packet) {
                    prop_assert_eq!(datagram, packet(2));
                    delivered_after += u32::from(restarted && now > at(45.0));
                }
            }
        }
        prop_assert!(delivered_after > 0, "the tunnel did not come back");
    }
}
