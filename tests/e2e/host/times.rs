//! Time from a deletion to the repair.

use std::fs;
use std::time::{Duration, Instant};

use super::events::{
    DELETED_ADDRESS, DELETED_ROUTE, DELETED_RULE, Event, Events, GENERATION, NEW_ADDRESS, NEW_LINK,
    NEW_ROUTE, NEW_RULE,
};
use super::older::NfTables;
use super::pieces::{Kind, Piece, pieces};
use super::stage::Stage;
use crate::lab::heavy;
use crate::waiting::{TIMEOUT, holds_within};

/// Longest time to a repair, under load too.
const BOUND: Duration = Duration::from_secs(1);
/// Rounds per object: repairs beyond five in a minute may be delayed.
const ROUNDS: usize = 4;

/// Removes `piece` with nothing else in between, and returns the time until it is restored.
fn time_of(stage: &Stage, routing: &Events, ruleset: &Events, piece: &Piece) -> Duration {
    let (events, gone, back): (&Events, u16, u16) = match piece.kind {
        Kind::Address => (routing, DELETED_ADDRESS, NEW_ADDRESS),
        Kind::Route => (routing, DELETED_ROUTE, NEW_ROUTE),
        Kind::Rule => (routing, DELETED_RULE, NEW_RULE),
        Kind::Table => (ruleset, GENERATION, GENERATION),
        Kind::Setting => return time_of_setting(stage, piece),
        Kind::Down | Kind::Mtu => (routing, NEW_LINK, NEW_LINK),
    };
    // as an attribute: IFLA_MTU is 4
    let mtu = [&8_u16.to_ne_bytes()[..], &4_u16.to_ne_bytes(), &1420_u32.to_ne_bytes()].concat();
    // the process that made a transaction, or the device's state, distinguishes removal and repair
    let is_intact = |event: &Event| match piece.kind {
        Kind::Table => !event.has(b"nft\0"),
        Kind::Down => event.has(b"wg0\0") && event.is_up(),
        Kind::Mtu => event.has(b"wg0\0") && event.has(&mtu),
        _ => event.kind == back,
    };
    let from = events.count();
    stage.site.shell(&piece.removal);
    let is_gone = |event: &Event| event.kind == gone && !(gone == back && is_intact(event));
    let (place, start) = events.find("it is gone", from, is_gone);
    let is_back = |event: &Event| event.kind == back && is_intact(event);
    let (_, end) = events.find(&format!("it is back after {}", piece.removal), place + 1, is_back);
    end - start
}

/// As [`time_of`], for a file under /proc/sys, which is polled.
fn time_of_setting(stage: &Stage, piece: &Piece) -> Duration {
    let file = piece.removal.split('>').nth(1).unwrap();
    stage.site.inside(|| {
        let start = Instant::now();
        fs::write(file, "0").unwrap();
        while fs::read_to_string(file).unwrap().trim() == "0" {
            assert!(start.elapsed() < TIMEOUT, "{file} is not set again");
        }
        start.elapsed()
    })
}

/// Measures each object whose removal `is_wanted` in several rounds, and prints the times.
fn measure(stage: &Stage, what: &str, is_wanted: impl Fn(&Piece) -> bool) {
    let routing = Events::of_routing(stage.site.host());
    let ruleset = Events::of_ruleset(stage.site.host());
    let wanted: Vec<Piece> = pieces(&stage.site).into_iter().filter(|piece| is_wanted(piece)).collect();
    assert!(!wanted.is_empty(), "no {what}");
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..ROUNDS {
        let piece = &wanted[round % wanted.len()];
        times.push(time_of(stage, &routing, &ruleset, piece));
        let is_back = holds_within(TIMEOUT, || pieces(&stage.site).iter().any(|other| other == piece));
        assert!(is_back, "{piece:?} is not back");
    }
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let [least, most] = [times[0], times[ROUNDS - 1]].map(millis);
    eprintln!("time to repair: {what:<34} {:7.2} ms ({least:.2}-{most:.2})", millis(times[ROUNDS / 2]));
    assert!(times[ROUNDS - 1] < BOUND, "{what}: {times:?}");
}

#[test]
fn of_a_full_tunnel() {
    let _guard = heavy();
    let kinds: &[(&str, fn(&Piece) -> bool)] = &[
        ("address, IPv4", |piece| piece.kind == Kind::Address && piece.removal.contains("10.9.")),
        ("address, IPv6", |piece| piece.kind == Kind::Address && piece.removal.contains("fd00:")),
        ("route of the policy table, IPv4", |piece| is_route(piece, "ip -4 route del default")),
        ("route of the policy table, IPv6", |piece| is_route(piece, "ip -6 route del default")),
        ("policy rule, IPv4", |piece| piece.removal.starts_with("ip -4 rule")),
        ("policy rule, IPv6", |piece| piece.removal.starts_with("ip -6 rule")),
        ("table of the kill switch", |piece| piece.removal.starts_with("nft delete table inet wontun-lock")),
        ("table of the guard", |piece| piece.removal.starts_with("nft delete table inet wontun-guard")),
        ("table of the policy marks", |piece| piece.removal.starts_with("nft delete table ip wontun-wg0")),
        ("device set down", |piece| piece.kind == Kind::Down),
        ("MTU of the device", |piece| piece.kind == Kind::Mtu),
        ("rule of the kill switch", |piece| piece.removal.starts_with("nft flush chain inet wontun-lock")),
    ];
    for (what, is_wanted) in kinds {
        // a separate tunnel for each: none reaches the repair limit
        let stage = Stage::full_tunnel(NfTables::Older, &["--kill-switch"]);
        stage.settle();
        measure(&stage, what, is_wanted);
    }
}

fn is_route(piece: &Piece, start: &str) -> bool {
    piece.kind == Kind::Route && piece.removal.starts_with(start)
}

#[test]
fn of_a_server() {
    let _guard = heavy();
    let kinds: &[(&str, fn(&Piece) -> bool)] = &[
        ("route in the main table, IPv4", |piece| is_route(piece, "ip -4 route del 172.16")),
        ("route in the main table, IPv6", |piece| is_route(piece, "ip -6 route del fd00:17")),
        ("table of NAT", |piece| piece.removal.starts_with("nft delete table inet wontun-nat")),
        ("forwarding of the tunnel, IPv4", |piece| piece.removal.ends_with("ipv4/conf/wg0/forwarding")),
        ("forwarding of a device, IPv4", |piece| piece.removal.ends_with("ipv4/conf/left/forwarding")),
    ];
    for (what, is_wanted) in kinds {
        let stage = Stage::server(NfTables::Older, &[]);
        stage.settle();
        measure(&stage, what, is_wanted);
    }
}
