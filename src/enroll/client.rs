//! The steps of a device: connect with the one-time key, read the settings, have the own key put in
//! the place of the one-time key, and see whether the server knows it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::code::InvitationCode;
use super::datagram::{Answer, Identifier, MAX_TEXT, Request};
use super::packet;
use super::session::Session;
use crate::config::PeerAddress;
use crate::config::wg_quick::{Hooks, KeySource, WgQuickError, parse};
use crate::uapi::SecretText;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, Random};

/// Number of addresses of the endpoint that are tried.
const MAX_ADDRESSES: usize = 4;
/// Time for an answer, after which the request is repeated, and number of attempts.
const ANSWER: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 6;
/// Time until the server knows the new key, and that of the first attempts to see that; it is
/// doubled each time.
const CONFIRMATION: Duration = Duration::from_secs(15);
const FIRST_ATTEMPT: Duration = Duration::from_millis(300);
const MAX_ATTEMPT: Duration = Duration::from_secs(2);
/// Time between the server's answer and the first attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// Source port inside the tunnel, which has one client.
const PORT: u16 = 41_821;

/// Reason why a device was not enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// The name of the endpoint was not found.
    #[error("the address of {endpoint} was not found ({source}): check the DNS of this host")]
    Name {
        /// The endpoint.
        endpoint: PeerAddress,
        /// Reason.
        source: io::Error,
    },
    /// No address of the endpoint can be reached.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// Reason.
        source: io::Error,
    },
    /// Nothing has the port.
    #[error(
        "the server at {0} does not run: no process has this UDP port; start it, then use the code again"
    )]
    Refused(PeerAddress),
    /// The server does not answer.
    #[error(
        "no answer from {0}: the code was used before, taken back, or has expired by the server's clock; or UDP to this \
         address is blocked. Ask for a new code if the server can be reached otherwise"
    )]
    NoAnswer(PeerAddress),
    /// The server answers, but the responder does not.
    #[error(
        "the server answers, but not at {0} inside the tunnel: see its log, and let its firewall accept this UDP port from \
         the tunnel"
    )]
    NoResponder(SocketAddr),
    /// The responder has refused.
    #[error("the server refuses: {0}")]
    Rejected(String),
    /// The file from the server is invalid.
    #[error("the server sent an invalid file: {0}")]
    File(#[from] WgQuickError),
    /// The file from the server is one of another server, or of several.
    #[error("the server sent a file for another server: nothing was changed")]
    OtherServer,
    /// It is unknown whether the key was replaced.
    #[error("the server has not confirmed the new key within {} s", CONFIRMATION.as_secs())]
    Unconfirmed,
    /// An error of the kernel.
    #[error("the network failed: {0}")]
    System(#[from] io::Error),
}

/// The keys of a device.
#[derive(Debug)]
pub(crate) struct DeviceKeys {
    private_key: PrivateKey,
    preshared_key: PresharedKey,
}

impl DeviceKeys {
    /// Generates new keys.
    pub(crate) fn generate(random: &mut dyn Random) -> Self {
        Self { private_key: PrivateKey::generate(random), preshared_key: PresharedKey::generate(random) }
    }
}

/// A connection with the one-time key.
pub(crate) struct Enrolment<'a> {
    code: &'a InvitationCode,
    remote: SocketAddr,
    session: Session,
    random: &'a mut dyn Random,
}

impl<'a> Enrolment<'a> {
    /// Connects to the server, waiting for `timeout` at each address of its endpoint.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub(crate) fn connect(
        code: &'a InvitationCode,
        timeout: Duration,
        random: &'a mut dyn Random,
    ) -> Result<Self, EnrollError> {
        let addresses: Vec<_> = match &code.endpoint {
            PeerAddress::Socket(address) => vec![*address],
            PeerAddress::Name { host, port } => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let found =
                    found.map_err(|source| EnrollError::Name { endpoint: code.endpoint.clone(), source })?;
                found.take(MAX_ADDRESSES).collect()
            }
        };
        let mut failure = EnrollError::NoAnswer(code.endpoint.clone());
        for remote in addresses {
            let keys = (code.secret.private_key(), code.secret.preshared_key());
            let unreachable = |source| EnrollError::Unreachable { address: remote, source };
            let connected = Session::open(remote, code.server, keys.0, keys.1).and_then(|mut session| {
                let is_connected = session.connect(Instant::now() + timeout)?;
                Ok((session, is_connected))
            });
            match connected {
                Ok((session, true)) => return Ok(Self { code, remote, session, random }),
                Ok((session, false)) if session.is_refused => {
                    failure = EnrollError::Refused(code.endpoint.clone());
                }
                Ok((_, false)) => failure = EnrollError::NoAnswer(code.endpoint.clone()),
                Err(error) => failure = unreachable(error),
            }
        }
        Err(failure)
    }

    /// Returns the device's file without keys, as the server sends it.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub(crate) fn settings(&mut self) -> Result<Zeroizing<Vec<u8>>, EnrollError> {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        loop {
            let offset = u16::try_from(text.len()).map_err(|_| EnrollError::OtherServer)?;
            let part = self.request(&Request::Settings { offset }, |answer| match answer {
                Answer::Settings { length, offset: found, part } if found == offset => {
                    Some((length, Zeroizing::new(part.to_vec())))
                }
                _ => None,
            })?;
            let (length, part) = part.ok_or(EnrollError::NoResponder(self.code.responder))?;
            text.extend_from_slice(&part);
            if text.len() >= usize::from(length) {
                return Ok(text);
            }
        }
    }

    /// Has the device's keys put in the place of the one-time keys. Returns once the server knows
    /// them.
    ///
    /// # Errors
    /// [`EnrollError`]. After [`EnrollError::Unconfirmed`] the server may have the keys, after all
    /// others it has not.
    pub(crate) fn enrol(mut self, keys: &DeviceKeys) -> Result<(), EnrollError> {
        let (key, preshared_key) = (keys.private_key.public_key(), keys.preshared_key.clone());
        let (identifier, packet) = self.packet(&Request::Enrol { key, preshared_key })?;
        let (from, to) = (self.code.responder, self.own_address());
        let deadline = Instant::now() + CONFIRMATION;
        let mut wait = FIRST_ATTEMPT;
        let mut is_answered = false;
        while Instant::now() < deadline {
            let mut refusal = None;
            if !is_answered {
                let answer =
                    self.session.exchange(
                        &packet,
                        Instant::now() + ANSWER,
                        |received| match Answer::parse(packet::payload(received, from, to)?)? {
                            (answered, Answer::Error(text)) if answered == identifier => {
                                Some(Err(rejected(text)))
                            }
                            (answered, Answer::Enrolled) if answered == identifier => Some(Ok(())),
                            _ => None,
                        },
                    )?;
                is_answered = matches!(answer, Some(Ok(())));
                refusal = answer.and_then(Result::err);
            }
            if is_answered {
                // the server reads its file again
                thread::sleep(PAUSE);
            }
            // the answer may be lost, since the one-time key is gone then, and a request that was
            // repeated may be refused: the new key tells
            let (private_key, preshared_key) = (keys.private_key.clone(), keys.preshared_key.clone());
            let mut own = Session::open(self.remote, self.code.server, private_key, preshared_key)?;
            if own.connect(Instant::now() + wait)? {
                return Ok(());
            }
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            wait = (wait * 2).min(MAX_ATTEMPT);
        }
        Err(EnrollError::Unconfirmed)
    }

    /// Repeats a request until `accept` accepts an answer; `None` if it accepts none.
    fn request<T>(
        &mut self,
        request: &Request,
        accept: impl Fn(Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>, EnrollError> {
        let (identifier, packet) = self.packet(request)?;
        let (from, to) = (self.code.responder, self.own_address());
        for _ in 0..ATTEMPTS {
            let answer = self.session.exchange(&packet, Instant::now() + ANSWER, |received| {
                match Answer::parse(packet::payload(received, from, to)?)? {
                    (answered, Answer::Error(text)) if answered == identifier => Some(Err(rejected(text))),
                    (answered, answer) if answered == identifier => accept(answer).map(Ok),
                    _ => None,
                }
            })?;
            if let Some(answer) = answer {
                return answer.map(Some);
            }
        }
        Ok(None)
    }

    /// Returns a request with its identifier, as a packet.
    fn packet(&mut self, request: &Request) -> Result<(Identifier, Zeroizing<Vec<u8>>), EnrollError> {
        let mut identifier = Identifier::default();
        self.random.fill(&mut identifier);
        let packet = packet::build(self.own_address(), self.code.responder, &request.to_bytes(&identifier));
        let packet = packet.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok((identifier, Zeroizing::new(packet)))
    }

    fn own_address(&self) -> SocketAddr {
        SocketAddr::new(self.code.address, PORT)
    }
}

fn rejected(text: &str) -> EnrollError {
    // it is shown on a terminal
    EnrollError::Rejected(text.chars().filter(|c| !c.is_control()).collect())
}

/// Returns the device's file: what the server has sent, read and written again, with the keys.
///
/// # Errors
/// [`EnrollError`]: the file is invalid, has commands in it, or is for another server.
pub(crate) fn device_file(
    settings: &[u8],
    code: &InvitationCode,
    keys: &DeviceKeys,
) -> Result<Zeroizing<Vec<u8>>, EnrollError> {
    let mut text = SecretText::default();
    text.push(b"[Interface]\nPrivateKey = ");
    text.push(keys.private_key.to_base64().as_bytes());
    text.push(b"\n");
    let rest = settings.strip_prefix(b"[Interface]\n").ok_or(EnrollError::OtherServer)?;
    text.push(rest);
    let mut file =
        parse(Path::new("the file from the server"), text.as_bytes(), Hooks::Refuse)?.configuration;
    let [peer] = &mut file.peers[..] else { return Err(EnrollError::OtherServer) };
    if peer.public_key != code.server || file.interface.private_key.inline() != Some(&keys.private_key) {
        return Err(EnrollError::OtherServer);
    }
    peer.preshared_key = Some(KeySource::Inline(keys.preshared_key.clone()));
    (peer.name, peer.settings) = (None, None);
    let mut text = SecretText::default();
    text.push(file.to_text().as_bytes());
    Ok(text.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enroll::code::OneTimeSecret;
    use crate::net::random::SystemRandom;

    fn code() -> InvitationCode {
        InvitationCode {
            server: PrivateKey::from_bytes(&[7; 32]).public_key(),
            secret: OneTimeSecret::generate(&mut SystemRandom::open().unwrap()),
            expires: Duration::from_secs(1_800_000_000),
            address: [10, 8, 0, 2].into(),
            responder: "10.8.0.1:41820".parse().unwrap(),
            endpoint: "192.0.2.1:51820".parse().unwrap(),
        }
    }

    fn settings(interface: &str, peer: &str) -> String {
        format!(
            "[Interface]\n# PrivateKey = the one that belongs to you\nAddress = 10.8.0.2/32\n{interface}\n[Peer]\n\
             PublicKey = {}\nAllowedIPs = 10.8.0.0/24\nEndpoint = 192.0.2.1:51820\n{peer}",
            code().server
        )
    }

    #[test]
    fn the_file_has_the_devices_keys_and_no_commands() {
        let keys = DeviceKeys::generate(&mut SystemRandom::open().unwrap());
        let made = |text: &str| device_file(text.as_bytes(), &code(), &keys);
        let text = made(&settings("DNS = 9.9.9.9\n", "PersistentKeepalive = 25\n")).unwrap();
        let text = str::from_utf8(&text).unwrap();
        for line in [
            &format!("PrivateKey = {}", *keys.private_key.to_base64()),
            &format!("PresharedKey = {}", *keys.preshared_key.to_base64()),
            "Address = 10.8.0.2/32",
            "DNS = 9.9.9.9",
            "Endpoint = 192.0.2.1:51820",
            "PersistentKeepalive = 25",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(matches!(made(&settings("PostUp = touch /tmp/x\n", "")), Err(EnrollError::File(_))));
        let other = PrivateKey::from_bytes(&[8; 32]).public_key();
        let twice = format!("[Peer]\nPublicKey = {other}\nAllowedIPs = 0.0.0.0/0\n");
        assert!(matches!(made(&settings("", &twice)), Err(EnrollError::OtherServer)));
        let elsewhere = settings("", "").replace(&code().server.to_string(), &other.to_string());
        assert!(matches!(made(&elsewhere), Err(EnrollError::OtherServer)));
        assert!(matches!(made(""), Err(EnrollError::OtherServer)));
        let own_key = format!("PrivateKey = {}\n", *PrivateKey::from_bytes(&[8; 32]).to_base64());
        assert!(made(&settings(&own_key, "")).is_err());
    }
}
