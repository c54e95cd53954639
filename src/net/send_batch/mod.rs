//! Outgoing datagrams: reserved, written in place, committed, and sent with as few system calls as
//! possible.
//!
//! Datagrams for the same destination form one *message*, which the kernel splits again
//! (`UDP_SEGMENT`, udp(7)): all have one length, the last may be shorter. One call sends several
//! messages. Datagrams to one destination leave in the order in which they were committed; those to
//! different ones may overtake each other.
//!
//! A message that the kernel cannot split is sent datagram by datagram, from where it stopped:
//! nothing is lost or sent twice. `quinn-udp` does part of this, but sets DF, does not support
//! DSCP, and takes each message from one contiguous slice.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use socket2::SockAddr;

use super::control_message::ControlMessages;
use super::error_class::{self, ErrorClass};
use super::udp::UdpSocket;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;
use wontun_sys::datagram::{MAX_MESSAGES_PER_CALL, SendMessage};

/// Total bytes. What is kept of a message, and two super-packets of the usual segments, fit with
/// the overhead of encryption.
const ARENA: usize = 224 * 1024;
/// Total datagrams.
const MAX_SEGMENTS: usize = 256;
/// Total messages.
const MAX_MESSAGES: usize = 64;
/// Bytes of memory that a batch uses.
pub const SIZE: usize =
    ARENA + MAX_SEGMENTS * size_of::<Segment>() + MAX_MESSAGES * size_of::<GsoMessage<u64>>();
/// Maximum datagrams in one message: the kernel's `UDP_MAX_SEGMENTS` (128 since Linux 6.10, without
/// a gain).
pub const MAX_SEGMENTS_OF_MESSAGE: usize = 64;
/// Maximum bytes in one message: the limit of a UDP datagram over IPv4.
pub const MAX_MESSAGE: usize = 65_507;
/// Size in bytes from which a message counts as full.
const BULK: usize = 48 * 1024;
/// Size in bytes, without a message that has room for more, from which a batch is sent: waiting
/// longer would add latency and save nothing.
const SEND_THRESHOLD: usize = 2 * BULK;

const NONE: u16 = u16::MAX;

/// The destination, source and socket of a datagram.
#[derive(Clone, Debug)]
pub struct SendRoute<O> {
    /// The socket.
    pub socket: Arc<UdpSocket>,
    /// True if the socket is connected to `remote` and sends from the address it is bound to.
    pub is_connected: bool,
    /// The destination.
    pub remote: SocketAddr,
    /// Our source address; `None` to let the kernel choose.
    pub local: Option<IpAddr>,
    /// The outer traffic class, DSCP and ECN.
    pub class: u8,
    /// The caller's identifier of the destination.
    pub owner: O,
}

impl<O> SendRoute<O> {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
            && self.remote == other.remote
            && self.local == other.local
            && self.class == other.class
    }
}

/// The outcome of sending a batch.
#[derive(Debug)]
pub enum SendOutcome<O> {
    /// All datagrams were sent.
    All,
    /// The socket's buffer is full: call again when the socket is writable.
    Blocked(SendRoute<O>),
    /// An error that may concern an earlier datagram. The next attempt shows if it does.
    SuspectError {
        /// The reason.
        reason: DropReason,
        /// The route of the next attempt.
        route: SendRoute<O>,
    },
    /// The first of the remaining datagrams cannot be sent: [`SendBatch::skip`] it, or
    /// [`SendBatch::reroute`] it.
    Failed {
        /// The reason.
        class: ErrorClass,
        /// The intended route.
        route: SendRoute<O>,
        /// Number of datagrams affected.
        datagrams: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u32,
    len: u32,
    /// The next segment of the same message.
    next: u16,
}

#[derive(Debug)]
struct GsoMessage<O> {
    route: SendRoute<O>,
    name: SockAddr,
    control: ControlMessages,
    /// The next segment to be sent.
    first: u16,
    last: u16,
    /// Number of datagrams still to be sent.
    count: usize,
    /// Bytes of each datagram except the last.
    size: usize,
    bytes: usize,
    /// True if no more datagrams can be added.
    is_closed: bool,
    /// True if each datagram is sent by itself.
    is_split: bool,
    /// True if the kernel refused it as one message; if it accepts the datagrams one by one, this
    /// socket does not support segmentation.
    is_gso_suspect: bool,
    /// True after an error that may have concerned an earlier datagram.
    is_retry: bool,
}

/// One worker's outgoing datagrams. It is created once, and does not allocate afterwards.
#[derive(Debug)]
pub struct SendBatch<O> {
    arena: Box<[u8]>,
    used: usize,
    segments: Box<[Segment]>,
    segment_count: usize,
    messages: Vec<GsoMessage<O>>,
    /// Index of the first message that is still to be sent.
    first_unsent: usize,
    path_mtus: PathMtuCache,
    /// True once it was logged that the kernel does not segment datagrams. That depends on the
    /// path, which a peer changes by roaming.
    reported_no_gso: bool,
}

impl<O: Clone> Default for SendBatch<O> {
    fn default() -> Self {
        Self {
            arena: vec![0; ARENA].into_boxed_slice(),
            used: 0,
            segments: vec![Segment { start: 0, len: 0, next: NONE }; MAX_SEGMENTS].into_boxed_slice(),
            segment_count: 0,
            messages: Vec::with_capacity(MAX_MESSAGES),
            first_unsent: 0,
            path_mtus: PathMtuCache::default(),
            reported_no_gso: false,
        }
    }
}

impl<O: Clone> SendBatch<O> {
    /// Returns true if nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns true if the batch holds bulk traffic: a super-packet or most of one.
    pub fn is_bulk(&self) -> bool {
        self.used >= BULK
    }

    /// Returns true if the batch should be sent now: waiting would gain nothing.
    pub fn should_send(&self) -> bool {
        let (bytes, datagrams) = self.open_message().map_or((0, 0), |last| (last.bytes, last.count));
        self.used.saturating_sub(bytes) >= SEND_THRESHOLD
            || self.segment_count.saturating_sub(datagrams) >= MAX_SEGMENTS_OF_MESSAGE
    }

    /// Returns the last message, if it is bulk traffic behind others and another datagram of its
    /// size fits.
    fn open_message(&self) -> Option<&GsoMessage<O>> {
        let is_bulk = self.is_bulk() && self.messages.len() > 1;
        self.messages.last().filter(|last| is_bulk && last.has_room())
    }

    /// Returns space for a datagram of at most `len` bytes; `None` if the batch must be sent first.
    /// The space is not used up until [`Self::commit`].
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.segment_count == MAX_SEGMENTS || self.messages.len() == MAX_MESSAGES {
            return None;
        }
        self.arena.get_mut(self.used..)?.get_mut(..len)
    }

    /// Adds the datagram of `len` bytes that was written to the front of the space reserved last.
    pub fn commit(&mut self, len: usize, route: &SendRoute<O>) {
        let Ok(number) = u16::try_from(self.segment_count) else { return };
        let (Ok(start), Ok(bytes)) = (u32::try_from(self.used), u32::try_from(len)) else { return };
        let Some(segment) = self.segments.get_mut(self.segment_count) else { return };
        *segment = Segment { start, len: bytes, next: NONE };
        self.segment_count += 1;
        self.used += len;

        // a datagram to the same destination must not overtake it, whatever else differs
        let is_open =
            |message: &&mut GsoMessage<O>| !message.is_closed && message.route.remote == route.remote;
        let open =
            self.messages.get_mut(self.first_unsent..).unwrap_or_default().iter_mut().rev().find(is_open);
        if let Some(message) = open {
            let fits = (1..=message.size).contains(&len)
                && message.count < MAX_SEGMENTS_OF_MESSAGE
                && message.bytes + len <= MAX_MESSAGE
                && message.route.is_same(route);
            if fits {
                if let Some(last) = self.segments.get_mut(usize::from(message.last)) {
                    last.next = number;
                }
                message.last = number;
                message.count += 1;
                message.bytes += len;
                message.is_closed = len < message.size;
                return;
            }
            message.is_closed = true;
        }
        self.messages.push(GsoMessage {
            route: route.clone(),
            name: route.remote.into(),
            control: ControlMessages::default(),
            first: number,
            last: number,
            count: 1,
            size: len,
            bytes: len,
            // an empty datagram cannot be one of several
            is_closed: len == 0,
            is_split: false,
            is_gso_suspect: false,
            is_retry: false,
        });
    }

    /// Closes all messages: what is added later goes into others, which the receiver may read
    /// first.
    pub fn close_messages(&mut self) {
        self.messages.iter_mut().for_each(|message| message.is_closed = true);
    }

    /// Sends the batch. Call it again until it returns [`SendOutcome::All`], or
    /// [`SendOutcome::Blocked`] for now.
    pub fn send(&mut self, now: Instant) -> SendOutcome<O> {
        self.send_until(self.messages.len(), now)
    }

    /// Sends the batch as [`Self::send`] does, except for a last message that has room for more: it
    /// stays in the batch, to be filled by the packets that are read next.
    pub fn send_full(&mut self, now: Instant) -> SendOutcome<O> {
        let kept = usize::from(self.open_message().is_some());
        self.send_until(self.messages.len() - kept, now)
    }

    /// Sends the messages with a number below `end`.
    fn send_until(&mut self, end: usize, now: Instant) -> SendOutcome<O> {
        loop {
            let first = self.messages.get(self.first_unsent).filter(|_| self.first_unsent < end);
            let Some(first) = first else {
                self.remove_sent();
                return SendOutcome::All;
            };
            let (is_gso, size, remote) = (!first.is_split && first.count > 1, first.size, first.route.remote);
            match self.send_some(end, now) {
                Ok(()) => {}
                Err(error) => {
                    let Some(message) = self.messages.get_mut(self.first_unsent) else { continue };
                    let class = error_class::of_socket(&error);
                    let is_gso = is_gso && !message.is_split;
                    match (class, error.raw_os_error()) {
                        (ErrorClass::WouldBlock, _) => return SendOutcome::Blocked(message.route.clone()),
                        // EINVAL: the error of older kernels for a path MTU that is too small
                        (_, Some(libc::EMSGSIZE | libc::EINVAL)) if is_gso => {
                            message.is_split = true;
                            self.path_mtus.insert(remote, size, now);
                        }
                        (_, Some(libc::EIO)) if is_gso => {
                            message.is_split = true;
                            message.is_gso_suspect = true;
                        }
                        (ErrorClass::Drop(reason), _) if !message.is_retry => {
                            message.is_retry = true;
                            return SendOutcome::SuspectError { reason, route: message.route.clone() };
                        }
                        _ => {
                            let datagrams = if message.is_split { 1 } else { message.count };
                            return SendOutcome::Failed { class, route: message.route.clone(), datagrams };
                        }
                    }
                }
            }
        }
    }

    /// Removes the messages that were sent, and moves the datagrams of the others to the front.
    fn remove_sent(&mut self) {
        self.messages.drain(..self.first_unsent.min(self.messages.len()));
        (self.used, self.segment_count, self.first_unsent) = (0, 0, 0);
        let Some(kept) = self.messages.first_mut() else { return };
        let mut from = usize::from(std::mem::replace(&mut kept.first, 0));
        // a message's datagrams lie in ascending order, so none is overwritten before it is moved
        for to in 0..kept.count {
            let Some(&Segment { start, len, next }) = self.segments.get(from) else { return };
            let (begin, end) = (start as usize, start as usize + len as usize);
            self.arena.copy_within(begin..end, self.used);
            let next_to = u16::try_from(to + 1).unwrap_or(NONE);
            if let (Some(segment), Ok(start)) = (self.segments.get_mut(to), u32::try_from(self.used)) {
                *segment = Segment { start, len, next: next_to };
            }
            self.used += end - begin;
            self.segment_count += 1;
            from = usize::from(next);
        }
        kept.bytes = self.used;
        kept.last = u16::try_from(kept.count.saturating_sub(1)).unwrap_or_default();
        if let Some(segment) = self.segments.get_mut(usize::from(kept.last)) {
            segment.next = NONE;
        }
    }

    /// Discards the datagrams that [`SendOutcome::Failed`] reported.
    pub fn skip(&mut self) {
        let Some(message) = self.messages.get_mut(self.first_unsent) else { return };
        // the segmentation was not the reason for the refusal
        message.is_gso_suspect = false;
        let datagrams = if message.is_split { 1 } else { message.count };
        self.advance(datagrams);
    }

    /// Sends the datagrams that [`SendOutcome::Failed`] reported, and the rest of their message, by
    /// another route.
    pub fn reroute(&mut self, route: SendRoute<O>) {
        if let Some(message) = self.messages.get_mut(self.first_unsent) {
            message.name = route.remote.into();
            message.route = route;
            (message.is_gso_suspect, message.is_retry) = (false, false);
        }
    }

    /// Sends, in one call, as many messages as use the first one's socket.
    fn send_some(&mut self, end: usize, now: Instant) -> io::Result<()> {
        let Some(first) = self.messages.get(self.first_unsent) else { return Ok(()) };
        let socket = Arc::clone(&first.route.socket);
        let has_gso = socket.has_gso();
        let mut count = 0;
        for message in self.messages.iter_mut().take(end).skip(self.first_unsent) {
            if !Arc::ptr_eq(&message.route.socket, &socket) || count == MAX_MESSAGES_PER_CALL {
                break;
            }
            message.is_split |= message.count > 1
                && (!has_gso || self.path_mtus.is_exceeded(message.route.remote, message.size, now));
            message.write_control_messages();
            count += 1;
        }

        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
        // for each entry: its message, its number of datagrams, and the end of its pieces
        let mut plan = [(0_usize, 0_usize, 0_usize); MAX_MESSAGES_PER_CALL];
        let (mut entry_count, mut piece_count) = (0, 0);
        'messages: for (number, message) in
            self.messages.iter().enumerate().skip(self.first_unsent).take(count)
        {
            let mut segment = message.first;
            let per_entry = if message.is_split { 1 } else { message.count };
            for _ in 0..message.count / per_entry.max(1) {
                let Some(entry) = plan.get_mut(entry_count) else { break 'messages };
                let mut run = 0_u32..0;
                for place in 0..per_entry {
                    let Some(next) = self.segments.get(usize::from(segment)) else { break 'messages };
                    segment = next.next;
                    if place > 0 && next.start == run.end {
                        run.end += next.len;
                    } else {
                        if place > 0 {
                            piece_count += 1;
                        }
                        run = next.start..next.start + next.len;
                    }
                    let bytes = self.arena.get(run.start as usize..run.end as usize).unwrap_or_default();
                    if let Some(piece) = pieces.get_mut(piece_count) {
                        *piece = IoSlice::new(bytes);
                    }
                }
                piece_count += 1;
                *entry = (number, per_entry, piece_count);
                entry_count += 1;
            }
        }

        let mut entries = [SendMessage { name: None, pieces: &[], control: &[] }; MAX_MESSAGES_PER_CALL];
        let mut begin = 0;
        for (entry, &(number, _, end)) in entries.iter_mut().zip(plan.iter().take(entry_count)) {
            let Some(message) = self.messages.get(number) else { break };
            *entry = SendMessage {
                name: (!message.route.is_connected).then_some(&message.name),
                pieces: pieces.get(begin..end).unwrap_or_default(),
                control: message.control.as_bytes(),
            };
            begin = end;
        }
        let sent = socket.send(entries.get(..entry_count).unwrap_or_default())?;
        for &(_, datagrams, _) in plan.iter().take(sent) {
            self.advance(datagrams);
        }
        Ok(())
    }

    /// Marks the first `datagrams` of the first message as done.
    fn advance(&mut self, datagrams: usize) {
        let Some(message) = self.messages.get_mut(self.first_unsent) else { return };
        if message.is_gso_suspect {
            message.is_gso_suspect = false;
            message.route.socket.disable_gso();
            if !std::mem::replace(&mut self.reported_no_gso, true) {
                tracing::info!(
                    "the kernel does not segment datagrams on this path (UDP_SEGMENT): sending them one by one"
                );
            }
        }
        message.is_retry = false;
        if datagrams >= message.count {
            self.first_unsent += 1;
            return;
        }
        for _ in 0..datagrams {
            let Some(segment) = self.segments.get(usize::from(message.first)) else { return };
            message.first = segment.next;
        }
        message.count -= datagrams;
    }
}

impl<O> GsoMessage<O> {
    /// Returns true if another datagram of the same size can be added.
    const fn has_room(&self) -> bool {
        !self.is_closed && self.count < MAX_SEGMENTS_OF_MESSAGE && self.bytes + self.size <= MAX_MESSAGE
    }

    fn write_control_messages(&mut self) {
        let route = &self.route;
        let mut control = ControlMessages::default();
        if let Some(local) = route.local.filter(|_| !route.is_connected) {
            let scope = match route.remote {
                SocketAddr::V6(remote) => remote.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            control.push_source(local, scope);
        }
        if route.class != 0 {
            control.push_class(route.class, route.remote.is_ipv6());
        }
        if self.count > 1
            && !self.is_split
            && let Ok(size) = u16::try_from(self.size)
        {
            control.push_segment(size);
        }
        self.control = control;
    }
}

/// Destinations with a path MTU below the size of a datagram sent: the kernel does not split a
/// message into segments that would then need fragmentation, so these are sent one by one, in
/// fragments.
#[derive(Debug, Default)]
struct PathMtuCache {
    paths: [Option<(SocketAddr, usize, Instant)>; 16],
    next: usize,
}

impl PathMtuCache {
    /// Time for which an entry is valid.
    const ENTRY_TTL: Duration = Duration::from_secs(10);

    /// Records that segments of `size` bytes are too large for the path to `remote`.
    fn insert(&mut self, remote: SocketAddr, size: usize, now: Instant) {
        let known = self.paths.iter_mut().flatten().find(|(other, ..)| *other == remote);
        if let Some(path) = known {
            let is_valid = now.since(path.2) < Self::ENTRY_TTL;
            *path = (remote, if is_valid { size.min(path.1) } else { size }, now);
        } else if let Some(place) = self.paths.get_mut(self.next) {
            *place = Some((remote, size, now));
            self.next = (self.next + 1) % self.paths.len();
        }
    }

    fn is_exceeded(&self, remote: SocketAddr, size: usize, now: Instant) -> bool {
        self.paths
            .iter()
            .flatten()
            .any(|&(other, least, at)| other == remote && size >= least && now.since(at) < Self::ENTRY_TTL)
    }
}

#[cfg(test)]
mod tests;
