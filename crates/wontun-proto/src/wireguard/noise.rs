//! The handshake: Noise_IKpsk2 by `snow`, with this crate's primitives.
//!
//! `snow` implements the handshake patterns; [`Primitives`] supplies BLAKE2s, X25519 and
//! ChaCha20-Poly1305, so the whole engine uses one implementation of each. The shared secret of two
//! static keys is computed once per peer, as in the kernel: `snow` gets it from [`StaticSecrets`],
//! and that of an unknown sender is never computed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blake2::digest::{Digest, FixedOutputReset};
use blake2::{Blake2s256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use snow::HandshakeState;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

use super::aead::Aead;
use super::key::{KEY_LEN, PresharedKey, PrivateKey, PublicKey, SharedSecret};
use super::message::{INITIATION_NOISE_LEN, RESPONSE_NOISE_LEN, TAG_LEN};
use super::timestamp::{TIMESTAMP_LEN, Timestamp};
use wontun_packet::DropReason;
use wontun_sys::wiped::Wiped;

const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Position of the preshared key in IKpsk2.
const PSK_LOCATION: usize = 2;

/// The interface's key pair.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
}

/// Shared secrets of the interface's static key with each peer's. Peers with low-order keys are not
/// included.
#[derive(Clone, Default)]
pub(super) struct StaticSecrets(Arc<BTreeMap<PublicKey, SharedSecret>>);

impl StaticSecrets {
    /// Adds a peer; returns false if there is no shared secret with its key.
    pub(super) fn add(&mut self, identity: &Identity, peer: PublicKey) -> bool {
        match identity.private.diffie_hellman(&peer) {
            Some(secret) => {
                Arc::make_mut(&mut self.0).insert(peer, secret);
                true
            }
            None => false,
        }
    }

    /// Removes a peer.
    pub(super) fn remove(&mut self, peer: &PublicKey) {
        if self.0.contains_key(peer) {
            Arc::make_mut(&mut self.0).remove(peer);
        }
    }

    /// Returns true if handshakes with `peer` are possible.
    pub(super) fn contains(&self, peer: &PublicKey) -> bool {
        self.0.contains_key(peer)
    }
}

/// The keys of a session, which are overwritten when dropped.
#[derive(Clone)]
pub(super) struct SessionKeys {
    pub(super) send: Zeroizing<[u8; KEY_LEN]>,
    pub(super) receive: Zeroizing<[u8; KEY_LEN]>,
}

/// For another process that takes the session over; the caller overwrites its buffers.
impl Serialize for SessionKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.send, &*self.receive).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SessionKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Zeroizing::new(<[[u8; KEY_LEN]; 2]>::deserialize(deserializer)?);
        let [send, receive] = &*keys;
        Ok(Self { send: Zeroizing::new(*send), receive: Zeroizing::new(*receive) })
    }
}

/// A sent initiation that was not answered yet.
pub(super) struct Initiator(State);

impl Initiator {
    /// Starts a handshake with `peer`, with `ephemeral` as the ephemeral private key.
    pub(super) fn new(
        identity: &Identity,
        secrets: &StaticSecrets,
        peer: &PublicKey,
        ephemeral: Zeroizing<[u8; KEY_LEN]>,
        timestamp: &Timestamp,
    ) -> Result<(Self, [u8; INITIATION_NOISE_LEN]), DropReason> {
        // one secret, not the map: a map held by an unanswered initiation would be copied when it
        // is changed
        let secret = secrets.0.get(peer).cloned().ok_or(DropReason::LowOrder)?;
        let mut state = build(identity, Some(peer), StaticAgreement::Initiator(*peer, secret), ephemeral)?;
        let mut message = [0; INITIATION_NOISE_LEN];
        let written = state.write_message(timestamp.as_bytes(), &mut message).map_err(reason)?;
        if written == INITIATION_NOISE_LEN { Ok((Self(state), message)) } else { Err(DropReason::Handshake) }
    }

    /// Handles the response. A response that is not authentic changes nothing: the real one may
    /// still arrive.
    pub(super) fn finish(
        &mut self,
        preshared: &PresharedKey,
        response: &[u8; RESPONSE_NOISE_LEN],
    ) -> Result<SessionKeys, DropReason> {
        // set now instead of at the start of the handshake, so that a key that changed meanwhile is
        // used
        self.0.set_psk(PSK_LOCATION, preshared.as_bytes()).map_err(reason)?;
        self.0.read_message(response, &mut []).map_err(reason)?;
        let (send, receive) = self.0.dangerously_get_raw_split();
        Ok(SessionKeys { send: send.into(), receive: receive.into() })
    }
}

/// Reason for rejecting an initiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InitiationError {
    /// No peer has this public key.
    UnknownPeer(PublicKey),
    /// Any other reason.
    Other(DropReason),
}

impl InitiationError {
    /// Returns the reason for the counter.
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Self::UnknownPeer(_) => DropReason::UnknownPeer,
            Self::Other(reason) => reason,
        }
    }
}

/// A received initiation that is about to be answered.
pub(super) struct Responder {
    state: State,
    /// Public key of the sender.
    pub(super) peer: PublicKey,
    /// Time of the sender's clock.
    pub(super) timestamp: Timestamp,
}

impl Responder {
    /// Reads an initiation. Only that of a known peer gets past the first agreement.
    pub(super) fn new(
        identity: &Identity,
        secrets: &StaticSecrets,
        ephemeral: Zeroizing<[u8; KEY_LEN]>,
        initiation: &[u8; INITIATION_NOISE_LEN],
    ) -> Result<Self, InitiationError> {
        let statics =
            StaticAgreement::Responder { secrets: secrets.clone(), has_begun: AtomicBool::new(false) };
        let mut state = build(identity, None, statics, ephemeral).map_err(InitiationError::Other)?;
        let mut timestamp = [0; TIMESTAMP_LEN];
        let read = state.read_message(initiation, &mut timestamp).map_err(reason);
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok()).map(PublicKey::from_bytes);
        let peer = match (read, peer) {
            (Ok(_), Some(peer)) => peer,
            // its key was decrypted before the agreement with it was refused
            (Err(DropReason::UnknownPeer), Some(peer)) => return Err(InitiationError::UnknownPeer(peer)),
            (Err(reason), _) => return Err(InitiationError::Other(reason)),
            (Ok(_), None) => return Err(InitiationError::Other(DropReason::Handshake)),
        };
        Ok(Self { state, peer, timestamp: Timestamp::from_bytes(timestamp) })
    }

    /// Writes the response.
    pub(super) fn finish(
        mut self,
        preshared: &PresharedKey,
    ) -> Result<([u8; RESPONSE_NOISE_LEN], SessionKeys), DropReason> {
        let state = &mut self.state;
        state.set_psk(PSK_LOCATION, preshared.as_bytes()).map_err(reason)?;
        let mut message = [0; RESPONSE_NOISE_LEN];
        state.write_message(&[], &mut message).map_err(reason)?;
        let (receive, send) = state.dangerously_get_raw_split();
        Ok((message, SessionKeys { send: send.into(), receive: receive.into() }))
    }
}

/// Maps errors: `Input` is what `X25519` returns for an unknown sender, `Dh` for a point of low
/// order.
const fn reason(error: snow::Error) -> DropReason {
    match error {
        snow::Error::Input => DropReason::UnknownPeer,
        snow::Error::Dh => DropReason::LowOrder,
        _ => DropReason::Handshake,
    }
}

fn build(
    identity: &Identity,
    peer: Option<&PublicKey>,
    statics: StaticAgreement,
    ephemeral: Zeroizing<[u8; KEY_LEN]>,
) -> Result<State, DropReason> {
    let primitives = Primitives { identity: identity.clone(), statics: Arc::new(statics), ephemeral };
    let build = || {
        let builder = snow::Builder::with_resolver(PROTOCOL.parse()?, Box::new(primitives))
            .local_private_key(identity.private.as_bytes())?
            .prologue(PROLOGUE)?;
        match peer {
            Some(peer) => builder.remote_public_key(peer.as_bytes())?.build_initiator(),
            None => builder.build_responder(),
        }
    };
    build().map(|state| Box::new(Wiped::new(state))).map_err(reason)
}

/// State of a handshake, overwritten when dropped, which `snow` does not do.
type State = Box<Wiped<HandshakeState>>;

/// The primitives that Noise needs, for one handshake.
struct Primitives {
    identity: Identity,
    statics: Arc<StaticAgreement>,
    ephemeral: Zeroizing<[u8; KEY_LEN]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(FixedRandom { secret: self.ephemeral.clone(), is_used: false }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| {
            let (identity, statics) = (self.identity.clone(), Arc::clone(&self.statics));
            Box::new(X25519 { identity, statics, pair: None }) as Box<dyn Dh>
        })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::Blake2s)
            .then(|| Box::new(Blake2s(Wiped::new(Blake2s256::new()))) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly)
            .then(|| Box::new(ChaChaPoly(Wiped::new(None))) as Box<dyn Cipher>)
    }
}

/// The random source of a handshake: one given secret, which stays in place until it is
/// overwritten.
struct FixedRandom {
    secret: Zeroizing<[u8; KEY_LEN]>,
    is_used: bool,
}

impl Random for FixedRandom {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        if std::mem::replace(&mut self.is_used, true) || out.len() != self.secret.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(self.secret.as_ref());
        Ok(())
    }
}

/// Source of the shared secrets of the static keys.
enum StaticAgreement {
    /// The responder's public key, and the shared secret with it.
    Initiator(PublicKey, SharedSecret),
    Responder {
        secrets: StaticSecrets,
        /// True once the agreement with the initiator's ephemeral key took place, which always is
        /// the first.
        has_begun: AtomicBool,
    },
}

/// A key pair that `snow` uses: the static or the ephemeral one.
struct X25519 {
    identity: Identity,
    statics: Arc<StaticAgreement>,
    pair: Option<Identity>,
}

impl X25519 {
    fn set_private(&mut self, private: PrivateKey) {
        let public =
            if private == self.identity.private { self.identity.public } else { private.public_key() };
        self.pair = Some(Identity { private, public });
    }

    fn diffie_hellman(&self, pair: &Identity, public: &PublicKey) -> Result<SharedSecret, snow::Error> {
        if pair.public == self.identity.public {
            match &*self.statics {
                StaticAgreement::Initiator(peer, secret) if peer == public => return Ok(secret.clone()),
                StaticAgreement::Initiator(..) => {}
                StaticAgreement::Responder { secrets, has_begun } => {
                    if has_begun.swap(true, Ordering::Relaxed) {
                        return secrets.0.get(public).cloned().ok_or(snow::Error::Input);
                    }
                }
            }
        }
        pair.private.diffie_hellman(public).ok_or(snow::Error::Dh)
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        if let Ok(bytes) = private.try_into() {
            self.set_private(PrivateKey::from_bytes(bytes));
        }
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        random.try_fill_bytes(secret.as_mut())?;
        self.set_private(PrivateKey::from_bytes(&secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&[0; KEY_LEN], |pair| pair.public.as_bytes())
    }

    fn privkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&[0; KEY_LEN], |pair| pair.private.as_bytes())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk::<KEY_LEN>().ok_or(snow::Error::Dh)?;
        let pair = self.pair.as_ref().ok_or(snow::Error::Dh)?;
        let shared = self.diffie_hellman(pair, &PublicKey::from_bytes(*public))?;
        out.first_chunk_mut::<KEY_LEN>().ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

/// BLAKE2s. Its state after the last message is a key, or input of a key derivation, so it is
/// overwritten.
struct Blake2s(Wiped<Blake2s256>);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        digest::Reset::reset(&mut *self.0);
    }

    fn input(&mut self, data: &[u8]) {
        Digest::update(&mut *self.0, data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let mut hash = self.0.finalize_fixed_reset();
        if let Some(out) = out.first_chunk_mut::<32>() {
            out.copy_from_slice(&hash);
        }
        hash.as_mut_slice().zeroize();
    }
}

/// The same [`Aead`] as for data. No part of the two messages is longer than a key and its tag.
struct ChaChaPoly(Wiped<Option<Aead>>);

const MAX_SEALED: usize = KEY_LEN + TAG_LEN;

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        *self.0 = Aead::new(key);
    }

    fn encrypt(&self, nonce: u64, associated: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let sealed = self.0.as_ref().and_then(|aead| {
            let (data, rest) = out.split_at_mut_checked(plain.len())?;
            data.copy_from_slice(plain);
            let tag = aead.seal(nonce, associated, data)?;
            rest.first_chunk_mut::<TAG_LEN>()?.copy_from_slice(&tag);
            Some(plain.len() + TAG_LEN)
        });
        sealed.unwrap_or_default()
    }

    fn decrypt(
        &self,
        nonce: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let mut buffer = Zeroizing::new([0; MAX_SEALED]);
        let opened = self.0.as_ref().and_then(|aead| {
            let buffer = buffer.get_mut(..sealed.len())?;
            buffer.copy_from_slice(sealed);
            let plain = aead.open(nonce, associated, buffer)?;
            out.get_mut(..plain.len())?.copy_from_slice(plain);
            Some(plain.len())
        });
        opened.ok_or(snow::Error::Decrypt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> Identity {
        let private = PrivateKey::from_bytes(&[byte; 32]);
        Identity { public: private.public_key(), private }
    }

    fn ephemeral(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    fn secrets(own: &Identity, peer: &Identity) -> StaticSecrets {
        let mut secrets = StaticSecrets::default();
        assert!(secrets.add(own, peer.public));
        secrets
    }

    const STAMP: Timestamp = Timestamp::from_bytes([3; 12]);

    #[test]
    fn both_sides_agree_and_a_forged_response_changes_nothing() {
        let (alice, bob) = (identity(1), identity(2));
        let psk = PresharedKey::from_bytes([7; 32]);
        let at_alice = secrets(&alice, &bob);
        let (mut initiator, first) =
            Initiator::new(&alice, &at_alice, &bob.public, ephemeral(3), &STAMP).unwrap();
        assert_eq!(Arc::strong_count(&at_alice.0), 1, "no handshake keeps all secrets");
        let responder = Responder::new(&bob, &secrets(&bob, &alice), ephemeral(4), &first).unwrap();
        assert_eq!((responder.peer, responder.timestamp), (alice.public, STAMP));
        let (second, bobs) = responder.finish(&psk).unwrap();

        for byte in 0..second.len() {
            let mut forged = second;
            forged[byte] ^= 1;
            assert!(initiator.finish(&psk, &forged).is_err());
        }
        assert!(initiator.finish(&PresharedKey::default(), &second).is_err());
        let alices = initiator.finish(&psk, &second).unwrap();
        assert_eq!(alices.send, bobs.receive);
        assert_eq!(alices.receive, bobs.send);
        assert_ne!(alices.send, alices.receive);
    }

    #[test]
    fn unknown_senders_and_changed_bits_are_rejected() {
        let (alice, bob, eve) = (identity(1), identity(2), identity(5));
        let (_, first) =
            Initiator::new(&alice, &secrets(&alice, &bob), &bob.public, ephemeral(3), &STAMP).unwrap();
        let unknown = Responder::new(&bob, &secrets(&bob, &eve), ephemeral(4), &first);
        assert_eq!(unknown.err(), Some(InitiationError::UnknownPeer(alice.public)));
        let at_bob = secrets(&bob, &alice);
        for byte in 0..first.len() {
            let mut forged = first;
            forged[byte] ^= 1;
            let refused = Responder::new(&bob, &at_bob, ephemeral(4), &forged).err();
            let refused = refused.map(InitiationError::reason);
            assert!(matches!(refused, Some(DropReason::Handshake | DropReason::LowOrder)), "byte {byte}");
        }
    }

    #[test]
    fn points_of_low_order_are_refused() {
        let (alice, bob) = (identity(1), identity(2));
        for point in super::super::tests::LOW_ORDER {
            assert!(!StaticSecrets::default().add(&alice, PublicKey::from_bytes(point)));
            let (_, mut first) =
                Initiator::new(&alice, &secrets(&alice, &bob), &bob.public, ephemeral(3), &STAMP).unwrap();
            first[..32].copy_from_slice(&point);
            let refused = Responder::new(&bob, &secrets(&bob, &alice), ephemeral(4), &first).err();
            assert_eq!(refused, Some(InitiationError::Other(DropReason::LowOrder)));
        }
    }
}
