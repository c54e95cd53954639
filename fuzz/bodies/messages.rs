//! Messages between processes: arbitrary bytes are an error or a message, which is unchanged after
//! being written and read again. Shared by the fuzzer and by the ordinary test that replays its
//! corpus.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wontun::dns::messages::{FromDns, ToDns};
use wontun::enroll::messages::{FromResponder, ToResponder};
use wontun::messages::{FromTunnel, ToTunnel};
use wontun::names::messages::{FromNames, ToNames};
use wontun::process::{CodecError, FromNursery, MAX_MESSAGE, Spawn, decode, encode};
use wontun::resolver::messages::{FromResolver, ToResolver};

fn check<M: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let message = match decode::<M>(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(!matches!(error, CodecError::Encode(_)), "nothing was written: {error}");
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            return false;
        }
    };
    let written = encode(&message).expect("what was read is written");
    // numbers may have had a longer encoding than necessary
    assert!(written.len() <= bytes.len().min(MAX_MESSAGE));
    let again = decode::<M>(&written).expect("what was written is read");
    assert_eq!(*encode(&again).expect("it is written again"), *written);
    true
}

/// Parses bytes as each kind of message: as they are, or, if the first is odd, the rest after a
/// valid header.
///
/// # Panics
/// If a message violates an invariant.
pub(crate) fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let mut bytes = Vec::new();
    if first & 1 == 1 {
        let empty = encode(&()).expect("a message without content");
        bytes.extend(&empty[..2]);
        bytes.extend(u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes.extend(rest);
    let read = [
        check::<ToTunnel>(&bytes),
        check::<ToNames>(&bytes),
        check::<FromNames>(&bytes),
        check::<FromTunnel>(&bytes),
        check::<ToResolver>(&bytes),
        check::<FromResolver>(&bytes),
        check::<Spawn>(&bytes),
        check::<FromNursery>(&bytes),
        check::<ToDns>(&bytes),
        check::<FromDns>(&bytes),
        check::<ToResponder>(&bytes),
        check::<FromResponder>(&bytes),
    ];
    assert!(bytes.len() <= MAX_MESSAGE || read == [false; 12], "longer than a message may be");
}
