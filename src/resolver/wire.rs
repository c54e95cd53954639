//! What the program and its resolver process say to each other, one message a datagram.
//!
//! ```text
//! request    '?'  port: u16  host: 1 to 253 bytes of UTF-8
//! ready      '+'
//! addresses  '='  count: u8  count × { 4  address: 4  port: u16 }
//!                                 or { 6  address: 16  port: u16  flow: u32  scope: u32 }
//! failed     '!'  text: UTF-8
//! malformed  '-'
//! ```
//!
//! Numbers are in network byte order. A message that is not exactly one of these is none of them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The longest name that DNS can carry, in bytes as it is written.
pub const MAX_HOST: usize = 253;

/// Addresses that one answer holds at most; further ones are dropped.
pub const MAX_ADDRESSES: usize = 16;

/// A failure's text is cut off here, in bytes.
const MAX_TEXT: usize = 400;

/// Longer than every valid message, so that one which fills a buffer of this size is recognised as cut off.
pub(super) const MAX_MESSAGE: usize = 512;

const _: () = assert!(3 + MAX_HOST < MAX_MESSAGE);
const _: () = assert!(2 + MAX_ADDRESSES * (1 + 16 + 2 + 4 + 4) < MAX_MESSAGE);
const _: () = assert!(1 + MAX_TEXT < MAX_MESSAGE);

/// What the resolver process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has given up its privileges and waits for requests.
    Ready,
    Addresses(Vec<SocketAddr>),
    Failed(String),
    /// The request was not one.
    Malformed,
}

/// A request as it is sent; `None` for a host that cannot be one.
pub(super) fn request(host: &str, port: u16) -> Option<Vec<u8>> {
    if !is_host(host) {
        return None;
    }
    let mut message = vec![b'?'];
    message.extend(port.to_be_bytes());
    message.extend(host.as_bytes());
    Some(message)
}

/// The host and port of a request.
pub(super) fn parse_request(message: &[u8]) -> Option<(&str, u16)> {
    let rest = message.strip_prefix(b"?")?;
    let (port, host) = rest.split_first_chunk()?;
    let host = str::from_utf8(host).ok().filter(|host| is_host(host))?;
    Some((host, u16::from_be_bytes(*port)))
}

fn is_host(host: &str) -> bool {
    (1..=MAX_HOST).contains(&host.len()) && !host.contains('\0')
}

/// An answer as it is sent: the first [`MAX_ADDRESSES`] addresses, the first [`MAX_TEXT`] bytes of a text.
pub(super) fn answer(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Ready => vec![b'+'],
        Answer::Malformed => vec![b'-'],
        Answer::Failed(text) => {
            let mut message = vec![b'!'];
            let cut = (0..=MAX_TEXT.min(text.len())).rev().find_map(|end| text.get(..end));
            message.extend(cut.unwrap_or_default().as_bytes());
            message
        }
        Answer::Addresses(addresses) => {
            let mut message = vec![b'=', 0];
            let mut count = 0;
            for address in addresses.iter().take(MAX_ADDRESSES) {
                put_address(&mut message, address);
                count += 1;
            }
            if let Some(slot) = message.get_mut(1) {
                *slot = count;
            }
            message
        }
    }
}

fn put_address(message: &mut Vec<u8>, address: &SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            message.push(4);
            message.extend(address.ip().octets());
            message.extend(address.port().to_be_bytes());
        }
        SocketAddr::V6(address) => {
            message.push(6);
            message.extend(address.ip().octets());
            message.extend(address.port().to_be_bytes());
            message.extend(address.flowinfo().to_be_bytes());
            message.extend(address.scope_id().to_be_bytes());
        }
    }
}

/// Reads an answer.
pub(super) fn parse_answer(message: &[u8]) -> Option<Answer> {
    let (kind, mut rest) = message.split_first()?;
    match kind {
        b'+' if rest.is_empty() => Some(Answer::Ready),
        b'-' if rest.is_empty() => Some(Answer::Malformed),
        b'!' if rest.len() <= MAX_TEXT => Some(Answer::Failed(str::from_utf8(rest).ok()?.to_owned())),
        b'=' => {
            let count = take::<1>(&mut rest)?[0];
            let count = Some(usize::from(count)).filter(|&count| count <= MAX_ADDRESSES)?;
            let mut addresses = Vec::with_capacity(count);
            for _ in 0..count {
                addresses.push(take_address(&mut rest)?);
            }
            rest.is_empty().then_some(Answer::Addresses(addresses))
        }
        _ => None,
    }
}

fn take_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    match take::<1>(rest)? {
        [4] => {
            let ip = Ipv4Addr::from(take::<4>(rest)?);
            Some(SocketAddrV4::new(ip, u16::from_be_bytes(take(rest)?)).into())
        }
        [6] => {
            let ip = Ipv6Addr::from(take::<16>(rest)?);
            let port = u16::from_be_bytes(take(rest)?);
            let flow = u32::from_be_bytes(take(rest)?);
            Some(SocketAddrV6::new(ip, port, flow, u32::from_be_bytes(take(rest)?)).into())
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn any_answer() -> impl Strategy<Value = Answer> {
        let address = (any::<IpAddr>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
            |(ip, port, flow, scope)| match ip {
                IpAddr::V4(_) => SocketAddr::new(ip, port),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, flow, scope).into(),
            },
        );
        prop_oneof![
            Just(Answer::Ready),
            Just(Answer::Malformed),
            "[a-zé ]{0,130}".prop_map(Answer::Failed),
            prop::collection::vec(address, 0..=MAX_ADDRESSES).prop_map(Answer::Addresses),
        ]
    }

    proptest! {
        #[test]
        fn answers_round_trip(original in any_answer()) {
            let message = answer(&original);
            prop_assert!(message.len() < MAX_MESSAGE);
            prop_assert_eq!(parse_answer(&message), Some(original));
        }

        #[test]
        fn a_shorter_or_longer_address_list_is_none(original in any_answer()) {
            let mut message = answer(&original);
            if matches!(original, Answer::Addresses(_)) {
                for length in 0..message.len() {
                    prop_assert_eq!(parse_answer(&message[..length]), None);
                }
                message.push(0);
                prop_assert_eq!(parse_answer(&message), None);
            }
        }

        #[test]
        fn requests_round_trip(host in "[a-zé.:%0-9-]{1,120}", port: u16) {
            let message = request(&host, port).unwrap();
            prop_assert!(message.len() < MAX_MESSAGE);
            prop_assert_eq!(parse_request(&message), Some((host.as_str(), port)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            kind in prop::sample::select(&b"?+=!-\0"[..]),
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let message = [&[kind][..], &rest].concat();
            if let Some((host, _)) = parse_request(&message) {
                prop_assert!(host.len() <= MAX_HOST);
            }
            if let Some(Answer::Addresses(addresses)) = parse_answer(&message) {
                prop_assert!(addresses.len() <= MAX_ADDRESSES);
            }
        }
    }

    #[test]
    fn too_much_is_cut_off() {
        let many = Answer::Addresses(vec!["[2001:db8::1]:9".parse().unwrap(); 300]);
        let Some(Answer::Addresses(kept)) = parse_answer(&answer(&many)) else { panic!("not an answer") };
        assert_eq!(kept.len(), MAX_ADDRESSES);
        let long = answer(&Answer::Failed("é".repeat(1000)));
        assert_eq!(parse_answer(&long), Some(Answer::Failed("é".repeat(MAX_TEXT / 2))));
        assert_eq!(parse_answer(&[]), None);
        assert_eq!(parse_request(&[]), None);
    }
}
