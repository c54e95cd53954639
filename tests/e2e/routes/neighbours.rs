//! Two tunnels on one host.

use std::num::NonZeroU32;

use wontun::netlink::DesiredRouting;

use super::{add_device, apply, full, lab, marked, open, route_to, routing_state, wanted};

/// The newer tunnel carries the host's packets and is sent through the older one, which is sent
/// over the wire.
#[test]
fn two_full_tunnels_do_not_chase_each_other() {
    let lab = lab();
    let host = lab.client();
    add_device(host, "tun8");
    host.ip(&["address", "flush", "dev", "tun8"]);
    let before = routing_state(host);
    let mut older = open(host, "tun7");
    let mut younger = open(host, "tun8");
    assert_eq!(apply(host, &mut older, &full()), marked(51_820));
    let with_older = routing_state(host);
    let mut second = full();
    second.addresses.clear();
    assert_eq!(apply(host, &mut younger, &second), marked(51_821));
    let ways = || -> Vec<String> {
        let marks = [0, 51_820, 51_821];
        ["198.51.100.7", "2001:db8:99::7"]
            .iter()
            .flat_map(|to| marks.iter().map(|mark| route_to(host, to, *mark)))
            .collect()
    };
    assert_eq!(ways(), ["tun8", "eth0", "tun7", "tun8", "eth0", "tun7"]);
    let both = routing_state(host);
    apply(host, &mut older, &full());
    apply(host, &mut younger, &second);
    assert_eq!(routing_state(host), both, "neither finds anything to do");

    // the newer is removed first
    drop(younger);
    assert_eq!(routing_state(host), with_older);
    // the older is removed first: the newer still works, with src_valid_mark, which is reset with
    // it
    let mut younger = open(host, "tun8");
    apply(host, &mut younger, &second);
    drop(older);
    assert_eq!(ways(), ["tun8", "eth0", "eth0", "tun8", "eth0", "eth0"]);
    assert!(routing_state(host).ends_with("1\n"));
    apply(host, &mut younger, &second);
    drop(younger);
    assert_eq!(routing_state(host), before);
}

/// An older tunnel that starts again gets priority; the two still do not route into each other.
#[test]
fn restarts_in_any_order_make_no_loop() {
    let lab = lab();
    let host = lab.client();
    add_device(host, "tun8");
    host.ip(&["address", "flush", "dev", "tun8"]);
    let before = routing_state(host);
    let (first, second) = (full(), DesiredRouting { addresses: vec![], ..full() });
    let mut a = open(host, "tun7");
    apply(host, &mut a, &first);
    let mut b = open(host, "tun8");
    apply(host, &mut b, &second);
    drop(a);
    let mut a = open(host, "tun7");
    assert_eq!(apply(host, &mut a, &first), marked(51_820));
    for _ in 0..3 {
        assert_eq!(route_to(host, "198.51.100.7", 0), "tun7");
        assert_eq!(route_to(host, "198.51.100.7", 51_821), "eth0", "the lower one goes by the wire");
        assert_eq!(route_to(host, "198.51.100.7", 51_820), "eth0", "the lower one still lets its mark pass");
        apply(host, &mut b, &second);
        apply(host, &mut a, &first);
    }
    drop((a, b));
    assert_eq!(routing_state(host), before);
}

/// The user gave both the same mark: both are sent over the wire.
#[test]
fn one_mark_for_two_tunnels() {
    let lab = lab();
    let host = lab.client();
    add_device(host, "tun8");
    host.ip(&["address", "flush", "dev", "tun8"]);
    let before = routing_state(host);
    let fwmark = NonZeroU32::new(0x55);
    let mut a = open(host, "tun7");
    assert_eq!(apply(host, &mut a, &DesiredRouting { fwmark, ..full() }), marked(0x55));
    let alone = routing_state(host);
    let mut b = open(host, "tun8");
    let inside = wanted(&["198.51.100.0/24", "0.0.0.0/0"], &["198.51.100.7"]);
    assert_eq!(apply(host, &mut b, &DesiredRouting { fwmark, addresses: vec![], ..inside }), marked(0x55));
    assert_eq!(route_to(host, "198.51.100.7", 0), "tun8");
    assert_eq!(route_to(host, "198.51.100.7", 0x55), "eth0");
    drop(b);
    assert_eq!(routing_state(host), alone, "the other's rules are not ours, although they have our mark");
    drop(a);
    assert_eq!(routing_state(host), before);
}
