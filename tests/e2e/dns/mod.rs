//! `DNS =` of a client, applied to the host: a full tunnel with a name server behind it, and one on
//! the network in front of it.

mod daemons;
mod file;
mod leaks;
mod stub;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, finish, holds_within};
use crate::wireguard::kill_switch::{NEIGHBOUR_V4, Stage, start};
use crate::wireguard::name_server::NameServer;
use crate::wireguard::pair::SERVER_V4;
use crate::wireguard::site::Site;

/// Addresses of every name at the two name servers.
const INSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
/// The file before the tunnel.
const BEFORE: &str =
    "# of the network\nsearch lan.example\nnameserver 198.51.100.254\noptions timeout:1 attempts:1\n";

/// A client with files of its own, and the name servers.
struct Home {
    stage: Stage,
    /// The name server behind the tunnel.
    inside: NameServer,
    /// The name server of the client's network.
    outside: NameServer,
}

impl Home {
    /// Makes a client whose /etc is a folder of its own.
    fn new() -> Self {
        Self::with_etc(
            "mkdir etc; for name in passwd group ld.so.cache protocols services; do test ! -e /etc/$name || cp -L /etc/$name etc/; done
            echo 'hosts: files dns' >etc/nsswitch.conf; echo '127.0.0.1 localhost' >etc/hosts
            mount --bind etc /etc",
        )
    }

    /// Makes a client whose /etc/resolv.conf is a bind mount, as in a container of Docker.
    fn with_mounted_file() -> Self {
        Self::with_etc(
            "echo 'hosts: files dns' >nsswitch.conf; echo '127.0.0.1 localhost' >hosts; touch resolv.conf
            for name in nsswitch.conf hosts resolv.conf; do mount --bind $name /etc/$name; done",
        )
    }

    fn with_etc(script: &str) -> Self {
        let mut stage = Stage::new();
        let server = &stage.plan.server_site;
        let inside = NameServer::start(server.host(), SERVER_V4.parse::<IpAddr>().unwrap(), INSIDE, false);
        let outside = NameServer::start(stage.router.host(), NEIGHBOUR_V4, OUTSIDE, false);
        stage.plan.client.dns = vec![SERVER_V4.to_owned()];
        let client = stage.client();
        client.shell(&format!("cd {}; {script}", client.path().display()));
        let home = Self { stage, inside, outside };
        home.write(BEFORE);
        home
    }

    fn client(&self) -> &Site {
        self.stage.client()
    }

    /// Writes the file in place.
    fn write(&self, text: &str) {
        self.client().shell(&format!("printf '%s' '{text}' >/etc/resolv.conf"));
    }

    /// Replaces the file by a new one, as DHCP clients do.
    fn replace(&self, text: &str) {
        self.client().shell(&format!(
            "printf '%s' '{text}' >/etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf"
        ));
    }

    fn read(&self) -> String {
        self.client().shell("cat /etc/resolv.conf || true")
    }

    /// Returns the lines of the file that resolvers use.
    fn lines(&self) -> Vec<String> {
        let text = self.read();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    fn is_applied(&self) -> bool {
        self.lines() == ["options timeout:1 attempts:1", "nameserver 10.9.0.1"]
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        self.start_with("file", arguments)
    }

    fn start_with(&self, mode: &str, arguments: &[&str]) -> Daemon {
        let arguments = [&["--apply-dns", mode], arguments].concat();
        start(self.client(), &self.stage.plan.client, &arguments)
    }

    /// Returns the address of a name, as a program of the client finds it.
    fn look_up(&self, name: &str) -> Option<Ipv4Addr> {
        let found = finish(self.client().command("getent").args(["ahostsv4", name]), TIMEOUT);
        found.stdout.split_whitespace().next().map(|address| address.parse().unwrap())
    }

    /// Returns the number of queries to the two name servers.
    fn query_counts(&self) -> (usize, usize) {
        (self.inside.query_counts().0, self.outside.query_counts().0)
    }

    fn command(&self, arguments: &[&str]) -> Finished {
        finish(self.client().command(BINARY).args(arguments), TIMEOUT)
    }
}

/// Stops the tunnel.
fn stop(daemon: Daemon) {
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
}

fn kill(daemon: Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit();
}

fn soon(condition: impl FnMut() -> bool) -> bool {
    holds_within(Duration::from_secs(5), condition)
}
