//! A running end of a tunnel, with any of the programs.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::implementation::Implementation;
use super::settings::Settings;
use super::site::Site;
use crate::daemon::Daemon;
use crate::waiting::{eventually, succeed};

/// A tunnel device and the program behind it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) site: Arc<Site>,
    pub(crate) implementation: Implementation,
    pub(crate) name: String,
}

/// A line of `wg show NAME dump` about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerState {
    pub(crate) public: String,
    pub(crate) preshared: String,
    pub(crate) endpoint: String,
    pub(crate) allowed: Vec<String>,
    /// Time of the last handshake in seconds since 1970; 0 for never.
    pub(crate) handshake: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) keepalive: String,
}

impl Node {
    /// Starts `wg0` on `site`, and waits until it is ready.
    pub(crate) fn start(site: &Arc<Site>, implementation: Implementation, settings: &Settings) -> Self {
        Self::named("wg0", site, implementation, settings)
    }

    /// Starts the device `name` on `site`, and waits until it is ready.
    pub(crate) fn named(
        name: &str,
        site: &Arc<Site>,
        implementation: Implementation,
        settings: &Settings,
    ) -> Self {
        let implementation = implementation.resolve();
        if implementation == Implementation::ConfigFile {
            let file = site.write(&format!("{name}.conf"), &settings.wg_quick());
            let arguments = ["--config", file.to_str().unwrap(), "--log-level", "debug"];
            let daemon = site.launch(&implementation.binary(), &arguments).spawn();
            daemon.wait_for(" ready mode=");
            return Self { daemon, site: Arc::clone(site), implementation, name: name.to_owned() };
        }
        let node = Self::bare(name, site, implementation);
        node.configure(settings);
        node
    }

    /// Starts the device `name` on `site` without a configuration: not for a program with a
    /// configuration file.
    pub(crate) fn bare(name: &str, site: &Arc<Site>, implementation: Implementation) -> Self {
        let implementation = implementation.resolve();
        let daemon = site
            .launch(&implementation.binary(), &implementation.arguments(name))
            .env("LOG_LEVEL", "verbose")
            .spawn();
        let node = Self { daemon, site: Arc::clone(site), implementation, name: name.to_owned() };
        eventually("wg finds the new tunnel", || site.try_wg(&["show", name]).status.success());
        node
    }

    /// Configures the device with `wg` and `ip` as `wg-quick` would, but without rules for default
    /// routes.
    pub(crate) fn configure(&self, settings: &Settings) {
        let (site, name) = (&self.site, self.name.as_str());
        let file = self.site.write(&format!("{name}.setconf"), &settings.setconf());
        site.wg(&["setconf", name, file.to_str().unwrap()]);
        for address in &settings.addresses {
            site.ip(&["address", "add", address, "dev", name, "nodad"]);
        }
        let mtu = settings.mtu.unwrap_or(1420).to_string();
        site.ip(&["link", "set", name, "mtu", &mtu, "up"]);
        for allowed in settings.peers.iter().flat_map(|peer| &peer.allowed) {
            let family = if allowed.contains(':') { "-6" } else { "-4" };
            site.ip(&[family, "route", "replace", allowed, "dev", name]);
        }
    }

    /// Runs `wg set NAME args…`.
    pub(crate) fn set(&self, args: &[&str]) {
        self.site.wg(&[&["set", self.name.as_str()], args].concat());
    }

    /// Writes a file with one line, such as a key, as `wg set` requires for keys.
    pub(crate) fn key_file(&self, name: &str, key: &str) -> PathBuf {
        self.site.write(name, &format!("{key}\n"))
    }

    /// Returns the peers, as `wg` shows them.
    pub(crate) fn peers(&self) -> Vec<PeerState> {
        let dump = self.site.wg(&["show", &self.name, "dump"]);
        dump.lines().skip(1).map(PeerState::parse).collect()
    }

    /// Returns the peer `public`.
    pub(crate) fn peer(&self, public: &str) -> PeerState {
        let peers = self.peers();
        let found = peers.iter().find(|peer| peer.public == public).cloned();
        found.unwrap_or_else(|| panic!("no peer {public} in {peers:?}"))
    }

    /// Returns the only peer.
    pub(crate) fn only_peer(&self) -> PeerState {
        let mut peers = self.peers();
        assert_eq!(peers.len(), 1, "{peers:?}");
        peers.remove(0)
    }

    /// Returns the port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.site.wg(&["show", &self.name, "listen-port"]).trim().parse().unwrap()
    }

    /// Runs `ip -n HOST link set NAME args…`.
    pub(crate) fn set_link(&self, args: &[&str]) {
        self.site.ip(&[&["link", "set", self.name.as_str()], args].concat());
    }

    /// Sends one ping from this end, which must be answered now or soon.
    pub(crate) fn ping(&self, address: &str) {
        self.site.ping(address.parse::<std::net::IpAddr>().unwrap());
    }

    /// Sends exactly `count` pings of `payload` bytes, five a second; each must be answered.
    pub(crate) fn ping_exactly(&self, address: &str, count: usize, payload: usize) {
        let payload = payload.to_string();
        for number in 0..count {
            if number > 0 {
                thread::sleep(Duration::from_millis(200));
            }
            // one at a time: with several, ping(8) waits for the last only as long as the others
            // took
            let mut ping = self.site.command("ping");
            succeed(ping.args(["-n", "-q", "-M", "do", "-W", "5", "-c", "1", "-s", &payload, address]));
        }
    }
}

impl PeerState {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let [public, preshared, endpoint, allowed, handshake, received, sent, keepalive] = fields[..] else {
            panic!("wg's dump has a line of {} fields: {line}", fields.len());
        };
        Self {
            public: public.to_owned(),
            preshared: preshared.to_owned(),
            endpoint: endpoint.to_owned(),
            allowed: allowed.split(',').map(str::to_owned).collect(),
            handshake: handshake.parse().unwrap(),
            received: received.parse().unwrap(),
            sent: sent.parse().unwrap(),
            keepalive: keepalive.to_owned(),
        }
    }
}
