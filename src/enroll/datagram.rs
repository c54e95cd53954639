//! Requests of a device, and the answers: a UDP datagram each, inside the tunnel.
//!
//! ```text
//! request  magic "WTEQ" | version 1 | kind | identifier (8) | body
//! answer   magic "WTEA" | version 1 | kind | identifier (8) | body
//! ```
//!
//! | Kind | Body of the request | Body of the answer |
//! |---|---|---|
//! | 1, settings | offset (2), big-endian | length of the whole (2), offset (2), text of the device's file from there on |
//! | 2, enrol | public key (32), preshared key (32) | none |
//! | 3, error | | text |
//!
//! A request is repeated until it is answered, with the same effect. The file is read in parts, so
//! that no datagram needs a fragment.

use zeroize::Zeroizing;

use wontun_proto::wireguard::{PresharedKey, PublicKey};

const REQUEST_MAGIC: [u8; 4] = *b"WTEQ";
const ANSWER_MAGIC: [u8; 4] = *b"WTEA";
const VERSION: u8 = 1;
const SETTINGS: u8 = 1;
const ENROL: u8 = 2;
const ERROR: u8 = 3;
/// Maximum length of a part of a file, and of the text of an error, in bytes: a datagram with it
/// fits the smallest MTU of IPv6.
const MAX_PART: usize = 1024;
/// Maximum length of a device's file in bytes.
pub const MAX_TEXT: usize = 8192;
/// Length of the longest valid datagram in bytes.
pub const MAX_DATAGRAM: usize = 14 + 4 + MAX_PART;

/// Identifies a request and its answer.
pub type Identifier = [u8; 8];

/// A request of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Requests a part of the device's file, without its private key.
    Settings {
        /// Offset of the part.
        offset: u16,
    },
    /// Puts the device's own keys in the place of the one-time keys.
    Enrol {
        /// Public key of the device.
        key: PublicKey,
        /// Key that it shares with the server in addition.
        preshared_key: PresharedKey,
    },
}

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A part of the device's file.
    Settings {
        /// Length of the file.
        length: u16,
        /// Offset of the part.
        offset: u16,
        /// The part.
        part: &'a [u8],
    },
    /// The keys were replaced.
    Enrolled,
    /// Reason why the request failed.
    Error(&'a str),
}

impl Request {
    /// Parses a datagram; `None` if it is no request.
    pub fn parse(datagram: &[u8]) -> Option<(Identifier, Self)> {
        let (kind, identifier, body) = split(datagram, REQUEST_MAGIC)?;
        let request = match kind {
            SETTINGS => Self::Settings { offset: u16::from_be_bytes(body.try_into().ok()?) },
            ENROL => {
                let (key, preshared_key) = body.split_first_chunk()?;
                let key = PublicKey::from_bytes(*key);
                Self::Enrol { key, preshared_key: PresharedKey::from_bytes(preshared_key.try_into().ok()?) }
            }
            _ => return None,
        };
        Some((identifier, request))
    }

    /// Returns the datagram.
    pub fn to_bytes(&self, identifier: &Identifier) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Settings { offset } => {
                joined(REQUEST_MAGIC, SETTINGS, identifier, &[&offset.to_be_bytes()])
            }
            Self::Enrol { key, preshared_key } => {
                joined(REQUEST_MAGIC, ENROL, identifier, &[key.as_bytes(), preshared_key.as_bytes()])
            }
        }
    }
}

impl<'a> Answer<'a> {
    /// Returns the answer with the part of `text` from `offset` on.
    pub fn part_of(text: &'a [u8], offset: u16) -> Option<Self> {
        let length = u16::try_from(text.len()).ok().filter(|length| usize::from(*length) <= MAX_TEXT)?;
        let rest = text.get(usize::from(offset)..)?;
        let part = rest.get(..MAX_PART).unwrap_or(rest);
        Some(Self::Settings { length, offset, part })
    }

    /// Parses a datagram; `None` if it is no answer.
    pub fn parse(datagram: &'a [u8]) -> Option<(Identifier, Self)> {
        let (kind, identifier, body) = split(datagram, ANSWER_MAGIC)?;
        let answer = match kind {
            SETTINGS => {
                let (length, body) = body.split_first_chunk()?;
                let (offset, part) = body.split_first_chunk()?;
                let (length, offset) = (u16::from_be_bytes(*length), u16::from_be_bytes(*offset));
                let end = usize::from(offset) + part.len();
                let is_valid = usize::from(length) <= MAX_TEXT
                    && end <= usize::from(length)
                    && (!part.is_empty() || length == 0);
                is_valid.then_some(Self::Settings { length, offset, part })?
            }
            ENROL => body.is_empty().then_some(Self::Enrolled)?,
            ERROR if body.len() <= MAX_PART => Self::Error(str::from_utf8(body).ok()?),
            _ => return None,
        };
        Some((identifier, answer))
    }

    /// Returns the datagram. The text of an error is cut if it is too long.
    pub fn to_bytes(&self, identifier: &Identifier) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Settings { length, offset, part } => joined(
                ANSWER_MAGIC,
                SETTINGS,
                identifier,
                &[&length.to_be_bytes(), &offset.to_be_bytes(), part],
            ),
            Self::Enrolled => joined(ANSWER_MAGIC, ENROL, identifier, &[]),
            Self::Error(text) => joined(ANSWER_MAGIC, ERROR, identifier, &[cut(text, MAX_PART).as_bytes()]),
        }
    }
}

impl std::fmt::Debug for Answer<'_> {
    /// Leaves the text of a file out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings { length, offset, part } => {
                write!(f, "Settings({offset}..{} of {length})", usize::from(*offset) + part.len())
            }
            Self::Enrolled => f.write_str("Enrolled"),
            Self::Error(text) => write!(f, "Error({text:?})"),
        }
    }
}

/// Returns the beginning of a text, of at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Returns kind, identifier and body of a datagram.
fn split(datagram: &[u8], magic: [u8; 4]) -> Option<(u8, Identifier, &[u8])> {
    if datagram.len() > MAX_DATAGRAM {
        return None;
    }
    let rest = datagram.strip_prefix(&magic)?;
    let ([version, kind], rest) = rest.split_first_chunk()?;
    let (identifier, body) = rest.split_first_chunk()?;
    (*version == VERSION).then_some((*kind, *identifier, body))
}

fn joined(magic: [u8; 4], kind: u8, identifier: &Identifier, body: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_DATAGRAM));
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(identifier);
    body.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTIFIER: Identifier = *b"12345678";

    #[test]
    fn requests_are_read_again_and_nothing_else() {
        let key = PublicKey::from_bytes([3; 32]);
        let enrol = Request::Enrol { key, preshared_key: PresharedKey::from_bytes([4; 32]) };
        for request in [Request::Settings { offset: 1024 }, enrol] {
            let bytes = request.to_bytes(&IDENTIFIER);
            assert_eq!(Request::parse(&bytes), Some((IDENTIFIER, request.clone())));
            assert!(Answer::parse(&bytes).is_none());
            for end in 0..bytes.len() {
                assert_eq!(Request::parse(&bytes[..end]), None, "cut at {end}");
            }
            assert_eq!(Request::parse(&[&bytes[..], b"x"].concat()), None, "longer");
            let mut other = bytes.to_vec();
            other[4] = 2;
            assert_eq!(Request::parse(&other), None, "another version");
        }
    }

    #[test]
    fn a_file_is_read_in_parts() {
        let text: Vec<u8> = (0..=255).cycle().take(2500).collect();
        let mut read = Vec::new();
        while read.len() < text.len() {
            let answer = Answer::part_of(&text, u16::try_from(read.len()).unwrap()).unwrap();
            let bytes = answer.to_bytes(&IDENTIFIER);
            assert!(bytes.len() <= MAX_DATAGRAM && MAX_DATAGRAM + 48 <= 1280);
            let Some((IDENTIFIER, Answer::Settings { length: 2500, offset, part })) = Answer::parse(&bytes)
            else {
                panic!()
            };
            assert_eq!(usize::from(offset), read.len());
            read.extend_from_slice(part);
        }
        assert_eq!(read, text);
        assert!(Answer::part_of(&text, 2501).is_none() && Answer::part_of(&[0; MAX_TEXT + 1], 0).is_none());
    }

    #[test]
    fn errors_are_cut_at_a_letter() {
        let long = "ü".repeat(2000);
        let bytes = Answer::Error(&long).to_bytes(&IDENTIFIER);
        let Some((_, Answer::Error(text))) = Answer::parse(&bytes) else { panic!() };
        assert_eq!(text, "ü".repeat(512));
        let too_long = [&bytes[..], b"x"].concat();
        assert!(
            too_long.len() <= MAX_DATAGRAM && Answer::parse(&too_long).is_none(),
            "longer than it is written"
        );
        assert_eq!(
            Answer::parse(&Answer::Enrolled.to_bytes(&IDENTIFIER)),
            Some((IDENTIFIER, Answer::Enrolled))
        );
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1100), kind: u8) {
            for magic in [REQUEST_MAGIC, ANSWER_MAGIC] {
                let datagram = [&magic[..], &[1, kind % 4], &bytes].concat();
                let _ = Request::parse(&datagram);
                if let Some((identifier, answer)) = Answer::parse(&datagram) {
                    prop_assert_eq!(&*answer.to_bytes(&identifier), &datagram);
                }
            }
        }
    }
}
