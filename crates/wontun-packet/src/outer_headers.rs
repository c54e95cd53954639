//! The headers in front of a packet in a UDP tunnel (VXLAN, GENEVE and others), from the outer IP
//! header to the last byte before the inner one. Each segment of a super-packet gets a copy of them
//! with its own lengths, identification and checksums, as in the kernel's `skb_udp_tunnel_segment`.

use super::checksum::Sum;
use super::field::{set, u16_at};
use super::ip::Version;
use super::transport::{self, IPV4_IDENTIFICATION, Transport, UDP, UDP_CHECKSUM, UDP_HEADER};
use super::virtio::Tunnel;

/// The outer headers of a super-packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OuterHeaders {
    transport: Transport,
    /// Bytes before the inner IP header.
    len: usize,
    has_checksum: bool,
}

impl OuterHeaders {
    /// Locates the headers of `tunnel` in `packet`; returns `None` if they are elsewhere, or if their
    /// checksum cannot be computed (see [`Transport::source_routed`]).
    pub(super) fn parse(tunnel: Tunnel, packet: &[u8]) -> Option<Self> {
        let transport = transport::find(packet)?;
        let len = usize::from(tunnel.inner_network);
        let field = u16_at(packet, transport.offset + UDP_CHECKSUM)?;
        let has_checksum = tunnel.has_checksum || field != 0;
        let is_described = transport.protocol == UDP
            && transport.offset == usize::from(tunnel.outer_transport)
            && (transport.offset + UDP_HEADER..=packet.len()).contains(&len);
        (is_described && !(has_checksum && transport.source_routed)).then_some(Self {
            transport,
            len,
            has_checksum,
        })
    }

    /// Returns the bytes of the headers.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Writes the headers of segment `number` of `packet` to the front of `place`, which contains the
    /// complete inner packet already.
    pub(super) fn write(&self, packet: &[u8], place: &mut [u8], number: u16) -> Option<()> {
        let Self { transport, len, has_checksum } = *self;
        Sum::default().copy_bytes(packet.get(..len)?, place.get_mut(..len)?)?;
        let total = u16::try_from(place.len()).ok()?;
        if transport.version == Version::V4 {
            let identification = u16_at(packet, IPV4_IDENTIFICATION)?.wrapping_add(number);
            set(place, IPV4_IDENTIFICATION, identification.to_be_bytes())?;
        }
        transport.set_length(place, total)?;
        if has_checksum {
            let field = transport.offset + UDP_CHECKSUM;
            set(place, field, [0; 2])?;
            let sum = transport.pseudo_header(place, transport.segment_len(total)?)?;
            let checksum = sum.add_bytes(place.get(transport.offset..)?).checksum_not_zero();
            set(place, field, checksum.to_be_bytes())?;
        }
        Some(())
    }
}
