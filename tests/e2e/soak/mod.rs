//! A server and three clients experience years of a tunnel's events in minutes: sessions replaced,
//! peers added and removed, files read again, processes killed, cables pulled, devices set down,
//! clocks set, a full disk, no descriptors. Meanwhile numbered datagrams and TCP streams flow in
//! both directions between each client and the server.
//!
//! Only packets in flight around an event may be lost, and only those of the clients that it
//! disturbs; nothing may arrive twice; the streams continue; and at the end the processes use no
//! more resources than at the beginning.
//!
//! `scripts/soak.sh` runs this alone, for half an hour, and shows the figures. Events are drawn
//! with a seed, which is printed: the same seed gives the same events in the same order.

pub(crate) mod clock;
mod datagrams;
mod end;
mod event;
mod figures;
mod play;
mod streams;
mod traffic;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::EventSequence;
use play::Soak;
use traffic::Traffic;

use crate::lab::Lab;
use crate::waiting::SetAtEnd;

/// The server's address in the tunnel, and the names of its clients.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const NAMES: [&str; CLIENTS] = ["phone", "laptop", "tablet"];
const CLIENTS: usize = 3;

/// Longest time until everything flows again, on a machine with other load. A client notices after
/// 15 s that the server has forgotten it; TCP, which doubles its timeout each time, retries after
/// as much more.
const AGAIN: Duration = Duration::from_secs(90);

/// Environment variable with the duration of the events, in seconds.
const DURATION: &str = "WONTUN_SOAK_SECONDS";
const DEFAULT_SECONDS: u64 = 120;
/// Environment variable with the seed that determines the events and their order.
const SEED: &str = "WONTUN_SOAK_SEED";

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text} is no whole number: {error}")))
}

#[test]
fn a_tunnel_endures_what_comes() {
    play::check_tools();
    let seconds = variable(DURATION).unwrap_or(DEFAULT_SECONDS);
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = variable(SEED).unwrap_or_else(since_1970);
    eprintln!("soak: for {seconds} s; the same again with {DURATION}={seconds} {SEED}={seed}");
    let lab = Arc::new(Lab::new(1 + CLIENTS));
    let began = Instant::now();
    let traffic = Traffic::new(began);
    let mut soak = Soak::start(&lab, &traffic, began);
    let [stop, closed] = [const { AtomicBool::new(false) }; 2];
    let ended = thread::scope(|scope| {
        let _end = [SetAtEnd(&stop), SetAtEnd(&closed)];
        traffic.spawn(scope, &lab, &soak.inner, [&stop, &closed]);
        traffic.await_again("the start", Duration::ZERO);
        play_all(&mut soak, Duration::from_secs(seconds), &mut EventSequence::new(seed));
        stop.store(true, Ordering::Relaxed);
        let ended = began.elapsed();
        // wait for packets in flight
        thread::sleep(Duration::from_secs(3));
        ended
    });
    report(&mut soak, &traffic, ended);
}

/// Plays events while packets flow, and measures.
fn play_all(soak: &mut Soak, duration: Duration, sequence: &mut EventSequence) {
    let began = Instant::now();
    for event in EventSequence::initial_events() {
        soak.play(event);
        soak.measure();
    }
    while began.elapsed() < duration {
        soak.play(sequence.rekey());
        thread::sleep(Duration::from_millis(200 + sequence.below(1000)));
        soak.play(sequence.next(began.elapsed() < duration / 3));
        thread::sleep(Duration::from_millis(200 + sequence.below(1000)));
        soak.measure();
    }
}

/// Prints the figures, and panics if one is out of range.
fn report(soak: &mut Soak, traffic: &Traffic, ended: Duration) {
    let (explained, others) = figures::check_losses(&traffic.flows, &soak.played, ended);
    eprintln!("\n{}", figures::events(&soak.played, &explained));
    eprintln!("{}", figures::processes(&soak.ends()));
    let sent: usize = traffic.flows.iter().map(|flow| flow.lost(&(Duration::ZERO..=ended)).0).sum();
    eprintln!(
        "{:.0} s; {sent} datagrams, {} lost around disturbances, {} besides; {} MB in streams, {} of them made anew",
        ended.as_secs_f64(),
        explained.values().sum::<usize>(),
        others.len(),
        traffic.carried() / 1_000_000,
        traffic.remade(),
    );
    for end in soak.ends() {
        eprintln!("{}: {:?}", end.name, end.summary());
    }
    assert!(others.is_empty(), "datagrams were lost that nothing had disturbed:\n{}", others.join("\n"));
    let growing = figures::growing(&soak.ends());
    assert!(growing.is_empty(), "these take more of the machine than they did:\n{}", growing.join("\n"));
}
