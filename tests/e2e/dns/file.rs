//! A plain /etc/resolv.conf: written, watched, and put back.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{BEFORE, Home, INSIDE, OUTSIDE, kill, soon, stop};
use crate::process::has_no_capability;
use crate::processes::{DNS, helper};
use crate::wireguard::kill_switch::launch;
use crate::wireguard::pair::PORT;
use crate::wireguard::settings::{Keys, Settings};

/// The complete sequence, on the bind mount of a container: applied when the tunnel is ready, and
/// back as it was at the end.
#[test]
fn name_servers_are_applied_and_come_back() {
    let home = Home::with_mounted_file();
    assert_eq!(home.look_up("www.example.com"), Some(OUTSIDE));
    let daemon = home.start(&[]);
    daemon.wait_for("name servers applied");
    assert!(home.is_applied(), "{}", home.read());
    let before = home.query_counts();
    assert_eq!(home.look_up("www.example.com"), Some(INSIDE));
    let after = home.query_counts();
    assert!(after.0 > before.0 && after.1 == before.1, "{before:?} {after:?}");
    let dns = helper(daemon.pid(), DNS);
    has_no_capability(dns);
    let status = std::fs::read_to_string(format!("/proc/{dns}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    stop(daemon);
    assert_eq!(home.read(), BEFORE);
    assert_eq!(home.look_up("www.example.com"), Some(OUTSIDE));
}

/// A killed tunnel leaves its name servers, which are unreachable: names fail rather than leak.
/// The next start uses those of before for its endpoint's name, and puts them back at its end.
#[test]
fn a_killed_tunnel_is_cleaned_up_by_the_next_start() {
    let mut home = Home::new();
    home.outside.set_address(home.stage.plan.server_site.v4);
    home.stage.plan.client.peers[0].endpoint = Some(format!("vpn.example.com:{PORT}"));
    let daemon = home.start(&["--kill-switch"]);
    assert!(soon(|| home.look_up("www.example.com") == Some(INSIDE)), "{:#?}", daemon.lines());
    kill(daemon);
    assert!(home.is_applied());
    for options in [&["--kill-switch"][..], &[]] {
        let before = home.query_counts();
        let daemon = home.start(options);
        assert!(soon(|| home.look_up("www.example.com") == Some(INSIDE)), "{:#?}", daemon.lines());
        assert!(home.query_counts().1 > before.1, "the endpoint was not looked up outside");
        kill(daemon);
        home.command(&["kill-switch", "off"]);
        home.write(BEFORE);
    }
    kill(home.start(&[]));
    assert!(home.is_applied());
    // without the option it is put back at the start
    let daemon = launch(home.client(), &home.stage.plan.client, &["--apply-dns", "off"]);
    daemon.wait_for("the name servers of an earlier run were removed");
    assert_eq!(home.read(), BEFORE);
}

/// `wontun unlock` puts back both the kill switch and the name servers, and leaves those of a
/// running tunnel.
#[test]
fn unlock_puts_back_what_a_killed_tunnel_left() {
    let home = Home::new();
    let daemon = home.start(&["--kill-switch"]);
    let unlocked = home.command(&["unlock"]);
    assert_eq!(unlocked.stdout, "wg0: kill switch off\n");
    assert!(home.is_applied(), "the tunnel runs");
    kill(daemon);
    kill(home.start(&["--kill-switch"]));
    let unlocked = home.command(&["unlock", "wg0"]);
    assert_eq!(
        (unlocked.code(), unlocked.stdout.as_str()),
        (0, "wg0: kill switch off\nwg0: previous name servers restored in /etc/resolv.conf\n"),
        "{unlocked:?}"
    );
    assert_eq!(home.read(), BEFORE);
    // one that another program has changed is left alone
    kill(home.start(&[]));
    let changed = home.read().replace("nameserver 10.9.0.1", "nameserver 192.0.2.99");
    home.write(&changed);
    let unlocked = home.command(&["unlock"]);
    assert!(
        unlocked.code() != 0 && unlocked.stderr.contains("was changed by another program"),
        "{unlocked:?}"
    );
    assert_eq!(home.read(), changed);
}

/// Another program writes the file, in place, by a new file, by a symbolic link, or not at all any
/// more: the tunnel's name servers are written again, and what it wrote last comes back.
#[test]
fn other_programs_are_outlasted() {
    let home = Home::new();
    home.client().shell("mkdir -p /run/NetworkManager");
    let daemon = home.start(&[]);
    let ours = || home.lines().last().is_some_and(|line| line == "nameserver 10.9.0.1");
    let other = |number: u8| format!("# of DHCP\nnameserver 198.51.100.{number}\n");
    let begun = Instant::now();
    home.replace(&other(1));
    assert!(soon(ours), "{}\n{:#?}", home.read(), daemon.lines());
    println!("written again after {:?}, with the commands' time", begun.elapsed());
    daemon.wait_for("was changed by another program");
    home.write(&other(2));
    assert!(soon(ours));
    home.client().shell("echo nameserver 198.51.100.3 >>/etc/resolv.conf");
    assert!(soon(ours));
    home.client().shell(
        "echo '# of another program' >/run/NetworkManager/resolv.conf
        ln -sf /run/NetworkManager/resolv.conf /etc/resolv.conf",
    );
    assert!(soon(ours));
    home.client().shell("cd /run/NetworkManager; echo nameserver 198.51.100.5 >new; mv new resolv.conf");
    assert!(soon(ours));
    home.client().shell("rm /etc/resolv.conf");
    assert!(soon(ours));
    home.replace(&other(4));
    assert!(soon(ours));
    assert_eq!(home.look_up("www.example.com"), Some(INSIDE));
    stop(daemon);
    assert_eq!(home.read(), other(4));
}

/// Two tunnels on one host, the second over the first: they end in either order.
#[test]
fn two_tunnels_end_in_either_order() {
    let home = Home::new();
    let second = || {
        let mut settings = Settings::new(&Keys::new(), &["10.10.0.2/24"]);
        settings.dns = vec!["10.10.0.1".to_owned()];
        let file = home.client().write("wg1.conf", &settings.wg_quick());
        let arguments = ["--config", file.to_str().unwrap(), "--apply-dns", "file"];
        let daemon = home.client().launch(crate::mounts::BINARY.as_ref(), &arguments).spawn();
        daemon.wait_for(" ready mode=");
        assert!(home.lines().contains(&"nameserver 10.10.0.1".to_owned()), "{}", home.read());
        daemon
    };
    for first_ends_first in [true, false] {
        let (first, second) = (home.start(&[]), second());
        if first_ends_first {
            stop(first);
            assert!(home.lines().contains(&"nameserver 10.10.0.1".to_owned()), "{}", home.read());
            stop(second);
        } else {
            stop(second);
            assert!(home.is_applied(), "{}", home.read());
            stop(first);
        }
        assert_eq!(home.read(), BEFORE);
    }
}

/// Settings that cannot be applied cause a warning with the remedy, and the tunnel runs; it also
/// runs when the process is killed.
#[test]
fn a_failure_is_a_warning() {
    let home = Home::new();
    home.client().shell("touch fixed; mount --bind /etc/resolv.conf /etc/resolv.conf; mount -o remount,bind,ro /etc/resolv.conf");
    let daemon = home.start(&[]);
    let line = daemon.wait_for("the name servers of the file are not in effect");
    assert!(line.contains("mount it writable"), "{line}");
    home.client().ping(INSIDE);
    let health = home.command(&["health", "wg0"]);
    assert!(health.stderr.contains("/etc/resolv.conf"), "{health:?}");
    stop(daemon);
    home.client().shell("umount /etc/resolv.conf");
    let daemon = home.start(&[]);
    let dns = helper(daemon.pid(), DNS);
    nix::sys::signal::kill(dns, Signal::SIGKILL).unwrap();
    daemon.wait_for("the dns process failed");
    home.client().ping(INSIDE);
    stop(daemon);
    let unlocked = home.command(&["unlock", "wg0"]);
    assert!(unlocked.stdout.contains("previous name servers restored"), "{unlocked:?}");
    assert_eq!(home.read(), BEFORE);
}

/// The file is read again: other servers, none, and some that a resolver cannot use.
#[test]
fn a_reload_applies_the_change() {
    let mut home = Home::new();
    let daemon = home.start(&[]);
    let reload = |home: &Home, dns: &[&str]| {
        let mut settings = home.stage.plan.client.clone();
        settings.dns = dns.iter().map(|&entry| entry.to_owned()).collect();
        home.client().write("wg0.conf", &settings.wg_quick());
        daemon.signal(Signal::SIGHUP);
    };
    reload(&home, &["10.9.0.1, 10.9.0.5, 10.9.0.6, 10.9.0.7", "corp.example", "a_b!"]);
    let expected = [
        "options timeout:1 attempts:1",
        "search corp.example",
        "nameserver 10.9.0.1",
        "nameserver 10.9.0.5",
        "nameserver 10.9.0.6",
    ];
    assert!(soon(|| home.lines() == expected), "{}", home.read());
    daemon.wait_for("10.9.0.7 left out");
    reload(&home, &[]);
    assert!(soon(|| home.read() == BEFORE), "{}", home.read());
    reload(&home, &["10.9.0.1"]);
    assert!(soon(|| home.is_applied()));
    home.stage.plan.client.dns.clear();
    stop(daemon);
    assert_eq!(home.read(), BEFORE);
    // a running tunnel that had none cannot start the process any more
    let daemon = home.start(&[]);
    reload_of(&home, &daemon);
    daemon.wait_for("restart the tunnel");
}

fn reload_of(home: &Home, daemon: &crate::daemon::Daemon) {
    let mut settings = home.stage.plan.client.clone();
    settings.dns = vec!["10.9.0.1".to_owned()];
    home.client().write("wg0.conf", &settings.wg_quick());
    daemon.signal(Signal::SIGHUP);
}
