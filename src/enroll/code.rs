//! The code of an invitation: `wontun1:` and base64url (RFC 4648, section 5) of
//!
//! ```text
//! version                          1 byte
//! public key of the server        32
//! secret                          32
//! time of expiry since 1970        8, big-endian
//! family of the inner addresses    1: 4 or 6
//! address of the device         4/16
//! address of the server         4/16
//! port of the responder            2
//! endpoint of the server         1..: HOST:PORT
//! checksum                         4: the first bytes of SHA-256 of all before
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::{DEFAULT_WIREGUARD_PORT, PeerAddress, PeerAddressError};
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey, Random};

/// Prefix of codes of this version.
const PREFIX: &str = "wontun1:";
/// Prefix of codes of all versions, before their number.
const ANY_PREFIX: &str = "wontun";
const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;
/// Maximum length of a code in bytes: an endpoint has at most 259.
const MAX_CODE: usize = 1024;

/// The contents of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationCode {
    /// Public key of the server.
    pub server: PublicKey,
    /// The one-time secret.
    pub secret: OneTimeSecret,
    /// End of the invitation, as the time since 1970.
    pub expires: Duration,
    /// Address of the device in the tunnel.
    pub address: IpAddr,
    /// Address and port of the responder in the tunnel; of the same family.
    pub responder: SocketAddr,
    /// Address that the device connects to.
    pub endpoint: PeerAddress,
}

/// The secret that the keys of the one-time peer are derived from. It is a part of the code, and
/// the token of a link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeSecret(Zeroizing<[u8; KEY_LEN]>);

/// Error of parsing a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Something else.
    #[error(
        "that is no invitation code: expected {PREFIX} and letters, as 'wontun peer invite NAME' prints it"
    )]
    NoCode,
    /// A later format.
    #[error("the code has the version {0}, and this wontun knows version 1: update it")]
    Version(u32),
    /// Letters that no code has.
    #[error("the code has a character that no code has: copy it again, as a whole")]
    Character,
    /// Letters are missing or wrong.
    #[error("the code is incomplete or has a wrong letter: copy it again, as a whole")]
    Checksum,
    /// The checksum is right and the content is not.
    #[error("the code was made by a faulty or newer wontun: update it, or ask for another code")]
    Content,
    /// The endpoint is invalid.
    #[error("the endpoint in the code is invalid: {0}")]
    Endpoint(#[from] PeerAddressError),
}

impl OneTimeSecret {
    /// Generates a secret.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        random.fill(bytes.as_mut());
        Self(bytes)
    }

    /// Parses the token of a link: 43 characters of base64url.
    pub fn from_token(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let length = Base64UrlUnpadded::decode(text, bytes.as_mut()).ok()?.len();
        (length == KEY_LEN).then_some(Self(bytes))
    }

    /// Returns the token of a link.
    pub fn to_token(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64UrlUnpadded::encode_string(self.0.as_ref()))
    }

    /// Returns the public key of the one-time peer, by which its invitation is found.
    pub fn public_key(&self) -> PublicKey {
        self.private_key().public_key()
    }

    /// Returns the private key of the one-time peer.
    pub fn private_key(&self) -> PrivateKey {
        PrivateKey::from_bytes(&self.derive(b"wontun invitation 1: private key"))
    }

    /// Returns the key that the server shares with the one-time peer in addition.
    pub fn preshared_key(&self) -> PresharedKey {
        PresharedKey::from_bytes(*self.derive(b"wontun invitation 1: preshared key"))
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()), purpose);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        // a tag of HMAC-SHA-256 has the length of a key
        key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        key
    }
}

impl fmt::Debug for OneTimeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTimeSecret(…)")
    }
}

impl InvitationCode {
    /// Returns the code as text, which is a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let endpoint = self.endpoint.to_string();
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_CODE));
        bytes.push(VERSION);
        bytes.extend_from_slice(self.server.as_bytes());
        bytes.extend_from_slice(self.secret.0.as_ref());
        bytes.extend_from_slice(&self.expires.as_secs().to_be_bytes());
        bytes.push(if self.address.is_ipv4() { 4 } else { 6 });
        for address in [self.address, self.responder.ip()] {
            match address {
                IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
            }
        }
        bytes.extend_from_slice(&self.responder.port().to_be_bytes());
        bytes.extend_from_slice(endpoint.as_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let mut text = Zeroizing::new(String::with_capacity(MAX_CODE));
        text.push_str(PREFIX);
        text.push_str(&Zeroizing::new(Base64UrlUnpadded::encode_string(&bytes)));
        text
    }
}

impl FromStr for InvitationCode {
    type Err = CodeError;

    /// Parses a code. White space, which mail programs insert, is ignored.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > MAX_CODE {
            return Err(CodeError::NoCode);
        }
        let mut code = Zeroizing::new(String::with_capacity(text.len()));
        code.extend(text.chars().filter(|c| !c.is_whitespace()));
        let Some(encoded) = code.strip_prefix(PREFIX) else {
            let version = code.strip_prefix(ANY_PREFIX).and_then(|rest| rest.split_once(':'));
            let version = version.and_then(|(number, _)| number.parse().ok());
            return Err(version.map_or(CodeError::NoCode, CodeError::Version));
        };
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !encoded.bytes().all(is_known) {
            return Err(CodeError::Character);
        }
        let bytes = Base64UrlUnpadded::decode_vec(encoded).map_err(|_| CodeError::Checksum)?;
        let bytes = Zeroizing::new(bytes);
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(CodeError::Checksum)?;
        if checksum(content) != *sum {
            return Err(CodeError::Checksum);
        }
        let mut reader = Reader(content);
        let [version] = reader.take()?;
        if version != VERSION {
            return Err(CodeError::Version(version.into()));
        }
        let server = PublicKey::from_bytes(reader.take()?);
        let secret = OneTimeSecret(Zeroizing::new(reader.take()?));
        let expires = Duration::from_secs(u64::from_be_bytes(reader.take()?));
        let [family] = reader.take()?;
        let (address, server_address) = match family {
            4 => (IpAddr::from(reader.take::<4>()?), IpAddr::from(reader.take::<4>()?)),
            6 => (IpAddr::from(reader.take::<16>()?), IpAddr::from(reader.take::<16>()?)),
            _ => return Err(CodeError::Content),
        };
        let responder = SocketAddr::new(server_address, u16::from_be_bytes(reader.take()?));
        if responder.port() == 0 {
            return Err(CodeError::Content);
        }
        let endpoint = str::from_utf8(reader.0).map_err(|_| CodeError::Content)?;
        let endpoint = PeerAddress::parse_with_port(endpoint, DEFAULT_WIREGUARD_PORT)?;
        Ok(Self { server, secret, expires, address, responder, endpoint })
    }
}

/// The bytes of a code that are not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], CodeError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(CodeError::Content)?;
        self.0 = rest;
        Ok(*first)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(v6: bool, endpoint: &str) -> InvitationCode {
        let (address, server) = if v6 { ("fd12::2", "fd12::1") } else { ("10.8.0.2", "10.8.0.1") };
        InvitationCode {
            server: PublicKey::from_bytes([7; 32]),
            secret: OneTimeSecret(Zeroizing::new([9; 32])),
            expires: Duration::from_secs(1_800_000_000),
            address: address.parse().unwrap(),
            responder: SocketAddr::new(server.parse().unwrap(), 41_820),
            endpoint: PeerAddress::parse_with_port(endpoint, 51_820).unwrap(),
        }
    }

    #[test]
    fn it_is_short_and_read_again() {
        for (v6, endpoint) in
            [(false, "vpn.example.com"), (true, "[2001:db8::1]:443"), (false, "192.0.2.1:1")]
        {
            let code = code(v6, endpoint);
            let text = code.to_text();
            assert!(text.len() < 200, "{}", text.len());
            assert_eq!(text.parse(), Ok(code.clone()));
            let broken: String = text
                .as_bytes()
                .chunks(40)
                .map(|line| format!(" {}\r\n", str::from_utf8(line).unwrap()))
                .collect();
            assert_eq!(broken.parse(), Ok(code.clone()), "in several lines");
            assert!(format!("{code:?}").contains("OneTimeSecret(…)"), "{code:?}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = code(false, "vpn.example.com").to_text();
        for (given, expected) in [
            ("", CodeError::NoCode),
            ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", CodeError::NoCode),
            ("wontun2:AAAA", CodeError::Version(2)),
            ("wontun1:", CodeError::Checksum),
            ("wontun1:AB+/", CodeError::Character),
            (&text[..text.len() - 1], CodeError::Checksum),
            (&format!("{}A", *text), CodeError::Checksum),
            (&text.replacen("wontun1:A", "wontun1:B", 1), CodeError::Checksum),
            (&"x".repeat(5000), CodeError::NoCode),
        ] {
            assert_eq!(given.parse::<InvitationCode>(), Err(expected), "{given}");
        }
    }

    #[test]
    fn a_token_is_read_again_and_no_other_text() {
        let secret = OneTimeSecret(Zeroizing::new([0xfb; 32]));
        let token = secret.to_token();
        assert!(token.len() == 43 && token.starts_with("-_v7"), "{token:?}");
        assert_eq!(OneTimeSecret::from_token(&token), Some(secret.clone()));
        assert_eq!(secret.public_key(), secret.private_key().public_key());
        let long = format!("{}A", *token);
        for wrong in ["", &token[1..], &long, &token.replace('-', "+"), &"ü".repeat(21), &"x".repeat(5000)] {
            assert_eq!(OneTimeSecret::from_token(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_of_a_secret_differ() {
        let secret = OneTimeSecret(Zeroizing::new([9; 32]));
        assert_eq!(secret.private_key(), secret.clone().private_key());
        let other = OneTimeSecret(Zeroizing::new([8; 32]));
        assert_ne!(secret.private_key(), other.private_key());
        assert_ne!(secret.preshared_key(), other.preshared_key());
        assert_ne!(secret.preshared_key().as_bytes(), secret.private_key().as_bytes());
    }

    proptest! {
        #[test]
        fn any_text_is_a_code_or_an_error(text in ".{0,300}", encoded in "[A-Za-z0-9_-]{0,300}") {
            let _ = text.parse::<InvitationCode>();
            let _ = format!("wontun1:{encoded}").parse::<InvitationCode>();
        }

        #[test]
        fn one_wrong_letter_is_found(place in 8_usize..120, letter in "[A-Za-z0-9_-]") {
            let text = code(false, "vpn.example.com").to_text();
            let mut other = text.to_string();
            other.replace_range(place..=place, &letter);
            prop_assert_eq!(other.parse::<InvitationCode>().is_ok(), other == *text);
        }
    }
}
