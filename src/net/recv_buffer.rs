//! Receive buffers for many datagrams at once, and the metadata that the kernel returns with each.
//!
//! A socket with `UDP_GRO` returns consecutive datagrams of one sender as one message, if all have
//! the same length and traffic class; only the last may be shorter (udp(7)).

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use nix::libc;

use wontun_sys::datagram::RecvMeta;

/// Bytes for one message: the largest possible size, rounded up.
pub const SLOT: usize = 65_536;
/// Maximum number of messages per call.
pub const SLOTS: usize = 16;
/// Maximum number of datagrams in one message on usual kernels: `UDP_MAX_SEGMENTS`.
pub const MAX_GRO_SEGMENTS: usize = 128;

/// `struct cmsghdr` as the kernel writes it: the length in a machine word, level and type in an int
/// each.
const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

/// The destination address and receiving interface of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// Our address, the source of a reply.
    pub address: IpAddr,
    /// Index of the receiving interface.
    pub interface: u32,
}

/// Datagrams of one sender that the kernel returned as one message (`UDP_GRO`); mostly one.
#[derive(Clone, Copy, Debug)]
pub struct GroBatch {
    /// Total bytes.
    pub length: usize,
    /// Bytes of each datagram except the last, which may have fewer. Not 0.
    pub segment: usize,
    /// The sender's address.
    pub from: SocketAddr,
    /// The destination; only disconnected sockets report it.
    pub local: Option<LocalAddress>,
    /// The traffic class, DSCP and ECN; zero unless the socket was set to report it.
    pub class: u8,
    /// Offset in the receive buffer.
    start: usize,
}

impl GroBatch {
    /// Returns the number of datagrams; an empty one counts as one.
    pub const fn count(&self) -> usize {
        let count = self.length.div_ceil(self.segment);
        if count == 0 { 1 } else { count }
    }

    /// Returns the range of each datagram in the receive buffer.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { length, segment, start, .. } = *self;
        (0..self.count()).map(move |number| {
            let begin = (number * segment).min(length);
            start + begin..start + (begin + segment).min(length)
        })
    }
}

/// The receive buffers of one worker, created once.
#[derive(Debug)]
pub struct RecvBuffer {
    bytes: Box<[u8]>,
    metas: [RecvMeta; SLOTS],
}

impl Default for RecvBuffer {
    fn default() -> Self {
        Self { bytes: vec![0; SLOT * SLOTS].into_boxed_slice(), metas: [RecvMeta::default(); SLOTS] }
    }
}

impl RecvBuffer {
    /// Returns the slots for `count` messages: bytes, and the metadata of each.
    pub(super) fn slots(&mut self, count: usize) -> (&mut [u8], &mut [RecvMeta]) {
        (&mut self.bytes, self.metas.get_mut(..count.min(SLOTS)).unwrap_or_default())
    }

    /// Returns all bytes; [`GroBatch::ranges`] are ranges of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`Self::bytes`], for decryption in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Returns the batch with this number from the last call; `None` if the sender's address family
    /// is not supported.
    pub fn batch(&self, number: usize) -> Option<GroBatch> {
        let meta = self.metas.get(number)?;
        let length = meta.length().min(SLOT);
        let mut batch = GroBatch {
            length,
            segment: length.max(1),
            from: socket_address(meta.name())?,
            local: None,
            class: 0,
            start: number * SLOT,
        };
        let mut rest = meta.control();
        while let Some((level, kind, value)) = next_control_message(&mut rest) {
            batch.parse_control_message(level, kind, value);
        }
        Some(batch)
    }
}

impl GroBatch {
    /// Parses one control message. One that is malformed or unknown does not cause the datagram to
    /// be dropped.
    fn parse_control_message(&mut self, level: i32, kind: i32, value: &[u8]) -> Option<()> {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // struct in_pktinfo: interface, the address to reply from, the one in the header
                let interface = u32::from_ne_bytes(*value.first_chunk()?);
                let address: [u8; 4] = *value.get(4..)?.first_chunk()?;
                self.local = Some(LocalAddress { address: address.into(), interface });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address: [u8; 16] = *value.first_chunk()?;
                let interface = u32::from_ne_bytes(*value.get(16..)?.first_chunk()?);
                self.local = Some(LocalAddress { address: address.into(), interface });
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => self.class = *value.first()?,
            // 32 bits of which the kernel uses eight (RFC 3542)
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = i32::from_ne_bytes(*value.first_chunk()?);
                [self.class, ..] = class.to_le_bytes();
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let segment = i32::from_ne_bytes(*value.first_chunk()?);
                self.segment = usize::try_from(segment).ok().filter(|segment| *segment > 0)?;
            }
            _ => {}
        }
        Some(())
    }
}

/// Splits one control message off the front: level, type and value.
fn next_control_message<'a>(rest: &mut &'a [u8]) -> Option<(i32, i32, &'a [u8])> {
    let length = usize::from_ne_bytes(*rest.first_chunk()?);
    let number = |at: usize| Some(i32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
    let (level, kind) = (number(WORD)?, number(WORD + 4)?);
    let value = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(WORD)..).unwrap_or_default();
    Some((level, kind, value))
}

/// Parses a `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(address.into(), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            // the flow label may change from datagram to datagram and does not distinguish peers
            Some(SocketAddrV6::new(address.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(length: usize, segment: usize) -> GroBatch {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        GroBatch { length, segment, from, local: None, class: 0, start: 100 }
    }

    #[test]
    fn datagrams_lie_one_behind_the_other() {
        let ranges = |length, segment| {
            batch(length, segment).ranges().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(ranges(0, 1).as_slice(), &[(100, 100)]);
        assert_eq!(ranges(10, 10).as_slice(), &[(100, 110)]);
        assert_eq!(ranges(25, 10).as_slice(), &[(100, 110), (110, 120), (120, 125)]);
    }

    proptest! {
        #[test]
        fn any_notes_are_answered(control in prop::collection::vec(any::<u8>(), 0..128), name in prop::collection::vec(any::<u8>(), 0..28)) {
            let mut batch = batch(1000, 1000);
            let mut rest = &control[..];
            while let Some((level, kind, value)) = next_control_message(&mut rest) {
                prop_assert!(rest.len() < control.len());
                batch.parse_control_message(level, kind, value);
            }
            prop_assert!(batch.segment > 0);
            let _ = socket_address(&name);
        }
    }
}
