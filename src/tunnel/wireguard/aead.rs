//! The one seam to ChaCha20-Poly1305: whoever wants another library changes this file.
//!
//! `ring` leaves its key schedule in memory; the keys here are overwritten when dropped.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::message::TAG_LEN;

/// A ChaCha20-Poly1305 key, with the nonces that Noise makes of counters: four zeroes and the little-endian counter.
pub(super) struct Aead(LessSafeKey);

fn key(bytes: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, bytes).ok().map(LessSafeKey::new)
}

fn nonce(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}

impl Aead {
    /// `None` never happens: 32 bytes are a key.
    pub(super) fn new(bytes: &[u8; 32]) -> Option<Self> {
        key(bytes).map(Self)
    }

    /// Encrypts `data` in place and gives the tag; `None` only for data longer than 256 GiB.
    pub(super) fn seal(&self, counter: u64, associated: &[u8], data: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(associated), data).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `data`, whose last [`TAG_LEN`] bytes are the tag, in place; `None` if it is not authentic, and then
    /// `data` is garbage.
    pub(super) fn open<'d>(
        &self,
        counter: u64,
        associated: &[u8],
        data: &'d mut [u8],
    ) -> Option<&'d mut [u8]> {
        self.0.open_in_place(nonce(counter), Aad::from(associated), data).ok()
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        if let Some(blank) = key(&[0; 32]) {
            self.0 = blank;
            // without this the compiler may see that nobody reads what was just written
            std::hint::black_box(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_and_opens_and_refuses_a_changed_bit() {
        let aead = Aead::new(&[7; 32]).unwrap();
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
        assert!(aead.open(0, b"", &mut []).is_none());
    }

    /// RFC 7539's key and nonce layout, seen from outside: the tag over nothing with an all-zero key, as Noise uses it.
    #[test]
    fn agrees_with_another_implementation() {
        use chacha20poly1305::aead::{AeadInPlace, KeyInit};
        let other = chacha20poly1305::ChaCha20Poly1305::new(&[9; 32].into());
        let (mut ours, mut theirs) = ([3; 100], [3; 100]);
        let tag = Aead::new(&[9; 32]).unwrap().seal(0x0102, b"x", &mut ours).unwrap();
        let nonce = [0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        let other_tag = other.encrypt_in_place_detached(&nonce.into(), b"x", &mut theirs).unwrap();
        assert_eq!((ours, tag.as_slice()), (theirs, other_tag.as_slice()));
    }
}
