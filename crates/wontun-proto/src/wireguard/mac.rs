//! mac1, mac2 and cookies: the checks that need no Curve25519 operation.

use std::net::IpAddr;
use std::time::Duration;

use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::AeadInPlace;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::endpoint::Endpoint;
use super::key::PublicKey;
use super::message::{COOKIE_NONCE_LEN, CookieReply, Initiation, MAC_LEN, Response, SEALED_COOKIE_LEN};
use super::random::{self, Random};
use crate::time::Instant;

/// Lifetime of a cookie secret, and of a cookie.
pub const COOKIE_SECRET_MAX_AGE: Duration = Duration::from_secs(120);
/// Time before its end from which a cookie is no longer used, so that it does not arrive too late.
pub const COOKIE_LATENCY: Duration = Duration::from_secs(5);

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// A mac1, mac2 or cookie.
type MacBytes = [u8; MAC_LEN];

fn hash(parts: [&[u8]; 2]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> MacBytes {
    // keys are 16 or 32 bytes long here; BLAKE2s accepts up to 32
    let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(key) else { return [0; MAC_LEN] };
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// Keys derived from a public key: from the receiver's own to verify macs, from a peer's to create
/// them.
#[derive(Clone)]
pub(super) struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    pub(super) fn new(public: &PublicKey) -> Self {
        Self { mac1: hash([LABEL_MAC1, public.as_bytes()]), cookie: hash([LABEL_COOKIE, public.as_bytes()]) }
    }

    fn mac1(&self, input: &[u8]) -> MacBytes {
        mac(&self.mac1, &[input])
    }

    fn aead(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.cookie.into())
    }
}

/// The MAC fields of a handshake message.
pub(super) trait Macs {
    /// Returns the sender index.
    fn sender(&self) -> u32;
    /// Returns true if mac1 was created with the key that `keys` derive from.
    fn has_valid_mac1(&self, keys: &MacKeys) -> bool;
    /// Returns true if mac2 was created with `cookie`.
    fn has_valid_mac2(&self, cookie: &MacBytes) -> bool;
    /// Returns mac1.
    fn mac1(&self) -> &MacBytes;
    /// Sets mac1, and mac2 if there is a cookie.
    fn sign(&mut self, keys: &MacKeys, cookie: Option<&MacBytes>);
}

macro_rules! macs {
    ($message:ty) => {
        impl Macs for $message {
            fn sender(&self) -> u32 {
                self.sender
            }

            fn has_valid_mac1(&self, keys: &MacKeys) -> bool {
                keys.mac1(&self.mac1_input()).ct_eq(&self.mac1).into()
            }

            fn has_valid_mac2(&self, cookie: &MacBytes) -> bool {
                mac(cookie, &[&self.mac1_input(), &self.mac1]).ct_eq(&self.mac2).into()
            }

            fn mac1(&self) -> &MacBytes {
                &self.mac1
            }

            fn sign(&mut self, keys: &MacKeys, cookie: Option<&MacBytes>) {
                let input = self.mac1_input();
                self.mac1 = keys.mac1(&input);
                self.mac2 = cookie.map_or([0; MAC_LEN], |cookie| mac(cookie, &[&input, &self.mac1]));
            }
        }
    };
}

macs!(Initiation);
macs!(Response);

/// The responder's side of cookies: the changing secret that they are made from.
pub(super) struct CookieChecker {
    secret: [u8; 32],
    created: Option<Instant>,
}

impl CookieChecker {
    pub(super) const fn new() -> Self {
        Self { secret: [0; 32], created: None }
    }

    /// Returns the cookie for the address and port of `from`. The port is part of it, so that no
    /// other host behind the same NAT and no other program on the same host shares the cookie.
    pub(super) fn cookie(&mut self, from: &Endpoint, random: &mut dyn Random, now: Instant) -> MacBytes {
        if self.created.is_none_or(|created| now.since(created) >= COOKIE_SECRET_MAX_AGE) {
            random.fill(&mut self.secret);
            self.created = Some(now);
        }
        let port = from.remote.port().to_be_bytes();
        match from.remote.ip() {
            IpAddr::V4(address) => mac(&self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac(&self.secret, &[&address.octets(), &port]),
        }
    }
}

impl Drop for CookieChecker {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Encrypts `cookie` for the sender of `message`.
pub(super) fn cookie_reply(
    keys: &MacKeys,
    message: &impl Macs,
    cookie: MacBytes,
    random: &mut dyn Random,
) -> Option<CookieReply> {
    let nonce: [u8; COOKIE_NONCE_LEN] = random::bytes(random);
    let mut sealed = cookie;
    let tag = keys.aead().encrypt_in_place_detached(&nonce.into(), message.mac1(), &mut sealed).ok()?;
    let mut reply = CookieReply { receiver: message.sender(), nonce, cookie: [0; SEALED_COOKIE_LEN] };
    let (front, back) = reply.cookie.split_at_mut(MAC_LEN);
    front.copy_from_slice(&sealed);
    back.copy_from_slice(&tag);
    Some(reply)
}

/// The initiator's side of cookies: the cookie received from a peer.
#[derive(Default)]
pub(super) struct LatestCookie {
    cookie: Option<(Cookie, Instant)>,
    /// mac1 of the last handshake message sent, if it was not answered by a cookie reply yet.
    last_mac1_sent: Option<MacBytes>,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Cookie(MacBytes);

impl LatestCookie {
    /// Signs a handshake message for the owner of `keys`.
    pub(super) fn sign(&mut self, keys: &MacKeys, message: &mut impl Macs, now: Instant) {
        let usable = COOKIE_SECRET_MAX_AGE.saturating_sub(COOKIE_LATENCY);
        if self.cookie.as_ref().is_some_and(|(_, since)| now.since(*since) >= usable) {
            self.cookie = None;
        }
        message.sign(keys, self.cookie.as_ref().map(|(cookie, _)| &cookie.0));
        self.last_mac1_sent = Some(*message.mac1());
    }

    /// Handles a cookie reply; returns false if it does not answer the last message or is not from
    /// the owner of `keys`.
    pub(super) fn handle_reply(&mut self, keys: &MacKeys, reply: &CookieReply, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1_sent else { return false };
        let Some((sealed, tag)) = reply.cookie.split_first_chunk::<MAC_LEN>() else { return false };
        let mut cookie = Cookie(*sealed);
        let tag = chacha20poly1305::Tag::from_slice(tag);
        if keys.aead().decrypt_in_place_detached(&reply.nonce.into(), &mac1, &mut cookie.0, tag).is_err() {
            return false;
        }
        self.cookie = Some((cookie, now));
        self.last_mac1_sent = None;
        true
    }

    /// Returns true if the next handshake message will carry a mac2.
    #[cfg(test)]
    pub(super) const fn has_cookie(&self) -> bool {
        self.cookie.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Seeded;
    use super::*;

    fn message() -> Initiation {
        Initiation { sender: 5, noise: [1; 108], mac1: [0; 16], mac2: [0; 16] }
    }

    fn from(text: &str) -> Endpoint {
        Endpoint::new(text.parse().unwrap())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(1000 + seconds))
    }

    #[test]
    fn mac1_belongs_to_the_receivers_key() {
        let keys = MacKeys::new(&PublicKey::from_bytes([1; 32]));
        let mut message = message();
        LatestCookie::default().sign(&keys, &mut message, at(0));
        assert!(message.has_valid_mac1(&keys));
        assert!(!message.has_valid_mac1(&MacKeys::new(&PublicKey::from_bytes([2; 32]))));
        message.noise[50] ^= 1;
        assert!(!message.has_valid_mac1(&keys));
        assert_eq!(message.mac2, [0; 16]);
    }

    #[test]
    fn a_cookie_makes_mac2_valid_for_its_time_and_address_and_port() {
        let keys = MacKeys::new(&PublicKey::from_bytes([1; 32]));
        let (mut secret, mut random) = (CookieChecker::new(), Seeded::new(1));
        let (mut jar, mut sent) = (LatestCookie::default(), message());
        jar.sign(&keys, &mut sent, at(0));
        let here = from("192.0.2.1:1000");
        let cookie = secret.cookie(&here, &mut random, at(0));
        let reply = cookie_reply(&keys, &sent, cookie, &mut random).unwrap();
        assert_eq!(reply.receiver, 5);

        let other = MacKeys::new(&PublicKey::from_bytes([2; 32]));
        assert!(!jar.handle_reply(&other, &reply, at(1)));
        assert!(jar.handle_reply(&keys, &reply, at(1)));
        assert!(!jar.handle_reply(&keys, &reply, at(1)), "each message is answered once");

        jar.sign(&keys, &mut sent, at(2));
        assert!(sent.has_valid_mac2(&secret.cookie(&here, &mut random, at(119))));
        for elsewhere in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            assert!(!sent.has_valid_mac2(&secret.cookie(&from(elsewhere), &mut random, at(119))));
        }
        assert!(!sent.has_valid_mac2(&secret.cookie(&here, &mut random, at(120))), "the secret rotates");
        jar.sign(&keys, &mut sent, at(115));
        assert!(jar.has_cookie());
        jar.sign(&keys, &mut sent, at(116));
        assert!(!jar.has_cookie());
        assert_eq!(sent.mac2, [0; 16]);
    }

    #[test]
    fn a_reply_to_an_earlier_message_is_refused() {
        let keys = MacKeys::new(&PublicKey::from_bytes([1; 32]));
        let (mut jar, mut first, mut second) = (LatestCookie::default(), message(), message());
        jar.sign(&keys, &mut first, at(0));
        second.noise[0] = 9;
        jar.sign(&keys, &mut second, at(5));
        let reply = cookie_reply(&keys, &first, [3; 16], &mut Seeded::new(1)).unwrap();
        assert!(!jar.handle_reply(&keys, &reply, at(6)));
    }
}
