//! A WireGuard peer whose session keys the test knows: Noise_IKpsk2 written out, as in section 5.4
//! of the white paper, over one UDP socket. It takes either role of a handshake.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use blake2::{Blake2s256, Digest};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use wontun::net::random::SystemRandom;
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, INITIATION_LEN, MAC_LEN, RESPONSE_LEN};
use wontun_proto::wireguard::{PublicKey, Random};
use x25519_dalek::StaticSecret;

use crate::waiting::{TIMEOUT, uninterrupted};
use crate::wireguard::probe::{DATA, INITIATION, RESPONSE, sign};
use crate::wireguard::settings::Keys;

/// A symmetric key.
pub(crate) type Key = [u8; 32];

/// One session, from the peer's side.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) send: Key,
    pub(crate) receive: Key,
    remote_index: u32,
    counter: u64,
}

/// A peer without a device.
pub(crate) struct NoisePeer {
    private: StaticSecret,
    public: Key,
    server_key: Key,
    server: SocketAddr,
    pub(crate) socket: UdpSocket,
    /// The peer's index for its next session.
    next_index: u32,
}

impl NoisePeer {
    /// Makes a peer with the keys `keys` on `socket`; the daemon with the key `server_key` is at
    /// `server`.
    pub(crate) fn new(socket: UdpSocket, keys: &Keys, server_key: &str, server: SocketAddr) -> Self {
        let private = StaticSecret::from(decode(&keys.private));
        let public = x25519_dalek::PublicKey::from(&private).to_bytes();
        Self { private, public, server_key: decode(server_key), server, socket, next_index: 1 }
    }

    /// Initiates and completes a handshake, and confirms it with a keepalive.
    pub(crate) fn shake_hands(&mut self) -> Session {
        let mut session = self.shake_hands_without_confirmation();
        self.send_packet(&mut session, &[]);
        session
    }

    /// Initiates a handshake and receives the response, without confirming it.
    pub(crate) fn shake_hands_without_confirmation(&mut self) -> Session {
        let (index, ephemeral) = (self.take_index(), random_secret());
        let mut state = Symmetric::new(&self.server_key);
        let ephemeral_public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
        let mut message = vec![INITIATION, 0, 0, 0];
        message.extend(index.to_le_bytes());
        state.mix_public(&ephemeral_public);
        message.extend(ephemeral_public);
        state.mix_key(&agree(&ephemeral, &self.server_key));
        message.extend(state.seal(&self.public));
        state.mix_key(&agree(&self.private, &self.server_key));
        message.extend(state.seal(&timestamp()));
        self.send_signed(message);

        let response = self.receive_kind(RESPONSE);
        assert_eq!(response.len(), RESPONSE_LEN);
        assert_eq!(response[8..12], index.to_le_bytes());
        let theirs: Key = response[12..44].try_into().unwrap();
        state.mix_public(&theirs);
        state.mix_key(&agree(&ephemeral, &theirs));
        state.mix_key(&agree(&self.private, &theirs));
        state.mix_preshared();
        assert_eq!(state.open(&response[44..60]), b"");
        let [send, receive] = state.split();
        Session { send, receive, remote_index: number(&response[4..8]), counter: 0 }
    }

    /// Waits for the daemon's initiation, answers it, and waits for the packet that confirms the
    /// session.
    pub(crate) fn answer(&mut self) -> Session {
        let initiation = self.receive_kind(INITIATION);
        assert_eq!(initiation.len(), INITIATION_LEN);
        let mut state = Symmetric::new(&self.public);
        let theirs: Key = initiation[8..40].try_into().unwrap();
        state.mix_public(&theirs);
        state.mix_key(&agree(&self.private, &theirs));
        let server_key: Key = state.open(&initiation[40..88]).try_into().unwrap();
        assert_eq!(server_key, self.server_key);
        state.mix_key(&agree(&self.private, &server_key));
        state.open(&initiation[88..116]);

        let (index, ephemeral) = (self.take_index(), random_secret());
        let ephemeral_public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
        let mut message = vec![RESPONSE, 0, 0, 0];
        message.extend(index.to_le_bytes());
        message.extend(&initiation[4..8]);
        state.mix_public(&ephemeral_public);
        message.extend(ephemeral_public);
        state.mix_key(&agree(&ephemeral, &theirs));
        state.mix_key(&agree(&ephemeral, &server_key));
        state.mix_preshared();
        message.extend(state.seal(&[]));
        let [receive, send] = state.split();
        self.send_signed(message);
        let session = Session { send, receive, remote_index: number(&initiation[4..8]), counter: 0 };
        self.receive_packet(&session);
        session
    }

    /// Encrypts `packet` and sends it from this peer's socket.
    pub(crate) fn send_packet(&self, session: &mut Session, packet: &[u8]) {
        self.send_packet_from(&self.socket, session, packet);
    }

    /// Encrypts `packet` and sends it from `socket`.
    pub(crate) fn send_packet_from(&self, socket: &UdpSocket, session: &mut Session, packet: &[u8]) {
        let mut padded = packet.to_vec();
        padded.resize(packet.len().next_multiple_of(16), 0);
        let mut message = vec![DATA, 0, 0, 0];
        message.extend(session.remote_index.to_le_bytes());
        message.extend(session.counter.to_le_bytes());
        let cipher = ChaCha20Poly1305::new(&session.send.into());
        message.extend(cipher.encrypt(&nonce(session.counter), padded.as_slice()).unwrap());
        session.counter += 1;
        socket.send_to(&message, self.server).unwrap();
    }

    /// Waits for a data message of `session` and decrypts it.
    pub(crate) fn receive_packet(&self, session: &Session) -> Vec<u8> {
        let message = self.receive_kind(DATA);
        let cipher = ChaCha20Poly1305::new(&session.receive.into());
        let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
        cipher.decrypt(&nonce(counter), &message[DATA_HEADER_LEN..]).unwrap()
    }

    /// Waits for a message of that type, and discards others.
    fn receive_kind(&self, kind: u8) -> Vec<u8> {
        let deadline = Instant::now() + TIMEOUT;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let length = uninterrupted(|| self.socket.recv(&mut buffer))
                .unwrap_or_else(|error| panic!("no message of type {kind}: {error}"));
            if buffer[0] == kind {
                return buffer[..length].to_vec();
            }
        }
    }

    fn send_signed(&self, mut message: Vec<u8>) {
        message.extend([0; 2 * MAC_LEN]);
        sign(&mut message, &PublicKey::from_bytes(self.server_key));
        self.socket.send_to(&message, self.server).unwrap();
    }

    fn take_index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }
}

/// The symmetric state of section 5.4: chaining key, hash, and the last key.
struct Symmetric {
    chain: Key,
    hash: Key,
    key: Key,
}

impl Symmetric {
    fn new(responder: &Key) -> Self {
        let chain = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let prologue = hash(&[&chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
        Self { chain, hash: hash(&[&prologue, responder]), key: [0; 32] }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// Mixes in an ephemeral public key, which a pattern with a preshared key mixes into both.
    fn mix_public(&mut self, public: &Key) {
        self.mix_hash(public);
        [self.chain, ..] = derive(&self.chain, public);
    }

    fn mix_key(&mut self, secret: &Key) {
        [self.chain, self.key, _] = derive(&self.chain, secret);
    }

    /// Mixes in a preshared key of zeroes, which means none.
    fn mix_preshared(&mut self) {
        let [chain, mixed, key] = derive(&self.chain, &[0; 32]);
        (self.chain, self.key) = (chain, key);
        self.mix_hash(&mixed);
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: &self.hash };
        let sealed = ChaCha20Poly1305::new(&self.key.into()).encrypt(&nonce(0), payload).unwrap();
        self.mix_hash(&sealed);
        sealed
    }

    fn open(&mut self, sealed: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: sealed, aad: &self.hash };
        let plain = ChaCha20Poly1305::new(&self.key.into()).decrypt(&nonce(0), payload).unwrap();
        self.mix_hash(sealed);
        plain
    }

    /// Returns the initiator's sending key and its receiving key.
    fn split(self) -> [Key; 2] {
        let [first, second, _] = derive(&self.chain, &[]);
        [first, second]
    }
}

fn hash(parts: &[&[u8]]) -> Key {
    let mut hasher = Blake2s256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = hash(&[&pad(0x36)[..], &parts.concat()]);
    hash(&[&pad(0x5c)[..], &inner])
}

/// Computes HKDF with three outputs.
fn derive(chain: &Key, input: &[u8]) -> [Key; 3] {
    let secret = hmac(chain, &[input]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&first, &[2]]);
    let third = hmac(&secret, &[&second, &[3]]);
    [first, second, third]
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    bytes.into()
}

fn agree(private: &StaticSecret, public: &Key) -> Key {
    private.diffie_hellman(&(*public).into()).to_bytes()
}

fn random_secret() -> StaticSecret {
    let mut bytes = [0; 32];
    SystemRandom::open().unwrap().fill(&mut bytes);
    StaticSecret::from(bytes)
}

fn decode(key: &str) -> Key {
    let mut bytes = [0; 32];
    assert_eq!(Base64::decode(key, &mut bytes).unwrap().len(), 32);
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

/// Returns the current time as TAI64N.
fn timestamp() -> [u8; 12] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut stamp = [0; 12];
    stamp[..8].copy_from_slice(&(0x4000_0000_0000_000a + now.as_secs()).to_be_bytes());
    stamp[8..].copy_from_slice(&now.subsec_nanos().to_be_bytes());
    stamp
}
