//! The unit that engages a kill switch at boot, beside the tunnel's unit.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::mounts::{BINARY, Folder};
use crate::waiting::{TIMEOUT, finish};
use crate::wireguard::kill_switch::{NEIGHBOUR_V4, Stage, has_kill_switch};

/// Returns the shipped unit, changed to run the program under test.
fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("/usr/local/bin/wontun", BINARY)
}

/// Returns the messages of `systemd-analyze verify` about a boot that starts both units.
fn verify(lock: &str, tunnel: &str) -> String {
    let folder = Folder::new();
    folder.write("wontun-lock@.service", lock);
    folder.write("wontun@.service", tunnel);
    let wants = "wontun-lock@tun0.service wontun@tun0.service network.target network-online.target";
    let boot =
        format!("[Unit]\nDescription=A boot\nWants={wants} systemd-networkd.service nftables.service\n");
    let boot = folder.write("boot.target", &boot);
    let mut verify = Command::new("systemd-analyze");
    let run = finish(verify.arg("verify").arg(&boot).current_dir(folder.path()), TIMEOUT);
    let units = ["wontun-lock@tun0.service", "wontun@tun0.service"].map(|unit| folder.path().join(unit));
    let each = finish(Command::new("systemd-analyze").arg("verify").args(units), TIMEOUT);
    assert!(run.status.success() && each.status.success(), "{run:?} {each:?}");
    run.stderr + &each.stderr
}

#[test]
fn both_units_are_fine_and_so_is_their_order() {
    let (lock, tunnel) = (unit("wontun-lock@.service"), unit("wontun@.service"));
    assert_eq!(verify(&lock, &tunnel), "");
    for line in ["DefaultDependencies=no", "Wants=network-pre.target", "Before=network-pre.target"] {
        assert!(lock.lines().any(|each| each == line), "{line}");
    }
    assert!(tunnel.lines().any(|line| line == "After=network.target"));
    // the control: the reverse order is a cycle, and it is reported
    let wrong = tunnel.replace("After=network.target", "After=network.target\nBefore=network-pre.target");
    let said = verify(&lock, &wrong);
    assert!(said.contains("ordering cycle"), "{said}");
}

/// The unit's two commands in sequence: the first closes, a mistake in the second opens nothing.
#[test]
fn a_mistake_in_its_networks_opens_nothing() {
    let stage = Stage::new();
    let client = stage.client();
    let lock = unit("wontun-lock@.service");
    let commands: Vec<_> = lock.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for allow in ["--allow 192.0.2.0/240", "--alow 192.0.2.0/24"] {
        let run = |command: &str| {
            let command = command.replace("%i", "wg0").replace("$ALLOW", allow);
            let words: Vec<_> = command.split_whitespace().collect();
            finish(client.command(words[0]).args(&words[1..]), TIMEOUT).code()
        };
        assert_eq!([run(commands[0]), run(commands[1])], [0, 2]);
        assert!(has_kill_switch(client) && !client.ping_once(NEIGHBOUR_V4, 56));
    }
}
