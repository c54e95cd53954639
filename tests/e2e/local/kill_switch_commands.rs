//! `wontun kill-switch`: on and off, with and without a running tunnel.

use nix::sys::signal::Signal;

use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, finish};
use crate::wireguard::kill_switch::{
    NEIGHBOUR_V4, NEIGHBOUR_V6, Stage, WORLD_V4, has_kill_switch, kill, reaches_the_world, start, talk,
};
use crate::wireguard::site::Site;

fn command(site: &Site, arguments: &[&str]) -> Finished {
    finish(site.command(BINARY).arg("kill-switch").args(arguments), TIMEOUT)
}

/// Panics unless the command prints `line` and succeeds.
fn says(site: &Site, arguments: &[&str], line: &str) {
    let run = command(site, arguments);
    assert_eq!((run.code(), run.stdout.as_str()), (0, line), "{run:?}");
}

/// A running tunnel deletes the table itself, and does not restore it, not even on a reload.
#[test]
fn off_holds_while_the_tunnel_runs() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch", "keep"]);
    reaches_the_world(&stage);
    assert!(!client.ping_once(NEIGHBOUR_V4, 56));
    says(client, &["off", "wg0"], "wg0: kill switch off\n");
    daemon.wait_for("the kill switch is off, by request");
    client.ping(NEIGHBOUR_V4);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    client.wg(&["set", "wg0", "fwmark", "77"]);
    reaches_the_world(&stage);
    assert!(!has_kill_switch(client), "it is back");
    says(client, &["off", "wg0"], "wg0 has no kill switch\n");

    // on again, with the current port and mark
    says(client, &["on", "wg0"], "wg0: kill switch on, set by the running tunnel\n");
    says(client, &["on", "wg0"], "wg0: kill switch on, set by the running tunnel\n");
    assert!(has_kill_switch(client));
    reaches_the_world(&stage);
    assert!(!client.ping_once(NEIGHBOUR_V4, 56));

    // and once it is switched off, a stopped tunnel leaves nothing, whatever --kill-switch says
    says(client, &["off"], "wg0: kill switch off\n");
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert!(!has_kill_switch(client));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    assert!(has_kill_switch(client), "a start engages it");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// A tunnel that has changed its user can still do both in its sandbox, and root may request it.
#[test]
fn off_and_on_work_for_a_tunnel_of_another_user() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch", "--user", "65534"]);
    says(client, &["off", "wg0"], "wg0: kill switch off\n");
    daemon.wait_for("the kill switch is off, by request");
    client.ping(NEIGHBOUR_V4);
    says(client, &["on", "wg0"], "wg0: kill switch on, set by the running tunnel\n");
    assert!(has_kill_switch(client) && !client.ping_once(NEIGHBOUR_V4, 56));
    reaches_the_world(&stage);
}

#[test]
fn off_takes_away_what_a_killed_tunnel_left() {
    let stage = Stage::new();
    let client = stage.client();
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    assert!(has_kill_switch(client) && !client.ping_once(NEIGHBOUR_V4, 56));
    says(client, &["off", "wg0"], "wg0: kill switch off\n");
    client.ping(NEIGHBOUR_V4);
    // the old name of the command
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    let run = finish(client.command(BINARY).arg("unlock"), TIMEOUT);
    assert_eq!((run.code(), run.stdout.as_str()), (0, "wg0: kill switch off\n"), "{run:?}");
    assert!(!has_kill_switch(client));
}

/// A hung tunnel still owns its table, which nobody else can delete: the command reports that.
/// (Before Linux 6.9 the command deletes the table.) Once the process has ended, the table can be
/// deleted.
#[test]
fn off_says_that_a_tunnel_hangs_and_works_when_it_has_ended() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    assert!(client.shell("nft list table inet wontun-lock-wg0").contains("flags owner"), "Linux before 6.9");
    daemon.signal(Signal::SIGSTOP);
    let run = command(client, &["off", "wg0"]);
    assert!(run.code() == 1 && run.stderr.contains("wg0 does not respond: its event loop hangs"), "{run:?}");
    assert!(has_kill_switch(client));
    kill(daemon);
    says(client, &["off", "wg0"], "wg0: kill switch off\n");
    client.ping(NEIGHBOUR_V4);
}

/// As at boot: only the name is known. The tunnel starts later, and takes over the table.
#[test]
fn on_needs_nothing_but_the_name() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let locked = "wg0: kill switch on; remove it with `wontun kill-switch off wg0`\n";
    says(client, &["on", "wg0"], locked);
    talk(client);
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);
    says(client, &["on", "wg0", "--allow", &format!("{NEIGHBOUR_V4}/32,{NEIGHBOUR_V6}")], locked);
    client.ping(NEIGHBOUR_V4);
    client.ping(NEIGHBOUR_V6);
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    assert!(!client.ping_once(NEIGHBOUR_V4, 56), "the tunnel's own list is another");
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert!(!has_kill_switch(client));
    client.ping(NEIGHBOUR_V4);
}

/// The tunnel would be cut off, and cannot open the table for itself.
#[test]
fn a_tunnel_without_a_kill_switch_gets_none() {
    let stage = Stage::new();
    let client = stage.client();
    let _daemon = start(client, &stage.plan.client, &[]);
    let run = command(client, &["on", "wg0"]);
    assert_eq!((run.code(), run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("start it with --kill-switch"), "{run:?}");
    assert!(!has_kill_switch(client));
    client.ping(WORLD_V4);
}

/// A flush by another program is repaired on a reload; it is not a request to switch off.
#[test]
fn a_flush_is_no_request() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    // where the kernel supports owners the table stays, elsewhere it is restored
    let delete = || client.shell("nft delete table inet wontun-lock-wg0 2>&1 || true");
    delete();
    says(client, &["on", "wg0"], "wg0: kill switch on, set by the running tunnel\n");
    assert!(has_kill_switch(client));
    delete();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    assert!(has_kill_switch(client));
    reaches_the_world(&stage);
}
