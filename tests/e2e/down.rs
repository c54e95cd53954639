//! `wontun down`: ends the tunnel that is meant, really, and leaves alone what others manage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};
use crate::wireguard::kill_switch::{Stage, has_kill_switch, start};
use crate::wireguard::site::Site;

fn down(site: &Site, arguments: &[&str]) -> Finished {
    finish(site.command(BINARY).arg("down").args(arguments), TIMEOUT)
}

/// Panics unless the command failed with `code` and one line that has `part`.
fn is_refused(run: &Finished, code: i32, part: &str) {
    assert_eq!((run.code(), run.stdout.as_str(), run.stderr.lines().count()), (code, "", 1), "{run:?}");
    assert!(run.stderr.contains(part), "no {part:?}: {run:?}");
}

fn interface(site: &Site, name: &str) -> Daemon {
    let daemon = site.launch(Path::new(BINARY), &["-f", name]).spawn();
    eventually("wg finds the tunnel", || site.try_wg(&["show", name]).status.success());
    daemon
}

#[test]
fn the_tunnel_has_ended_when_the_command_returns() {
    let site = Site::new(&Arc::new(Lab::new(2)), 0);
    let mut first = interface(&site, "wg0");
    let second = interface(&site, "wg1");
    is_refused(&down(&site, &[]), 1, "several tunnels are running (wg0, wg1): name one");
    is_refused(&down(&site, &["wg7"]), 1, "no wontun tunnel wg7 is running here: wg0, wg1 are");
    let run = down(&site, &["wg1"]);
    assert!(!site.has_device("wg1") && !site.socket("wg1").exists(), "{run:?}");
    assert_eq!((run.code(), run.stdout.as_str(), run.stderr.as_str()), (0, "wg1: down\n", ""), "{run:?}");
    assert_eq!(second.wait_exit().status.code(), Some(0));
    assert!(first.is_running());
    // the kernel reports each process of the tunnel as gone
    let run = down(&site, &[]);
    let left = site.processes();
    assert_eq!((run.code(), run.stdout.as_str()), (0, "wg0: down\n"), "{run:?}");
    assert!(left.iter().all(|pid| *pid == first.pid()), "{left:?} besides {}", first.pid());
    assert_eq!(first.wait_exit().status.code(), Some(0));
    is_refused(&down(&site, &[]), 1, "no wontun tunnel is running here");
    is_refused(&down(&site, &["wg0"]), 1, "no wontun tunnel wg0 is running here: none is");
}

#[test]
fn a_plain_tunnel_ends_too_but_not_by_another_user() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    is_refused(&Launch::new(lab.server(), &["down"]).wrap(nobody).run(), 77, "permission denied to end tun0");
    let run = Launch::new(lab.server(), &["down", "--tun", "tun0"]).run();
    assert_eq!((run.code(), run.stdout.as_str()), (0, "tun0: down\n"), "{run:?}");
    assert!(!lab.server().has_device("tun0"));
    assert_eq!(server.wait_exit().status.code(), Some(0));
}

#[test]
fn a_kill_switch_that_stays_is_named() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch", "keep"]);
    let run = down(client, &["wg0"]);
    assert!(
        run.stdout.contains("wg0: down; its kill switch stays, until 'wontun kill-switch off wg0'"),
        "{run:?}"
    );
    assert!(has_kill_switch(client));
    assert_eq!(daemon.wait_exit().status.code(), Some(0));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    assert_eq!(down(client, &["wg0"]).stdout, "wg0: down\n");
    assert!(!has_kill_switch(client));
    assert_eq!(daemon.wait_exit().status.code(), Some(0));
}

/// A cgroup such as systemd makes for a unit.
struct Unit(PathBuf);

impl Unit {
    fn new(name: &str) -> Self {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
        let folders = roots.iter().filter(|root| Path::new(root).join("cgroup.procs").exists());
        let folder =
            folders.map(|root| Path::new(root).join(name)).find(|folder| std::fs::create_dir(folder).is_ok());
        Self(folder.expect("this test needs a cgroup hierarchy in /sys/fs/cgroup that it may write to"))
    }

    fn add(&self, pid: nix::unistd::Pid) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        eventually("the processes of the cgroup have ended", || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_unit_is_ended_by_systemd() {
    let site = Site::new(&Arc::new(Lab::new(2)), 0);
    let name = format!("wontun-e2e-{}.service", std::process::id());
    let unit = Unit::new(&name);
    let mut daemon = interface(&site, "wg0");
    for pid in site.processes() {
        unit.add(pid);
    }
    is_refused(&down(&site, &["wg0"]), 1, &format!("'systemctl stop {name}'"));
    assert!(daemon.is_running() && site.has_device("wg0"));
    // with another program in it, such as cron, it is not the tunnel's unit
    let mut other = site.command("sleep").arg("1000").spawn().unwrap();
    unit.add(nix::unistd::Pid::from_raw(other.id() as i32));
    let run = down(&site, &["wg0"]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!((run.code(), run.stdout.as_str()), (0, "wg0: down\n"), "{run:?}");
    daemon.wait_exit();
}

#[test]
fn a_container_is_ended_by_its_engine() {
    let site = Site::new(&Arc::new(Lab::new(2)), 0);
    let mut container = site.command("unshare");
    container.args(["--pid", "--fork", "--kill-child", BINARY, "-f", "wg0"]);
    let mut container = container.stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("wg finds the tunnel", || site.try_wg(&["show", "wg0"]).status.success());
    is_refused(&down(&site, &["wg0"]), 1, "(docker stop, docker compose stop)");
    assert!(site.has_device("wg0"));
    container.kill().unwrap();
    container.wait().unwrap();
}
