//! ChaCha20-Poly1305; only this file depends on the library that implements it.
//!
//! The library is `ring`; with the feature `ipsec-mb`, Intel's on processors with AVX-512, where it
//! takes a third less time, if it gives the same results as `ring` when it is first used.

#[cfg(ipsec_mb)]
use std::sync::OnceLock;
#[cfg(ipsec_mb)]
use subtle::ConstantTimeEq;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::message::TAG_LEN;
#[cfg(ipsec_mb)]
use wontun_sys::ipsec_mb::ChaCha20Poly1305;
use wontun_sys::wiped::Wiped;

/// A ChaCha20-Poly1305 key, with nonces as Noise derives them from counters: four zero bytes and
/// the little-endian counter. It is overwritten when dropped, which the libraries do not do. What
/// they leave on the stack is overwritten by [`crate::stack`].
pub(super) struct Aead(Wiped<Key>);

#[cfg_attr(
    ipsec_mb,
    expect(clippy::large_enum_variant, reason = "where it is small, keys are read on the way of a packet")
)]
enum Key {
    Ring(LessSafeKey),
    #[cfg(ipsec_mb)]
    IpsecMb([u8; 32], ChaCha20Poly1305),
}

/// Returns the name of the library that encrypts. The first call tests it; calling it at the start
/// keeps that time out of the first handshake.
pub fn cipher_library() -> &'static str {
    #[cfg(ipsec_mb)]
    if ipsec_mb().is_some() {
        return "intel-ipsec-mb";
    }
    "ring"
}

/// Returns Intel's cipher where the processor supports it and the test of it passes.
#[cfg(ipsec_mb)]
fn ipsec_mb() -> Option<ChaCha20Poly1305> {
    static TESTED: OnceLock<Option<ChaCha20Poly1305>> = OnceLock::new();
    *TESTED.get_or_init(|| ChaCha20Poly1305::get().filter(|library| agrees_with_ring(*library).is_some()))
}

/// Tests Intel's cipher: it has to give the same results as ring for messages that take each of its
/// ways, from none to more than it handles at once, and must not accept a changed tag.
#[cfg(ipsec_mb)]
fn agrees_with_ring(library: ChaCha20Poly1305) -> Option<()> {
    let key: [u8; 32] = std::array::from_fn(|at| at.to_le_bytes()[0]);
    let (ours, ring) = (Aead(Wiped::new(Key::IpsecMb(key, library))), Aead::with_ring(&key)?);
    for (counter, len) in (0..1100).step_by(13).chain([1420, 1452, 2047, 2048, 4097]).enumerate() {
        let counter = counter as u64 + (1 << 40);
        let associated = [5; 24].get(..len % 25)?;
        let plain: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
        let (mut sealed, mut expected) = (plain.clone(), plain.clone());
        let tag = ours.seal(counter, associated, &mut sealed)?;
        let expected_tag = ring.seal(counter, associated, &mut expected)?;
        if sealed != expected || tag != expected_tag {
            return None;
        }
        sealed.extend(tag);
        let mut changed = sealed.clone();
        *changed.last_mut()? ^= 0x80;
        if ours.open(counter, associated, &mut sealed)? != plain
            || ours.open(counter, associated, &mut changed).is_some()
        {
            return None;
        }
    }
    Some(())
}

impl Aead {
    /// Returns the key with these bytes. It is never `None`, since 32 bytes are always a key.
    pub(super) fn new(bytes: &[u8; 32]) -> Option<Self> {
        #[cfg(ipsec_mb)]
        if let Some(library) = ipsec_mb() {
            return Some(Self(Wiped::new(Key::IpsecMb(*bytes, library))));
        }
        Self::with_ring(bytes)
    }

    fn with_ring(bytes: &[u8; 32]) -> Option<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?;
        Some(Self(Wiped::new(Key::Ring(LessSafeKey::new(key)))))
    }

    /// Encrypts `data` in place and returns the tag; `None` only for data longer than 256 GiB.
    pub(super) fn seal(&self, counter: u64, associated: &[u8], data: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let nonce = nonce(counter);
        match &*self.0 {
            Key::Ring(key) => {
                let (nonce, associated) = (Nonce::assume_unique_for_key(nonce), Aad::from(associated));
                let tag = key.seal_in_place_separate_tag(nonce, associated, data).ok()?;
                tag.as_ref().try_into().ok()
            }
            #[cfg(ipsec_mb)]
            Key::IpsecMb(key, library) => Some(library.encrypt(key, &nonce, associated, data)),
        }
    }

    /// Decrypts `data`, whose last [`TAG_LEN`] bytes are the tag, in place. Returns `None` if it is
    /// not authentic; the contents of `data` are then undefined.
    pub(super) fn open<'d>(
        &self,
        counter: u64,
        associated: &[u8],
        data: &'d mut [u8],
    ) -> Option<&'d mut [u8]> {
        let nonce = nonce(counter);
        match &*self.0 {
            Key::Ring(key) => {
                key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated), data).ok()
            }
            #[cfg(ipsec_mb)]
            Key::IpsecMb(key, library) => {
                let (data, tag) = data.split_last_chunk_mut::<TAG_LEN>()?;
                let expected = library.decrypt(key, &nonce, associated, data);
                bool::from(expected.ct_eq(tag)).then_some(data)
            }
        }
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{AeadInPlace, KeyInit};

    use super::*;

    /// Returns the key in the library that is selected on this processor, and in `ring`.
    fn both(bytes: &[u8; 32]) -> [Aead; 2] {
        [Aead::new(bytes).unwrap(), Aead::with_ring(bytes).unwrap()]
    }

    #[test]
    fn seals_and_opens_and_refuses_a_changed_bit() {
        for aead in both(&[7; 32]) {
            let mut sealed = b"a packet".to_vec();
            let tag = aead.seal(u64::MAX - 1, b"header", &mut sealed).unwrap();
            sealed.extend(tag);
            assert_eq!(aead.open(u64::MAX - 1, b"header", &mut sealed.clone()).unwrap(), b"a packet");
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(aead.open(u64::MAX - 1, b"header", &mut changed).is_none());
            }
            assert!(aead.open(1, b"header", &mut sealed.clone()).is_none());
            assert!(aead.open(u64::MAX - 1, b"", &mut sealed).is_none());
            for len in 0..TAG_LEN {
                assert!(aead.open(0, b"", &mut vec![0; len]).is_none());
            }
        }
    }

    #[cfg(ipsec_mb)]
    #[test]
    fn intels_library_is_in_use_where_the_processor_supports_it() {
        let is_supported = ChaCha20Poly1305::get().is_some();
        assert_eq!(cipher_library(), if is_supported { "intel-ipsec-mb" } else { "ring" });
    }

    /// Compares with another implementation of RFC 8439, with Noise's nonces, for messages of every
    /// length up to more than a processor handles at once, and the longest that a datagram holds.
    #[test]
    fn agrees_with_another_implementation() {
        let key: [u8; 32] = std::array::from_fn(|at| at.to_le_bytes()[0]);
        let other = chacha20poly1305::ChaCha20Poly1305::new(&key.into());
        for aead in both(&key) {
            for len in (0..1100).chain([1420, 4096, 65_475]) {
                let associated = &[5; 64][..len % 65];
                let plain: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
                let (mut ours, mut theirs) = (plain.clone(), plain.clone());
                let tag = aead.seal(0x0807_0605_0403_0201, associated, &mut ours).unwrap();
                let nonce = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
                let other_tag =
                    other.encrypt_in_place_detached(&nonce.into(), associated, &mut theirs).unwrap();
                assert!(ours == theirs && tag.as_slice() == other_tag.as_slice(), "{len} bytes");
                ours.extend(tag);
                let opened = aead.open(0x0807_0605_0403_0201, associated, &mut ours);
                assert!(opened.is_some_and(|opened| opened == plain), "{len} bytes");
            }
        }
    }
}
