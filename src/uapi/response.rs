//! Formats answers.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::format;
use super::secret_text::SecretText;
use crate::config::PeerName;
use crate::config::peer_settings::{ExcludedPeer, Exclusion};
use crate::traffic::{Bytes, Traffic};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// Maximum number of characters of the reason for which a reload was refused.
const MAX_REASON: usize = 2000;

/// Key of the reason why a peer has no access, and its values.
pub(super) const ACCESS: &str = "access";
pub(super) const ACCESS_DISABLED: &str = "disabled";
pub(super) const ACCESS_EXPIRED: &str = "expired";
pub(super) const ACCESS_UNANSWERED: &str = "unanswered";

/// Operation that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseFormat {
    /// `get=1`, with the answer of wireguard-go.
    Get,
    /// `status=1`, with an answer that contains no secrets. It has `own_public_key` instead of
    /// `private_key`, and `has_preshared_key=true` instead of `preshared_key` if there is one;
    /// `listen_port` and `fwmark` are included even if 0. It also has `version`, `mtu`, `device_up`
    /// (`true` or `false`), `repair_PIECE` for each piece of the host's state that was restored,
    /// `problem` for each problem of the host and `drop_REASON` for each reason with drops; for
    /// each peer `has_session` (`true` or `false`) and, if it has one, its `name`; if they are
    /// known, `earlier_handshake_time_sec` and the traffic over all runs and in periods, such as
    /// `month_rx_bytes`; and peers without access, which have `access` (`disabled` or `expired`).
    Status,
}

/// State of an interface.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceStatus<'a> {
    /// Local private key.
    pub private_key: Option<&'a PrivateKey>,
    /// Public key of the private key.
    pub public_key: Option<&'a PublicKey>,
    /// UDP port; 0 if there is none yet.
    pub listen_port: u16,
    /// Firewall mark of the outer packets; 0 for none.
    pub fwmark: u32,
    /// MTU of the device in bytes, if known.
    pub mtu: Option<u32>,
    /// True if the device is up.
    pub is_up: bool,
    /// Pieces of the host's state that were restored, and how often.
    pub repairs: &'a [(&'static str, u64)],
    /// Missing state of the host and conditions that are not met, one line each.
    pub problems: &'a [String],
}

/// State of a peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerStatus<'a> {
    /// Public key of the peer.
    pub public_key: &'a PublicKey,
    /// Name of the peer, if it has one.
    pub name: Option<&'a PeerName>,
    /// Preshared key; all zeroes for none.
    pub preshared_key: &'a PresharedKey,
    /// Endpoint of the peer, if known.
    pub endpoint: Option<SocketAddr>,
    /// Completion time of the last handshake by the wall clock, since 1970; zero if there was none.
    pub last_handshake: Duration,
    /// Completion time of the last handshake of an earlier run, since 1970; zero if not known.
    pub earlier_handshake: Duration,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Traffic of all runs and of the present periods, if known.
    pub traffic: Option<Traffic>,
    /// Persistent keepalive interval in seconds; 0 for off.
    pub persistent_keepalive: u16,
    /// True if there is a session, so that a packet can be sent at once.
    pub has_session: bool,
    /// True if the peer's quota is used up.
    pub is_over_quota: bool,
}

/// Builder of the answer to `get=1` or `status=1`.
#[derive(Debug)]
pub struct Response {
    text: SecretText,
    report: ResponseFormat,
}

impl Response {
    /// Starts an answer with the interface. `drops` are the names and counters of the drop reasons;
    /// `status=1` lists those that are not zero.
    pub fn new<'n>(
        report: ResponseFormat,
        interface: &InterfaceStatus<'_>,
        drops: impl IntoIterator<Item = (&'n str, u64)>,
    ) -> Self {
        let mut answer = Self { text: SecretText::default(), report };
        match report {
            ResponseFormat::Get => {
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
            ResponseFormat::Status => {
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
            ResponseFormat::Get => self.key("preshared_key", peer.preshared_key.as_bytes()),
            ResponseFormat::Status => {
                if !peer.preshared_key.is_none() {
                    self.line("has_preshared_key", true);
                }
                self.line("has_session", peer.has_session);
                if peer.is_over_quota {
                    self.line("over_quota", true);
                }
                if let Some(name) = peer.name {
                    self.line("name", name);
                }
                self.history(peer.earlier_handshake, peer.traffic);
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

    /// Adds a peer that has no access, to an answer to `status=1` only: wg(8) does not know such
    /// peers. The other values are as in [`PeerStatus`].
    pub fn excluded_peer(
        &mut self,
        peer: &ExcludedPeer,
        earlier_handshake: Duration,
        traffic: Option<Traffic>,
    ) {
        if self.report != ResponseFormat::Status {
            return;
        }
        self.key("public_key", peer.public_key.as_bytes());
        self.line("has_session", false);
        if let Some(name) = &peer.name {
            self.line("name", name);
        }
        let access = match peer.exclusion {
            Exclusion::Disabled => ACCESS_DISABLED,
            Exclusion::Expired => ACCESS_EXPIRED,
            Exclusion::Unanswered => ACCESS_UNANSWERED,
        };
        self.line(ACCESS, access);
        self.history(earlier_handshake, traffic);
    }

    /// Adds what is known of earlier runs: the last handshake, the traffic over all runs, and that
    /// of the periods in which there was some.
    fn history(&mut self, earlier_handshake: Duration, traffic: Option<Traffic>) {
        if !earlier_handshake.is_zero() {
            self.line("earlier_handshake_time_sec", earlier_handshake.as_secs());
        }
        let Some(Traffic { total, day, month }) = traffic else { return };
        let total = Bytes { received: total.received, sent: total.sent };
        for (name, bytes) in [
            ("total", total),
            ("day", day.current),
            ("previous_day", day.previous),
            ("month", month.current),
            ("previous_month", month.previous),
        ] {
            if bytes != Bytes::default() || name == "total" {
                self.line(format_args!("{name}_rx_bytes"), bytes.received);
                self.line(format_args!("{name}_tx_bytes"), bytes.sent);
            }
        }
    }

    /// Completes the answer.
    pub fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.text.push(b"errno=0\n\n");
        self.text.into_inner()
    }

    fn line(&mut self, key: impl std::fmt::Display, value: impl std::fmt::Display) {
        // writing to memory does not fail
        let _ = writeln!(self.text, "{key}={value}");
    }

    fn key(&mut self, name: &str, key: &[u8; KEY_LEN]) {
        format::key(&mut self.text, name, key);
    }
}

/// Returns the answer to `file=1`: the absolute path of the configuration file.
pub(crate) fn file_response(path: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("config_file={path}\nerrno=0\n\n").into_bytes())
}

/// Returns the answer to `admin=1`: links to the admin page, with a secret, and the fingerprint of
/// its certificate, if it has one.
pub(crate) fn links_response(links: &[String], fingerprint: Option<&str>) -> Zeroizing<Vec<u8>> {
    let mut text = SecretText::default();
    for link in links {
        // writing to memory does not fail
        let _ = writeln!(text, "admin_link={link}");
    }
    if let Some(fingerprint) = fingerprint {
        let _ = writeln!(text, "admin_fingerprint={fingerprint}");
    }
    text.push(b"errno=0\n\n");
    text.into_inner()
}

/// Returns the answer to a refused `reload=1`.
pub(crate) fn reload_refused_response(reason: &str) -> Zeroizing<Vec<u8>> {
    let line = reason.lines().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|letter| !letter.is_control()).take(MAX_REASON).collect();
    let errno = -(Errno::EINVAL as i32);
    Zeroizing::new(format!("error={line}\nerrno={errno}\n\n").into_bytes())
}

/// Returns the answer to a successful `set=1` or `reload=1`.
pub fn ok_response() -> Zeroizing<Vec<u8>> {
    error_response(0)
}

/// Returns the answer to a failed request. `wg set` expects a negative number.
pub fn error_response(errno: i32) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("errno={errno}\n\n").into_bytes())
}
