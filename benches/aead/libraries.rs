//! A common interface to each library for our use: a key for many packets, sealing in place with a
//! detached tag, opening in place.

/// Bytes of a tag.
pub(crate) const TAG: usize = 16;

/// ChaCha20-Poly1305 of one library, without associated data.
pub(crate) trait Aead {
    /// The name in the results.
    const NAME: &'static str;
    /// Sets up a key for both directions.
    fn new(key: [u8; 32]) -> Self;
    /// Encrypts in place.
    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG];
    /// Decrypts in place; returns true if the tag was correct.
    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool;
}

pub(crate) struct Ring(ring::aead::LessSafeKey);

impl Aead for Ring {
    const NAME: &'static str = "ring 0.17";

    fn new(key: [u8; 32]) -> Self {
        let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, &key).unwrap();
        Self(ring::aead::LessSafeKey::new(key))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), data).unwrap();
        tag.as_ref().try_into().unwrap()
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::empty(), tag.into(), data, 0..).is_ok()
    }
}

#[cfg(feature = "aws-lc")]
pub(crate) struct AwsLc(aws_lc_rs::aead::LessSafeKey);

#[cfg(feature = "aws-lc")]
impl Aead for AwsLc {
    const NAME: &'static str = "aws-lc-rs 1.19";

    fn new(key: [u8; 32]) -> Self {
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::CHACHA20_POLY1305, &key).unwrap();
        Self(aws_lc_rs::aead::LessSafeKey::new(key))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        use aws_lc_rs::aead::{Aad, Nonce};
        let mut tag = [0; TAG];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_scatter(nonce, Aad::empty(), data, &[], &mut tag).unwrap();
        tag
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::empty(), &tag, data).is_ok()
    }
}

/// RustCrypto's implementation, in the version that the project's cookies and tests use.
pub(crate) struct RustCrypto010(chacha20poly1305_010::ChaCha20Poly1305);

impl Aead for RustCrypto010 {
    const NAME: &'static str = "chacha20poly1305 0.10";

    fn new(key: [u8; 32]) -> Self {
        use chacha20poly1305_010::KeyInit;
        Self(chacha20poly1305_010::ChaCha20Poly1305::new(&key.into()))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        use chacha20poly1305_010::AeadInPlace;
        self.0.encrypt_in_place_detached(&nonce.into(), &[], data).unwrap().into()
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        use chacha20poly1305_010::AeadInPlace;
        self.0.decrypt_in_place_detached(&nonce.into(), &[], data, &tag.into()).is_ok()
    }
}

pub(crate) struct RustCrypto011(chacha20poly1305_011::ChaCha20Poly1305);

impl Aead for RustCrypto011 {
    const NAME: &'static str = "chacha20poly1305 0.11";

    fn new(key: [u8; 32]) -> Self {
        use chacha20poly1305_011::KeyInit;
        Self(chacha20poly1305_011::ChaCha20Poly1305::new(&key.into()))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        use chacha20poly1305_011::AeadInOut;
        self.0.encrypt_inout_detached(&nonce.into(), &[], data.into()).unwrap().into()
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        use chacha20poly1305_011::AeadInOut;
        self.0.decrypt_inout_detached(&nonce.into(), &[], data.into(), &tag.into()).is_ok()
    }
}

pub(crate) struct Graviola(graviola::aead::ChaCha20Poly1305);

impl Aead for Graviola {
    const NAME: &'static str = "graviola 0.4";

    fn new(key: [u8; 32]) -> Self {
        Self(graviola::aead::ChaCha20Poly1305::new(key))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        self.0.encrypt(&nonce, &[], data, &mut tag);
        tag
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        self.0.decrypt(&nonce, &[], data, &tag).is_ok()
    }
}

pub(crate) struct Rscrypto(rscrypto::ChaCha20Poly1305);

impl Aead for Rscrypto {
    const NAME: &'static str = "rscrypto 0.9";

    fn new(key: [u8; 32]) -> Self {
        Self(rscrypto::ChaCha20Poly1305::new(&rscrypto::ChaCha20Poly1305Key::from_bytes(key)))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        use rscrypto::aead::expert::AeadWithNonce;
        let nonce = rscrypto::aead::Nonce96::from_bytes(nonce);
        self.0.encrypt_in_place(&nonce, &[], data).unwrap().to_bytes()
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        let nonce = rscrypto::aead::Nonce96::from_bytes(nonce);
        let tag = rscrypto::ChaCha20Poly1305Tag::from_bytes(tag);
        self.0.decrypt_in_place(&nonce, &[], data, &tag).is_ok()
    }
}

/// One context for each direction, which keeps the key; only the nonce is set for each packet.
#[cfg(feature = "openssl")]
pub(crate) struct OpenSsl {
    seal: openssl::cipher_ctx::CipherCtx,
    open: openssl::cipher_ctx::CipherCtx,
}

#[cfg(feature = "openssl")]
impl Aead for OpenSsl {
    const NAME: &'static str = "OpenSSL 3.6, EVP";

    fn new(key: [u8; 32]) -> Self {
        use openssl::cipher::Cipher;
        use openssl::cipher_ctx::CipherCtx;
        let (mut seal, mut open) = (CipherCtx::new().unwrap(), CipherCtx::new().unwrap());
        seal.encrypt_init(Some(Cipher::chacha20_poly1305()), Some(&key), None).unwrap();
        open.decrypt_init(Some(Cipher::chacha20_poly1305()), Some(&key), None).unwrap();
        Self { seal, open }
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        self.seal.encrypt_init(None, None, Some(&nonce)).unwrap();
        self.seal.cipher_update_inplace(data, data.len()).unwrap();
        self.seal.cipher_final(&mut []).unwrap();
        self.seal.tag(&mut tag).unwrap();
        tag
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        self.open.decrypt_init(None, None, Some(&nonce)).unwrap();
        self.open.set_tag(&tag).unwrap();
        self.open.cipher_update_inplace(data, data.len()).unwrap();
        self.open.cipher_final(&mut []).is_ok()
    }
}

/// Intel's library, through the project's own binding.
#[cfg(ipsec_mb)]
pub(crate) struct IpsecMb([u8; 32], crate::ipsec_mb::ChaCha20Poly1305);

#[cfg(ipsec_mb)]
impl Aead for IpsecMb {
    const NAME: &'static str = "intel-ipsec-mb";

    fn new(key: [u8; 32]) -> Self {
        Self(key, crate::ipsec_mb::ChaCha20Poly1305::get().expect("a processor with AVX-512 and IFMA"))
    }

    fn seal(&mut self, nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG] {
        self.1.encrypt(&self.0, &nonce, &[], data)
    }

    fn open(&mut self, nonce: [u8; 12], data: &mut [u8], tag: [u8; TAG]) -> bool {
        self.1.decrypt(&self.0, &nonce, &[], data) == tag
    }
}
