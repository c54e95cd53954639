//! Private, public and preshared keys: 32 bytes, or 44 characters in base64 as `wg` prints and
//! reads them.
//!
//! Secret keys are overwritten when dropped, and `Debug` does not print them.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::random::Random;

/// Length of every key in bytes.
pub const KEY_LEN: usize = 32;
/// Length of every key in base64 characters.
pub const KEY_BASE64_LEN: usize = 44;

/// Error for a text that is not a key. It never contains the text, which may be most of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 44 characters long.
    #[error(
        "a key has {KEY_BASE64_LEN} characters, this text has {0}; expected the output of 'wg genkey', 'wg pubkey' or 'wg genpsk'"
    )]
    Length(usize),
    /// Not base64 with one `=` at its end.
    #[error("not a base64 key; expected {KEY_BASE64_LEN} characters A-Z a-z 0-9 + / with one = at the end")]
    Encoding,
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    if text.len() != KEY_BASE64_LEN {
        return Err(KeyError::Length(text.chars().count()));
    }
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    match Base64::decode(text, bytes.as_mut()) {
        Ok(decoded) if decoded.len() == KEY_LEN => Ok(bytes),
        _ => Err(KeyError::Encoding),
    }
}

fn encode(bytes: &[u8; KEY_LEN]) -> Zeroizing<String> {
    let mut text = [0; KEY_BASE64_LEN];
    let encoded = Base64::encode(bytes, &mut text).map(str::to_owned).unwrap_or_default();
    text.zeroize();
    Zeroizing::new(encoded)
}

/// A public key, which identifies a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// Returns the key with these bytes. Any 32 bytes are a key; one of low order has no shared
    /// secret with any other.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as on the wire.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// For the channel to another process, whose buffers are overwritten.
impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Zeroizing::new(<[u8; KEY_LEN]>::deserialize(deserializer)?);
        Ok(Self::from_bytes(&bytes))
    }
}

/// For the channel to another process, whose buffers are overwritten.
impl Serialize for PresharedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PresharedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Zeroizing::new(<[u8; KEY_LEN]>::deserialize(deserializer)?);
        Ok(Self::from_bytes(*bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

/// Prints the first ten characters, enough to tell peers apart in a log.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = encode(&self.0);
        write!(f, "PublicKey({}…)", text.get(..10).unwrap_or_default())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

const NO_KEY: [u8; KEY_LEN] = [0; KEY_LEN];

/// A private key: a clamped X25519 scalar. It is boxed, so that moving it, for example when a
/// vector grows, leaves no copy that is not overwritten.
#[derive(Clone)]
pub struct PrivateKey(Box<StaticSecret>);

impl PrivateKey {
    /// Returns the key with these bytes, clamped as `wg` clamps them.
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Self {
        let mut clamped = Zeroizing::new(*bytes);
        let [first, .., last] = &mut *clamped;
        *first &= 248;
        *last = *last & 127 | 64;
        Self(Box::new(StaticSecret::from(*clamped)))
    }

    /// Generates a key from `random`.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        random.fill(bytes.as_mut());
        Self::from_bytes(&bytes)
    }

    /// Returns the corresponding public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&*self.0).to_bytes())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        self.0.as_bytes()
    }

    /// Returns the key in base64, as `wg genkey` prints it; overwritten when dropped.
    pub fn to_base64(&self) -> Zeroizing<String> {
        encode(self.as_bytes())
    }

    /// Returns the shared secret with the owner of `public`; `None` if `public` is a point of low
    /// order, for which the secret would not depend on the private key.
    pub(super) fn diffie_hellman(&self, public: &PublicKey) -> Option<SharedSecret> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(public.0));
        shared.was_contributory().then(|| SharedSecret(shared.to_bytes()))
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self::from_bytes(&bytes))
    }
}

/// A preshared key: a symmetric key that two peers share in addition to their key pairs, boxed like
/// [`PrivateKey`]. All zeroes means none in WireGuard, and takes no memory.
#[derive(Clone, Default)]
pub struct PresharedKey(Option<Box<Zeroizing<[u8; KEY_LEN]>>>);

impl PresharedKey {
    /// Returns the key with these bytes.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let is_none: bool = bytes.ct_eq(&NO_KEY).into();
        Self((!is_none).then(|| Box::new(bytes)))
    }

    /// Generates a key from `random`.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new(NO_KEY);
        random.fill(bytes.as_mut());
        Self(Some(Box::new(bytes)))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        self.0.as_ref().map_or(&NO_KEY, |key| key)
    }

    /// Returns true if the key is all zeroes, that is, none.
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the key in base64, as `wg genpsk` prints it; overwritten when dropped.
    pub fn to_base64(&self) -> Zeroizing<String> {
        encode(self.as_bytes())
    }
}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for PresharedKey {}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "PresharedKey(none)" } else { "PresharedKey(…)" })
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

/// Result of an X25519 agreement.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct SharedSecret([u8; KEY_LEN]);

impl SharedSecret {
    pub(super) const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 7748, section 6.1
    const ALICE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const ALICE_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_is_the_one_of_rfc_7748() {
        let private: PrivateKey = ALICE.parse().unwrap();
        assert_eq!(private.public_key().to_string(), ALICE_PUBLIC);
    }

    #[test]
    fn wrong_texts_are_refused_without_being_repeated() {
        assert_eq!("".parse::<PublicKey>(), Err(KeyError::Length(0)));
        assert_eq!(format!("{ALICE}=").parse::<PrivateKey>(), Err(KeyError::Length(45)));
        for wrong in [
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCoA",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCp=",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LC==",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25L-o=",
        ] {
            let error = wrong.parse::<PresharedKey>().unwrap_err();
            assert_eq!(error, KeyError::Encoding, "{wrong}");
            assert!(!error.to_string().contains("dwdt"));
        }
    }

    #[test]
    fn secrets_stay_where_they_are_when_their_owner_moves() {
        assert_eq!(
            (size_of::<PrivateKey>(), size_of::<PresharedKey>()),
            (size_of::<usize>(), size_of::<usize>())
        );
        let key = PresharedKey::from_bytes([7; KEY_LEN]);
        let place = key.as_bytes().as_ptr();
        let mut moved = vec![key];
        moved.reserve(1000);
        assert_eq!(moved[0].as_bytes().as_ptr(), place);
    }

    #[test]
    fn all_zeroes_is_no_preshared_key() {
        let none = PresharedKey::default();
        assert!(none.is_none() && PresharedKey::from_bytes([0; KEY_LEN]).is_none());
        assert_eq!(none.to_base64().parse::<PresharedKey>(), Ok(none.clone()));
        assert_eq!(none.as_bytes(), &[0; KEY_LEN]);
        let mut one = [0; KEY_LEN];
        one[31] = 1;
        assert!(!PresharedKey::from_bytes(one).is_none() && PresharedKey::from_bytes(one) != none);
    }

    #[test]
    fn secrets_do_not_print() {
        let private: PrivateKey = ALICE.parse().unwrap();
        let preshared: PresharedKey = ALICE.parse().unwrap();
        assert_eq!(format!("{private:?} {preshared:?}"), "PrivateKey(…) PresharedKey(…)");
        assert_eq!(format!("{:?}", private.public_key()), "PublicKey(hSDwCYkwp1…)");
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(bytes: [u8; 32]) {
            let public = PublicKey::from_bytes(bytes);
            prop_assert_eq!(public.to_string().parse::<PublicKey>(), Ok(public));
            let preshared = PresharedKey::from_bytes(bytes);
            prop_assert_eq!(preshared.to_base64().parse::<PresharedKey>(), Ok(preshared));
            let private = PrivateKey::from_bytes(&bytes);
            prop_assert_eq!(private.to_base64().parse::<PrivateKey>(), Ok(private));
        }
    }
}
