//! The four WireGuard messages in their wire format. All integers are little-endian; the type is
//! one byte, followed by three reserved zero bytes.

/// Length of a handshake initiation in bytes.
pub const INITIATION_LEN: usize = 148;
/// Length of a handshake response in bytes.
pub const RESPONSE_LEN: usize = 92;
/// Length of a cookie reply in bytes.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Length of the header of a data message in bytes.
pub const DATA_HEADER_LEN: usize = 16;
/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;
/// Bytes that a data message adds to its padded packet, which is also the length of a keepalive.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

/// Length of a mac1, a mac2 and a cookie in bytes.
pub const MAC_LEN: usize = 16;
/// Length of the Noise message in an initiation in bytes: ephemeral key, static key and timestamp,
/// the latter two with tags.
pub const INITIATION_NOISE_LEN: usize = 32 + (32 + TAG_LEN) + (12 + TAG_LEN);
/// Length of the Noise message in a response in bytes: ephemeral key, and the tag of an empty
/// payload.
pub const RESPONSE_NOISE_LEN: usize = 32 + TAG_LEN;
/// Length of the nonce of a cookie reply in bytes.
pub const COOKIE_NONCE_LEN: usize = 24;
/// Length of an encrypted cookie with its tag in bytes.
pub const SEALED_COOKIE_LEN: usize = MAC_LEN + TAG_LEN;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;
const DATA: u32 = 4;

/// A message, recognized by type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Handshake initiation (type 1).
    Initiation(Initiation),
    /// Handshake response (type 2).
    Response(Response),
    /// Cookie reply (type 3).
    CookieReply(CookieReply),
    /// Header of a data message (type 4); the packet stays in the datagram.
    Data(DataHeader),
}

/// The first message of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// Index by which the sender is to be addressed.
    pub sender: u32,
    /// Noise message.
    pub noise: [u8; INITIATION_NOISE_LEN],
    /// Proves that the sender knows the receiver's public key.
    pub mac1: [u8; MAC_LEN],
    /// Proves that the sender owns its address; zero without a cookie.
    pub mac2: [u8; MAC_LEN],
}

/// The answer to an [`Initiation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Index by which the sender is to be addressed.
    pub sender: u32,
    /// Sender index of the initiation.
    pub receiver: u32,
    /// Noise message.
    pub noise: [u8; RESPONSE_NOISE_LEN],
    /// Proves that the sender knows the receiver's public key.
    pub mac1: [u8; MAC_LEN],
    /// Proves that the sender owns its address; zero without a cookie.
    pub mac2: [u8; MAC_LEN],
}

/// Asks the sender of a handshake message to repeat it with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieReply {
    /// Sender index of the message that this answers.
    pub receiver: u32,
    /// Random nonce.
    pub nonce: [u8; COOKIE_NONCE_LEN],
    /// The cookie, encrypted with that message's mac1 as associated data.
    pub cookie: [u8; SEALED_COOKIE_LEN],
}

/// The header of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Receiver index of the session.
    pub receiver: u32,
    /// Counter, which is the nonce.
    pub counter: u64,
}

/// Removes and returns the first `N` bytes of `bytes`.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}

/// Concatenates `parts`, whose lengths add up to `N`: a test fixes the layout of each message.
fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    for (byte, value) in whole.iter_mut().zip(parts.iter().flat_map(|part| part.iter())) {
        *byte = *value;
    }
    whole
}

impl Message {
    /// Parses a datagram; returns `None` if it is not a message: unknown type, reserved bits set,
    /// or wrong length for the type.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut rest = datagram;
        let kind = take_u32(&mut rest)?;
        let rest = &mut rest;
        match (kind, datagram.len()) {
            (DATA, DATA_OVERHEAD..) => Some(Self::Data(DataHeader {
                receiver: take_u32(rest)?,
                counter: take(rest).map(u64::from_le_bytes)?,
            })),
            (INITIATION, INITIATION_LEN) => Some(Self::Initiation(Initiation {
                sender: take_u32(rest)?,
                noise: take(rest)?,
                mac1: take(rest)?,
                mac2: take(rest)?,
            })),
            (RESPONSE, RESPONSE_LEN) => Some(Self::Response(Response {
                sender: take_u32(rest)?,
                receiver: take_u32(rest)?,
                noise: take(rest)?,
                mac1: take(rest)?,
                mac2: take(rest)?,
            })),
            (COOKIE_REPLY, COOKIE_REPLY_LEN) => Some(Self::CookieReply(CookieReply {
                receiver: take_u32(rest)?,
                nonce: take(rest)?,
                cookie: take(rest)?,
            })),
            _ => None,
        }
    }
}

impl Initiation {
    /// Returns the message in wire format.
    pub fn to_bytes(&self) -> [u8; INITIATION_LEN] {
        let sender = self.sender.to_le_bytes();
        concat(&[&INITIATION.to_le_bytes(), &sender, &self.noise, &self.mac1, &self.mac2])
    }

    /// Returns the bytes that mac1 covers: all before it.
    pub fn mac1_input(&self) -> [u8; INITIATION_LEN - 2 * MAC_LEN] {
        concat(&[&INITIATION.to_le_bytes(), &self.sender.to_le_bytes(), &self.noise])
    }
}

impl Response {
    /// Returns the message in wire format.
    pub fn to_bytes(&self) -> [u8; RESPONSE_LEN] {
        let (sender, receiver) = (self.sender.to_le_bytes(), self.receiver.to_le_bytes());
        concat(&[&RESPONSE.to_le_bytes(), &sender, &receiver, &self.noise, &self.mac1, &self.mac2])
    }

    /// Returns the bytes that mac1 covers: all before it.
    pub fn mac1_input(&self) -> [u8; RESPONSE_LEN - 2 * MAC_LEN] {
        let (sender, receiver) = (self.sender.to_le_bytes(), self.receiver.to_le_bytes());
        concat(&[&RESPONSE.to_le_bytes(), &sender, &receiver, &self.noise])
    }
}

impl CookieReply {
    /// Returns the message in wire format.
    pub fn to_bytes(&self) -> [u8; COOKIE_REPLY_LEN] {
        concat(&[&COOKIE_REPLY.to_le_bytes(), &self.receiver.to_le_bytes(), &self.nonce, &self.cookie])
    }
}

impl DataHeader {
    /// Returns the header in wire format.
    pub fn to_bytes(self) -> [u8; DATA_HEADER_LEN] {
        // as two integers instead of `concat`, since this runs for every packet
        let front = u64::from(DATA) | u64::from(self.receiver) << 32;
        (u128::from(front) | u128::from(self.counter) << 64).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_layout_is_the_white_papers() {
        let initiation = Initiation { sender: 0x0403_0201, noise: [5; 108], mac1: [6; 16], mac2: [7; 16] };
        let mut expected = vec![1, 0, 0, 0, 1, 2, 3, 4];
        expected.extend([5; 108].into_iter().chain([6; 16]).chain([7; 16]));
        assert_eq!(initiation.to_bytes().as_slice(), expected);
        assert_eq!(initiation.mac1_input().as_slice(), &expected[..116]);

        let response = Response { sender: 1, receiver: 2, noise: [5; 48], mac1: [6; 16], mac2: [7; 16] };
        let mut expected = vec![2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        expected.extend([5; 48].into_iter().chain([6; 16]).chain([7; 16]));
        assert_eq!(response.to_bytes().as_slice(), expected);
        assert_eq!(response.mac1_input().as_slice(), &expected[..60]);

        let reply = CookieReply { receiver: 1, nonce: [5; 24], cookie: [6; 32] };
        let mut expected = vec![3, 0, 0, 0, 1, 0, 0, 0];
        expected.extend([5; 24].into_iter().chain([6; 32]));
        assert_eq!(reply.to_bytes().as_slice(), expected);

        let header = DataHeader { receiver: 1, counter: 0x0203 };
        assert_eq!(header.to_bytes(), [4, 0, 0, 0, 1, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn wrong_lengths_and_reserved_bits_are_refused() {
        for (kind, right) in [(1_u8, INITIATION_LEN), (2, RESPONSE_LEN), (3, COOKIE_REPLY_LEN)] {
            for len in 0..300 {
                let mut datagram = vec![0; len];
                if let Some(first) = datagram.first_mut() {
                    *first = kind;
                }
                assert_eq!(Message::parse(&datagram).is_some(), len == right, "type {kind}, {len} bytes");
            }
        }
        for len in 0..300 {
            let mut datagram = vec![0; len];
            if let Some(first) = datagram.first_mut() {
                *first = 4;
            }
            assert_eq!(Message::parse(&datagram).is_some(), len >= DATA_OVERHEAD);
            if len > 3 {
                datagram[3] = 1;
                assert_eq!(Message::parse(&datagram), None);
            }
        }
    }

    proptest! {
        #[test]
        fn a_message_survives_its_bytes(
            sender: u32, receiver: u32, counter: u64, long: [u8; 32], more: [u8; 16], mac1: [u8; 16], mac2: [u8; 16],
        ) {
            let noise = concat::<INITIATION_NOISE_LEN>(&[&long, &more, &long, &more, &mac1]);
            let initiation = Initiation { sender, noise, mac1, mac2 };
            prop_assert_eq!(Message::parse(&initiation.to_bytes()), Some(Message::Initiation(initiation)));
            let response = Response { sender, receiver, noise: concat(&[&long, &more]), mac1, mac2 };
            prop_assert_eq!(Message::parse(&response.to_bytes()), Some(Message::Response(response)));
            let reply = CookieReply { receiver, nonce: concat(&[&long]), cookie: long };
            prop_assert_eq!(Message::parse(&reply.to_bytes()), Some(Message::CookieReply(reply)));
            let header = DataHeader { receiver, counter };
            let datagram = [&header.to_bytes(), &more[..]].concat();
            prop_assert_eq!(Message::parse(&datagram), Some(Message::Data(header)));
        }

        #[test]
        fn what_parses_is_written_back_the_same(kind in 0_u8..6, mut bytes in prop::collection::vec(any::<u8>(), 4..200)) {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            let len = match kind { 1 => INITIATION_LEN, 2 => RESPONSE_LEN, 3 => COOKIE_REPLY_LEN, _ => bytes.len() };
            bytes.resize(len, 0xa5);
            match Message::parse(&bytes) {
                Some(Message::Initiation(m)) => prop_assert_eq!(m.to_bytes().to_vec(), bytes),
                Some(Message::Response(m)) => prop_assert_eq!(m.to_bytes().to_vec(), bytes),
                Some(Message::CookieReply(m)) => prop_assert_eq!(m.to_bytes().to_vec(), bytes),
                Some(Message::Data(m)) => prop_assert_eq!(m.to_bytes().to_vec(), bytes[..16].to_vec()),
                None => prop_assert!(kind == 0 || kind > 4 || bytes.len() < DATA_OVERHEAD),
            }
        }
    }
}
