//! The handshake: Noise_IKpsk2 by `snow`, with our primitives under it.
//!
//! `snow` composes; BLAKE2s, X25519 and ChaCha20-Poly1305 are handed to it by [`Primitives`], so the whole engine
//! has one implementation of each. The secret of two static keys is computed once a peer, as the kernel does it:
//! it is found in [`StaticSecrets`] when `snow` asks for it, and a stranger's is never computed at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blake2::digest::{Digest, FixedOutputReset};
use blake2::{Blake2s256, digest};
use snow::HandshakeState;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

use super::aead::Aead;
use super::key::{KEY_LEN, PresharedKey, PrivateKey, PublicKey, SharedSecret};
use super::message::{INITIATION_NOISE_LEN, RESPONSE_NOISE_LEN, TAG_LEN};
use super::timestamp::{TIMESTAMP_LEN, Timestamp};
use crate::counters::DropReason;
use crate::sys::wiped::Wiped;

const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where IKpsk2 has its preshared key.
const PSK_LOCATION: usize = 2;

/// Our key pair.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
}

/// What our static key and each peer's agree on. Peers with low-order keys are not in it.
#[derive(Clone, Default)]
pub(super) struct StaticSecrets(Arc<BTreeMap<PublicKey, SharedSecret>>);

impl StaticSecrets {
    /// Adds a peer; `false` if nothing can be agreed on with its key.
    pub(super) fn add(&mut self, identity: &Identity, peer: PublicKey) -> bool {
        match identity.private.agree(&peer) {
            Some(secret) => {
                Arc::make_mut(&mut self.0).insert(peer, secret);
                true
            }
            None => false,
        }
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, peer: &PublicKey) {
        if self.0.contains_key(peer) {
            Arc::make_mut(&mut self.0).remove(peer);
        }
    }

    /// Whether handshakes with `peer` are possible.
    pub(super) fn contains(&self, peer: &PublicKey) -> bool {
        self.0.contains_key(peer)
    }
}

/// The keys of a session.
pub(super) struct SessionKeys {
    pub(super) send: Zeroizing<[u8; KEY_LEN]>,
    pub(super) receive: Zeroizing<[u8; KEY_LEN]>,
}

/// An initiation that was sent and not answered yet.
pub(super) struct Initiator(State);

impl Initiator {
    /// Starts a handshake with `peer`, with `ephemeral` as its one-time secret.
    pub(super) fn new(
        identity: &Identity,
        secrets: &StaticSecrets,
        peer: &PublicKey,
        ephemeral: Zeroizing<[u8; KEY_LEN]>,
        stamp: &Timestamp,
    ) -> Result<(Self, [u8; INITIATION_NOISE_LEN]), DropReason> {
        // not all secrets: each map that an unanswered initiation held on to would have to be copied to be changed
        let secret = secrets.0.get(peer).cloned().ok_or(DropReason::LowOrder)?;
        let mut state = build(identity, Some(peer), Statics::Initiator(*peer, secret), ephemeral)?;
        let mut message = [0; INITIATION_NOISE_LEN];
        let written = state.write_message(stamp.as_bytes(), &mut message).map_err(reason)?;
        if written == INITIATION_NOISE_LEN { Ok((Self(state), message)) } else { Err(DropReason::Handshake) }
    }

    /// Takes the response. One that is not authentic changes nothing: the true one may still come.
    pub(super) fn finish(
        &mut self,
        preshared: &PresharedKey,
        response: &[u8; RESPONSE_NOISE_LEN],
    ) -> Result<SessionKeys, DropReason> {
        // set now, not when the handshake began: a key that changed meanwhile counts
        self.0.set_psk(PSK_LOCATION, preshared.as_bytes()).map_err(reason)?;
        self.0.read_message(response, &mut []).map_err(reason)?;
        let (send, receive) = self.0.dangerously_get_raw_split();
        Ok(SessionKeys { send: send.into(), receive: receive.into() })
    }
}

/// An initiation that was received and is about to be answered.
pub(super) struct Responder {
    state: State,
    /// Who sent it.
    pub(super) peer: PublicKey,
    /// When, by its own clock.
    pub(super) stamp: Timestamp,
}

impl Responder {
    /// Takes an initiation. Only one of a known peer gets past the first agreement.
    pub(super) fn new(
        identity: &Identity,
        secrets: &StaticSecrets,
        ephemeral: Zeroizing<[u8; KEY_LEN]>,
        initiation: &[u8; INITIATION_NOISE_LEN],
    ) -> Result<Self, DropReason> {
        let statics = Statics::Responder { secrets: secrets.clone(), begun: AtomicBool::new(false) };
        let mut state = build(identity, None, statics, ephemeral)?;
        let mut stamp = [0; TIMESTAMP_LEN];
        state.read_message(initiation, &mut stamp).map_err(reason)?;
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok());
        let peer = PublicKey::from_bytes(peer.ok_or(DropReason::Handshake)?);
        Ok(Self { state, peer, stamp: Timestamp::from_bytes(stamp) })
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

/// `Input` is what our own X25519 says of a stranger, `Dh` of a point of low order.
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
    statics: Statics,
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

/// A handshake's state, overwritten when dropped, which `snow` does not do.
type State = Box<Wiped<HandshakeState>>;

/// Our own implementations of what Noise needs, for one handshake.
struct Primitives {
    identity: Identity,
    statics: Arc<Statics>,
    ephemeral: Zeroizing<[u8; KEY_LEN]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneSecret { secret: self.ephemeral.clone(), is_used: false }))
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

/// The randomness of a handshake: the one secret that it was given, which stays in place until it
/// is overwritten.
struct OneSecret {
    secret: Zeroizing<[u8; KEY_LEN]>,
    is_used: bool,
}

impl Random for OneSecret {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        if std::mem::replace(&mut self.is_used, true) || out.len() != self.secret.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(self.secret.as_ref());
        Ok(())
    }
}

/// How the static key finds what it agrees on with a peer's.
enum Statics {
    /// The responder's key, and the secret that is shared with it.
    Initiator(PublicKey, SharedSecret),
    Responder {
        secrets: StaticSecrets,
        /// Whether the agreement with the initiator's ephemeral key, which always is the first, took place.
        begun: AtomicBool,
    },
}

/// A key pair in the hands of `snow`: the static one, or the ephemeral one.
struct X25519 {
    identity: Identity,
    statics: Arc<Statics>,
    pair: Option<Identity>,
}

impl X25519 {
    fn set_private(&mut self, private: PrivateKey) {
        let public =
            if private == self.identity.private { self.identity.public } else { private.public_key() };
        self.pair = Some(Identity { private, public });
    }

    fn agree(&self, pair: &Identity, public: &PublicKey) -> Result<SharedSecret, snow::Error> {
        if pair.public == self.identity.public {
            match &*self.statics {
                Statics::Initiator(peer, secret) if peer == public => return Ok(secret.clone()),
                Statics::Initiator(..) => {}
                Statics::Responder { secrets, begun } => {
                    if begun.swap(true, Ordering::Relaxed) {
                        return secrets.0.get(public).cloned().ok_or(snow::Error::Input);
                    }
                }
            }
        }
        pair.private.agree(public).ok_or(snow::Error::Dh)
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
        let shared = self.agree(pair, &PublicKey::from_bytes(*public))?;
        out.first_chunk_mut::<KEY_LEN>().ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

/// Its state after the last message is a key, or what keys derive from: overwritten when dropped.
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

/// The same [`Aead`] as for data. Nothing in these two messages is longer than a key and its tag.
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
        assert_eq!((responder.peer, responder.stamp), (alice.public, STAMP));
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
    fn strangers_and_wrong_bits_are_refused() {
        let (alice, bob, eve) = (identity(1), identity(2), identity(5));
        let (_, first) =
            Initiator::new(&alice, &secrets(&alice, &bob), &bob.public, ephemeral(3), &STAMP).unwrap();
        let stranger = Responder::new(&bob, &secrets(&bob, &eve), ephemeral(4), &first);
        assert_eq!(stranger.err(), Some(DropReason::UnknownPeer));
        let at_bob = secrets(&bob, &alice);
        for byte in 0..first.len() {
            let mut forged = first;
            forged[byte] ^= 1;
            let refused = Responder::new(&bob, &at_bob, ephemeral(4), &forged).err();
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
            assert_eq!(refused, Some(DropReason::LowOrder));
        }
    }
}
