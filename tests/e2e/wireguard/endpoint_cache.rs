//! The last working address of a peer known by a name is kept across a restart, and tried if the
//! name is not resolved in time.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, has_kill_switch, kill, launch, start};
use super::local_stub::{SILENT, resolv_conf, stage, stub, up_within};
use super::state_file;
use crate::mounts::BINARY;
use crate::waiting::{eventually, holds_within};

/// Time until a remembered address is tried.
const HEAD_START: Duration = Duration::from_secs(2);
/// Additional time for the machine's own delays.
const SLACK: Duration = Duration::from_secs(3);
/// An address without a host.
const WRONG: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

const TRYING: &str = "trying the last known address";

/// Returns true if the server's address is the one that is kept.
fn is_kept(stage: &Stage) -> bool {
    let server = IpAddr::from(stage.plan.server_site.v4);
    state_file::addresses(&state_file::path(stage.client()))
        == [(stage.plan.server_keys.public.clone(), server)]
}

/// Returns the contents of a file that has the server at `address`.
fn contents(stage: &Stage, address: Ipv4Addr) -> Vec<u8> {
    state_file::with_address(&stage.plan.server_keys.public, address.into())
}

fn write(stage: &Stage, contents: &[u8]) {
    let path = state_file::path(stage.client());
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// Runs the client once until it reaches the server by its name.
fn once(stage: &Stage, options: &[&str]) {
    let daemon = start(stage.client(), &stage.plan.client, options);
    up_within(stage, &daemon, Duration::from_secs(5));
    eventually("the address is kept", || is_kept(stage));
    kill(daemon);
}

/// The kill switch of the killed run blocks the queries of the host's own name server.
#[test]
fn a_restart_behind_an_engaged_kill_switch_comes_up() {
    let (stage, _name_server) = stage();
    let (client, tally) = (stage.client(), stage.count());
    stub(client, true);
    once(&stage, &["--kill-switch"]);
    assert_eq!(fs::metadata(state_file::path(client)).unwrap().mode() & 0o777, 0o600);
    assert!(has_kill_switch(client));
    tally.reset();
    let begun = Instant::now();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, HEAD_START + SLACK);
    println!("up {:?} after the start", begun.elapsed());
    daemon.wait_for(TRYING);
    assert!(!client.ping_once(NEIGHBOUR_V4, 56));
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert!(is_kept(&stage));
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
        daemon.wait_for(TRYING);
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// If the name is resolved, that address is used, at once or later.
#[test]
fn an_answer_takes_the_place_of_what_is_remembered() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    write(&stage, &contents(&stage, WRONG));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    assert!(!daemon.lines().iter().any(|line| line.contains(TRYING)));
    eventually("the address is kept", || is_kept(&stage));
    kill(daemon);

    write(&stage, &contents(&stage, WRONG));
    resolv_conf(client, &format!("nameserver {SILENT}\noptions timeout:1 attempts:1\n"));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    daemon.wait_for(TRYING);
    let endpoints = || client.wg(&["show", "wg0", "endpoints"]);
    eventually("the wrong address is tried", || endpoints().contains(&WRONG.to_string()));
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    up_within(&stage, &daemon, Duration::from_secs(30));
    assert!(endpoints().contains(&stage.plan.server_site.v4.to_string()));
    eventually("the address is kept", || is_kept(&stage));
}

/// A file that another user may have written is not used, nor are pages that are damaged.
#[test]
fn what_is_not_its_own_is_not_used() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    let path = state_file::path(client);
    resolv_conf(client, &format!("nameserver {SILENT}\noptions timeout:1 attempts:1\n"));
    let wrong = contents(&stage, WRONG);
    let other = client.path().join("other");
    fs::write(&other, &wrong).unwrap();
    let comes_up_without = |warning: &str| {
        let daemon = start(client, &stage.plan.client, &[]);
        daemon.wait_for(warning);
        daemon.wait_for("cannot resolve an endpoint's name");
        assert!(!daemon.lines().iter().any(|line| line.contains(TRYING)), "{:#?}", daemon.lines());
        assert_eq!(daemon.stop().status.code(), Some(0));
    };
    symlink(&other, &path).unwrap();
    comes_up_without("is a symbolic link");
    assert!(fs::read(&other).unwrap() == wrong);
    fs::remove_file(&path).unwrap();
    write(&stage, &wrong);
    client.shell(&format!("chown 65534 {}", path.display()));
    comes_up_without("belongs to user 65534");
    fs::remove_file(&path).unwrap();
    let mut damaged = wrong;
    damaged[300] ^= 1;
    write(&stage, &damaged);
    comes_up_without("are damaged");
}

/// A read-only file system costs no warning: nothing is stored. A file that is there is used.
#[test]
fn a_read_only_place_costs_nothing() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    let folder = client.path().display().to_string();
    let read_only =
        || client.shell(&format!("mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}"));
    client.write("wg0.conf", &stage.plan.client.wg_quick());
    write(&stage, &contents(&stage, stage.plan.server_site.v4));
    read_only();
    // a remembered address is read all the same
    resolv_conf(client, &format!("nameserver {SILENT}\n"));
    let launch = || {
        let config = client.path().join("wg0.conf");
        let launch = client.launch(BINARY.as_ref(), &["--config", config.to_str().unwrap()]);
        let daemon = launch.env("STATE_DIRECTORY", "/nonexistent/wontun").spawn();
        daemon.wait_for(" ready mode=");
        daemon
    };
    let daemon = launch();
    up_within(&stage, &daemon, HEAD_START + SLACK);
    daemon.wait_for("cannot be written");
    assert!(daemon.count("cannot be written") == 1, "{:#?}", daemon.lines());
    assert_eq!(daemon.stop().status.code(), Some(0));
    client.shell(&format!("umount {folder}"));
    fs::remove_file(state_file::path(client)).unwrap();
    read_only();
    resolv_conf(client, &format!("nameserver {WORLD_V4}\n"));
    let daemon = launch();
    assert!(holds_within(SLACK, || client.ping_once(WORLD_V4, 56)));
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(0));
    assert!(!stopped.lines.iter().any(|line| line.contains("WARN")), "{:#?}", stopped.lines);
    assert_eq!(stopped.lines.iter().filter(|line| line.contains("no state file can be written")).count(), 1);
    assert!(!state_file::path(client).exists());
}
