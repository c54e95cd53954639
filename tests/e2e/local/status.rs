//! `wontun status`: one screen that a person reads first.

use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};
use crate::wireguard::kill_switch::{Stage, kill, launch};
use crate::wireguard::settings::Keys;
use crate::wireguard::site::Site;

fn status(site: &Site, arguments: &[&str]) -> Finished {
    let run = finish(site.command(BINARY).arg("status").args(arguments), TIMEOUT);
    let is_screen =
        run.stdout.lines().count() <= 24 && run.stdout.lines().all(|line| line.chars().count() <= 80);
    assert!(is_screen && run.stderr.is_empty(), "{run:?}");
    run
}

#[test]
fn a_screen_says_what_runs_and_what_is_wrong() {
    let stage = Stage::new();
    let client = stage.client();
    let run = status(client, &[]);
    assert_eq!(run.code(), 1, "{run:?}");
    assert!(run.stdout.starts_with("No tunnel is running here.\nTo start one:\n"), "{run:?}");
    let mut settings = stage.plan.client.clone();
    settings.peers[0].keepalive = Some(1);
    let daemon = launch(client, &settings, &["--kill-switch", "on"]);
    daemon.wait_for(" ready mode=");
    client.ping([10, 9, 0, 1]);
    let run = status(client, &[]);
    assert_eq!(run.code(), 0, "{run:?}");
    let first = run.stdout.lines().next().unwrap();
    assert!(first.starts_with("wg0: up   /"), "{run:?}");
    for part in [
        "kill switch: on",
        "1 peer, 1 connected",
        " ago ",
        "192.0.2.1:",
        "This host's names: /etc/resolv.conf, ",
    ] {
        assert!(run.stdout.contains(part), "{part}: {run:?}");
    }
    assert_eq!(daemon.stop().status.code(), Some(0));
    // a peer that does not answer, since it has another key
    settings.peers[0].public = Keys::new().public;
    let daemon = launch(client, &settings, &["--kill-switch", "on"]);
    daemon.wait_for(" ready mode=");
    eventually("the problem is shown", || {
        let run = status(client, &["wg0"]);
        let words = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        words.starts_with("wg0: up, with a problem /") && words.contains("has not answered yet: check that")
    });
    kill(daemon);
    // the tunnel process ends after its supervisor, and the device with it
    eventually("the device is gone", || !client.has_device("wg0"));
    let run = status(client, &["wg0"]);
    assert_eq!(run.code(), 1, "{run:?}");
    assert!(run.stdout.starts_with("The tunnel wg0 is not running here.\n"), "{run:?}");
    assert!(run.stdout.contains("kill switch of wg0 is on, and wg0 does not run"), "{run:?}");
}

#[test]
fn a_plain_tunnel_and_another_user_see_what_they_may() {
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &[]);
    let run = Launch::new(lab.server(), &["status"]).run();
    assert!(run.code() == 0 && run.stdout.starts_with("tun0: up\n"), "{run:?}");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let run = Launch::new(lab.server(), &["status"]).wrap(nobody).run();
    assert!(run.code() == 0 && run.stdout.contains("kill switch: unknown (run this as root)"), "{run:?}");
    assert!(run.stdout.contains("permission denied by the tunnel on tun0: run this as root"), "{run:?}");
}
