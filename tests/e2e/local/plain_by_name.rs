//! The unencrypted tunnel is started only by its name: no omission starts it.

use crate::bare::INNER_SERVER;
use crate::daemon::{Daemon, Launch, field};
use crate::lab::Lab;
use crate::mounts::Folder;
use crate::waiting::Finished;

/// Runs a program as process 1, as in a container.
const AS_PROCESS_1: &str = "unshare --pid --fork --kill-child --mount-proc";
const WARNING: &str = "plain mode is not encrypted";
const NO_VOLUME: &str = "is not on a volume";

/// Panics unless the run ended with 2 and nothing was created.
fn is_refused(lab: &Lab, run: &Finished) {
    assert_eq!(run.code(), 2, "{run:?}");
    assert!(run.stderr.starts_with("wontun: ") && run.stdout.is_empty(), "{run:?}");
    assert!(!lab.server().has_device("tun"), "{run:?}");
}

#[test]
fn a_bare_start_says_in_ten_lines_what_there_is_to_run() {
    let lab = Lab::new(2);
    for variables in [&[][..], &["PEER", "CONFIG", "COMMAND"]] {
        let bare = Launch::new(lab.server(), &[]);
        let run = variables.iter().fold(bare, |launch, name| launch.env(&format!("WONTUN_{name}"), "")).run();
        is_refused(&lab, &run);
        assert_eq!(run.stderr.lines().count(), 10, "{}", run.stderr);
        for command in [
            "wontun serve",
            "wontun plain ",
            "wontun plain --peer",
            "--config FILE",
            "wontun interface NAME",
            "--help",
        ] {
            assert!(run.stderr.contains(command), "no {command:?} in:\n{}", run.stderr);
        }
    }
    // variables that only set options are not a command either
    for (name, value) in [("LISTEN_PORT", "20000"), ("ADDRESS", "10.9.0.1/24"), ("LOG_LEVEL", "debug")] {
        let run = Launch::new(lab.server(), &[]).env(&format!("WONTUN_{name}"), value).run();
        is_refused(&lab, &run);
        assert!(run.stderr.contains("wontun plain"), "{}", run.stderr);
    }
}

#[test]
fn options_alone_start_nothing_and_are_repeated_with_the_command() {
    let lab = Lab::new(2);
    for options in [
        "--listen-port 20000 --tun tun3",
        "--address 10.9.0.1/24",
        "--no-configure",
        "--keepalive 10",
        "--tun tun0",
        "--log-level debug",
        "--workers 1",
        "--nat auto",
        "--kill-switch",
    ] {
        let arguments: Vec<_> = options.split(' ').collect();
        let run = Launch::new(lab.server(), &arguments).run();
        is_refused(&lab, &run);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("`wontun plain {options}`")), "{}", run.stderr);
        // nor does the image's variable turn these into a server
        let run = Launch::new(lab.server(), &arguments).env("WONTUN_COMMAND", "serve").run();
        is_refused(&lab, &run);
    }
}

#[test]
fn plain_starts_the_server_and_its_client() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    assert_eq!(field(&server.wait_ready(), "role"), Some("server"));
    server.wait_for(WARNING);
    let peer = ["--peer", "192.0.2.1"];
    for launch in [
        Launch::plain(lab.client(), &peer),
        Launch::plain(lab.client(), &[]).env("WONTUN_PEER", "192.0.2.1"),
        // options before the command, and as it was always called
        Launch::new(lab.client(), &["--peer", "192.0.2.1", "plain"]),
        Launch::new(lab.client(), &peer),
        Launch::new(lab.client(), &[]).env("WONTUN_PEER", "192.0.2.1"),
        Launch::new(lab.client(), &[]).env("WONTUN_PEER", "192.0.2.1").env("WONTUN_COMMAND", "serve"),
    ] {
        let client = launch.spawn();
        assert_eq!(field(&client.wait_ready(), "role"), Some("client"));
        client.wait_for(WARNING);
        lab.client().ping(INNER_SERVER);
        let stopped = client.stop();
        assert_eq!((stopped.status.code(), stopped.count(WARNING)), (Some(0), 1), "{stopped:?}");
    }
    assert_eq!(server.stop().count(WARNING), 1);
}

#[test]
fn what_contradicts_plain_is_refused() {
    let lab = Lab::new(2);
    let launch = |arguments: &[&str]| Launch::new(lab.server(), arguments);
    for (launch, part) in [
        (launch(&["--mtu", "1400", "serve"]), "--mtu does not apply to 'wontun serve'"),
        (launch(&["wg0", "plain"]), "'wg0' stands before the command 'plain'"),
        (launch(&["plain"]).env("WONTUN_CONFIG", "/etc/wontun/tun0.conf"), "WONTUN_CONFIG"),
        (launch(&["--config", "/etc/wontun/tun0.conf", "plain"]), "--config"),
        (launch(&["plain", "serve"]), "serve"),
        (launch(&[]).env("WONTUN_COMMAND", "Plain"), "WONTUN_COMMAND is \"Plain\": expected serve or plain"),
        (launch(&[]).env("WONTUN_COMMAND", "show"), "expected serve or plain"),
    ] {
        let run = launch.run();
        is_refused(&lab, &run);
        assert!(run.stderr.contains(part) && run.stderr.lines().count() == 1, "{}", run.stderr);
    }
}

/// The image's environment decides what `docker run wontun` does.
#[test]
fn a_bare_start_runs_the_command_of_the_environment() {
    let lab = Lab::new(2);
    let server = Launch::new(lab.server(), &[]).env("WONTUN_COMMAND", "plain").spawn();
    assert_eq!(field(&server.wait_ready(), "role"), Some("server"));
    server.wait_for(WARNING);
    let stopped = server.stop();
    assert_eq!((stopped.status.code(), stopped.count(WARNING)), (Some(0), 1), "{stopped:?}");

    let folder = Folder::new();
    let path = folder.path().to_str().unwrap();
    let bare = |prepare: &str| {
        let launch = Launch::new(lab.server(), &[]).wrap(AS_PROCESS_1).prepare(prepare);
        launch.env("WONTUN_COMMAND", "serve").env("WONTUN_DIR", path).env("WONTUN_TUN", "vpn7").spawn()
    };
    // deleted along with the container
    let server = bare(&format!("mount -t tmpfs none {path};"));
    let ready = server.wait_for(" ready mode=");
    assert_eq!(field(&ready, "mode"), Some("wireguard"), "{ready}");
    let warning = server.wait_for(NO_VOLUME);
    assert!(warning.contains(path) && warning.contains("-v wontun:"), "{warning}");
    // the image's health check, for any name of the tunnel
    let health = Launch::new(lab.server(), &["health"]).env("WONTUN_COMMAND", "serve");
    assert_eq!(health.run().code(), 0);
    let [pid] = *server.children().as_slice() else { panic!("{:?}", server.children()) };
    assert_eq!(server.stop_by(pid, nix::sys::signal::Signal::SIGTERM).status.code(), Some(0));
    // a volume
    let server = bare(&format!("mount --bind {path} {path};"));
    server.wait_for(" ready mode=");
    assert_eq!((server.count(NO_VOLUME), server.count("is not known")), (0, 0), "{:?}", server.lines());
    assert!(folder.path().join("vpn7.conf").exists());
}
