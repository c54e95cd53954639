//! Datagrams on their way out: reserved, written in place, committed, and sent with as few system calls as can be.
//!
//! Datagrams for the same destination form one *message*, which the kernel cuts again (UDP_SEGMENT, udp(7)): all of one
//! length, the last may be shorter. Several messages leave with one call. Datagrams to one destination leave in the order
//! in which they were committed; those to different ones may overtake each other.
//!
//! A message that the kernel cannot cut leaves datagram by datagram, from where it stopped: nothing is lost or sent
//! twice. `quinn-udp` does part of this, but sets DF, knows no DSCP, and takes each message from one contiguous slice.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use socket2::SockAddr;

use super::control_message::Notes;
use super::fault::{self, Fault};
use super::udp::UdpSocket;
use crate::counters::DropReason;
use crate::sys::datagram::{MOST, Message as Entry};
use crate::time::Instant;

/// Bytes in all. One super-packet of the usual segments fits, with what sealing adds.
const ARENA: usize = 192 * 1024;
/// Datagrams in all.
const MAX_SEGMENTS: usize = 256;
/// Messages in all.
const MAX_MESSAGES: usize = 64;
/// Bytes of memory that a batch has.
pub const SIZE: usize =
    ARENA + MAX_SEGMENTS * size_of::<Segment>() + MAX_MESSAGES * size_of::<Message<u64>>();
/// Datagrams of one message: the kernel's `UDP_MAX_SEGMENTS` (128 since Linux 6.10, which gains nothing).
pub const MAX_SEGMENTS_OF_MESSAGE: usize = 64;
/// Bytes of one message: what a UDP datagram over IPv4 can hold.
pub const MAX_MESSAGE: usize = 65_507;
/// With so much in it, a message is as good as full.
const BULK: usize = 48 * 1024;
/// With so much in it, a batch is sent: more would not make it cheaper, only later.
const ENOUGH: usize = 2 * BULK;

const NONE: u16 = u16::MAX;

/// Whereto a datagram goes, from where, and by which socket.
#[derive(Clone, Debug)]
pub struct Route<O> {
    /// The socket.
    pub socket: Arc<UdpSocket>,
    /// Whether the socket is connected to `remote`, and sends from where it is bound.
    pub is_connected: bool,
    /// Whereto.
    pub remote: SocketAddr,
    /// From which address of ours; `None` if the system is to choose.
    pub local: Option<IpAddr>,
    /// The outer traffic class, DSCP and ECN.
    pub class: u8,
    /// What the caller knows it by.
    pub owner: O,
}

impl<O> Route<O> {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
            && self.remote == other.remote
            && self.local == other.local
            && self.class == other.class
    }
}

/// What came of sending a batch.
#[derive(Debug)]
pub enum Sent<O> {
    /// All of it is gone.
    All,
    /// The socket has no room for what is left: to be sent again once it has.
    Blocked(Route<O>),
    /// An error that may be about an earlier datagram. The next try tells.
    Bounced(DropReason),
    /// The first of what is left cannot be sent: [`Batch::skip`] it, or [`Batch::reroute`] it.
    Refused {
        /// Why.
        fault: Fault,
        /// Where it was to go.
        route: Route<O>,
        /// How many datagrams are concerned.
        datagrams: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u32,
    len: u32,
    /// The next one of the same message.
    next: u16,
}

#[derive(Debug)]
struct Message<O> {
    route: Route<O>,
    name: SockAddr,
    notes: Notes,
    /// The next segment to be sent.
    first: u16,
    last: u16,
    /// How many are still to be sent.
    count: usize,
    /// Bytes of each but the last.
    size: usize,
    bytes: usize,
    /// Nothing more can be added.
    is_closed: bool,
    /// Each datagram leaves by itself.
    alone: bool,
    /// The kernel refused it as one; if it takes the datagrams alone, this socket is not fit for segments.
    suspect: bool,
    /// An error came that may have been about an earlier datagram.
    retried: bool,
}

/// One worker's outgoing datagrams. It is made once, and does not allocate afterwards.
#[derive(Debug)]
pub struct Batch<O> {
    arena: Box<[u8]>,
    used: usize,
    segments: Box<[Segment]>,
    segment_count: usize,
    messages: Vec<Message<O>>,
    /// The first message that is still to be sent.
    at: usize,
    narrow: Narrow,
    /// Set once the log says that the kernel does not cut datagrams. It depends on the path, which
    /// a peer changes by moving.
    told_uncut: bool,
}

impl<O: Clone> Default for Batch<O> {
    fn default() -> Self {
        Self {
            arena: vec![0; ARENA].into_boxed_slice(),
            used: 0,
            segments: vec![Segment { start: 0, len: 0, next: NONE }; MAX_SEGMENTS].into_boxed_slice(),
            segment_count: 0,
            messages: Vec::with_capacity(MAX_MESSAGES),
            at: 0,
            narrow: Narrow::default(),
            told_uncut: false,
        }
    }
}

impl<O: Clone> Batch<O> {
    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it is somebody's bulk, a super-packet or most of one.
    pub fn is_bulk(&self) -> bool {
        self.used >= BULK
    }

    /// Whether it is time to send: more would wait for nothing.
    pub fn is_heavy(&self) -> bool {
        self.used >= ENOUGH || self.segment_count >= MAX_SEGMENTS_OF_MESSAGE
    }

    /// Room for a datagram of at most `len` bytes; `None` if what is there has to be sent first. Nothing is taken until
    /// [`Self::commit`].
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.segment_count == MAX_SEGMENTS || self.messages.len() == MAX_MESSAGES {
            return None;
        }
        self.arena.get_mut(self.used..)?.get_mut(..len)
    }

    /// Takes the datagram of `len` bytes that was written to the front of the room reserved last.
    pub fn commit(&mut self, len: usize, route: &Route<O>) {
        let Ok(number) = u16::try_from(self.segment_count) else { return };
        let (Ok(start), Ok(bytes)) = (u32::try_from(self.used), u32::try_from(len)) else { return };
        let Some(place) = self.segments.get_mut(self.segment_count) else { return };
        *place = Segment { start, len: bytes, next: NONE };
        self.segment_count += 1;
        self.used += len;

        // nothing to this destination may overtake it, whatever else is different
        let is_open = |message: &&mut Message<O>| !message.is_closed && message.route.remote == route.remote;
        let open = self.messages.get_mut(self.at..).unwrap_or_default().iter_mut().rev().find(is_open);
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
        self.messages.push(Message {
            route: route.clone(),
            name: route.remote.into(),
            notes: Notes::default(),
            first: number,
            last: number,
            count: 1,
            size: len,
            bytes: len,
            // an empty datagram cannot be one of several
            is_closed: len == 0,
            alone: false,
            suspect: false,
            retried: false,
        });
    }

    /// Sends what is there. To be called again until it gives [`Sent::All`], or [`Sent::Blocked`] for now.
    pub fn send(&mut self, now: Instant) -> Sent<O> {
        loop {
            let Some(first) = self.messages.get(self.at) else {
                (self.used, self.segment_count, self.at) = (0, 0, 0);
                self.messages.clear();
                return Sent::All;
            };
            let (is_gso, size, remote) = (!first.alone && first.count > 1, first.size, first.route.remote);
            match self.send_some(now) {
                Ok(()) => {}
                Err(error) => {
                    let Some(message) = self.messages.get_mut(self.at) else { continue };
                    let fault = fault::of_socket(&error);
                    let is_gso = is_gso && !message.alone;
                    match (fault, error.raw_os_error()) {
                        (Fault::WouldBlock, _) => return Sent::Blocked(message.route.clone()),
                        // EINVAL: what older kernels say about a path that is too narrow
                        (_, Some(libc::EMSGSIZE | libc::EINVAL)) if is_gso => {
                            message.alone = true;
                            self.narrow.insert(remote, size, now);
                        }
                        (_, Some(libc::EIO)) if is_gso => {
                            message.alone = true;
                            message.suspect = true;
                        }
                        (Fault::Drop(reason), _) if !message.retried => {
                            message.retried = true;
                            return Sent::Bounced(reason);
                        }
                        _ => {
                            let datagrams = if message.alone { 1 } else { message.count };
                            return Sent::Refused { fault, route: message.route.clone(), datagrams };
                        }
                    }
                }
            }
        }
    }

    /// Gives up what [`Sent::Refused`] was about.
    pub fn skip(&mut self) {
        let Some(message) = self.messages.get_mut(self.at) else { return };
        // it was not the joining that was refused
        message.suspect = false;
        let datagrams = if message.alone { 1 } else { message.count };
        self.advance(datagrams);
    }

    /// Sends what [`Sent::Refused`] was about, and the rest of its message, another way.
    pub fn reroute(&mut self, route: Route<O>) {
        if let Some(message) = self.messages.get_mut(self.at) {
            message.name = route.remote.into();
            message.route = route;
            (message.suspect, message.retried) = (false, false);
        }
    }

    /// One call for as many messages as go by the first one's socket.
    fn send_some(&mut self, now: Instant) -> io::Result<()> {
        let Some(first) = self.messages.get(self.at) else { return Ok(()) };
        let socket = Arc::clone(&first.route.socket);
        let sends_segments = socket.sends_segments();
        let mut count = 0;
        for message in self.messages.iter_mut().skip(self.at) {
            if !Arc::ptr_eq(&message.route.socket, &socket) || count == MOST {
                break;
            }
            message.alone |= message.count > 1
                && (!sends_segments || self.narrow.holds(message.route.remote, message.size, now));
            message.write_notes();
            count += 1;
        }

        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
        // for each entry: its message, how many datagrams it has, and where its pieces end
        let mut plan = [(0_usize, 0_usize, 0_usize); MOST];
        let (mut entry_count, mut piece_count) = (0, 0);
        'messages: for (number, message) in self.messages.iter().enumerate().skip(self.at).take(count) {
            let mut segment = message.first;
            let per_entry = if message.alone { 1 } else { message.count };
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

        let mut entries = [Entry { name: None, pieces: &[], control: &[] }; MOST];
        let mut begin = 0;
        for (entry, &(number, _, end)) in entries.iter_mut().zip(plan.iter().take(entry_count)) {
            let Some(message) = self.messages.get(number) else { break };
            *entry = Entry {
                name: (!message.route.is_connected).then_some(&message.name),
                pieces: pieces.get(begin..end).unwrap_or_default(),
                control: message.notes.as_bytes(),
            };
            begin = end;
        }
        let sent = socket.send(entries.get(..entry_count).unwrap_or_default())?;
        for &(_, datagrams, _) in plan.iter().take(sent) {
            self.advance(datagrams);
        }
        Ok(())
    }

    /// The first `datagrams` of the first message are done with.
    fn advance(&mut self, datagrams: usize) {
        let Some(message) = self.messages.get_mut(self.at) else { return };
        if message.suspect {
            message.suspect = false;
            message.route.socket.stop_segments();
            if !std::mem::replace(&mut self.told_uncut, true) {
                tracing::info!(
                    "the kernel does not cut datagrams on this path (UDP_SEGMENT): each goes alone now"
                );
            }
        }
        message.retried = false;
        if datagrams >= message.count {
            self.at += 1;
            return;
        }
        for _ in 0..datagrams {
            let Some(segment) = self.segments.get(usize::from(message.first)) else { return };
            message.first = segment.next;
        }
        message.count -= datagrams;
    }
}

impl<O> Message<O> {
    fn write_notes(&mut self) {
        let route = &self.route;
        let mut notes = Notes::default();
        if let Some(local) = route.local.filter(|_| !route.is_connected) {
            let scope = match route.remote {
                SocketAddr::V6(remote) => remote.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            notes.push_source(local, scope);
        }
        if route.class != 0 {
            notes.push_class(route.class, route.remote.is_ipv6());
        }
        if self.count > 1
            && !self.alone
            && let Ok(size) = u16::try_from(self.size)
        {
            notes.push_segment(size);
        }
        self.notes = notes;
    }
}

/// Destinations whose path carries less than was sent: the kernel cuts no message into segments that it then would have
/// to cut again, so these leave alone, in fragments.
#[derive(Debug, Default)]
struct Narrow {
    paths: [Option<(SocketAddr, usize, Instant)>; 16],
    next: usize,
}

impl Narrow {
    /// For so long a path is taken to be as it was.
    const LASTS: Duration = Duration::from_secs(10);

    /// Segments of `size` bytes are too large for the path to `remote`.
    fn insert(&mut self, remote: SocketAddr, size: usize, now: Instant) {
        let known = self.paths.iter_mut().flatten().find(|(other, ..)| *other == remote);
        if let Some(path) = known {
            let is_valid = now.since(path.2) < Self::LASTS;
            *path = (remote, if is_valid { size.min(path.1) } else { size }, now);
        } else if let Some(place) = self.paths.get_mut(self.next) {
            *place = Some((remote, size, now));
            self.next = (self.next + 1) % self.paths.len();
        }
    }

    fn holds(&self, remote: SocketAddr, size: usize, now: Instant) -> bool {
        self.paths
            .iter()
            .flatten()
            .any(|&(other, least, at)| other == remote && size >= least && now.since(at) < Self::LASTS)
    }
}

#[cfg(test)]
mod tests;
