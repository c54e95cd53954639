//! A tunnel in either mode between two hosts, with the same device and addresses inside, for tests
//! of both modes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::daemon::{Daemon, Summary};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::streams::Connection;
use crate::waiting::holds_within;
use crate::waiting::{TIMEOUT, finish};
use crate::wireguard::pair::Outer;
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

/// The device's name at both ends.
pub(crate) const DEVICE: &str = "tun0";

/// The inner addresses.
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(crate) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);
pub(crate) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);

/// Smallest MTU for IPv6.
const IPV6_MIN_MTU: u32 = 1280;

/// The tunnel's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    WireGuard,
}

impl Mode {
    pub(crate) const BOTH: [Self; 2] = [Self::Plain, Self::WireGuard];

    /// Returns the overhead of a packet in bytes, beside IP and UDP.
    pub(crate) const fn overhead(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::WireGuard => 32,
        }
    }

    /// Returns the servers' port.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Plain => crate::bare::PORT,
            Self::WireGuard => crate::wireguard::pair::PORT,
        }
    }

    /// Returns the log line of an end that is ready.
    const fn ready(self) -> &'static str {
        match self {
            Self::Plain => "ready role=",
            Self::WireGuard => " ready mode=",
        }
    }
}

/// The command line of one end.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// Options beside those that make it an end of this tunnel.
    args: Vec<String>,
    /// A program that starts it.
    wrapper: String,
}

impl End {
    pub(crate) fn args(mut self, words: &str) -> Self {
        self.args.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn wrap(mut self, words: &str) -> Self {
        words.clone_into(&mut self.wrapper);
        self
    }
}

/// The settings of the two ends.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) outer: Outer,
    /// The MTU; `None` for the mode's default.
    pub(crate) mtu: Option<u32>,
    pub(crate) server: End,
    pub(crate) client: End,
}

impl Plan {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, outer: Outer::V4, mtu: None, server: End::default(), client: End::default() }
    }

    pub(crate) fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    pub(crate) fn outer(mut self, outer: Outer) -> Self {
        self.outer = outer;
        self
    }

    /// Adds options to both ends.
    pub(crate) fn args(mut self, words: &str) -> Self {
        self.server = self.server.args(words);
        self.client = self.client.args(words);
        self
    }

    /// Starts both on two hosts of a link of MTU 1500.
    pub(crate) fn start(self) -> Tunnel {
        self.start_on(&Arc::new(Lab::new(2)))
    }

    /// Starts both on the first two hosts of `lab`.
    pub(crate) fn start_on(self, lab: &Arc<Lab>) -> Tunnel {
        let [server_site, client_site] = [0, 1].map(|index| Arc::new(Site::new(lab, index)));
        let (server, client) = match self.mode {
            Mode::Plain => self.start_plain(&server_site, &client_site),
            Mode::WireGuard => self.start_wireguard(&server_site, &client_site),
        };
        Tunnel { server, client, server_site, client_site }
    }

    fn has_ipv6(&self) -> bool {
        self.mtu.is_none_or(|mtu| mtu >= IPV6_MIN_MTU)
    }

    fn server_address(&self, site: &Site) -> SocketAddr {
        let address: IpAddr = match self.outer {
            Outer::V4 => site.v4.into(),
            Outer::V6 => site.v6.into(),
        };
        SocketAddr::new(address, self.mode.port())
    }

    fn start_plain(&self, server_site: &Site, client_site: &Site) -> (Daemon, Daemon) {
        let start = |site: &Site, end: &End, addresses: [String; 2], peer: Option<SocketAddr>| {
            let mut args = ["plain", "--tun", DEVICE].map(str::to_owned).to_vec();
            let families = if self.has_ipv6() { 2 } else { 1 };
            for address in addresses.into_iter().take(families) {
                args.extend(["--address".to_owned(), address]);
            }
            if let Some(mtu) = self.mtu {
                args.extend(["--mtu".to_owned(), mtu.to_string()]);
            }
            if let Some(peer) = peer {
                args.extend(["--peer".to_owned(), peer.to_string()]);
            }
            start(site, end, args, self.mode)
        };
        let at_server = [format!("{SERVER_V4}/24"), format!("{SERVER_V6}/64")];
        let at_client = [format!("{CLIENT_V4}/24"), format!("{CLIENT_V6}/64")];
        let server = start(server_site, &self.server, at_server, None);
        let client = start(client_site, &self.client, at_client, Some(self.server_address(server_site)));
        server.wait_for("peer connected");
        (server, client)
    }

    fn start_wireguard(&self, server_site: &Site, client_site: &Site) -> (Daemon, Daemon) {
        let (server_keys, client_keys) = (Keys::new(), Keys::new());
        let families = if self.has_ipv6() { 2 } else { 1 };
        let settings = |keys: &Keys, addresses: [String; 2], peer: Peer| {
            let addresses: Vec<&str> = addresses.iter().take(families).map(String::as_str).collect();
            let settings = Settings::new(keys, &addresses).peer(peer);
            Settings { mtu: self.mtu, ..settings }
        };
        let server = settings(
            &server_keys,
            [format!("{SERVER_V4}/24"), format!("{SERVER_V6}/64")],
            Peer::new(&client_keys.public, &[&format!("{CLIENT_V4}/32"), &format!("{CLIENT_V6}/128")]),
        );
        let client = settings(
            &client_keys,
            [format!("{CLIENT_V4}/24"), format!("{CLIENT_V6}/64")],
            Peer::new(&server_keys.public, &["10.9.0.0/24", "fd00:9::/64"])
                .at(self.server_address(server_site)),
        );
        let start = |site: &Site, end: &End, settings: &Settings| {
            let file = site.write("tun0.conf", &settings.wg_quick());
            start(site, end, vec!["--config".to_owned(), file.to_str().unwrap().to_owned()], self.mode)
        };
        let server = start(server_site, &self.server, &server.port(self.mode.port()));
        let client = start(client_site, &self.client, &client);
        (server, client)
    }
}

fn start(site: &Site, end: &End, args: Vec<String>, mode: Mode) -> Daemon {
    let args: Vec<&str> = args.iter().chain(&end.args).map(String::as_str).collect();
    let daemon = site.launch(BINARY.as_ref(), &args).wrap(&end.wrapper).spawn();
    daemon.wait_for(mode.ready());
    daemon
}

/// Two running ends.
#[derive(Debug)]
pub(crate) struct Tunnel {
    // the daemons are dropped first: dropping a site kills the remaining processes
    pub(crate) server: Daemon,
    pub(crate) client: Daemon,
    pub(crate) server_site: Arc<Site>,
    pub(crate) client_site: Arc<Site>,
}

impl Tunnel {
    /// Opens a TCP connection from the client to the server's address `inner`.
    pub(crate) fn connect(&self, inner: impl Into<IpAddr>) -> Connection {
        Connection::open(&self.server_site, (inner.into(), 0), &self.client_site)
    }

    /// Pings the server with packets of `len` bytes, which must not be fragmented inside and must
    /// all be answered.
    pub(crate) fn fills(&self, inner: IpAddr, len: u32) {
        let headers = if inner.is_ipv4() { 28 } else { 48 };
        let (payload, inner) = ((len - headers).to_string(), inner.to_string());
        for _ in 0..3 {
            let mut ping = self.client_site.command("ping");
            // one at a time: with several, ping(8) waits for the last only as long as the others
            // took
            ping.args(["-n", "-q", "-M", "do", "-c", "1", "-W", "5", "-s", &payload, &inner]);
            let finished = finish(&mut ping, TIMEOUT);
            assert!(
                finished.stdout.contains(" 0% packet loss"),
                "packets of {len} bytes are lost: {finished:?}"
            );
        }
    }

    /// Panics unless each packet that entered one end left at the other, and neither dropped any.
    /// Must be called when nothing is sent any more.
    pub(crate) fn assert_lossless(&self) {
        let mut seen = None;
        let is_even = holds_within(TIMEOUT / 4, || {
            let (server, client) = (self.server.summary(), self.client.summary());
            let even = |from: &Summary, to: &Summary| {
                (from.tx_packets, from.tx_bytes) == (to.rx_packets, to.rx_bytes)
            };
            let is_even = even(&server, &client) && even(&client, &server);
            let dropped = server.all_dropped() + client.all_dropped();
            seen = Some((server, client));
            is_even && dropped == 0
        });
        assert!(is_even, "packets were lost, server and client: {seen:#?}");
    }

    /// Returns the average number of tunnel packets in one packet on the device while `work` ran:
    /// read from the client's tun, and written to the server's.
    pub(crate) fn joined(&self, work: impl FnOnce()) -> (f64, f64) {
        let counts = || {
            let (client, server) = (self.client.summary(), self.server.summary());
            let at_client = self.client_site.device_packets(DEVICE).1;
            let at_server = self.server_site.device_packets(DEVICE).0;
            [client.tx_packets, at_client, server.rx_packets, at_server]
        };
        let before = counts();
        work();
        let after = counts();
        let [tx, read, rx, written] = [0, 1, 2, 3].map(|place| (after[place] - before[place]) as f64);
        (tx / read, rx / written)
    }
}
