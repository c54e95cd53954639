//! Segmentation: turns what a TUN device with offloads returns into ordinary packets for the wire.
//!
//! A super-packet is cut into segments (as the kernel's `tcp_gso_segment`, `__udp_gso_segment` and,
//! in a tunnel such as VXLAN, `skb_udp_tunnel_segment` do), and a missing checksum is completed.
//! Each packet is written directly to the buffer from which it is sent:
//!
//! ```
//! # use wontun_packet::{split::Split, virtio};
//! # let read = [&[0; 10][..],
//! #     &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]].concat();
//! # let mut batch = [0; 2000];
//! let (header, packet) = virtio::Header::parse(&read, virtio::Layout::Short)?;
//! let mut split = Split::new(&header, packet)?;
//! while let Some(len) = split.next_len() {
//!     // space for `len` bytes, with a header and a tag around them
//!     let place = &mut batch[16..16 + len];
//!     split.write_next(packet, place).expect("the place is long enough, the packet the same");
//!     // seal, commit
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::checksum::Sum;
use super::field::{set, u16_at, u32_at};
use super::ip::Version;
use super::outer_headers::OuterHeaders;
use super::tcp::{self, CWR, FIN, PSH};
use super::transport::{
    self, IPV4_CHECKSUM, IPV4_IDENTIFICATION, IPV4_LENGTH, TCP, Transport, UDP, UDP_CHECKSUM, UDP_LENGTH,
};
use super::virtio::{Gso, Header, PartialChecksum};

/// Header words that differ between segments. Each segment's own values are added to the sum of the
/// others.
const IPV4_DIFFER: [usize; 3] = [IPV4_LENGTH, IPV4_IDENTIFICATION, IPV4_CHECKSUM];
const TCP_DIFFER: [usize; 4] = [tcp::SEQUENCE, tcp::SEQUENCE + 2, tcp::FLAGS - 1, tcp::CHECKSUM];
const UDP_DIFFER: [usize; 2] = [UDP_LENGTH, UDP_CHECKSUM];

/// The progress of writing the packets of one read. It does not borrow the bytes, so that they can
/// stay in their buffer while the socket is full.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    plan: Plan,
    /// Packets still to be written.
    remaining: usize,
}

/// The lengths of the packets of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLengths {
    /// Number of packets; not 0.
    pub count: usize,
    /// Bytes of each packet except the last.
    pub each: usize,
    /// Bytes of the last packet, which is not longer.
    pub last: usize,
}

impl PacketLengths {
    /// Describes one packet of `len` bytes.
    pub const fn single(len: usize) -> Self {
        Self { count: 1, each: len, last: len }
    }

    /// Returns the sum of `of` over the length of each packet.
    pub fn sum(&self, of: impl Fn(usize) -> usize) -> usize {
        of(self.each) * self.count.saturating_sub(1) + of(self.last)
    }
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    /// One packet, unchanged except for a checksum to be completed.
    Whole {
        len: usize,
        checksum: Option<PartialChecksum>,
    },
    Segments(Segments),
}

#[derive(Clone, Copy, Debug)]
struct Segments {
    /// The headers of the tunnel in which the packet is. All that follows is relative to the packet
    /// inside.
    outer: Option<OuterHeaders>,
    transport: Transport,
    /// Offset of the payload.
    headers_len: usize,
    /// Bytes of payload.
    payload: usize,
    /// Bytes of payload in each segment except the last.
    size: usize,
    /// Bytes of payload that have been written.
    done: usize,
    /// Number of segments that have been written.
    number: u16,
    /// Sum of the IPv4 header, without the words that differ between segments and the checksum.
    ip: Sum,
    /// Sum of the pseudo header and the transport header, without the same words.
    headers: Sum,
}

/// The reason for rejecting a super-packet: its virtio-net header contradicts the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// It is not one complete packet with complete headers, or it is a fragment.
    #[error("a super-packet from the tun device is not one whole packet with a transport header")]
    Malformed,
    /// Its protocol differs from the one in the virtio-net header.
    #[error("a super-packet from the tun device has another protocol than its virtio-net header says")]
    OtherProtocol,
    /// The positions of the headers of a UDP tunnel are not those of the packet.
    #[error(
        "a super-packet from the tun device is not in the UDP tunnel that its virtio-net header describes"
    )]
    OtherTunnel,
    /// The checksum is not that of the transport header.
    #[error("the checksum offset of a super-packet is not that of its transport header")]
    OtherChecksum,
}

impl Split {
    /// Plans the segmentation of `packet`, which was read together with `header`. The lengths of
    /// its headers are computed from the packet: the kernel's value may be too large (for a
    /// forwarded packet it can be that of the whole first buffer).
    ///
    /// # Errors
    /// [`SplitError`]: the packet must be dropped. Only super-packets are checked: any other packet
    /// passes unchanged.
    pub fn new(header: &Header, packet: &[u8]) -> Result<Self, SplitError> {
        let Some(segmentation) = header.segmentation else {
            let plan = Plan::Whole { len: packet.len(), checksum: header.checksum };
            return Ok(Self { plan, remaining: 1 });
        };
        let outer = match header.tunnel {
            Some(tunnel) => Some(OuterHeaders::parse(tunnel, packet).ok_or(SplitError::OtherTunnel)?),
            None => None,
        };
        let outer_len = outer.map_or(0, |outer| outer.len());
        let packet = packet.get(outer_len..).ok_or(SplitError::OtherTunnel)?;
        let transport = transport::find(packet).ok_or(SplitError::Malformed)?;
        match (segmentation.gso, transport.version, transport.protocol) {
            (Gso::TcpV4, Version::V4, TCP) | (Gso::TcpV6, Version::V6, TCP) | (Gso::Udp, _, UDP) => {}
            _ => return Err(SplitError::OtherProtocol),
        }
        let headers_len = transport.headers_len(packet).ok_or(SplitError::Malformed)?;
        let payload = packet.len().checked_sub(headers_len).ok_or(SplitError::Malformed)?;
        let field = transport.offset + transport.checksum_offset().ok_or(SplitError::OtherProtocol)?;
        if header.checksum.is_some_and(|it| {
            (usize::from(it.start), it.field()) != (outer_len + transport.offset, outer_len + field)
        }) {
            return Err(SplitError::OtherChecksum);
        }
        let pseudo = if transport.source_routed && header.checksum.is_some() {
            // only the kernel knows the final destination
            let length = u16::try_from(packet.len() - transport.offset);
            u16_at(packet, field)
                .zip(length.ok())
                .map(|(sum, length)| Sum::default().add_u16(sum).subtract_u16(length))
        } else {
            transport.pseudo_header(packet, 0)
        };
        let (ip_header, transport_header) = packet
            .get(..headers_len)
            .and_then(|headers| headers.split_at_checked(transport.offset))
            .ok_or(SplitError::Malformed)?;
        let differ = if transport.protocol == TCP { &TCP_DIFFER[..] } else { &UDP_DIFFER };
        let ip = sum_without(Sum::default(), ip_header, &IPV4_DIFFER);
        let headers = pseudo.and_then(|pseudo| sum_without(pseudo, transport_header, differ));
        let size = usize::from(segmentation.size).max(1);
        let segments = Segments {
            outer,
            transport,
            headers_len,
            payload,
            size,
            done: 0,
            number: 0,
            ip: ip.ok_or(SplitError::Malformed)?,
            headers: headers.ok_or(SplitError::Malformed)?,
        };
        Ok(Self { plan: Plan::Segments(segments), remaining: payload.div_ceil(size).max(1) })
    }

    /// Returns the number of packets still to be written.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Returns the lengths of the packets still to be written.
    pub fn lengths(&self) -> PacketLengths {
        let each = self.next_len().unwrap_or_default();
        let last = match &self.plan {
            Plan::Whole { len, .. } => *len,
            Plan::Segments(segments) => {
                let before = self.remaining.saturating_sub(1) * segments.size;
                segments.all_headers_len() + segments.payload - segments.done - before
            }
        };
        PacketLengths { count: self.remaining, each, last }
    }

    /// Returns the bytes of the next packet; `None` after the last. All except the last have the
    /// same length.
    pub fn next_len(&self) -> Option<usize> {
        (self.remaining > 0).then_some(match &self.plan {
            Plan::Whole { len, .. } => *len,
            Plan::Segments(segments) => segments.all_headers_len() + segments.next_payload(),
        })
    }

    /// Writes the next packet, cut from `packet`, to the front of `place`, and returns its length.
    /// `packet` must be the one passed to [`Split::new`]. Returns `None` and does nothing after the
    /// last packet, or if `place` is too short.
    pub fn write_next(&mut self, packet: &[u8], place: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let place = place.get_mut(..len)?;
        match &mut self.plan {
            Plan::Whole { checksum, .. } => copy_whole(packet.get(..len)?, place, *checksum)?,
            Plan::Segments(segments) => segments.write(packet, place, self.remaining == 1)?,
        }
        self.remaining -= 1;
        Some(len)
    }
}

/// Copies without the C library: musl's memcpy takes as long for the headers as for a packet. The
/// sum is discarded.
fn copy(from: &[u8], to: &mut [u8]) -> Option<()> {
    Sum::default().copy_bytes(from, to).map(drop)
}

/// Copies a packet, and completes its checksum by the sum of what was copied.
fn copy_whole(from: &[u8], to: &mut [u8], checksum: Option<PartialChecksum>) -> Option<()> {
    let sum = Sum::default().copy_bytes(from, to)?;
    let Some(place) = checksum else { return Some(()) };
    let before = to.get(..usize::from(place.start))?;
    if before.len().is_multiple_of(2) {
        let sum = sum.subtract_u16(Sum::default().add_bytes(before).folded());
        set(to, place.field(), sum.checksum_not_zero().to_be_bytes())
    } else {
        complete(to, place)
    }
}

/// Completes a checksum whose field holds the sum of the pseudo header. 0 is written as 0xffff for
/// every protocol, as the kernel does (`skb_checksum_help`): the protocol is not known here.
fn complete(packet: &mut [u8], place: PartialChecksum) -> Option<()> {
    let checksum = Sum::default().add_bytes(packet.get(usize::from(place.start)..)?).checksum_not_zero();
    set(packet, place.field(), checksum.to_be_bytes())
}

/// Returns `sum` plus that of `header`, with the words at `places` counted as 0.
fn sum_without(sum: Sum, header: &[u8], places: &[usize]) -> Option<Sum> {
    places
        .iter()
        .try_fold(sum.add_bytes(header), |sum, place| Some(sum.subtract_u16(u16_at(header, *place)?)))
}

impl Segments {
    fn next_payload(&self) -> usize {
        self.size.min(self.payload - self.done)
    }

    /// Returns the bytes of headers of a segment.
    fn all_headers_len(&self) -> usize {
        self.headers_len + self.outer.map_or(0, |outer| outer.len())
    }

    fn write(&mut self, packet: &[u8], place: &mut [u8], last: bool) -> Option<()> {
        let number = self.number;
        match self.outer {
            None => self.write_inner(packet, place, last),
            Some(outer) => {
                self.write_inner(packet.get(outer.len()..)?, place.get_mut(outer.len()..)?, last)?;
                outer.write(packet, place, number)
            }
        }
    }

    fn write_inner(&mut self, packet: &[u8], place: &mut [u8], last: bool) -> Option<()> {
        let len = self.next_payload();
        let from = packet.get(self.headers_len + self.done..)?.get(..len)?;
        let (headers, payload) = place.split_at_mut_checked(self.headers_len)?;
        copy(packet.get(..self.headers_len)?, headers)?;
        let mut sum = self.headers.copy_bytes(from, payload)?;

        let total = u16::try_from(self.headers_len + len).ok()?;
        self.transport.set_lengths(headers, total)?;
        if self.transport.version == Version::V4 {
            let identification = u16_at(headers, IPV4_IDENTIFICATION)?.wrapping_add(self.number);
            let checksum = self.ip.add_u16(total).add_u16(identification).checksum();
            set(headers, IPV4_IDENTIFICATION, identification.to_be_bytes())?;
            set(headers, IPV4_CHECKSUM, checksum.to_be_bytes())?;
        }
        // the length in the pseudo header
        let segment_len = self.transport.segment_len(total)?;
        sum = sum.add_u16(segment_len);
        let header = headers.get_mut(self.transport.offset..)?;
        if self.transport.protocol == TCP {
            let sequence = u32_at(header, tcp::SEQUENCE)?.wrapping_add(u32::try_from(self.done).ok()?);
            set(header, tcp::SEQUENCE, sequence.to_be_bytes())?;
            let flags = header.get_mut(tcp::FLAGS)?;
            if self.number > 0 {
                *flags &= !CWR;
            }
            if !last {
                *flags &= !(FIN | PSH);
            }
            sum = sum.add_bytes(&sequence.to_be_bytes()).add_u16(u16_at(header, tcp::FLAGS - 1)?);
        } else {
            sum = sum.add_u16(segment_len);
        }
        let checksum = sum.checksum_not_zero();
        set(header, self.transport.checksum_offset()?, checksum.to_be_bytes())?;

        self.done += len;
        self.number = self.number.wrapping_add(1);
        Some(())
    }
}

#[cfg(test)]
mod tunnel_tests;

#[cfg(test)]
mod tests {
    use super::super::checksum::update;
    use super::super::sample::{Sample, payload, samples, slow_is_intact};
    use super::super::virtio::{Segmentation, Tunnel};
    use super::*;
    use proptest::prelude::*;

    pub(super) fn header(sample: &Sample, size: u16, partial: bool) -> Header {
        let gso = match (sample.tcp, sample.six) {
            (true, false) => Gso::TcpV4,
            (true, true) => Gso::TcpV6,
            (false, _) => Gso::Udp,
        };
        let start = u16::try_from(sample.offset()).unwrap();
        let offset = u16::try_from(sample.checksum_field()).unwrap() - start;
        Header {
            // not usable, as the kernel's value may be
            headers_len: 20,
            segmentation: Some(Segmentation { gso, ecn: false, size }),
            tunnel: None,
            checksum: partial.then_some(PartialChecksum { start, offset }),
        }
    }

    pub(super) fn write_all(header: &Header, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut split = Split::new(header, packet).unwrap();
        let lengths = split.lengths();
        let mut written = vec![];
        while let Some(len) = split.next_len() {
            let remaining = split.remaining();
            let rest = PacketLengths { count: remaining, each: len, last: lengths.last };
            assert_eq!(split.lengths(), rest);
            // a buffer that is too short changes nothing
            assert_eq!(split.write_next(packet, &mut vec![0; len - 1]), None);
            assert_eq!((split.next_len(), split.remaining()), (Some(len), remaining));
            let mut place = vec![0xaa; len + 3];
            assert_eq!(split.write_next(packet, &mut place), Some(len));
            assert_eq!(place.split_off(len), [0xaa; 3]);
            assert_eq!(split.remaining(), remaining - 1);
            written.push(place);
        }
        assert_eq!(split.write_next(packet, &mut [0; 100_000]), None);
        assert_eq!(lengths.count, written.len());
        assert_eq!(lengths.sum(|len| len), written.iter().map(Vec::len).sum::<usize>());
        written
    }

    /// Returns the expected segments, built one by one.
    pub(super) fn segments(sample: &Sample, size: u16) -> Vec<Vec<u8>> {
        let size = usize::from(size);
        let count = sample.payload.len().div_ceil(size).max(1);
        (0..count)
            .map(|number| {
                let begin = number * size;
                let end = (begin + size).min(sample.payload.len());
                let mut flags = sample.flags;
                if number > 0 {
                    flags &= !CWR;
                }
                if number + 1 < count {
                    flags &= !(FIN | PSH);
                }
                let segment = Sample {
                    identification: sample.identification.wrapping_add(u16::try_from(number).unwrap()),
                    sequence: sample.sequence.wrapping_add(u32::try_from(begin).unwrap()),
                    flags,
                    payload: sample.payload[begin..end].to_vec(),
                    ..sample.clone()
                };
                segment.packet()
            })
            .collect()
    }

    #[test]
    fn a_checksum_may_start_anywhere() {
        let packet: Vec<u8> = (0..97).map(|byte: u8| byte.wrapping_mul(151)).collect();
        for start in 0..60 {
            let place = PartialChecksum { start, offset: 6 };
            let mut expected = packet.clone();
            complete(&mut expected, place).unwrap();
            let mut copied = vec![0; packet.len()];
            copy_whole(&packet, &mut copied, Some(place)).unwrap();
            assert_eq!(copied, expected, "{start}");
        }
        let mut copied = vec![0; packet.len()];
        let beyond = PartialChecksum { start: 98, offset: 0 };
        assert!(copy_whole(&packet, &mut copied, Some(beyond)).is_none());
    }

    #[test]
    fn the_largest_super_packets_are_cut() {
        for six in [false, true] {
            for tcp in [false, true] {
                let mut sample = Sample { six, tcp, flags: 0xd9, ..Sample::default() };
                sample.payload = payload(65_535 - sample.headers_len(), 7);
                let header = header(&sample, 1380, true);
                let written = write_all(&header, &sample.partial());
                assert_eq!(written.len(), 48);
                assert_eq!(written, segments(&sample, 1380));
                assert!(written.iter().all(|packet| slow_is_intact(packet, sample.offset())));
            }
        }
    }

    #[test]
    fn a_packet_that_lacks_nothing_passes_as_it_is() {
        for packet in [vec![], vec![0x45], payload(1500, 3)] {
            let split = Split::new(&Header::default(), &packet).unwrap();
            assert_eq!((split.remaining(), split.next_len()), (1, Some(packet.len())));
            let mut place = vec![0; packet.len()];
            let mut split = split;
            assert_eq!(split.write_next(&packet, &mut place), Some(packet.len()));
            assert_eq!((place, split.next_len()), (packet, None));
        }
    }

    #[test]
    fn the_checksum_of_a_source_routed_packet_covers_the_last_destination() {
        // a routing header in place of the options
        let routing = vec![0, 2, 4, 1, 0, 0, 0, 0, 0xfd, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for tcp in [true, false] {
            let sample = Sample {
                six: true,
                tcp,
                ip_options: routing.clone(),
                payload: payload(300, 1),
                ..Sample::default()
            };
            let (mut packet, field) = (sample.partial(), sample.checksum_field());
            packet[6] = 43;
            // as if the final destination's sum were larger by this than that of the next one,
            // which is in the header
            let sum = Sum::default().add_u16(u16_at(&packet, field).unwrap()).add_u16(0x1234);
            set(&mut packet, field, sum.folded().to_be_bytes()).unwrap();
            let written = write_all(&header(&sample, 100, true), &packet);
            assert_eq!(written.len(), 3);
            for mut segment in written {
                assert!(!slow_is_intact(&segment, sample.offset()));
                let checksum = update(u16_at(&segment, field).unwrap(), 0x1234, 0);
                set(&mut segment, field, checksum.to_be_bytes()).unwrap();
                assert!(slow_is_intact(&segment, sample.offset()));
            }
        }
    }

    #[test]
    fn a_header_that_does_not_tell_the_truth_is_refused() {
        for sample in [
            Sample { payload: payload(300, 1), ..Sample::default() },
            Sample { six: true, tcp: false, payload: payload(300, 1), ..Sample::default() },
        ] {
            let packet = sample.partial();
            let right = header(&sample, 100, true);
            assert!(Split::new(&right, &packet).is_ok());
            for gso in [Gso::TcpV4, Gso::TcpV6, Gso::Udp] {
                let segmentation = Segmentation { gso, ecn: false, size: 100 };
                let fits = gso == right.segmentation.unwrap().gso;
                let header = Header { segmentation: Some(segmentation), ..right };
                let error = (!fits).then_some(SplitError::OtherProtocol);
                assert_eq!(Split::new(&header, &packet).err(), error);
            }
            let PartialChecksum { start, offset } = right.checksum.unwrap();
            for (start, offset) in [(start + 1, offset - 1), (start, offset - 2), (0, start + offset)] {
                let header = Header { checksum: Some(PartialChecksum { start, offset }), ..right };
                assert_eq!(Split::new(&header, &packet).err(), Some(SplitError::OtherChecksum));
            }
            let shorter = &packet[..packet.len() - 1];
            assert_eq!(Split::new(&right, shorter).err(), Some(SplitError::Malformed));
        }
        let mut sample = Sample { payload: payload(30, 1), ..Sample::default() }.partial();
        sample[32] = 0xf0;
        let header = header(&Sample { payload: payload(30, 1), ..Sample::default() }, 10, true);
        assert_eq!(Split::new(&header, &sample).err(), Some(SplitError::Malformed));
    }

    proptest! {
        #[test]
        fn segments_are_as_if_made_one_by_one(
            sample in samples(0),
            len in 0_usize..4000,
            seed: u64,
            size in 1_u16..1500,
            partial: bool,
        ) {
            let size = size.max(u16::try_from(len / 60).unwrap());
            let sample = Sample { payload: payload(len, seed), ..sample };
            let header = header(&sample, size.max(1), partial);
            let packet = if partial { sample.partial() } else { sample.packet() };
            let written = write_all(&header, &packet);
            for segment in &written {
                prop_assert!(slow_is_intact(segment, sample.offset()));
            }
            prop_assert_eq!(written, segments(&sample, size.max(1)));
        }

        #[test]
        fn a_partial_checksum_is_completed(sample in samples(300)) {
            let header = Header { segmentation: None, ..header(&sample, 1, true) };
            prop_assert_eq!(write_all(&header, &sample.partial()), [sample.packet()]);
        }

        #[test]
        fn any_bytes_are_answered(
            mut packet in prop::collection::vec(any::<u8>(), 0..300),
            six: bool,
            kind in 0_u8..4,
            size: u16,
            tunnel: Option<(u8, u8, bool)>,
            checksum: Option<(u8, u8)>,
        ) {
            if packet.len() >= 40 {
                let len = u16::try_from(packet.len()).unwrap();
                if six {
                    packet[0] = 0x60;
                    set(&mut packet, 4, (len - 40).to_be_bytes()).unwrap();
                } else {
                    packet[0] = 0x40 | packet[0] & 0x0f;
                    packet[6] &= 0xc0;
                    packet[7] = 0;
                    set(&mut packet, 2, len.to_be_bytes()).unwrap();
                }
            }
            let gso = [Gso::TcpV4, Gso::TcpV6, Gso::Udp].get(usize::from(kind)).copied();
            let header = Header {
                headers_len: size,
                segmentation: gso.map(|gso| Segmentation { gso, ecn: false, size: size % 100 }),
                tunnel: tunnel.map(|(transport, network, has_checksum)| Tunnel {
                    outer_transport: transport.into(),
                    inner_network: network.into(),
                    has_checksum,
                }),
                checksum: checksum
                    .map(|(start, offset)| PartialChecksum { start: start.into(), offset: offset.into() }),
            };
            let Ok(mut split) = Split::new(&header, &packet) else { return Ok(()) };
            let mut place = [0; 400];
            while split.next_len().is_some() {
                if split.write_next(&packet, &mut place).is_none() {
                    break;
                }
            }
            // a packet other than the one passed to `new` is an error of the caller, but must not
            // panic
            let mut split = Split::new(&header, &packet).unwrap();
            let _ = split.write_next(&packet[packet.len() / 2..], &mut place);
        }
    }
}
