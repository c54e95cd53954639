//! The kill switch of a full tunnel to a name, on a host whose own name server does not reveal its
//! upstream servers: unbound, AdGuard Home, a dnsmasq with `--server`. The name is looked up before
//! the kill switch is engaged, where that opens nothing, and it is engaged in any case.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::kill_switch::{
    NEIGHBOUR_V4, Stage, WORLD_V4, has_kill_switch, kill, launch, reaches_the_world, start, table, talk,
};
use super::local_stub::{SILENT, resolv_conf, stage, stub, up_within};
use crate::daemon::Stopped;
use crate::mounts::BINARY;
use crate::waiting::{SetAtEnd, eventually};

/// Longest time from the start until the kill switch is engaged, if the name server does not
/// answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Additional time for the machine's own delays.
const SLACK: Duration = Duration::from_secs(3);

const ENGAGED: &str = "the kill switch is engaged";

#[test]
fn the_name_is_looked_up_before_the_kill_switch_is_engaged() {
    let (stage, _name_server) = stage();
    let (client, tally) = (stage.client(), stage.count());
    let asked = stub(client, true);
    for _ in 0..3 {
        let begun = Instant::now();
        let before = asked.load(Ordering::Relaxed);
        let daemon = launch(client, &stage.plan.client, &["--kill-switch"]);
        daemon.wait_for(ENGAGED);
        assert!(has_kill_switch(client) && asked.load(Ordering::Relaxed) > before);
        tally.reset();
        daemon.wait_for(" ready mode=");
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("up after {took:?}, {:?} from the start", begun.elapsed());
        reaches_the_world(&stage);
        talk(client);
        assert!(!client.ping_once(NEIGHBOUR_V4, 56));
        assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
        assert_eq!(daemon.stop().status.code(), Some(0));
        assert!(!has_kill_switch(client));
    }
}

/// Without an answer, two seconds at most for all names together.
#[test]
fn a_silent_name_server_does_not_hold_up_the_kill_switch() {
    let (mut stage, _name_server) = stage();
    let mut other = stage.plan.client.peers[0].clone();
    other.public = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".to_owned();
    (other.endpoint, other.allowed) = (Some("other.example.com:1".to_owned()), Vec::new());
    stage.plan.client.peers.push(other);
    let client = stage.client();
    let asked = stub(client, false);
    let begun = Instant::now();
    let daemon = launch(client, &stage.plan.client, &["--kill-switch"]);
    daemon.wait_for(ENGAGED);
    let took = begun.elapsed();
    println!("engaged after {took:?}");
    assert!(has_kill_switch(client) && asked.load(Ordering::Relaxed) > 0);
    assert!(took >= LIMIT / 2 && took < LIMIT + SLACK, "{took:?}");
    daemon.wait_for("--resolver ADDRESS");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// The table of a killed run, or of `wontun kill-switch on`, is not opened for a look-up.
#[test]
fn one_that_is_engaged_already_is_not_opened() {
    let (stage, _name_server) = stage();
    let (client, tally) = (stage.client(), stage.count());
    let asked = stub(client, true);
    let killed = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &killed, Duration::from_secs(5));
    kill(killed);
    assert!(has_kill_switch(client));
    let (stop, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    tally.reset();
    thread::scope(|scope| {
        let _end = SetAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for port in [9, 53] {
                    let outcome = socket.send_to(b"always", (NEIGHBOUR_V4, port));
                    refused.fetch_add(outcome.is_err().into(), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        let begun = Instant::now();
        let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
        println!("ready after {:?}", begun.elapsed());
        daemon.wait_for(ENGAGED);
        assert!(!daemon.lines().iter().any(|line| line.contains("before it is engaged")));
        let before = refused.load(Ordering::Relaxed);
        eventually("the sender is at work", || refused.load(Ordering::Relaxed) > before + 10);
        let before = asked.load(Ordering::Relaxed);
        eventually("the name server is asked in vain", || asked.load(Ordering::Relaxed) > before);
        kill(daemon);
    });
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
}

/// Panics unless the start has failed with `code`, and the kill switch is engaged.
fn is_shut(stage: &Stage, failed: &Stopped, code: i32) {
    assert_eq!(failed.status.code(), Some(code), "{:?}", failed.lines);
    let tally = stage.count();
    // the look-up was before
    tally.reset();
    talk(stage.client());
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);
    let says = |line: &String| line.contains("`wontun kill-switch off wg0`");
    assert!(failed.lines.iter().any(says), "{:?}", failed.lines);
    assert!(!table(stage.client()).contains("meta mark"));
    stage.client().shell("nft delete table inet wontun-lock-wg0");
}

/// The kill switch is engaged whether the start fails before or after the look-up.
#[test]
fn a_start_that_fails_engages_it() {
    let (mut stage, _name_server) = stage();
    stub(stage.client(), true);
    let file = stage.client().path().join("none.conf").display().to_string();
    let missing = ["--config", &file, "--tun", "wg0", "--kill-switch"];
    let failed = stage.client().launch(BINARY.as_ref(), &missing).spawn().wait_exit();
    is_shut(&stage, &failed, 78);

    let arguments = ["--kill-switch", "--user", "no-such-user"];
    let failed = launch(stage.client(), &stage.plan.client, &arguments).wait_exit();
    is_shut(&stage, &failed, 78);

    let mut split = stage.plan.client.clone();
    split.peers[0].allowed = vec!["172.16.0.0/24".to_owned()];
    let failed = launch(stage.client(), &split, &["--kill-switch"]).wait_exit();
    is_shut(&stage, &failed, 78);

    let mut wrong = stage.plan.client.clone();
    wrong.addresses = vec!["10.9.0.2/240".to_owned()];
    let failed = launch(stage.client(), &wrong, &["--kill-switch"]).wait_exit();
    is_shut(&stage, &failed, 78);

    let failed =
        launch(stage.client(), &stage.plan.client, &["--kill-switch", "--resolver", "::1,::2,::3,::4,::5"]);
    is_shut(&stage, &failed.wait_exit(), 78);

    // after the look-up
    stage.plan.client.port = Some(40_000);
    let _squatter = stage.client().udp((Ipv4Addr::UNSPECIFIED, 40_000));
    let failed = launch(stage.client(), &stage.plan.client, &["--kill-switch"]).wait_exit();
    is_shut(&stage, &failed, 69);
}

/// The kill switch is engaged first if a name server can be queried despite it, or if no name is to
/// be looked up.
#[test]
fn it_comes_first_where_it_can() {
    let (mut stage, _name_server) = stage();
    let asked = stub(stage.client(), false);
    let waits = |stage: &Stage, options: &[&str]| {
        let begun = Instant::now();
        let daemon = launch(stage.client(), &stage.plan.client, &[&["--kill-switch"], options].concat());
        daemon.wait_for(ENGAGED);
        println!("{options:?}: engaged after {:?}", begun.elapsed());
        let waits = daemon.lines().iter().any(|line| line.contains("before it is engaged"));
        daemon.wait_for(" ready mode=");
        assert_eq!(daemon.stop().status.code(), Some(0));
        waits
    };
    assert!(waits(&stage, &[]), "the control");
    assert!(asked.load(Ordering::Relaxed) > 0);
    // the packets that the kill switch blocks do not depend on the routes
    stage.plan.client.table = Some("off".to_owned());
    assert!(waits(&stage, &[]));
    stage.plan.client.table = None;
    assert!(!waits(&stage, &["--resolver", &WORLD_V4.to_string()]));
    resolv_conf(stage.client(), &format!("nameserver {SILENT}\n"));
    assert!(!waits(&stage, &[]));
    resolv_conf(stage.client(), "nameserver 127.0.0.11\n");
    let address = format!("{}:{}", stage.plan.server_site.v4, super::pair::PORT);
    stage.plan.client.peers[0].endpoint = Some(address);
    assert!(!waits(&stage, &[]));
}
