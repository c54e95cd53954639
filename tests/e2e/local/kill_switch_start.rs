//! A kill switch is engaged before anything that may fail, and across a restart.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::Stopped;
use crate::mounts::BINARY;
use crate::waiting::{SetAtEnd, eventually};
use crate::wireguard::kill_switch::{
    NEIGHBOUR_V4, NEIGHBOUR_V6, Stage, WORLD_V4, has_kill_switch, kill, launch, reaches_the_world, start,
    table, talk,
};

const OFF: &str = "`wontun kill-switch off wg0`";

/// Panics unless the start has failed with `code`, the log names the command that opens the
/// network, and no packet gets out.
fn is_silent(stage: &Stage, failed: &Stopped, code: i32) {
    assert_eq!(failed.status.code(), Some(code), "{:?}", failed.lines);
    let tally = stage.count();
    talk(stage.client());
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);
    assert!(failed.lines.iter().any(|line| line.contains(OFF)), "{:?}", failed.lines);
    assert!(has_kill_switch(stage.client()), "no table");
}

#[test]
fn a_typo_in_the_file_opens_nothing() {
    let stage = Stage::new();
    let text = stage.plan.client.wg_quick().replace("AllowedIPs", "AlowedIPs");
    let file = stage.client().write("wg0.conf", &text);
    let arguments = ["--config", file.to_str().unwrap(), "--kill-switch"];
    let failed = stage.client().launch(BINARY.as_ref(), &arguments).spawn().wait_exit();
    assert!(failed.lines.iter().any(|line| line.contains("AlowedIPs")), "{:?}", failed.lines);
    is_silent(&stage, &failed, 78);
}

#[test]
fn a_missing_file_opens_nothing() {
    let stage = Stage::new();
    let file = stage.client().path().join("wg0.conf");
    let arguments = ["--config", file.to_str().unwrap(), "--kill-switch"];
    let failed = stage.client().launch(BINARY.as_ref(), &arguments).spawn().wait_exit();
    is_silent(&stage, &failed, 78);
}

#[test]
fn a_squatted_port_opens_nothing() {
    let mut stage = Stage::new();
    stage.plan.client.port = Some(40_000);
    let _squatter = stage.client().udp((Ipv4Addr::UNSPECIFIED, 40_000));
    let failed = launch(stage.client(), &stage.plan.client, &["--kill-switch"]).wait_exit();
    is_silent(&stage, &failed, 69);
}

#[test]
fn an_unknown_user_opens_nothing() {
    let stage = Stage::new();
    let arguments = ["--kill-switch", "--user", "no-such-user"];
    let failed = launch(stage.client(), &stage.plan.client, &arguments).wait_exit();
    is_silent(&stage, &failed, 78);
}

/// The table of a killed run lets its port and mark through; a start that fails afterwards closes
/// that.
#[test]
fn a_start_that_fails_closes_what_an_earlier_run_let_through() {
    let stage = Stage::new();
    kill(start(stage.client(), &stage.plan.client, &["--kill-switch"]));
    assert!(table(stage.client()).contains("meta mark"));
    let mut wrong = stage.plan.client.clone();
    wrong.addresses = vec!["10.9.0.2/240".to_owned()];
    let failed = launch(stage.client(), &wrong, &["--kill-switch"]).wait_exit();
    is_silent(&stage, &failed, 78);
    assert!(!table(stage.client()).contains("meta mark"));
}

/// A continuous sender gets nothing out while the tunnel is stopped cleanly and started again.
#[test]
fn keep_leaves_no_gap_over_a_restart() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let keep = ["--kill-switch", "keep"];
    let mut daemon = start(client, &stage.plan.client, &keep);
    reaches_the_world(&stage);
    let (stop, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    tally.reset();
    thread::scope(|scope| {
        let _end = SetAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for address in [WORLD_V4, NEIGHBOUR_V4] {
                    let outcome = socket.send_to(b"always", (address, 9));
                    refused.fetch_add(outcome.is_err().into(), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        for _ in 0..3 {
            let stopped = daemon.stop();
            assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
            assert!(
                stopped.lines.iter().any(|line| line.contains("--kill-switch keep") && line.contains(OFF))
            );
            assert!(has_kill_switch(client) && !client.has_device("wg0"));
            assert!(!table(client).contains("meta mark"), "its port is let through still");
            let before = refused.load(Ordering::Relaxed);
            eventually("the sender is at work", || refused.load(Ordering::Relaxed) > before + 10);
            daemon = start(client, &stage.plan.client, &keep);
            reaches_the_world(&stage);
        }
    });
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
}

/// A user of SSH over the network allows their own address, and is not locked out, not by a failing
/// start either.
#[test]
fn what_is_allowed_always_passes() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let (allowed, file) = (format!("{NEIGHBOUR_V4},{NEIGHBOUR_V6}/128"), "no-such-file/wg0.conf");
    let launch = client.launch(BINARY.as_ref(), &["--config", file]);
    let launch = launch.env("WONTUN_KILL_SWITCH", "1").env("WONTUN_KILL_SWITCH_ALLOW", &allowed);
    let failed = launch.spawn().wait_exit();
    assert_eq!(failed.status.code(), Some(78), "{:?}", failed.lines);
    for _ in 0..2 {
        client.ping(NEIGHBOUR_V4);
        client.ping(NEIGHBOUR_V6);
        // from outside, as SSH does
        stage.router.ping(client.v4);
        stage.router.ping(client.v6);
        tally.reset();
        assert!(!client.ping_once(WORLD_V4, 56));
        assert_eq!(tally.count("leaked"), 0);
        let arguments = ["--kill-switch", "--kill-switch-allow", &allowed];
        let daemon = start(client, &stage.plan.client, &arguments);
        reaches_the_world(&stage);
        client.ping(NEIGHBOUR_V4);
        kill(daemon);
    }
}

#[test]
fn an_allowed_network_is_one_and_belongs_to_a_kill_switch() {
    let stage = Stage::new();
    for (arguments, code, part) in [
        (&["--kill-switch-allow", "192.0.2.0/24"][..], 78, "without --kill-switch"),
        (&["--kill-switch", "--kill-switch-allow", "0.0.0.0/0"], 2, "allow all traffic"),
        (&["--kill-switch", "--kill-switch-allow", "ssh"], 2, "expected an address or a network"),
        (&["--kill-switch", "perhaps"], 2, "expected on, keep or off"),
    ] {
        let failed = launch(stage.client(), &stage.plan.client, arguments).wait_exit();
        assert_eq!(failed.status.code(), Some(code), "{:?}", failed.lines);
        assert!(failed.lines.iter().any(|line| line.contains(part)), "{:?}", failed.lines);
    }
    assert!(!has_kill_switch(stage.client()));
}
