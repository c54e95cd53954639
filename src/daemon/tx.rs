//! The send path: reads packets from the tun, splits them into segments, encrypts them in the batch
//! and sends many at once.
//!
//! A packet is copied once, from the read buffer to its place in the batch. The first packet of a
//! turn is sent at once, so that a sender of single packets does not wait for others; the following
//! ones are sent together, and so is a super-packet with what follows it. A batch is never held
//! back for later packets.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tracing::trace;

use super::budget::{BUDGET, BYTES, Progress};
use super::carry::Carry;
use super::core::Core;
use super::data_path::{Route, RouteDecision};
use super::device_queues::{BULK_PACKETS, QueueKind};
use super::error::DaemonError;
use super::pending::Pending;
use super::shared::Shared;
use super::sockets_in_use::SocketRef;
use super::token::Token;
use super::uplink::SocketQueue;
use super::worker::Worker;
use crate::net::error_class::{self, ErrorClass};
use crate::net::send_batch::{SendOutcome, SendRoute};
use crate::net::steering;
use crate::net::tun::Tun;
use wontun_packet::DropReason;
use wontun_packet::ip::IPV4_HEADER;
use wontun_packet::split::{PacketLengths, Split};
use wontun_packet::transport::UDP_HEADER;
use wontun_packet::{icmp_error, inner, mss, virtio};
use wontun_proto::wireguard::ecn;

/// Maximum number of super-packets of flows that have become bulk traffic that are read before
/// others.
const MAX_DEFERRED: u8 = 64;
/// Time after a large packet in the queue that is not for bulk traffic for which others of its flow
/// may be there.
const LARGE: Duration = Duration::from_secs(1);
/// Length of a packet in bytes up to which its message is small.
const SMALL: usize = steering::SMALL - 32;

/// Returns the maximum payload of a datagram to `remote`: the length fields of UDP and IPv4 have 16
/// bits.
fn max_payload(remote: std::net::SocketAddr) -> usize {
    let max_payload = usize::from(u16::MAX);
    if remote.is_ipv4() { max_payload - UDP_HEADER - IPV4_HEADER } else { max_payload - UDP_HEADER }
}

/// Writes one packet to a queue of the tun.
pub(super) fn write_packet(queue: &Tun, packet: &[u8]) -> std::io::Result<()> {
    match queue.layout() {
        None => queue.send(&[IoSlice::new(packet)]),
        Some(layout) => {
            let header = virtio::Header::default().to_bytes();
            let header = header.get(..layout.len()).unwrap_or_default();
            queue.send(&[IoSlice::new(header), IoSlice::new(packet)])
        }
    }
}

impl<M: Carry> Worker<M> {
    /// Sends bulk traffic, and before it what is in the other queue if large packets were there a
    /// short time ago: a flow that has become bulk traffic may have its first packets there.
    pub(super) fn drain_tun(&mut self, shared: &Shared<M>) -> Result<Progress, DaemonError> {
        if self.now < self.large_until && self.drain_queue(shared, QueueKind::Sparse)? == Progress::More {
            self.ready.insert(Token::SparseTun);
            if self.deferred.is_some_and(|turns| turns < MAX_DEFERRED) {
                return Ok(Progress::More);
            }
        }
        self.drain_queue(shared, QueueKind::Bulk)
    }

    /// Sends the packets in one of this worker's queues of the device.
    pub(super) fn drain_queue(
        &mut self,
        shared: &Shared<M>,
        kind: QueueKind,
    ) -> Result<Progress, DaemonError> {
        let queues = Arc::clone(&self.queues);
        let Some(tun) = queues.get(self.number, kind).filter(|tun| tun.is_exclusive()) else {
            return Ok(Progress::Drained);
        };
        let mut left = BUDGET;
        let mut bytes = 0;
        let mut is_first = true;
        while left > 0 && bytes < BYTES {
            if self.blocked.is_some() {
                // packets stay in the tun's queue until the socket has room; then its token is
                // posted again
                return Ok(Progress::Drained);
            }
            match tun.receive(&mut self.packet) {
                Ok(length) => {
                    bytes += length;
                    let packets = self.send_packet(shared, length)?;
                    left = left.saturating_sub(packets);
                    if kind == QueueKind::Sparse && length > SMALL {
                        self.large_until = self.now + LARGE;
                        if packets >= BULK_PACKETS {
                            self.deferred = Some(self.deferred.map_or(0, |turns| turns.saturating_add(1)));
                        }
                    }
                    let sends_at_once = std::mem::take(&mut is_first) && !self.send_batch.is_bulk();
                    if sends_at_once {
                        self.flush(shared)?;
                    } else if self.send_batch.should_send() {
                        // what is read next may fill the last message
                        self.send_batch(shared, true)?;
                    }
                }
                Err(error) => match error_class::of_tun(&error) {
                    // a device that is going away is reported by another event
                    ErrorClass::WouldBlock
                    | ErrorClass::SourceAddressLost
                    | ErrorClass::Drop(DropReason::TunDown) => {
                        if kind == QueueKind::Sparse {
                            self.deferred = None;
                        }
                        self.flush(shared)?;
                        return Ok(Progress::Drained);
                    }
                    ErrorClass::Fatal => return Err(self.tun_gone(shared)),
                    // that packet is lost, such as one for which the driver has no header; more may
                    // follow
                    ErrorClass::Drop(reason) => {
                        self.count_drops(reason, 1, None);
                        left -= 1;
                    }
                },
            }
        }
        self.flush(shared)?;
        Ok(Progress::More)
    }

    pub(super) fn tun_gone(&mut self, shared: &Shared<M>) -> DaemonError {
        DaemonError::TunGone(shared.with(self, |_, core, _| core.name.clone()))
    }

    /// Handles the `length` bytes read last, and returns the number of packets in them.
    fn send_packet(&mut self, shared: &Shared<M>, length: usize) -> Result<usize, DaemonError> {
        let (split, packet) = match self.parse_packet(length) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.count_drops(reason, 1, None);
                return Ok(1);
            }
        };
        let lengths = split.lengths();
        self.prepare_flow(&packet, lengths);
        if let Some((route, sealing)) = M::route_without_lock(shared, self, packet.clone(), lengths) {
            return self.send_by(shared, route, sealing, split, packet, length);
        }
        let decision = shared.with(self, |mode, core, worker| {
            let bytes = worker.packet.get(packet.clone()).unwrap_or_default();
            match mode.route(core, bytes, lengths) {
                Ok(RouteDecision::Stage(owner)) => {
                    worker.keep(mode, core, owner, split, packet.clone(), M::stage);
                    None
                }
                Ok(RouteDecision::Limit(owner)) => {
                    worker.keep(mode, core, owner, split, packet.clone(), M::limit);
                    None
                }
                Ok(RouteDecision::Send(route, sealing)) => Some((route, sealing)),
                Err(reason) => {
                    core.count_drops(reason, lengths.count, None);
                    if reason == DropReason::OwnTun {
                        core.warn_routing_loop();
                    }
                    None
                }
            }
        });
        match decision {
            Some((route, sealing)) => self.send_by(shared, route, sealing, split, packet, length),
            None => Ok(lengths.count),
        }
    }

    /// Sends the packets of the `length` bytes read last by a route.
    fn send_by(
        &mut self,
        shared: &Shared<M>,
        route: Route<M>,
        sealing: M::Sealing,
        mut split: Split,
        packet: Range<usize>,
        length: usize,
    ) -> Result<usize, DaemonError> {
        let mut lengths = split.lengths();
        let max_payload = max_payload(route.remote) - M::HEADROOM - M::TAG;
        if lengths.each > max_payload {
            self.send_too_big(packet, max_payload, lengths);
            return Ok(lengths.count);
        }
        if packet.len() > SMALL && self.is_uplink_congested(&route, packet.len()) {
            self.signal_congestion(&mut split, length);
            lengths = split.lengths();
            if lengths.count == 0 {
                return Ok(1);
            }
        }
        trace!(packets = lengths.count, length = packet.len(), "packet to the peer");
        self.count_tx(lengths);
        self.pending = Some(Pending { split, packet, route, sealing });
        self.seal_pending(shared)?;
        Ok(lengths.count)
    }

    /// Parses the data read: returns how to split it, and the range of the packet.
    fn parse_packet(&mut self, length: usize) -> Result<(Split, Range<usize>), DropReason> {
        let header_len = self.tun.layout().map_or(0, virtio::Layout::len);
        let clamped_to = self.clamps_mss.then(|| self.mtu());
        let read = self.packet.get_mut(..length).unwrap_or_default();
        let header = match self.tun.layout() {
            Some(layout) => virtio::Header::parse(read, layout).map_err(|_| DropReason::Malformed)?.0,
            None => virtio::Header::default(),
        };
        let packet = read.get_mut(header_len..).unwrap_or_default();
        inner::validate(packet)?;
        if let Some(mtu) = clamped_to {
            mss::clamp(packet, mtu, header.checksum.is_some());
        }
        let split = Split::new(&header, packet).map_err(|_| DropReason::Malformed)?;
        Ok((split, header_len..length))
    }

    /// Records bulk traffic. A small packet of another flow does not join a message of bulk
    /// traffic, with which it would wait at the receiver.
    fn prepare_flow(&mut self, packet: &Range<usize>, lengths: PacketLengths) {
        let packet = self.packet.get(packet.clone()).unwrap_or_default();
        if lengths.count >= BULK_PACKETS {
            self.queues.record_bulk(packet, self.now);
        } else if packet.len() <= SMALL && self.send_batch.is_bulk() && !self.queues.is_bulk(packet, self.now)
        {
            self.send_batch.close_messages();
        }
    }

    /// Passes copies of the packets to the mode, which queues them by `push`.
    fn keep(
        &mut self,
        mode: &mut M,
        core: &mut Core,
        owner: M::Owner,
        mut split: Split,
        packet: Range<usize>,
        push: impl Fn(&mut M, &mut Core, M::Owner, &[u8]) -> Result<(), DropReason>,
    ) {
        let packet = self.packet.get(packet).unwrap_or_default();
        // the receive buffer is empty while the tun is read
        let room = self.recv_buffer.bytes_mut();
        while let Some(len) = split.write_next(packet, room) {
            let one = room.get(..len).unwrap_or_default();
            match push(mode, core, owner, one) {
                Ok(()) => {
                    if let Some(counters) = self.counters.get(self.number) {
                        counters.count_tx(1, len);
                    }
                }
                Err(reason) => core.count_drop(reason, None),
            }
        }
    }

    /// Returns true if the sender of packets that are sent by this route must be told to slow down.
    fn is_uplink_congested(&mut self, route: &SendRoute<SocketRef<M::Owner>>, bytes: usize) -> bool {
        let look = || {
            let waiting = route.socket.memory().ok()?.send_queue;
            Some(SocketQueue { sent: route.socket.sent(), waiting })
        };
        self.uplinks.handle_packet(route.owner.id, !route.is_connected, bytes, self.now, look)
    }

    /// Tells the sender of the `length` bytes read last to slow down: marks the packet as
    /// congested, or drops it, or the first packet of a super-packet.
    fn signal_congestion(&mut self, split: &mut Split, length: usize) {
        let header_len = self.tun.layout().map_or(0, virtio::Layout::len);
        let Some(packet) = self.packet.get_mut(header_len..length) else { return };
        if ecn::is_capable(packet) {
            ecn::mark(packet);
            // the checksums of segments are computed from the headers
            if let Ok((marked, _)) = self.parse_packet(length) {
                *split = marked;
            }
            return;
        }
        // the receive buffer is empty while the tun is read
        if split.write_next(packet, self.recv_buffer.bytes_mut()).is_some() {
            self.count_drops(DropReason::Congested, 1, None);
        }
    }

    fn count_tx(&self, lengths: PacketLengths) {
        if let Some(counters) = self.counters.get(self.number) {
            counters.count_tx(lengths.count, lengths.sum(|len| len));
        }
    }

    /// Sends an ICMP error with the MTU that a datagram can carry to the sender of a packet that is
    /// too big.
    fn send_too_big(&mut self, packet: Range<usize>, max_payload: usize, lengths: PacketLengths) {
        self.count_drops(DropReason::TooBig, lengths.count, None);
        if self.icmp_errors.allow(self.now).is_none() {
            return;
        }
        let mut reply = [0; icmp_error::MAX_ERROR_LEN];
        let packet = self.packet.get(packet).unwrap_or_default();
        if let Some(reply) =
            icmp_error::packet_too_big(packet, max_payload, &mut reply).and_then(|len| reply.get(..len))
        {
            // if the device is full the reply is lost, as on any router
            let _ = self.write_packet(self.number, reply);
        }
    }

    /// Writes one packet to the queue of the tun for its flow, of a worker.
    pub(super) fn write_packet(&self, queue: usize, packet: &[u8]) -> std::io::Result<()> {
        write_packet(self.queues.for_write(queue, packet, self.now).unwrap_or(&self.tun), packet)
    }

    /// Encrypts the pending packets into the batch, and sends the batch whenever it is full.
    fn seal_pending(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        while let Some(len) = pending.split.next_len() {
            let Some(slot) = self.send_batch.reserve(M::HEADROOM + len + M::TAILROOM) else {
                self.flush(shared)?;
                if self.blocked.is_some() {
                    self.pending = Some(pending);
                    return Ok(());
                }
                continue;
            };
            let packet = self.packet.get(pending.packet.clone()).unwrap_or_default();
            let room = slot.get_mut(M::HEADROOM..).unwrap_or_default();
            let written = pending.split.write_next(packet, room);
            match written.and_then(|len| M::seal(&mut pending.sealing, slot, len)) {
                Some(len) => self.send_batch.commit(len, &pending.route),
                None => {
                    let rest = pending.split.remaining() + usize::from(written.is_some());
                    self.count_drops(DropReason::Buffer, rest, Some(pending.route.remote));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends the batch, and then the packets that had no room in it. Remembers a socket that is
    /// full.
    pub(super) fn flush(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        self.send_batch(shared, false)
    }

    /// Does the same; with `only_full`, a last message that has room for more stays in the batch.
    fn send_batch(&mut self, shared: &Shared<M>, only_full: bool) -> Result<(), DaemonError> {
        loop {
            let outcome = match only_full {
                true => self.send_batch.send_full(self.now),
                false => self.send_batch.send(self.now),
            };
            match outcome {
                SendOutcome::All => {
                    self.unblock()?;
                    if self.pending.is_none() {
                        return Ok(());
                    }
                    self.seal_pending(shared)?;
                    if self.send_batch.is_empty() || self.blocked.is_some() {
                        return Ok(());
                    }
                }
                SendOutcome::Blocked(route) => return self.block(&route),
                SendOutcome::SuspectError { reason, route } => {
                    shared.with(self, |mode, core, _| mode.handle_suspect_error(core, &route, reason));
                }
                SendOutcome::Failed { class, route, datagrams } => {
                    let other = shared
                        .with(self, |mode, core, _| mode.handle_send_error(core, class, &route, datagrams))?;
                    match other {
                        Some(route) => self.send_batch.reroute(route),
                        None => self.send_batch.skip(),
                    }
                }
            }
        }
    }

    /// Stops reading from the tun until the route's socket has room.
    fn block(&mut self, route: &SendRoute<SocketRef<M::Owner>>) -> Result<(), DaemonError> {
        let id = route.owner.id;
        if self.blocked.as_ref().is_some_and(|(blocked, _)| *blocked == id) {
            return Ok(());
        }
        // if still watched, another socket would wake the loop for each datagram that it has sent
        self.unblock()?;
        self.watch_writable(route.socket.as_ref(), id, true)?;
        self.blocked = Some((id, Arc::clone(&route.socket)));
        Ok(())
    }

    fn unblock(&mut self) -> Result<(), DaemonError> {
        if let Some((id, socket)) = self.blocked.take() {
            self.watch_writable(socket.as_ref(), id, false)?;
            self.post(Token::SparseTun);
            self.post(Token::Tun);
            self.post(Token::Limited);
        }
        Ok(())
    }
}
