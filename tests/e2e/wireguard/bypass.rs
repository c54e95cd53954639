//! `--dns-bypass`: this host's own name server may send queries outside a full tunnel for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, has_kill_switch, kill, launch, reaches_the_world};
use super::local_stub::{stage, stub_that_asks, up_within};
use crate::daemon::Daemon;
use crate::waiting::{TIMEOUT, eventually, holds_within};

const OPENED: &str = "bypass the tunnel for at most 5 s";
const CLOSED: &str = "DNS queries use the tunnel again";
/// Duration of the opening.
const OPEN: Duration = Duration::from_secs(5);
/// Additional time for the machine's own delays.
const SLACK: Duration = Duration::from_secs(2);
/// Time from the start to the opening: the first look-up, another, and the C library's.
const BEFORE: Duration = Duration::from_secs(2 + 2 + 10);

/// Starts a tunnel whose name is not answered until the routes are set. Also returns the flag that
/// makes the client's name server answer.
fn unanswered(stage: &Stage, options: &[&str]) -> (Daemon, Arc<AtomicBool>) {
    let asks = Arc::new(AtomicBool::new(false));
    stub_that_asks(stage.client(), &asks);
    let daemon = launch(stage.client(), &stage.plan.client, options);
    daemon.wait_for(" ready mode=");
    (daemon, asks)
}

/// Returns the number of rules that route queries outside the tunnel.
fn rules(stage: &Stage) -> usize {
    let rules = stage.client().shell("ip rule; ip -6 rule");
    rules.lines().filter(|line| line.contains("dport")).count()
}

#[test]
fn the_hosts_own_name_server_asks_past_the_tunnel_for_a_moment() {
    let (stage, _name_server) = stage();
    let (client, tally) = (stage.client(), stage.count());
    let (daemon, asks) = unanswered(&stage, &["--dns-bypass"]);
    asks.store(true, Ordering::Relaxed);
    tally.reset();
    assert!(holds_within(BEFORE + TIMEOUT, || daemon.lines().iter().any(|line| line.contains(OPENED))));
    let begun = Instant::now();
    daemon.wait_for(CLOSED);
    println!("open for {:?}", begun.elapsed());
    assert!(begun.elapsed() < OPEN + SLACK);
    up_within(&stage, &daemon, Duration::from_secs(5));
    // queries alone
    assert!(tally.count("dns") > 0);
    assert_eq!((tally.count("leaked"), rules(&stage)), (0, 0));
    tally.reset();
    let question = client.udp(("0.0.0.0".parse::<std::net::Ipv4Addr>().unwrap(), 0));
    question.send_to(b"a question", (NEIGHBOUR_V4, 53)).unwrap();
    question.send_to(b"a question", (WORLD_V4, 53)).unwrap();
    reaches_the_world(&stage);
    assert_eq!((tally.count("leaked"), rules(&stage)), (0, 0));
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// Without an answer the bypass is closed after five seconds, and not opened again soon.
#[test]
fn it_is_closed_without_an_answer() {
    let (stage, _name_server) = stage();
    let (daemon, _asks) = unanswered(&stage, &["--dns-bypass"]);
    let lines = |text: &str| daemon.lines().iter().filter(|line| line.contains(text)).count();
    assert!(holds_within(BEFORE + TIMEOUT, || lines(OPENED) == 1));
    let begun = Instant::now();
    eventually("the rules are there", || rules(&stage) > 0 || lines(CLOSED) > 0);
    eventually("it is closed", || lines(CLOSED) == 1);
    println!("open for {:?}", begun.elapsed());
    assert!(begun.elapsed() < OPEN + SLACK);
    assert_eq!(rules(&stage), 0);
    let again = holds_within(Duration::from_secs(20), || lines(OPENED) > 1);
    assert!(!again, "{:#?}", daemon.lines());
}

/// The rules of a run that was killed while the bypass was open are deleted by the next start.
#[test]
fn what_a_killed_run_leaves_is_taken_away() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    let before = client.shell("ip rule; ip -6 rule; ip route show table all | grep -v fe80 || true");
    let (daemon, _asks) = unanswered(&stage, &["--dns-bypass"]);
    assert!(holds_within(BEFORE + TIMEOUT, || rules(&stage) == 8), "{:#?}", daemon.lines());
    kill(daemon);
    assert_eq!(rules(&stage), 8, "the next start has nothing to do");
    let daemon = launch(client, &stage.plan.client, &[]);
    daemon.wait_for(" ready mode=");
    assert_eq!(rules(&stage), 0);
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert_eq!(client.shell("ip rule; ip -6 rule; ip route show table all | grep -v fe80 || true"), before);
}

#[test]
fn it_is_asked_for_and_never_beside_a_kill_switch() {
    let (stage, _name_server) = stage();
    let (daemon, asks) = unanswered(&stage, &[]);
    asks.store(true, Ordering::Relaxed);
    let opened = holds_within(BEFORE + Duration::from_secs(6), || rules(&stage) > 0);
    assert!(!opened && !daemon.lines().iter().any(|line| line.contains(OPENED)));
    assert!(!stage.client().ping_once(WORLD_V4, 56), "the control: it is up without");
    assert_eq!(daemon.stop().status.code(), Some(0));
    let both = ["--dns-bypass", "--kill-switch"];
    let failed = launch(stage.client(), &stage.plan.client, &both).wait_exit();
    assert_eq!(failed.status.code(), Some(78), "{:?}", failed.lines);
    assert!(failed.lines.iter().any(|line| line.contains("--dns-bypass contradicts --kill-switch")));
    assert!(has_kill_switch(stage.client()));
}
