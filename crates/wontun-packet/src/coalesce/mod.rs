//! Receive-side coalescing for the TUN device: consecutive segments of one flow are merged into one
//! super-packet, which the kernel accepts in one write and passes through its layers once.
//!
//! Only headers are copied. The packets stay where they were decrypted, in one buffer of the
//! caller's (the *arena*); each write is a list of pieces for `writev`. The caller adds all packets
//! of a batch, then takes all writes:
//!
//! ```
//! # use wontun_packet::{coalesce::Coalescer, virtio::Layout};
//! # let arena = [0; 100];
//! # let packets = [0..40, 60..100];
//! let mut coalescer = Coalescer::new(Layout::Short, true);
//! for packet in packets {
//!     coalescer.handle_packet(&arena, packet)?;
//! }
//! while let Some(gather) = coalescer.poll_write(&arena) {
//!     let pieces: Vec<_> = gather.pieces().collect();
//!     // writev
//! }
//! # Ok::<(), wontun_packet::coalesce::CoalesceError>(())
//! ```
//!
//! Packets are merged by the rules of the kernel's GRO (`tcp_gro_receive`,
//! `udp_gro_receive_segment`), so that the kernel, or [`Split`](super::split::Split), can cut the
//! super-packet into the same packets again; `segment.rs` has the rules. A packet that cannot be
//! merged closes its flow's group, so that a flow's packets are written in the order in which they
//! arrived; different flows may overtake each other within a batch.

mod segment;

use std::ops::Range;

use segment::{Class, Segment, classify, continues, has_psh, is_like, same_flow, same_hosts};

use super::field::set;
use super::ip::IPV6_HEADER;
use super::tcp::{self, PSH};
use super::transport::TCP;
use super::virtio::{Header, Layout, MAX_HEADER, PartialChecksum, Segmentation};

/// Maximum packets in one batch: twice what one read with `UDP_GRO` returns, unless the sender's
/// kernel allows 128.
pub const MAX_PACKETS: usize = 128;
/// Maximum packets in one super-packet; the kernel's `UDP_GRO_CNT_MAX`.
pub const MAX_SEGMENTS: usize = 64;
/// Maximum flows that are open (accept more packets) at one time. One more flow closes one of them.
pub const OPEN_FLOWS: usize = 8;
/// Maximum pieces of one write: the headers, and the payload of each packet.
pub const MAX_PIECES: usize = MAX_SEGMENTS + 1;
/// Bytes of the largest super-packet, without its virtio-net header: the limit of the IP length
/// fields.
pub const MAX_LEN: u32 = 65_535;

const MAX_HEAD: usize = MAX_HEADER + IPV6_HEADER + tcp::MAX_HEADER;
const NONE: u8 = u8::MAX;

const _: () = assert!(MAX_PACKETS < NONE as usize);
const _: () = assert!(size_of::<Coalescer>() <= 12 * 1024);

/// One batch of packets to be written to the TUN device. It is created once and reused for each
/// batch; it does not allocate.
#[derive(Debug)]
pub struct Coalescer {
    layout: Layout,
    udp: bool,
    packets: [Packet; MAX_PACKETS],
    packet_count: usize,
    /// The groups, in the order in which they are written.
    groups: [Group; MAX_PACKETS],
    group_count: usize,
    /// Number of groups that have been written.
    written: usize,
    /// The groups that accept more packets; [`NONE`] in unused slots.
    open: [u8; OPEN_FLOWS],
    /// The index in `open` that is used next.
    next_open: usize,
    /// The index in `open` of the last packet's flow.
    latest: usize,
    head: [u8; MAX_HEAD],
}

/// The position of a packet in the arena.
#[derive(Clone, Copy, Debug)]
struct Packet {
    start: u32,
    len: u32,
    /// The number of the next packet in the same group.
    next: u8,
}

/// Packets that are written together.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: u8,
    last: u8,
    count: u8,
    /// True if the first packet's checksums were verified; they are verified when a second packet
    /// arrives.
    verified: bool,
    /// True if the last packet has PSH set.
    push: bool,
    /// Bytes of payload in each packet except the last.
    size: u16,
    /// Total bytes, with the headers counted once.
    len: u32,
    /// The headers of the first packet; `None` if it cannot be merged with others.
    segment: Option<Segment>,
}

/// The reason for rejecting a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoalesceError {
    /// The batch is full or is being written: all writes must be taken first.
    #[error("the batch for the tun device is full and must be written first")]
    Full,
    /// The range lies outside of the arena.
    #[error("a packet for the tun device lies outside of its buffer")]
    OutOfBounds,
}

impl Coalescer {
    /// Creates an empty batch for a device whose virtio-net headers have this layout. `udp`: true
    /// if the device accepts UDP super-packets (Linux 6.2; older kernels return `EINVAL`).
    pub const fn new(layout: Layout, udp: bool) -> Self {
        let group = Group {
            first: NONE,
            last: NONE,
            count: 0,
            verified: false,
            push: false,
            size: 0,
            len: 0,
            segment: None,
        };
        Self {
            layout,
            udp,
            packets: [Packet { start: 0, len: 0, next: NONE }; MAX_PACKETS],
            packet_count: 0,
            groups: [group; MAX_PACKETS],
            group_count: 0,
            written: 0,
            open: [NONE; OPEN_FLOWS],
            next_open: 0,
            latest: 0,
            head: [0; MAX_HEAD],
        }
    }

    /// Returns the number of packets that this batch can still accept.
    pub const fn room(&self) -> usize {
        MAX_PACKETS - self.packet_count
    }

    /// Returns true if nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.packet_count == 0
    }

    /// Adds the packet in `range` of `arena`. The packet must stay there, unchanged, until it has
    /// been written; `arena` is the same for all packets of a batch.
    ///
    /// # Errors
    /// [`CoalesceError`]: the packet was not added.
    pub fn handle_packet(&mut self, arena: &[u8], range: Range<usize>) -> Result<(), CoalesceError> {
        if self.packet_count == MAX_PACKETS || self.written > 0 {
            return Err(CoalesceError::Full);
        }
        let bytes = arena.get(range.clone()).ok_or(CoalesceError::OutOfBounds)?;
        let (Ok(start), Ok(len)) = (u32::try_from(range.start), u32::try_from(bytes.len())) else {
            return Err(CoalesceError::OutOfBounds);
        };
        let packet = Packet { start, len, next: NONE };
        if self.append_to_latest(arena, packet, bytes) {
            return Ok(());
        }
        match classify(bytes, self.udp) {
            Class::Segment(segment) => {
                let slot = self.find_open(
                    |first, flow| same_flow(first, &flow.transport, bytes, &segment.transport),
                    arena,
                );
                if let Some(slot) = slot {
                    if self.append(arena, slot, packet, bytes, &segment) {
                        return Ok(());
                    }
                    self.close(slot);
                }
                self.start_group(packet, Some(segment), bytes);
            }
            Class::Single(transport) => {
                let slot =
                    self.find_open(|first, flow| same_flow(first, &flow.transport, bytes, &transport), arena);
                if let Some(slot) = slot {
                    self.close(slot);
                }
                self.start_group(packet, None, bytes);
            }
            Class::Unknown => {
                while let Some(slot) = self.find_open(|first, _| same_hosts(first, bytes), arena) {
                    self.close(slot);
                }
                self.start_group(packet, None, bytes);
            }
            Class::NoFlow => self.start_group(packet, None, bytes),
        }
        Ok(())
    }

    /// Returns the next write to the device. After the last one it returns `None` and empties the
    /// batch, which accepts packets again.
    pub fn poll_write<'a>(&'a mut self, arena: &'a [u8]) -> Option<Gather<'a>> {
        self.open = [NONE; OPEN_FLOWS];
        let Some(group) = self.groups.get(self.written).filter(|_| self.written < self.group_count) else {
            (self.packet_count, self.group_count, self.written) = (0, 0, 0);
            return None;
        };
        let group = *group;
        self.written += 1;
        Some(self.gather(group, arena))
    }

    /// Returns the next write to the device, as [`Self::poll_write`] does, except for the last
    /// packet's super-packet if it accepts more: it stays in the batch, as its only packets.
    pub fn poll_complete_write<'a>(&'a mut self, arena: &'a [u8]) -> Option<Gather<'a>> {
        let kept = self.open.get(self.latest).copied().unwrap_or(NONE);
        if self.written == usize::from(kept) {
            self.written += 1;
        }
        let Some(group) = self.groups.get(self.written).filter(|_| self.written < self.group_count) else {
            self.keep_only(kept);
            return None;
        };
        let group = *group;
        self.written += 1;
        Some(self.gather(group, arena))
    }

    /// Removes all groups except `kept`, which stays open, or all if it is [`NONE`].
    fn keep_only(&mut self, kept: u8) {
        let kept = self.groups.get(usize::from(kept)).copied();
        (self.packet_count, self.group_count, self.written) = (0, 0, 0);
        self.open = [NONE; OPEN_FLOWS];
        let Some(mut group) = kept else { return };
        let mut from = group.first;
        // a group's packets lie in ascending order, so none is overwritten before it is moved
        while let Some(&packet) = self.packets.get(usize::from(from)) {
            from = packet.next;
            let next = if from == NONE { NONE } else { u8::try_from(self.packet_count + 1).unwrap_or(NONE) };
            self.push_packet(Packet { next, ..packet });
        }
        group.first = 0;
        group.last = u8::try_from(self.packet_count.saturating_sub(1)).unwrap_or(NONE);
        if let Some(slot) = self.groups.first_mut() {
            *slot = group;
            self.group_count = 1;
        }
        if let Some(open) = self.open.get_mut(self.latest) {
            *open = 0;
        }
    }

    fn gather<'a>(&'a mut self, group: Group, arena: &'a [u8]) -> Gather<'a> {
        let packets = self.packets.get(..self.packet_count).unwrap_or_default();
        let first = bytes_of(packets, group.first, arena).unwrap_or_default();
        let joined = group.segment.filter(|_| group.count > 1);
        let built = joined.and_then(|segment| {
            let len = build_head(&mut self.head, self.layout, first, &segment, &group)?;
            Some((len, segment.headers_len))
        });
        let (head_len, skip) = built.unwrap_or_else(|| {
            self.head.fill(0);
            (self.layout.len(), 0)
        });
        let head = self.head.get(..head_len).unwrap_or_default();
        Gather { head, arena, packets, group, skip, layout: self.layout }
    }

    /// Returns the index in `open` of the group whose first packet `matches` accepts.
    fn find_open(&self, matches: impl Fn(&[u8], &Segment) -> bool, arena: &[u8]) -> Option<usize> {
        self.open.iter().position(|&group| {
            let Some(group) = self.groups.get(usize::from(group)) else { return false };
            let first = bytes_of(&self.packets, group.first, arena);
            first.zip(group.segment).is_some_and(|(first, segment)| matches(first, &segment))
        })
    }

    fn close(&mut self, slot: usize) {
        if let Some(open) = self.open.get_mut(slot) {
            *open = NONE;
        }
    }

    /// Fast path for the most common case: the next segment of the last packet's flow. It has the
    /// same headers, so they need not be parsed again. Returns false if the packet needs the full
    /// check.
    fn append_to_latest(&mut self, arena: &[u8], packet: Packet, bytes: &[u8]) -> bool {
        let group = self.open.get(self.latest).and_then(|&number| self.groups.get(usize::from(number)));
        let Some((group, segment)) = group.and_then(|group| Some((group, group.segment?))) else {
            return false;
        };
        let Some(first) = bytes_of(&self.packets, group.first, arena) else { return false };
        is_like(first, bytes, &segment) && self.append(arena, self.latest, packet, bytes, &segment)
    }

    /// Adds the packet to the open group at `slot`, if the rules allow it.
    fn append(&mut self, arena: &[u8], slot: usize, packet: Packet, bytes: &[u8], segment: &Segment) -> bool {
        let Some(&number) = self.open.get(slot) else { return false };
        let Some(group) = self.groups.get_mut(usize::from(number)) else { return false };
        let Some(first) = bytes_of(&self.packets, group.first, arena) else { return false };
        let Ok(payload) = u16::try_from(bytes.len() - segment.headers_len) else { return false };
        let len = group.len + u32::from(payload);
        if payload > group.size
            || len > MAX_LEN
            || !continues(first, bytes, segment, group.count, group.size)
            || !segment.transport.has_valid_checksums(bytes)
            || !(group.verified || segment.transport.has_valid_checksums(first))
        {
            return false;
        }
        let added = u8::try_from(self.packet_count).unwrap_or(NONE);
        if let Some(last) = self.packets.get_mut(usize::from(group.last)) {
            last.next = added;
        }
        group.last = added;
        group.count += 1;
        group.len = len;
        group.verified = true;
        group.push = has_psh(bytes, segment);
        let ended = group.push || payload < group.size || usize::from(group.count) == MAX_SEGMENTS;
        self.latest = slot;
        self.push_packet(packet);
        if ended {
            self.close(slot);
        }
        true
    }

    /// Begins a group with the packet.
    fn start_group(&mut self, packet: Packet, segment: Option<Segment>, bytes: &[u8]) {
        let number = u8::try_from(self.packet_count).unwrap_or(NONE);
        let payload = segment.map_or(0, |segment| bytes.len() - segment.headers_len);
        let push = segment.is_some_and(|segment| has_psh(bytes, &segment));
        let group = Group {
            first: number,
            last: number,
            count: 1,
            verified: false,
            push,
            size: u16::try_from(payload).unwrap_or(u16::MAX),
            len: packet.len,
            segment,
        };
        if segment.is_some() && !push {
            let number = u8::try_from(self.group_count).unwrap_or(NONE);
            let free = self.open.iter().position(|&group| group == NONE);
            let slot = free.unwrap_or_else(|| {
                self.next_open = (self.next_open + 1) % OPEN_FLOWS;
                self.next_open
            });
            if let Some(open) = self.open.get_mut(slot) {
                *open = number;
            }
            self.latest = slot;
        }
        if let Some(slot) = self.groups.get_mut(self.group_count) {
            *slot = group;
            self.group_count += 1;
        }
        self.push_packet(packet);
    }

    fn push_packet(&mut self, packet: Packet) {
        if let Some(slot) = self.packets.get_mut(self.packet_count) {
            *slot = packet;
            self.packet_count += 1;
        }
    }
}

fn bytes_of<'a>(packets: &[Packet], number: u8, arena: &'a [u8]) -> Option<&'a [u8]> {
    packets.get(usize::from(number))?.bytes(arena)
}

impl Packet {
    fn bytes<'a>(&self, arena: &'a [u8]) -> Option<&'a [u8]> {
        arena.get(usize::try_from(self.start).ok()?..)?.get(..usize::try_from(self.len).ok()?)
    }
}

/// Writes the virtio-net header and the packet headers of a super-packet; returns their length.
fn build_head(
    head: &mut [u8; MAX_HEAD],
    layout: Layout,
    first: &[u8],
    segment: &Segment,
    group: &Group,
) -> Option<usize> {
    let Segment { transport, headers_len, ecn } = *segment;
    let start = u16::try_from(transport.offset).ok()?;
    let offset = transport.checksum_offset()?;
    let virtio = Header {
        headers_len: u16::try_from(headers_len).ok()?,
        segmentation: Some(Segmentation { gso: segment.gso()?, ecn, size: group.size }),
        tunnel: None,
        checksum: Some(PartialChecksum { start, offset: u16::try_from(offset).ok()? }),
    };
    let (front, headers) = head.get_mut(..layout.len() + headers_len)?.split_at_mut_checked(layout.len())?;
    front.copy_from_slice(virtio.to_bytes().get(..layout.len())?);
    headers.copy_from_slice(first.get(..headers_len)?);
    let total = u16::try_from(group.len).ok()?;
    transport.set_length(headers, total)?;
    if transport.protocol == TCP && group.push {
        *headers.get_mut(transport.offset + tcp::FLAGS)? |= PSH;
    }
    let pseudo = transport.pseudo_header(first, transport.segment_len(total)?)?;
    set(headers, transport.offset + offset, pseudo.folded().to_be_bytes())?;
    Some(layout.len() + headers_len)
}

/// One write to the device.
#[derive(Clone, Copy, Debug)]
pub struct Gather<'a> {
    head: &'a [u8],
    arena: &'a [u8],
    packets: &'a [Packet],
    group: Group,
    /// Bytes at the front of each packet that are not written, because their headers are in `head`.
    skip: usize,
    layout: Layout,
}

impl<'a> Gather<'a> {
    /// Returns the pieces to be written, in order: at most [`MAX_PIECES`], the virtio-net header
    /// first.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { head, arena, packets, group, skip, .. } = *self;
        let first = packets.get(usize::from(group.first));
        let packets = std::iter::successors(first, move |packet| packets.get(usize::from(packet.next)));
        let payloads =
            packets.map(move |packet| packet.bytes(arena).and_then(|it| it.get(skip..)).unwrap_or_default());
        std::iter::once(head).chain(payloads)
    }

    /// Returns the headers of the first packet, and perhaps what follows them.
    pub fn headers(&self) -> &'a [u8] {
        let Self { head, arena, packets, group, skip, layout } = *self;
        match packets.get(usize::from(group.first)) {
            Some(first) if skip == 0 => first.bytes(arena),
            _ => head.get(layout.len()..),
        }
        .unwrap_or_default()
    }

    /// Returns the number of packets in this write.
    pub fn packets(&self) -> usize {
        self.group.count.into()
    }

    /// Returns the bytes of these packets, each with its headers.
    pub fn packet_bytes(&self) -> usize {
        let first = self.packets.get(usize::from(self.group.first));
        let packets = std::iter::successors(first, |packet| self.packets.get(usize::from(packet.next)));
        packets.map(|packet| packet.len as usize).sum()
    }

    /// Returns the total bytes of the write, including the virtio-net header.
    #[expect(clippy::len_without_is_empty, reason = "the header is always there")]
    pub fn len(&self) -> usize {
        self.layout.len() + usize::try_from(self.group.len).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
