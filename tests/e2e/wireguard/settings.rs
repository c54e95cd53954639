//! The settings of an end of the tunnel, and their two formats: `wg-quick`'s file and `wg
//! setconf`'s.

use std::fmt::Write as _;
use std::io::Read as _;

use wontun_proto::wireguard::PrivateKey;

/// A key pair, as text.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) private: String,
    pub(crate) public: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let key = PrivateKey::from_bytes(&random_bytes());
        Self { private: key.to_base64().to_string(), public: key.public_key().to_string() }
    }
}

/// Generates a preshared key, as text.
pub(crate) fn preshared_key() -> String {
    wontun_proto::wireguard::PresharedKey::from_bytes(random_bytes()).to_base64().to_string()
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// The settings of one end.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) private: String,
    pub(crate) port: Option<u16>,
    pub(crate) addresses: Vec<String>,
    pub(crate) mtu: Option<u32>,
    pub(crate) fwmark: Option<u32>,
    pub(crate) table: Option<String>,
    /// Name servers and search domains; only for a configuration file.
    pub(crate) dns: Vec<String>,
    pub(crate) peers: Vec<Peer>,
}

/// The other end, as this one sees it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) public: String,
    pub(crate) preshared: Option<String>,
    pub(crate) allowed: Vec<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) keepalive: Option<u16>,
}

impl Settings {
    pub(crate) fn new(keys: &Keys, addresses: &[&str]) -> Self {
        Self {
            private: keys.private.clone(),
            port: None,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            mtu: None,
            fwmark: None,
            table: None,
            dns: Vec::new(),
            peers: Vec::new(),
        }
    }

    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    pub(crate) fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    pub(crate) fn peer(mut self, peer: Peer) -> Self {
        self.peers.push(peer);
        self
    }

    /// Formats the settings for `wg-quick`.
    pub(crate) fn wg_quick(&self) -> String {
        let mut text = format!("[Interface]\nPrivateKey = {}\n", self.private);
        for address in &self.addresses {
            writeln!(text, "Address = {address}").unwrap();
        }
        line(&mut text, "ListenPort", self.port.as_ref());
        line(&mut text, "MTU", self.mtu.as_ref());
        line(&mut text, "FwMark", self.fwmark.as_ref());
        line(&mut text, "Table", self.table.as_ref());
        for entry in &self.dns {
            writeln!(text, "DNS = {entry}").unwrap();
        }
        self.add_peers(&mut text);
        text
    }

    /// Formats the settings for `wg setconf`.
    pub(crate) fn setconf(&self) -> String {
        let mut text = format!("[Interface]\nPrivateKey = {}\n", self.private);
        line(&mut text, "ListenPort", self.port.as_ref());
        line(&mut text, "FwMark", self.fwmark.as_ref());
        self.add_peers(&mut text);
        text
    }

    fn add_peers(&self, text: &mut String) {
        for peer in &self.peers {
            write!(text, "\n[Peer]\nPublicKey = {}\n", peer.public).unwrap();
            line(text, "PresharedKey", peer.preshared.as_ref());
            if !peer.allowed.is_empty() {
                writeln!(text, "AllowedIPs = {}", peer.allowed.join(", ")).unwrap();
            }
            line(text, "Endpoint", peer.endpoint.as_ref());
            line(text, "PersistentKeepalive", peer.keepalive.as_ref());
        }
    }
}

fn line(text: &mut String, key: &str, value: Option<&impl std::fmt::Display>) {
    if let Some(value) = value {
        writeln!(text, "{key} = {value}").unwrap();
    }
}

impl Peer {
    pub(crate) fn new(public: &str, allowed: &[&str]) -> Self {
        Self {
            public: public.to_owned(),
            preshared: None,
            allowed: allowed.iter().map(ToString::to_string).collect(),
            endpoint: None,
            keepalive: None,
        }
    }

    pub(crate) fn at(mut self, endpoint: impl ToString) -> Self {
        self.endpoint = Some(endpoint.to_string());
        self
    }

    pub(crate) fn keepalive(mut self, seconds: u16) -> Self {
        self.keepalive = Some(seconds);
        self
    }
}
