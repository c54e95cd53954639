//! The four messages as they lie on the wire. All numbers are little-endian; the type is one byte and three
//! zeroes.

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes before the encrypted packet of a data message.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Bytes that a data message adds to its padded packet, which is also the length of a keepalive.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

/// Bytes of a mac1, a mac2 and a cookie.
pub const MAC_LEN: usize = 16;
/// Bytes that the Noise library writes into an initiation: ephemeral key, static key and time stamp with tags.
pub const INITIATION_NOISE_LEN: usize = 32 + (32 + TAG_LEN) + (12 + TAG_LEN);
/// Bytes that the Noise library writes into a response: ephemeral key, and a tag over nothing.
pub const RESPONSE_NOISE_LEN: usize = 32 + TAG_LEN;
/// Bytes of a cookie reply's nonce.
pub const COOKIE_NONCE_LEN: usize = 24;
/// Bytes of a cookie with its tag.
pub const SEALED_COOKIE_LEN: usize = MAC_LEN + TAG_LEN;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;
const DATA: u32 = 4;

/// A datagram, told apart by type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    Initiation(Initiation),
    /// Type 2.
    Response(Response),
    /// Type 3.
    CookieReply(CookieReply),
    /// Type 4: only its header; the packet stays where it is.
    Data(DataHeader),
}

/// Opens a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// The index by which the sender wants to be addressed.
    pub sender: u32,
    /// The Noise message.
    pub noise: [u8; INITIATION_NOISE_LEN],
    /// Proves that the sender knows whom it talks to.
    pub mac1: [u8; MAC_LEN],
    /// Proves that the sender owns its address; zero without a cookie.
    pub mac2: [u8; MAC_LEN],
}

/// Answers an [`Initiation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The index by which the sender wants to be addressed.
    pub sender: u32,
    /// The index that the initiation named.
    pub receiver: u32,
    /// The Noise message.
    pub noise: [u8; RESPONSE_NOISE_LEN],
    /// Proves that the sender knows whom it talks to.
    pub mac1: [u8; MAC_LEN],
    /// Proves that the sender owns its address; zero without a cookie.
    pub mac2: [u8; MAC_LEN],
}

/// Tells the sender of a handshake message to come again with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieReply {
    /// The sender index of the message that this answers.
    pub receiver: u32,
    /// A random nonce.
    pub nonce: [u8; COOKIE_NONCE_LEN],
    /// The cookie, sealed with that message's mac1 as associated data.
    pub cookie: [u8; SEALED_COOKIE_LEN],
}

/// The plain part of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The receiver's index of the session.
    pub receiver: u32,
    /// The nonce.
    pub counter: u64,
}

/// Takes `N` bytes off the front of `bytes`.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}

/// Lays `parts` one behind the other. Their lengths add up to `N`: a test pins each message's layout.
fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    for (byte, value) in whole.iter_mut().zip(parts.iter().flat_map(|part| part.iter())) {
        *byte = *value;
    }
    whole
}

impl Message {
    /// Reads a datagram; `None` if it is no message: an unknown type, reserved bits set, or a length that the
    /// type does not have.
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
    /// The message's bytes.
    pub fn to_bytes(&self) -> [u8; INITIATION_LEN] {
        let sender = self.sender.to_le_bytes();
        concat(&[&INITIATION.to_le_bytes(), &sender, &self.noise, &self.mac1, &self.mac2])
    }

    /// What mac1 covers: all before it.
    pub fn mac1_input(&self) -> [u8; INITIATION_LEN - 2 * MAC_LEN] {
        concat(&[&INITIATION.to_le_bytes(), &self.sender.to_le_bytes(), &self.noise])
    }
}

impl Response {
    /// The message's bytes.
    pub fn to_bytes(&self) -> [u8; RESPONSE_LEN] {
        let (sender, receiver) = (self.sender.to_le_bytes(), self.receiver.to_le_bytes());
        concat(&[&RESPONSE.to_le_bytes(), &sender, &receiver, &self.noise, &self.mac1, &self.mac2])
    }

    /// What mac1 covers: all before it.
    pub fn mac1_input(&self) -> [u8; RESPONSE_LEN - 2 * MAC_LEN] {
        let (sender, receiver) = (self.sender.to_le_bytes(), self.receiver.to_le_bytes());
        concat(&[&RESPONSE.to_le_bytes(), &sender, &receiver, &self.noise])
    }
}

impl CookieReply {
    /// The message's bytes.
    pub fn to_bytes(&self) -> [u8; COOKIE_REPLY_LEN] {
        concat(&[&COOKIE_REPLY.to_le_bytes(), &self.receiver.to_le_bytes(), &self.nonce, &self.cookie])
    }
}

impl DataHeader {
    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; DATA_HEADER_LEN] {
        // as two numbers, not by `concat`: this is done for every packet
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
