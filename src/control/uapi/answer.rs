//! The text of answers.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::print;
use super::secret_text::SecretText;
use crate::config::PeerName;
use crate::routing::Prefix;
use crate::tunnel::wireguard::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// Which of the two operations is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// `get=1`, as wireguard-go answers it.
    Get,
    /// `status=1`: no secret is in it. Instead of `private_key` there is `own_public_key`, instead
    /// of `preshared_key` `has_preshared_key=true` where there is one; `listen_port` and `fwmark`
    /// are there also if 0. Besides there are `version`, `mtu`, `device_up` (`true` or `false`),
    /// for each piece of the host's state that was put back `repair_PIECE`, `problem` for each
    /// problem of the host and, for each reason with drops, `drop_REASON`; for each peer
    /// `has_session` (`true` or `false`) and, if it has one, its `name`.
    Status,
}

/// What is said of an interface.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceStatus<'a> {
    /// Our key.
    pub private_key: Option<&'a PrivateKey>,
    /// What belongs to it.
    pub public_key: Option<&'a PublicKey>,
    /// UDP port; 0 if there is none yet.
    pub listen_port: u16,
    /// Mark of the outer packets; 0 for none.
    pub fwmark: u32,
    /// MTU of the device in bytes, if known.
    pub mtu: Option<u32>,
    /// Whether the device is up.
    pub is_up: bool,
    /// Pieces of the host's state that were put back, and how often.
    pub repairs: &'a [(&'static str, u64)],
    /// State of the host that is missing, and conditions that are not met, a line each.
    pub problems: &'a [String],
}

/// What is said of a peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerStatus<'a> {
    /// Who it is.
    pub public_key: &'a PublicKey,
    /// What it is called, if it has a name.
    pub name: Option<&'a PeerName>,
    /// The key shared with it besides; all zeroes for none.
    pub preshared_key: &'a PresharedKey,
    /// Where it is, if known.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed, by the wall clock, since 1970; zero if there was none.
    pub last_handshake: Duration,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Seconds after which a silent link gets a keepalive; 0 for never.
    pub persistent_keepalive: u16,
    /// Whether a packet could leave at once.
    pub has_session: bool,
}

/// The answer to `get=1` or `status=1`, made piece by piece.
#[derive(Debug)]
pub struct Answer {
    text: SecretText,
    report: Report,
}

impl Answer {
    /// Begins with the interface. `drops` are the names and numbers of what was dropped; `status=1` tells those that are
    /// not zero.
    pub fn new<'n>(
        report: Report,
        interface: &InterfaceStatus<'_>,
        drops: impl IntoIterator<Item = (&'n str, u64)>,
    ) -> Self {
        let mut answer = Self { text: SecretText::default(), report };
        match report {
            Report::Get => {
                if let Some(key) = interface.private_key {
                    answer.key("private_key", key.as_bytes());
                }
                if interface.listen_port != 0 {
                    answer.line("listen_port", interface.listen_port);
                }
                if interface.fwmark != 0 {
                    answer.line("fwmark", interface.fwmark);
                }
            }
            Report::Status => {
                answer.line("version", env!("CARGO_PKG_VERSION"));
                if let Some(key) = interface.public_key {
                    answer.key("own_public_key", key.as_bytes());
                }
                answer.line("listen_port", interface.listen_port);
                answer.line("fwmark", interface.fwmark);
                if let Some(mtu) = interface.mtu {
                    answer.line("mtu", mtu);
                }
                answer.line("device_up", interface.is_up);
                for (name, count) in interface.repairs.iter().filter(|(_, count)| *count > 0) {
                    answer.line(format_args!("repair_{name}"), count);
                }
                for problem in interface.problems {
                    let line: String = problem.chars().filter(|letter| !letter.is_control()).collect();
                    answer.line("problem", line);
                }
                for (name, count) in drops.into_iter().filter(|(_, count)| *count > 0) {
                    answer.line(format_args!("drop_{name}"), count);
                }
            }
        }
        answer
    }

    /// Adds a peer with its allowed IPs.
    pub fn peer(&mut self, peer: &PeerStatus<'_>, allowed_ips: impl IntoIterator<Item = Prefix>) {
        self.key("public_key", peer.public_key.as_bytes());
        match self.report {
            Report::Get => self.key("preshared_key", peer.preshared_key.as_bytes()),
            Report::Status => {
                if !peer.preshared_key.is_none() {
                    self.line("has_preshared_key", true);
                }
                self.line("has_session", peer.has_session);
                if let Some(name) = peer.name {
                    self.line("name", name);
                }
            }
        }
        self.line("protocol_version", 1);
        if let Some(endpoint) = peer.endpoint {
            self.line("endpoint", endpoint);
        }
        self.line("last_handshake_time_sec", peer.last_handshake.as_secs());
        self.line("last_handshake_time_nsec", peer.last_handshake.subsec_nanos());
        self.line("tx_bytes", peer.tx_bytes);
        self.line("rx_bytes", peer.rx_bytes);
        self.line("persistent_keepalive_interval", peer.persistent_keepalive);
        for prefix in allowed_ips {
            self.line("allowed_ip", prefix);
        }
    }

    /// Ends it.
    pub fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.text.push(b"errno=0\n\n");
        self.text.into_inner()
    }

    fn line(&mut self, key: impl std::fmt::Display, value: impl std::fmt::Display) {
        // writing to memory does not fail
        let _ = writeln!(self.text, "{key}={value}");
    }

    fn key(&mut self, name: &str, key: &[u8; KEY_LEN]) {
        print::key(&mut self.text, name, key);
    }
}

/// The answer to a `set=1` that was done.
pub fn success() -> Zeroizing<Vec<u8>> {
    failure(0)
}

/// The answer to a request that failed. A negative number is what `wg set` expects.
pub fn failure(errno: i32) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("errno={errno}\n\n").into_bytes())
}
