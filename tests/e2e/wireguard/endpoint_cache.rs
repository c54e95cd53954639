//! The last working address of a peer known by a name is kept across a restart, and tried if the
//! name is not resolved in time.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::{Duration, Instant};

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, has_kill_switch, kill, launch, start};
use super::local_stub::{SILENT, resolv_conf, stage, stub, up_within};
use crate::waiting::{eventually, holds_within};

/// Time until a remembered address is tried.
const HEAD_START: Duration = Duration::from_secs(2);
/// Additional time for the machine's own delays.
const SLACK: Duration = Duration::from_secs(3);
/// An address without a host.
const WRONG: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

const TRYING: &str = "trying the last known address";

/// Returns the remembered lines without their padding.
fn kept(stage: &Stage) -> String {
    let text = fs::read_to_string(stage.client().state().join("wg0.endpoints")).unwrap_or_default();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Returns the line about the server at `address`.
fn line(stage: &Stage, address: Ipv4Addr) -> String {
    format!("{} {address}\n", stage.plan.server_keys.public)
}

fn write(stage: &Stage, text: &str) {
    stage.client().shell(&format!("mkdir -p -m 700 {}", stage.client().state().display()));
    fs::write(stage.client().state().join("wg0.endpoints"), text).unwrap();
    stage.client().shell(&format!("chmod 600 {}/wg0.endpoints", stage.client().state().display()));
}

/// Runs the client once until it reaches the server by its name.
fn once(stage: &Stage, options: &[&str]) {
    let daemon = start(stage.client(), &stage.plan.client, options);
    up_within(stage, &daemon, Duration::from_secs(5));
    eventually("the address is kept", || kept(stage) == line(stage, stage.plan.server_site.v4));
    kill(daemon);
}

/// The kill switch of the killed run blocks the queries of the host's own name server.
#[test]
fn a_restart_behind_an_engaged_kill_switch_comes_up() {
    let (stage, _name_server) = stage();
    let (client, tally) = (stage.client(), stage.count());
    stub(client, true);
    once(&stage, &["--kill-switch"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&client.state()), mode(&client.state().join("wg0.endpoints"))), (0o700, 0o600));
    assert!(has_kill_switch(client));
    tally.reset();
    let begun = Instant::now();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, HEAD_START + SLACK);
    println!("up {:?} after the start", begun.elapsed());
    assert!(daemon.lines().iter().any(|line| line.contains(TRYING)));
    assert!(!client.ping_once(NEIGHBOUR_V4, 56));
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert_eq!(kept(&stage), line(&stage, stage.plan.server_site.v4));
}

/// No name server answers at all.
#[test]
fn a_start_without_a_name_server_comes_up() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    stub(client, true);
    once(&stage, &[]);
    for (server, options) in [
        ("127.0.0.53".to_owned(), &[][..]),
        (SILENT.to_string(), &[]),
        (SILENT.to_string(), &["--kill-switch"]),
    ] {
        resolv_conf(client, &format!("nameserver {server}\n"));
        let begun = Instant::now();
        let daemon = launch(client, &stage.plan.client, options);
        daemon.wait_for(" ready mode=");
        up_within(&stage, &daemon, HEAD_START + SLACK);
        println!("{server} {options:?}: up {:?} after the start", begun.elapsed());
        assert!(daemon.lines().iter().any(|line| line.contains(TRYING)));
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// If the name is resolved, that address is used, at once or later.
#[test]
fn an_answer_takes_the_place_of_what_is_remembered() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    write(&stage, &line(&stage, WRONG));
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    assert!(!daemon.lines().iter().any(|line| line.contains(TRYING)));
    eventually("the address is kept", || kept(&stage) == line(&stage, stage.plan.server_site.v4));
    kill(daemon);

    write(&stage, &line(&stage, WRONG));
    resolv_conf(client, &format!("nameserver {SILENT}\noptions timeout:1 attempts:1\n"));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    daemon.wait_for(TRYING);
    let endpoints = || client.wg(&["show", "wg0", "endpoints"]);
    eventually("the wrong address is tried", || endpoints().contains(&WRONG.to_string()));
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    up_within(&stage, &daemon, Duration::from_secs(30));
    assert!(endpoints().contains(&stage.plan.server_site.v4.to_string()));
    eventually("the address is kept", || kept(&stage) == line(&stage, stage.plan.server_site.v4));
}

/// A file that another user may have written is not used, and lines without a valid address are
/// skipped.
#[test]
fn what_is_not_its_own_is_not_used() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    let path = client.state().join("wg0.endpoints");
    resolv_conf(client, &format!("nameserver {SILENT}\noptions timeout:1 attempts:1\n"));
    let wrong = line(&stage, WRONG);
    let other = client.write("other", &wrong);
    let comes_up_without = |warning: &str| {
        let daemon = start(client, &stage.plan.client, &[]);
        daemon.wait_for(warning);
        daemon.wait_for("cannot resolve an endpoint's name");
        assert!(!daemon.lines().iter().any(|line| line.contains(TRYING)), "{:#?}", daemon.lines());
        assert_eq!(daemon.stop().status.code(), Some(0));
    };
    write(&stage, "");
    fs::remove_file(&path).unwrap();
    symlink(&other, &path).unwrap();
    comes_up_without("is a symbolic link");
    assert_eq!(fs::read_to_string(&other).unwrap(), wrong);
    fs::remove_file(&path).unwrap();
    write(&stage, &wrong);
    client.shell(&format!("chown 65534 {}", path.display()));
    comes_up_without("belongs to user 65534");
    fs::remove_file(&path).unwrap();
    write(&stage, &format!("{}\n$(touch /tmp/x) 192.0.2.1\n", wrong.replace("192.", "392.")));
    comes_up_without("2 invalid lines");
}

/// A read-only file system costs no warning: nothing is stored.
#[test]
fn a_read_only_place_costs_nothing() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    let state = client.state().display().to_string();
    write(&stage, &line(&stage, stage.plan.server_site.v4));
    client.shell(&format!("mount --bind {state} {state}; mount -o remount,bind,ro {state}"));
    // a remembered address is read all the same
    resolv_conf(client, &format!("nameserver {SILENT}\n"));
    let daemon = start(client, &stage.plan.client, &[]);
    up_within(&stage, &daemon, HEAD_START + SLACK);
    assert_eq!(daemon.stop().status.code(), Some(0));
    client.shell(&format!("umount {state}; rm -r {state}; touch {state}"));
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    let daemon = start(client, &stage.plan.client, &[]);
    assert!(holds_within(SLACK, || client.ping_once(WORLD_V4, 56)));
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(0));
    assert!(!stopped.lines.iter().any(|line| line.contains("WARN")), "{:#?}", stopped.lines);
}
