//! Control messages of outgoing datagrams: source address, traffic class and segment size.
//!
//! Encoded by hand, so that nothing is allocated for a datagram. Layout: cmsg(3); `IP_PKTINFO` and
//! `IP_TOS` from ip(7), `IPV6_PKTINFO` and `IPV6_TCLASS` from RFC 3542, `UDP_SEGMENT` from udp(7).

use std::net::IpAddr;

use nix::libc;

/// `struct cmsghdr` as the kernel reads it: the length in a machine word, level and type in an int
/// each.
const HEADER: usize = size_of::<usize>() + 8;
/// Size of the buffer: a source address (at most 40 bytes with header and padding), a class (24)
/// and a segment size (24).
const CAPACITY: usize = 88;

/// Control messages for one datagram.
#[derive(Debug)]
pub(super) struct ControlMessages {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Default for ControlMessages {
    fn default() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }
}

impl ControlMessages {
    /// Returns the encoded messages; empty if there are none.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Sets the source address to `address`; a link-local one is on the interface `scope`.
    pub(super) fn push_source(&mut self, address: IpAddr, scope: u32) {
        match address {
            IpAddr::V4(v4) => {
                // struct in_pktinfo: interface, then the source address, then one that is used on
                // receipt only
                let mut info = [0; 12];
                if let Some(source) = info.get_mut(4..8) {
                    source.copy_from_slice(&v4.octets());
                }
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(v6) => {
                let mut info = [0; 20];
                let (source, interface) = info.split_at_mut(16);
                source.copy_from_slice(&v6.octets());
                if v6.is_unicast_link_local() {
                    interface.copy_from_slice(&scope.to_ne_bytes());
                }
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// Sets the datagram's traffic class to `class`.
    pub(super) fn push_class(&mut self, class: u8, is_v6: bool) {
        let value = i32::from(class).to_ne_bytes();
        if is_v6 {
            self.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value);
        } else {
            self.push(libc::IPPROTO_IP, libc::IP_TOS, &value);
        }
    }

    /// Marks the payload as several datagrams of `size` bytes each; the last may be shorter.
    pub(super) fn push_segment(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }

    fn push(&mut self, level: i32, kind: i32, value: &[u8]) {
        let length = HEADER + value.len();
        let Some(room) = self.bytes.get_mut(self.length..) else { return };
        let header = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), value];
        let mut at = 0;
        for part in header {
            let Some(place) = room.get_mut(at..at + part.len()) else { return };
            place.copy_from_slice(part);
            at += part.len();
        }
        self.length = (self.length + length.next_multiple_of(size_of::<usize>())).min(CAPACITY);
    }
}
