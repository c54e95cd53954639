//! The header that a TUN device with `IFF_VNET_HDR` puts before each packet: `struct
//! virtio_net_hdr` of `linux/virtio_net.h`, in native byte order (`TUNSETVNETLE` and `TUNSETVNETBE`
//! would change that).
//!
//! It describes what the packet still lacks: a checksum, or segmentation (a *super-packet* stands
//! for many packets). It may come from a virtual machine's driver behind a tap device, so nothing
//! in it is trusted.

/// Flag: the checksum covers the bytes from `csum_start` on and is stored `csum_offset` bytes
/// behind that.
const NEEDS_CSUM: u8 = 1;
/// Flag: the outer UDP header of a packet in a tunnel has a checksum.
const UDP_TUNNEL_CSUM: u8 = 8;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// `TUN_F_USO4`, `TUN_F_USO6`; since Linux 6.2.
const GSO_UDP_L4: u8 = 5;
/// Combined with the others: the packet is in a UDP tunnel whose outer header is IPv4, or IPv6; since
/// Linux 6.17.
const GSO_UDP_TUNNEL: u8 = 0x20 | 0x40;
/// Combined with the others: the first segment has CWR set.
const GSO_ECN: u8 = 0x80;

/// Bytes of the longest header.
pub const MAX_HEADER: usize = 24;

/// The layout of the header; set with `TUNSETVNETHDRSZ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `struct virtio_net_hdr`, 10 bytes: the default of a TUN device.
    Short,
    /// `struct virtio_net_hdr_mrg_rxbuf`, 12 bytes: with a number of buffers, which is unused on a
    /// TUN device.
    Long,
    /// `struct virtio_net_hdr_v1_hash_tunnel`, 24 bytes: with the positions of headers of a packet in
    /// a UDP tunnel.
    Tunnel,
}

impl Layout {
    /// Returns the bytes of the header.
    #[expect(clippy::len_without_is_empty, reason = "no header is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Short => 10,
            Self::Long => 12,
            Self::Tunnel => MAX_HEADER,
        }
    }
}

/// The kind of packets in a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either.
    Udp,
}

/// The parameters for segmenting a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The kind of packets.
    pub gso: Gso,
    /// True if the first segment has CWR set: TCP only.
    pub ecn: bool,
    /// Bytes of payload in each segment except the last, which may have fewer. Not 0.
    pub size: u16,
}

/// A checksum that is still to be completed: its field holds the sum over the pseudo header, not
/// inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Start of the covered bytes, as an offset from the start of the packet; they end with the
    /// packet.
    pub start: u16,
    /// Offset of the checksum field from `start`.
    pub offset: u16,
}

/// The UDP tunnel in which a super-packet is (VXLAN, GENEVE and others): each segment gets a copy of
/// the outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Offset of the outer UDP header from the start of the packet.
    pub outer_transport: u16,
    /// Offset of the inner IP header from the start of the packet.
    pub inner_network: u16,
    /// True if the outer UDP header has a checksum.
    pub has_checksum: bool,
}

/// A parsed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of headers in the super-packet. The kernel is known to give more than there are: it is
    /// a hint for the kernel's own use and is not relied on.
    pub headers_len: u16,
    /// The segmentation of a super-packet; `None` for a single packet.
    pub segmentation: Option<Segmentation>,
    /// The tunnel in which a super-packet is. Only read: packets are written without.
    pub tunnel: Option<Tunnel>,
    /// The checksum to be completed; `None` for a packet with a complete checksum.
    pub checksum: Option<PartialChecksum>,
}

/// The reason for rejecting a read from a TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The read is shorter than the header.
    #[error("a read from the tun device ended within the virtio-net header")]
    Truncated,
    /// A kind of super-packet that was not requested, or an unknown one.
    #[error(
        "a super-packet of the unknown type {0:#04x} came from the tun device; only TCP and UDP segmentation were requested"
    )]
    UnknownGso(u8),
    /// The segment size is 0.
    #[error("a super-packet of segments without payload came from the tun device")]
    ZeroSize,
    /// The length of the headers exceeds the packet.
    #[error("the header length of a super-packet exceeds its length")]
    HeadersBeyondEnd,
    /// The checksum lies outside of the packet.
    #[error("the checksum offset of a packet exceeds its length")]
    ChecksumBeyondEnd,
}

impl Header {
    /// Parses one read from the device into the header and the packet behind it. The header's
    /// values are checked against the packet's length; [`Split::new`](super::split::Split::new)
    /// checks them against the packet's contents.
    ///
    /// # Errors
    /// [`HeaderError`]: this read must be dropped.
    pub fn parse(read: &[u8], layout: Layout) -> Result<(Self, &[u8]), HeaderError> {
        let (header, packet) = read.split_at_checked(layout.len()).ok_or(HeaderError::Truncated)?;
        let &[flags, gso, h0, h1, s0, s1, start0, start1, offset0, offset1] =
            header.first_chunk().ok_or(HeaderError::Truncated)?;
        let headers_len = u16::from_ne_bytes([h0, h1]);
        let tunnel = Tunnel::parse(flags, gso, header, layout)?;
        let gso = if tunnel.is_some() { gso & !GSO_UDP_TUNNEL } else { gso };
        let segmentation = match gso {
            GSO_NONE => None,
            _ => {
                if usize::from(headers_len) > packet.len() {
                    return Err(HeaderError::HeadersBeyondEnd);
                }
                Some(Segmentation::parse(gso, u16::from_ne_bytes([s0, s1]))?)
            }
        };
        let checksum = PartialChecksum {
            start: u16::from_ne_bytes([start0, start1]),
            offset: u16::from_ne_bytes([offset0, offset1]),
        };
        let checksum = (flags & NEEDS_CSUM != 0).then_some(checksum);
        if checksum.is_some_and(|checksum| checksum.field() + 2 > packet.len()) {
            return Err(HeaderError::ChecksumBeyondEnd);
        }
        Ok((Self { headers_len, segmentation, tunnel, checksum }, packet))
    }

    /// Returns the header as it is written to the device: the first [`Layout::len`] bytes.
    pub fn to_bytes(self) -> [u8; MAX_HEADER] {
        let [h0, h1] = self.headers_len.to_ne_bytes();
        let (gso, size) = self.segmentation.map_or((GSO_NONE, 0), |it| (it.gso_type(), it.size));
        let [s0, s1] = size.to_ne_bytes();
        let flags = if self.checksum.is_some() { NEEDS_CSUM } else { 0 };
        let PartialChecksum { start, offset } =
            self.checksum.unwrap_or(PartialChecksum { start: 0, offset: 0 });
        let ([start0, start1], [offset0, offset1]) = (start.to_ne_bytes(), offset.to_ne_bytes());
        let mut bytes = [0; MAX_HEADER];
        let [front @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _] = &mut bytes;
        *front = [flags, gso, h0, h1, s0, s1, start0, start1, offset0, offset1];
        bytes
    }
}

impl Tunnel {
    /// Parses the part of a header that describes a tunnel; `None` for a packet in no tunnel.
    fn parse(flags: u8, gso_type: u8, header: &[u8], layout: Layout) -> Result<Option<Self>, HeaderError> {
        match gso_type & GSO_UDP_TUNNEL {
            0 => return Ok(None),
            // not requested, both at once, or no super-packet
            both if layout != Layout::Tunnel
                || both == GSO_UDP_TUNNEL
                || gso_type & !GSO_UDP_TUNNEL == GSO_NONE =>
            {
                return Err(HeaderError::UnknownGso(gso_type));
            }
            _ => {}
        }
        // these two are little-endian on every host
        let &[transport0, transport1, network0, network1] =
            header.last_chunk().ok_or(HeaderError::Truncated)?;
        Ok(Some(Self {
            outer_transport: u16::from_le_bytes([transport0, transport1]),
            inner_network: u16::from_le_bytes([network0, network1]),
            has_checksum: flags & UDP_TUNNEL_CSUM != 0,
        }))
    }
}

impl Segmentation {
    fn parse(gso_type: u8, size: u16) -> Result<Self, HeaderError> {
        let ecn = gso_type & GSO_ECN != 0;
        let gso = match (gso_type & !GSO_ECN, ecn) {
            (GSO_TCPV4, _) => Gso::TcpV4,
            (GSO_TCPV6, _) => Gso::TcpV6,
            (GSO_UDP_L4, false) => Gso::Udp,
            _ => return Err(HeaderError::UnknownGso(gso_type)),
        };
        if size == 0 {
            return Err(HeaderError::ZeroSize);
        }
        Ok(Self { gso, ecn, size })
    }

    fn gso_type(self) -> u8 {
        let gso = match self.gso {
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        if self.ecn { gso | GSO_ECN } else { gso }
    }
}

impl PartialChecksum {
    /// Returns the offset of the checksum field from the start of the packet.
    pub fn field(self) -> usize {
        usize::from(self.start) + usize::from(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ne(fields: [u16; 4]) -> Vec<u8> {
        fields.into_iter().flat_map(u16::to_ne_bytes).collect()
    }

    fn read(flags: u8, gso: u8, fields: [u16; 4], packet: usize) -> Vec<u8> {
        [&[flags, gso][..], &ne(fields), &vec![7; packet]].concat()
    }

    #[test]
    fn the_kernels_header_is_understood() {
        let read = read(1, 0x81, [54, 1400, 20, 16], 3000);
        let (header, packet) = Header::parse(&read, Layout::Short).unwrap();
        assert_eq!(packet, &read[10..]);
        let expected = Header {
            headers_len: 54,
            segmentation: Some(Segmentation { gso: Gso::TcpV4, ecn: true, size: 1400 }),
            tunnel: None,
            checksum: Some(PartialChecksum { start: 20, offset: 16 }),
        };
        assert_eq!(header, expected);
        assert_eq!(header.to_bytes()[..10], read[..10]);
        assert_eq!(header.to_bytes()[10..], [0; 14]);
    }

    #[test]
    fn a_super_packet_in_a_tunnel_is_understood() {
        let tail = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 50, 0];
        let of = |flags, gso| [&read(flags, gso, [54, 1400, 70, 16], 0)[..], &tail, &[7; 3000]].concat();
        let bytes = of(9, 0x21);
        let (header, packet) = Header::parse(&bytes, Layout::Tunnel).unwrap();
        assert_eq!(packet, [7; 3000]);
        let expected = Header {
            headers_len: 54,
            segmentation: Some(Segmentation { gso: Gso::TcpV4, ecn: false, size: 1400 }),
            tunnel: Some(Tunnel { outer_transport: 20, inner_network: 50, has_checksum: true }),
            checksum: Some(PartialChecksum { start: 70, offset: 16 }),
        };
        assert_eq!(header, expected);
        let bytes = of(1, 0xc4);
        let (header, _) = Header::parse(&bytes, Layout::Tunnel).unwrap();
        assert_eq!(header.segmentation, Some(Segmentation { gso: Gso::TcpV6, ecn: true, size: 1400 }));
        assert_eq!(header.tunnel.map(|tunnel| tunnel.has_checksum), Some(false));
        for gso in 0..=255_u8 {
            let plain = [0, 1, 4, 5, 0x81, 0x84].contains(&gso);
            let tunnelled =
                [0x20, 0x40].contains(&(gso & 0x60)) && [1, 4, 5, 0x81, 0x84].contains(&(gso & !0x60));
            let bytes = of(1, gso);
            let parsed = Header::parse(&bytes, Layout::Tunnel);
            assert_eq!(parsed.is_ok(), plain || tunnelled, "{gso:#x}");
            assert_eq!(parsed.is_ok_and(|(header, _)| header.tunnel.is_some()), tunnelled, "{gso:#x}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        for gso in 0..=255_u8 {
            let known = [0, 1, 4, 5, 0x81, 0x84].contains(&gso);
            let read = read(0, gso, [20, 1, 0, 0], 40);
            let expected = if known { None } else { Some(HeaderError::UnknownGso(gso)) };
            assert_eq!(Header::parse(&read, Layout::Short).err(), expected);
        }
        let zero = read(0, 5, [20, 0, 0, 0], 40);
        assert_eq!(Header::parse(&zero, Layout::Short), Err(HeaderError::ZeroSize));
    }

    #[test]
    fn what_lies_beyond_the_end_is_refused() {
        for (start, offset, fits) in [
            (20, 6, true),
            (32, 6, true),
            (33, 6, false),
            (0, 38, true),
            (0, 39, false),
            (0xffff, 0xffff, false),
            (1, 0xffff, false),
        ] {
            let error = (!fits).then_some(HeaderError::ChecksumBeyondEnd);
            let asked = read(1, 0, [0, 0, start, offset], 40);
            assert_eq!(Header::parse(&asked, Layout::Short).err(), error);
            // not requested, so not checked
            assert_eq!(Header::parse(&read(0, 0, [9999, 0, start, offset], 40), Layout::Short).err(), None);
        }
        let beyond = read(0, 1, [41, 1, 0, 0], 40);
        assert_eq!(Header::parse(&beyond, Layout::Short), Err(HeaderError::HeadersBeyondEnd));
        for layout in [Layout::Short, Layout::Long, Layout::Tunnel] {
            assert_eq!(Header::parse(&vec![0; layout.len() - 1], layout), Err(HeaderError::Truncated));
            assert_eq!(Header::parse(&vec![0; layout.len()], layout), Ok((Header::default(), &[][..])));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            headers_len in 0_u16..200,
            size in 1_u16..,
            kind in 0_u8..6,
            checksum: Option<(u8, u8)>,
            layout in 0_usize..3,
        ) {
            let gso = [Gso::TcpV4, Gso::TcpV6, Gso::Udp][usize::from(kind % 3)];
            let segmentation = Segmentation { gso, ecn: kind < 2, size };
            let header = Header {
                headers_len,
                segmentation: (kind < 5).then_some(segmentation),
                tunnel: None,
                checksum: checksum
                    .map(|(start, offset)| PartialChecksum { start: start.into(), offset: offset.into() }),
            };
            let layout = [Layout::Short, Layout::Long, Layout::Tunnel][layout];
            let packet = [3; 600];
            let read = [&header.to_bytes()[..layout.len()], &packet].concat();
            prop_assert_eq!(Header::parse(&read, layout), Ok((header, &packet[..])));
        }

        #[test]
        fn any_bytes_are_answered(read in prop::collection::vec(any::<u8>(), 0..60), layout in 0_usize..3) {
            let _ = Header::parse(&read, [Layout::Short, Layout::Long, Layout::Tunnel][layout]);
        }
    }
}
