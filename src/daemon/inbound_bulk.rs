//! Bulk traffic that waits in a socket, and small packets of the same flows, which must not
//! overtake it: they come by another socket ([`crate::net::steering`]).
//!
//! The counters of the messages show their order. If some before a small message were not read yet,
//! and its flow has large packets, too, it waits until a later message is read from the socket for
//! bulk traffic, and is written before that, or until the socket is empty.

use std::collections::VecDeque;
use std::time::Duration;

use super::device_queues::BulkFlows;
use super::token::SocketId;
use crate::net::steering;
use wontun_packet::flow;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::message::DataHeader;

/// Number of packets that can wait; others are passed on in the order in which they came.
const MAX_HELD: usize = 32;
/// Maximum time for which a packet waits: a peer's next session counts from 0.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The state of one worker.
#[derive(Debug)]
pub(super) struct InboundBulk {
    /// Socket in which bulk traffic waited at the end of a turn.
    socket: Option<SocketId>,
    /// Number of turns for which it has.
    turns: u32,
    /// Socket from which bulk traffic was read last.
    last: Option<SocketId>,
    /// True while small messages are read.
    is_reading_small: bool,
    /// Flows with large packets.
    flows: BulkFlows,
    /// The latest message of the session that was read last.
    latest: Option<DataHeader>,
    /// The same, of those from sockets for bulk traffic.
    latest_bulk: Option<DataHeader>,
    held: VecDeque<Held>,
    /// Socket in which the messages before those of the packets that wait are.
    awaited: Option<SocketId>,
    bytes: Box<[u8]>,
    /// Part of `bytes` that is used next.
    next: usize,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
struct Held {
    header: DataHeader,
    /// Number of the device's queue that it is for.
    queue: usize,
    place: usize,
    len: usize,
    since: Instant,
}

impl Default for InboundBulk {
    fn default() -> Self {
        Self {
            socket: None,
            turns: 0,
            last: None,
            is_reading_small: false,
            flows: BulkFlows::default(),
            latest: None,
            latest_bulk: None,
            held: VecDeque::with_capacity(MAX_HELD),
            awaited: None,
            bytes: vec![0; MAX_HELD * steering::SMALL].into_boxed_slice(),
            next: 0,
        }
    }
}

impl InboundBulk {
    /// Returns true if bulk traffic waited in the socket at the end of the last turn.
    pub(super) fn waits_in(&self, socket: SocketId) -> bool {
        self.socket == Some(socket)
    }

    /// Returns true if what was read from the socket last was bulk traffic.
    pub(super) fn is_bulk(&self, socket: SocketId) -> bool {
        self.last == Some(socket)
    }

    /// Records whether bulk traffic was read from a socket.
    pub(super) fn record_read(&mut self, socket: SocketId, is_bulk: bool) {
        if is_bulk {
            self.last = Some(socket);
        } else if self.is_bulk(socket) {
            self.last = None;
        }
    }

    /// Records whether small messages are read from now on.
    pub(super) const fn set_reading_small(&mut self, is_small: bool) {
        self.is_reading_small = is_small;
    }

    /// Records whether bulk traffic waits in a socket at the end of a turn. Returns the number of
    /// turns for which it has.
    pub(super) fn record_turn(&mut self, socket: SocketId, waits: bool) -> u32 {
        match (waits, self.waits_in(socket)) {
            (true, true) => self.turns = self.turns.saturating_add(1),
            (true, false) => (self.socket, self.turns) = (Some(socket), 1),
            (false, true) => (self.socket, self.turns) = (None, 0),
            (false, false) => return 0,
        }
        self.turns
    }

    /// Returns true if bulk traffic waits in a socket.
    pub(super) const fn is_waiting(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns true if packets are held.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sets the socket in which the messages before those of the packets that wait are.
    pub(super) const fn set_awaited(&mut self, socket: Option<SocketId>) {
        self.awaited = socket;
    }

    /// Returns true if the packets wait for what is in this socket.
    pub(super) fn is_awaited(&self, socket: SocketId) -> bool {
        self.awaited == Some(socket)
    }

    /// Records a message that was read and accepted.
    pub(super) fn record_message(&mut self, header: DataHeader) {
        let is_later =
            |latest: DataHeader| latest.receiver != header.receiver || latest.counter < header.counter;
        if self.latest.is_none_or(is_later) {
            self.latest = Some(header);
        }
        if !self.is_reading_small {
            self.latest_bulk = Some(header);
        }
    }

    /// Records the flow of packets that are written together, `bytes` of them.
    pub(super) fn record_packets(&self, headers: &[u8], bytes: usize, now: Instant) {
        if bytes > steering::SMALL && !self.is_reading_small {
            self.flows.record(flow::hash(headers), now);
        }
    }

    /// Keeps the packet of a message if it may have overtaken others of its flow. Returns false if
    /// it is to be passed on.
    pub(super) fn hold(&mut self, packet: &[u8], header: DataHeader, queue: usize, now: Instant) -> bool {
        if !self.is_reading_small
            || self.held.len() == MAX_HELD
            || !self.has_gap_before(header)
            || self.is_passed(header)
            || !self.flows.contains(flow::hash(packet), now)
        {
            return false;
        }
        let place = self.next * steering::SMALL;
        let room =
            self.bytes.get_mut(place..place + steering::SMALL).and_then(|slot| slot.get_mut(..packet.len()));
        let Some(room) = room else { return false };
        room.copy_from_slice(packet);
        self.next = (self.next + 1) % MAX_HELD;
        self.held.push_back(Held { header, queue, place, len: packet.len(), since: now });
        true
    }

    /// Returns true if a packet is held although a later message was read.
    pub(super) fn has_passed(&self) -> bool {
        self.held.front().is_some_and(|first| self.is_passed(first.header))
    }

    /// Returns the next packet that need not wait any longer, and the queue that it is for. With
    /// `is_empty` nothing waits in the socket for bulk traffic.
    pub(super) fn poll(&mut self, is_empty: bool, now: Instant) -> Option<(usize, &[u8])> {
        let first = self.held.front()?;
        let may_pass = is_empty || self.is_passed(first.header) || now.since(first.since) >= MAX_WAIT;
        let Held { queue, place, len, .. } = if may_pass { self.held.pop_front()? } else { return None };
        Some((queue, self.bytes.get(place..place + len)?))
    }

    /// Returns true if messages before this one were not read, or are lost.
    fn has_gap_before(&self, header: DataHeader) -> bool {
        self.latest.is_some_and(|latest| {
            latest.receiver == header.receiver && latest.counter.saturating_add(1) < header.counter
        })
    }

    /// Returns true if a later message was read from a socket for bulk traffic.
    fn is_passed(&self, header: DataHeader) -> bool {
        self.latest_bulk
            .is_some_and(|latest| latest.receiver == header.receiver && latest.counter > header.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: SocketId = SocketId(1);

    /// Returns a TCP packet between two ports.
    fn packet(from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0; 60];
        (packet[0], packet[3], packet[8], packet[9]) = (0x45, 60, 64, 6);
        (packet[21], packet[23], packet[32]) = (from, to, 0x50);
        packet
    }

    fn message(counter: u64) -> DataHeader {
        DataHeader { receiver: 5, counter }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_millis(1000 + millis))
    }

    /// Returns the state after bulk traffic of one flow, read up to message 10.
    fn waiting() -> InboundBulk {
        let mut inbound = InboundBulk::default();
        inbound.record_packets(&packet(1, 2), 1400, at(0));
        inbound.record_message(message(10));
        inbound.set_reading_small(true);
        inbound
    }

    #[test]
    fn a_packet_waits_for_those_of_its_flow_only() {
        let mut inbound = waiting();
        assert!(!inbound.hold(&packet(1, 3), message(20), 0, at(1)), "another flow");
        assert!(!inbound.hold(&packet(1, 2), message(11), 0, at(1)), "nothing is missing before it");
        assert!(!inbound.hold(&packet(1, 2), message(9), 0, at(1)), "it is later than it was sent already");
        let other = DataHeader { receiver: 6, counter: 20 };
        assert!(!inbound.hold(&packet(1, 2), other, 0, at(1)), "another session");
        assert!(inbound.hold(&packet(1, 2), message(20), 4, at(1)) && inbound.holds());
        assert_eq!(inbound.poll(false, at(1)), None);
        inbound.record_message(message(30));
        assert_eq!(inbound.poll(false, at(1)), None, "small messages say nothing of bulk traffic");
        inbound.set_reading_small(false);
        inbound.record_message(message(19));
        assert_eq!(inbound.poll(false, at(1)), None);
        inbound.record_message(message(21));
        assert_eq!(inbound.poll(false, at(1)), Some((4, &packet(1, 2)[..])));
        assert!(inbound.poll(false, at(1)).is_none() && !inbound.holds());
    }

    #[test]
    fn nothing_waits_for_an_empty_socket_or_for_long() {
        let mut inbound = waiting();
        assert!(inbound.hold(&packet(1, 2), message(20), 0, at(1)));
        assert!(inbound.poll(false, at(100)).is_none() && inbound.poll(false, at(101)).is_some());
        assert!(inbound.hold(&packet(2, 1), message(22), 0, at(101)));
        assert!(inbound.poll(false, at(102)).is_none() && inbound.poll(true, at(102)).is_some());
    }

    #[test]
    fn turns_are_counted_for_one_socket() {
        let mut inbound = InboundBulk::default();
        assert_eq!(inbound.record_turn(BULK, true), 1);
        assert_eq!(inbound.record_turn(SocketId(2), false), 0, "another socket");
        assert!(inbound.is_waiting() && inbound.waits_in(BULK) && !inbound.waits_in(SocketId(2)));
        assert_eq!(inbound.record_turn(BULK, true), 2);
        assert_eq!(inbound.record_turn(BULK, false), 0);
        assert!(!inbound.is_waiting());
        inbound.record_read(BULK, true);
        inbound.record_read(SocketId(2), false);
        assert!(inbound.is_bulk(BULK) && !inbound.is_bulk(SocketId(2)));
        inbound.record_read(BULK, false);
        assert!(!inbound.is_bulk(BULK));
    }

    #[test]
    fn what_waits_is_bounded_and_stays_in_order() {
        let mut inbound = waiting();
        let held = |number: u8| {
            let mut packet = packet(1, 2);
            packet[50] = number;
            packet
        };
        let count = (0..100).filter(|number| inbound.hold(&held(*number), message(20), 0, at(1))).count();
        assert_eq!(count, MAX_HELD);
        for number in 0..32 {
            assert_eq!(inbound.poll(true, at(2)).map(|(_, packet)| packet.to_vec()), Some(held(number)));
        }
        assert!(inbound.poll(true, at(2)).is_none());
        let mut long = packet(1, 2);
        long.resize(steering::SMALL + 1, 0);
        assert!(!inbound.hold(&long, message(20), 0, at(2)));
    }
}
