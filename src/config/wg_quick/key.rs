//! Keys as `wg` writes them: 32 bytes, in base64 44 characters, and no other text for the same bytes.
//!
//! Secret ones are overwritten when dropped and say nothing in `Debug`.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use zeroize::{Zeroize, Zeroizing};

const KEY_LEN: usize = 32;
const KEY_TEXT_LEN: usize = 44;

/// A text that is no key. It never repeats the text, which may be most of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 44 characters long.
    #[error("a key has {KEY_TEXT_LEN} characters, this text has {0}")]
    Length(usize),
    /// Not base64 with one `=` at its end.
    #[error("this text is no base64 of {KEY_LEN} bytes, which ends with one '='")]
    Encoding,
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    if text.len() != KEY_TEXT_LEN {
        return Err(KeyError::Length(text.chars().count()));
    }
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    match Base64::decode(text, bytes.as_mut()) {
        Ok(decoded) if decoded.len() == KEY_LEN => Ok(bytes),
        _ => Err(KeyError::Encoding),
    }
}

fn encode(bytes: &[u8; KEY_LEN]) -> Zeroizing<String> {
    let mut text = Zeroizing::new([0; KEY_TEXT_LEN]);
    Zeroizing::new(Base64::encode(bytes, text.as_mut()).map(str::to_owned).unwrap_or_default())
}

/// Who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as on the wire.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

/// Prints the first ten characters, enough to tell peers apart.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}…)", encode(&self.0).get(..10).unwrap_or_default())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

macro_rules! secret_key {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// The key with these bytes.
            pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// The key in base64, overwritten when dropped.
            pub fn to_base64(&self) -> Zeroizing<String> {
                encode(&self.0)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        /// Looks at every byte, wherever the first difference is.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.iter().zip(&other.0).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                decode(text).map(|bytes| Self(*bytes))
            }
        }
    };
}

secret_key! {
    /// Our own secret.
    PrivateKey
}

secret_key! {
    /// A secret that two peers share besides their key pairs.
    PresharedKey
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        assert!(key.parse::<PrivateKey>().is_ok());
        assert_eq!("".parse::<PublicKey>(), Err(KeyError::Length(0)));
        assert_eq!(format!("{key}=").parse::<PublicKey>(), Err(KeyError::Length(45)));
        for wrong in [
            // 33 bytes; bits past the last byte; 31 bytes; another alphabet
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
    fn secrets_do_not_print() {
        let (private, preshared) = (PrivateKey::from_bytes([7; 32]), PresharedKey::from_bytes([7; 32]));
        assert_eq!(format!("{private:?} {preshared:?}"), "PrivateKey(…) PresharedKey(…)");
        assert_eq!(format!("{:?}", PublicKey::from_bytes([7; 32])), "PublicKey(BwcHBwcHBw…)");
    }

    proptest! {
        #[test]
        fn printed_and_read_again(bytes: [u8; 32]) {
            let public = PublicKey::from_bytes(bytes);
            prop_assert_eq!(public.to_string().parse::<PublicKey>(), Ok(public));
            let preshared = PresharedKey::from_bytes(bytes);
            prop_assert_eq!(preshared.to_base64().parse::<PresharedKey>(), Ok(preshared));
            let private = PrivateKey::from_bytes(bytes);
            prop_assert_eq!(private.to_base64().parse::<PrivateKey>(), Ok(private));
        }
    }
}
