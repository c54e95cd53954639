//! dockerd starts while a server runs: it drops forwarded packets, unless a rule of its DOCKER-USER
//! chain accepts them.

use std::sync::Arc;
use std::time::Instant;

use super::client::Stage;
use super::need;
use super::program::Program;
use super::server::Server;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::site::Site;

const CONTROL_GROUP: &str = "/sys/fs/cgroup/docker";

/// A Docker engine in the site's own namespaces, without containers.
struct Engine<'site> {
    site: &'site Site,
    program: Option<Program>,
}

impl<'site> Engine<'site> {
    fn start(site: &'site Site) -> Self {
        need(&["dockerd", "iptables"]);
        site.shell(
            "mount -t cgroup2 none /sys/fs/cgroup
             mkdir -p /run/docker-test
             test ! -d /etc/docker || mount -t tmpfs none /etc/docker
             echo '{}' >/run/docker-test/daemon.json",
        );
        let arguments = [
            "--config-file=/run/docker-test/daemon.json",
            "--data-root=/run/docker-test/data",
            "--exec-root=/run/docker-test/exec",
            "--pidfile=/run/docker-test/pid",
            "--host=unix:///run/docker-test/sock",
            "--storage-driver=vfs",
            "--iptables=true",
        ];
        Self { site, program: Some(Program::start(site, "dockerd", &arguments)) }
    }

    fn wait_until_started(&mut self) {
        let site = self.site;
        self.wait_until("Docker has started", || {
            site.shell("ls /run/docker-test").contains("sock") && site.has_device("docker0")
        });
    }

    fn wait_until(&mut self, what: &str, condition: impl FnMut() -> bool) {
        self.program.as_mut().unwrap().wait_until(what, condition);
    }

    fn stop(mut self) {
        self.program.take().unwrap().stop();
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        drop(self.program.take());
        // the cgroup that the machine's own engine uses is not empty, and stays
        finish(self.site.command("rmdir").arg(CONTROL_GROUP), TIMEOUT);
    }
}

#[test]
fn a_server_names_the_rule_that_docker_needs() {
    let mut server = Server::start();
    let site = Arc::clone(server.site());
    let mut engine = Engine::start(&site);
    engine.wait_until("Docker drops forwarded packets", || {
        let chain = site.shell("nft list chain ip filter FORWARD 2>/dev/null || true");
        chain.contains("policy drop") && chain.contains("DOCKER-USER")
    });
    engine.wait_until_started();
    let (since, title) = (Instant::now(), "dockerd, server");
    let command = server.command_of_warning(title, ": iptables -I DOCKER-USER -i wg0", since);
    // a slow start shows a ruleset without that chain before, which is warned of too
    let warnings = server.daemon.count("WARN");
    assert_eq!(server.forwards(), [false, true], "Docker filters IPv4 alone");
    server.is_fixed_by(&[command]);
    // Docker has turned on forwarding for all devices, and wontun no longer drops anything for that
    server.daemon.wait_for("net.ipv4.ip_forward was turned on by another program");
    server.expect_without("meta nfproto ipv4 iifname");
    server.is_as_before("the start of Docker");
    engine.stop();
    eventually("it is gone", || !site.shell("ls /run/docker-test").contains("pid"));
    server.is_as_before("the end of Docker");
    assert_eq!(server.daemon.count("WARN"), warnings, "{}", server.daemon.lines().join("\n"));
    assert_eq!(server.forwards(), [true; 2]);
    server.finish(title);
}

#[test]
fn a_locked_client_outlives_docker() {
    let stage = Stage::new();
    let client = stage.start(&["--kill-switch"]);
    let mut engine = Engine::start(stage.site());
    engine.wait_until_started();
    client.is_as_before("the start of Docker");
    engine.stop();
    client.is_as_before("the end of Docker");
    client.finish("dockerd, client");
}
