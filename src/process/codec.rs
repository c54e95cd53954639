//! Encodes messages as a version, a length and the value as postcard encodes it.
//!
//! One function encodes all messages of all processes, and one decodes them. A message is one
//! datagram of a socket that preserves message boundaries (SOCK_SEQPACKET). Both sides are the same
//! program, so an unknown version is a fault or an attack, never an upgrade.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Maximum length of a message in bytes, header included.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Version of the set of all messages.
const VERSION: u16 = 1;
/// Length of the header: version (2 bytes) and length of the value (4 bytes), both little-endian.
const HEADER: usize = 6;

/// Error of encoding or decoding a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value takes more than [`MAX_MESSAGE`] bytes, or cannot be encoded.
    #[error("cannot encode a message: {0}")]
    Encode(postcard::Error),
    /// The header is truncated, or has another version or a wrong length.
    #[error("a message of {0} bytes has no valid header")]
    Header(usize),
    /// The bytes after the header are no value of the type.
    #[error("cannot decode a message: {0}")]
    Decode(postcard::Error),
    /// Bytes remain after the value.
    #[error("a message has {0} bytes too many")]
    Trailing(usize),
}

/// Encodes `message` to at most [`MAX_MESSAGE`] bytes, which are overwritten when dropped, since
/// they may contain keys.
///
/// # Errors
/// [`CodecError::Encode`].
pub fn encode<M: Serialize>(message: &M) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
    let (header, body) = buffer.split_at_mut(HEADER);
    let length = postcard::to_slice(message, body).map_err(CodecError::Encode)?.len();
    let encoded_length = u32::try_from(length).unwrap_or(u32::MAX);
    let (version, rest) = header.split_at_mut(2);
    version.copy_from_slice(&VERSION.to_le_bytes());
    rest.copy_from_slice(&encoded_length.to_le_bytes());
    // copied to the exact length: many messages may be queued
    Ok(Zeroizing::new(buffer.get(..HEADER + length).unwrap_or_default().to_vec()))
}

/// Decodes the message, which must take up all of `bytes`.
///
/// # Errors
/// [`CodecError`]: the bytes are no message of this type.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, CodecError> {
    let header = || CodecError::Header(bytes.len());
    let (version, rest) = bytes.split_first_chunk::<2>().ok_or_else(header)?;
    let (length, body) = rest.split_first_chunk::<4>().ok_or_else(header)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if u16::from_le_bytes(*version) != VERSION || length != body.len() || bytes.len() > MAX_MESSAGE {
        return Err(header());
    }
    match postcard::take_from_bytes(body).map_err(CodecError::Decode)? {
        (message, []) => Ok(message),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Message = (u64, Option<String>, Vec<Vec<u8>>);

    proptest! {
        #[test]
        fn a_message_comes_back_whole(message: Message) {
            let bytes = encode(&message).unwrap();
            prop_assert_eq!(decode::<Message>(&bytes), Ok(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = decode::<Message>(&bytes);
        }

        #[test]
        fn a_cut_or_longer_message_is_refused(message: Message, byte: u8) {
            let mut bytes = encode(&message).unwrap().to_vec();
            for length in 0..bytes.len() {
                prop_assert!(decode::<Message>(&bytes[..length]).is_err());
            }
            bytes.push(byte);
            prop_assert!(decode::<Message>(&bytes).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        // a vector of 2^60 vectors in a few bytes
        let body = [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        assert!(matches!(decode::<Message>(&bytes), Err(CodecError::Decode(_))));
        let mut other = encode(&(1_u64, None::<String>, Vec::<Vec<u8>>::new())).unwrap().to_vec();
        other[0] ^= 1;
        assert_eq!(decode::<Message>(&other), Err(CodecError::Header(other.len())));
        assert!(matches!(encode(&vec![0_u8; MAX_MESSAGE]), Err(CodecError::Encode(_))));
    }
}
