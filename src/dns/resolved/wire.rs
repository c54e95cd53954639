//! Messages of D-Bus as bytes: the header, and bodies of one argument. zbus encodes and decodes the
//! types (<https://dbus.freedesktop.org/doc/dbus-specification.html>, "Message Protocol").

use serde::{Deserialize, Serialize};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, Endian, LE, to_bytes};
use zbus::{ObjectPath, Str, Type, Variant};

/// Maximum size of a message in bytes. Those of interest have less than two thousand; the
/// specification allows 128 MiB.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// Size of the part of a header that tells the size of the message.
pub(super) const PRIMARY_HEADER: usize = 16;
/// Flag of a call: the callee sends no answer.
const NO_REPLY_EXPECTED: u8 = 1;
/// Flag of a call: a service that does not run is not started.
const NO_AUTO_START: u8 = 2;
const PROTOCOL_VERSION: u8 = 1;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Byte order, kind, flags, version, length of the body, serial number and fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// Reason why bytes are no message, or a value cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The header or the body is invalid.
    #[error("a message of D-Bus is invalid: {0}")]
    Invalid(String),
    /// The message exceeds [`MAX_MESSAGE`].
    #[error("a message of D-Bus has {0} bytes, and at most {MAX_MESSAGE} are accepted")]
    TooLong(usize),
}

fn invalid(error: impl std::fmt::Display) -> WireError {
    // one line of bounded length, whatever the text contains
    let text = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    WireError::Invalid(text)
}

/// A method of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The answer to the call of that serial number.
    Reply {
        /// Serial number of the call.
        serial: u32,
        /// The result, or the name of the error and its text.
        result: Result<Body, (String, String)>,
    },
    /// A signal.
    Signal,
    /// Anything else.
    Other,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    bytes: Vec<u8>,
    is_big_endian: bool,
    signature: String,
}

impl Body {
    /// Decodes the body.
    ///
    /// # Errors
    /// It has another type, or is invalid.
    pub(super) fn decode<T: for<'a> Deserialize<'a> + Type>(&self) -> Result<T, WireError> {
        let expected = T::SIGNATURE.to_string_no_parens();
        if self.signature != expected {
            return Err(invalid(format!("its type is {} instead of {expected}", self.signature)));
        }
        let data = Data::new(self.bytes.as_slice(), Context::new(endian(self.is_big_endian), 0));
        data.deserialize().map(|(value, _)| value).map_err(invalid)
    }
}

const fn endian(is_big_endian: bool) -> Endian {
    if is_big_endian { BE } else { LE }
}

/// Encodes a call of `method` with `argument`, or without one. With `has_reply` the callee answers.
///
/// # Errors
/// The message would exceed [`MAX_MESSAGE`], or a name is invalid.
pub(super) fn encode_call<T: Serialize + Type>(
    method: &Method<'_>,
    serial: u32,
    has_reply: bool,
    argument: Option<&T>,
) -> Result<Vec<u8>, WireError> {
    let context = Context::new(LE, 0);
    let body = match argument {
        Some(argument) => to_bytes(context, argument).map_err(invalid)?.bytes().to_vec(),
        None => Vec::new(),
    };
    let path = ObjectPath::try_from(method.path).map_err(invalid)?;
    let text = |text| Variant::Str(Str::from(text));
    let mut fields = vec![
        (PATH, Variant::ObjectPath(path)),
        (INTERFACE, text(method.interface)),
        (MEMBER, text(method.member)),
        (DESTINATION, text(method.destination)),
    ];
    if argument.is_some() {
        fields.push((SIGNATURE, Variant::Signature(T::SIGNATURE.clone())));
    }
    let flags = if has_reply { NO_AUTO_START } else { NO_AUTO_START | NO_REPLY_EXPECTED };
    let length = u32::try_from(body.len()).map_err(invalid)?;
    let header: Header<'_> = (b'l', METHOD_CALL, flags, PROTOCOL_VERSION, length, serial, fields);
    let mut bytes = to_bytes(context, &header).map_err(invalid)?.bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    if bytes.len() > MAX_MESSAGE { Err(WireError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Returns the size of the message that starts with `bytes`; `None` if that needs more of it.
///
/// # Errors
/// The bytes are no message, or it exceeds [`MAX_MESSAGE`].
pub(super) fn message_length(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(start) = bytes.first_chunk::<PRIMARY_HEADER>() else { return Ok(None) };
    let [order, _, _, version, b0, b1, b2, b3, _, _, _, _, f0, f1, f2, f3] = *start;
    let number = |bytes| if order == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    if !matches!(order, b'l' | b'B') || version != PROTOCOL_VERSION {
        return Err(invalid("its first bytes are no header"));
    }
    let fields = usize::try_from(number([f0, f1, f2, f3])).map_err(invalid)?;
    let body = usize::try_from(number([b0, b1, b2, b3])).map_err(invalid)?;
    // each is at most 4 GiB: the sum does not overflow on 64 bits, and saturates on 32
    let header = PRIMARY_HEADER.saturating_add(fields).checked_next_multiple_of(8);
    let length = header.unwrap_or(usize::MAX).saturating_add(body);
    if length > MAX_MESSAGE { Err(WireError::TooLong(length)) } else { Ok(Some(length)) }
}

/// Decodes a whole message.
///
/// # Errors
/// The bytes are no message.
pub(super) fn decode_message(bytes: &[u8]) -> Result<Received, WireError> {
    let length = message_length(bytes)?.ok_or_else(|| invalid("it is cut off"))?;
    let bytes = bytes.get(..length).ok_or_else(|| invalid("it is cut off"))?;
    let is_big_endian = bytes.first() == Some(&b'B');
    let data = Data::new(bytes, Context::new(endian(is_big_endian), 0));
    let (header, _): (Header<'_>, _) = data.deserialize().map_err(invalid)?;
    let (_, kind, _, _, body_length, _, fields) = header;
    let body_length = usize::try_from(body_length).map_err(invalid)?;
    let body = bytes.get(length.saturating_sub(body_length)..).unwrap_or_default();
    let (mut serial, mut error_name, mut signature) = (None, None, String::new());
    for (code, value) in fields {
        match (code, value) {
            (REPLY_SERIAL, Variant::U32(number)) => serial = Some(number),
            (ERROR_NAME, Variant::Str(name)) => error_name = Some(name.as_str().to_owned()),
            (SIGNATURE, Variant::Signature(found)) => signature = found.to_string_no_parens(),
            _ => {}
        }
    }
    let body = Body { bytes: body.to_vec(), is_big_endian, signature };
    Ok(match (kind, serial, error_name) {
        (METHOD_RETURN, Some(serial), _) => Received::Reply { serial, result: Ok(body) },
        (ERROR, Some(serial), Some(name)) => {
            // by convention the first argument is a text
            let text = body.decode::<String>().unwrap_or_default();
            Received::Reply { serial, result: Err((name, text)) }
        }
        (SIGNAL, ..) => Received::Signal,
        _ => Received::Other,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const METHOD: Method<'static> = Method {
        destination: "org.example.Name",
        path: "/org/example",
        interface: "org.example.Interface",
        member: "Member",
    };

    /// A reply as a service sends it.
    pub(in crate::dns::resolved) fn reply<T: Serialize + Type>(
        kind: u8,
        serial: u32,
        error: Option<&str>,
        argument: &T,
    ) -> Vec<u8> {
        let context = Context::new(LE, 0);
        let body = to_bytes(context, argument).unwrap().bytes().to_vec();
        let mut fields = vec![(REPLY_SERIAL, Variant::U32(serial))];
        fields.extend(error.map(|name| (ERROR_NAME, Variant::Str(Str::from(name)))));
        fields.push((SIGNATURE, Variant::Signature(T::SIGNATURE.clone())));
        let header: Header<'_> = (b'l', kind, 0, 1, u32::try_from(body.len()).unwrap(), 7, fields);
        let mut bytes = to_bytes(context, &header).unwrap().bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_call_is_as_the_specification_says() {
        let call = encode_call(&METHOD, 5, true, Some(&vec![(2_i32, vec![10_u8, 0, 0, 53])])).unwrap();
        assert_eq!(message_length(&call), Ok(Some(call.len())));
        assert_eq!(&call[..4], &[b'l', 1, NO_AUTO_START, 1]);
        assert_eq!(call[8..12], 5_u32.to_le_bytes());
        let text = String::from_utf8_lossy(&call);
        assert!(text.contains("\u{8}\u{1}g\0\u{6}a(iay)\0"), "{text:?}");
        // length of the array, padding to 8, the family, length of the address, the address
        assert!(call.ends_with(&[12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 10, 0, 0, 53]), "{call:?}");
        let call = encode_call(&METHOD, 5, false, None::<&()>).unwrap();
        assert_eq!((call[2], &call[4..8]), (NO_AUTO_START | NO_REPLY_EXPECTED, &[0; 4][..]));
        assert_eq!(decode_message(&call), Ok(Received::Other));
    }

    #[test]
    fn replies_and_errors_have_the_serial_of_their_call() {
        let bytes = reply(METHOD_RETURN, 9, None, &"one");
        let Received::Reply { serial: 9, result: Ok(body) } = decode_message(&bytes).unwrap() else {
            panic!()
        };
        assert_eq!(body.decode::<String>().unwrap(), "one");
        assert!(body.decode::<u32>().unwrap_err().to_string().contains("its type is s instead of u"));
        let error = reply(ERROR, 9, Some("org.example.Error"), &"no");
        let expected = Err(("org.example.Error".to_owned(), "no".to_owned()));
        assert_eq!(decode_message(&error), Ok(Received::Reply { serial: 9, result: expected }));
        assert_eq!(decode_message(&reply(SIGNAL, 9, None, &"no")), Ok(Received::Signal));
    }

    #[test]
    fn what_is_too_long_or_no_message_is_an_error() {
        let mut bytes = reply(METHOD_RETURN, 9, None, &"one");
        for length in 0..bytes.len() {
            assert!(decode_message(&bytes[..length]).is_err(), "{length}");
        }
        for at in [4, 12] {
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(matches!(message_length(&bytes), Err(WireError::TooLong(_))));
        }
        assert!(message_length(&[0; 16]).is_err() && message_length(b"l").unwrap().is_none());
        let long = "x".repeat(MAX_MESSAGE);
        assert!(matches!(encode_call(&METHOD, 1, true, Some(&long)), Err(WireError::TooLong(_))));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_received_panics(mut bytes in proptest::collection::vec(0_u8.., 0..400), at in 0_usize..200, byte: u8) {
            let _ = decode_message(&bytes);
            bytes.splice(0..bytes.len().min(4), [b'l', 2, 0, 1]);
            let _ = decode_message(&bytes);
            let mut changed = reply(ERROR, 9, Some("org.example.Error"), &"no");
            let at = at % changed.len();
            changed[at] = byte;
            let _ = decode_message(&changed);
        }
    }
}
