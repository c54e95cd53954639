//! The receive path: reads datagrams in batches, decrypts them in place, coalesces the packets and
//! writes them to the tun from there.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use tracing::trace;

use super::budget::{BUDGET, BYTES, Progress};
use super::carry::Carry;
use super::error::{DaemonError, system};
use super::shared::Shared;
use super::sockets_in_use::SocketInfo;
use super::token::{SocketId, Token};
use super::tx::write_packet;
use super::worker::Worker;
use crate::messages::SocketRole;
use crate::net::error_class::{self, ErrorClass};
use crate::net::recv_buffer::{SLOT, SLOTS};
use crate::net::udp::UdpSocket;
use wontun_packet::DropReason;
use wontun_packet::coalesce::{CoalesceError, Coalescer, Gather, MAX_PIECES};
use wontun_packet::mss;

/// Number of datagrams per turn from the socket for handshake messages, which also bounds the
/// cookie replies, and the part of a turn that a flood of them takes from data. With fewer, the
/// kernel drops more of them before they are read.
const HANDSHAKE_BUDGET: usize = 16;

/// Number of turns for which bulk traffic waits in a peer's connected socket before that is given
/// up.
const MAX_WAITING_TURNS: u32 = 16;

/// Minimum length of a batch of datagrams that is handled as a super-packet, in bytes.
const BULK: usize = SLOT / 2;

impl<M: Carry> Worker<M> {
    pub(super) fn drain_socket(&mut self, shared: &Shared<M>, id: SocketId) -> Result<Progress, DaemonError> {
        if self.blocked.is_some() {
            self.flush(shared)?;
        }
        let found = self.view.load().sockets.get(id);
        let found = found.or_else(|| shared.with(self, |mode, _, _| mode.sockets().get(id)));
        // closed meanwhile, perhaps because of a datagram
        let Some((socket, socket_info)) = found else { return Ok(Progress::Drained) };
        let is_for_handshakes = socket_info.role == SocketRole::Handshakes;
        if is_for_handshakes && !self.begin_handshakes(Token::Socket(id))? {
            return Ok(Progress::Drained);
        }
        self.inbound.set_reading_small(socket_info.role == SocketRole::SmallData);
        let budget = if is_for_handshakes { HANDSHAKE_BUDGET } else { BUDGET };
        let mut left = budget;
        // A bulk sender fills a whole buffer slot; one call receives two of them, since a
        // super-packet may have been sent as two messages. With many small senders, one call
        // receives many.
        let mut count = if self.inbound.is_bulk(id) { 2 } else { SLOTS };
        let mut progress = Progress::More;
        let mut bytes = 0;
        while left > 0 && bytes < BYTES {
            count = count.min(left);
            match socket.receive(&mut self.recv_buffer, count) {
                Ok(batches) => {
                    let (datagrams, length) = self.receive_batches(shared, batches, socket_info)?;
                    left = left.saturating_sub(datagrams);
                    bytes += length;
                    if batches < count {
                        // that was all: later datagrams and errors raise a new edge
                        progress = Progress::Drained;
                        break;
                    }
                    let is_bulk = datagrams > 4 * batches;
                    self.inbound.record_read(id, is_bulk);
                    count = if is_bulk { 2 } else { SLOTS };
                }
                Err(error) => {
                    let reason = match error_class::of_socket(&error) {
                        ErrorClass::WouldBlock => {
                            progress = Progress::Drained;
                            break;
                        }
                        ErrorClass::Drop(reason) => reason,
                        ErrorClass::SourceAddressLost => DropReason::Unreachable,
                        ErrorClass::Fatal => return Err(system("receiving from a socket")(error)),
                    };
                    shared.with(self, |mode, core, _| {
                        // an error of a draining socket says nothing about the peer's current
                        // endpoint
                        if socket_info.draining.is_some() {
                            core.count_drop(reason, None);
                        } else {
                            mode.handle_socket_error(core, id, reason);
                        }
                    });
                    left -= 1;
                }
            }
        }
        if socket_info.role == SocketRole::Data {
            let waits = progress == Progress::More && bytes >= BYTES;
            let turns = self.inbound.record_turn(id, waits);
            if turns >= MAX_WAITING_TURNS && socket_info.bound.is_some() && socket_info.draining.is_none() {
                self.release_socket(shared, &socket, socket_info)?;
            }
            self.write_held(shared, progress == Progress::Drained && self.inbound.is_awaited(id))?;
        } else if self.inbound.holds() {
            // they wait until what came before them was read
            let data = self.view.load().sockets.data_beside(id);
            self.inbound.set_awaited(data);
            self.ready.extend(data.map(Token::Socket));
        }
        drop(socket);
        if socket_info.draining.is_some() {
            let taken = budget - left;
            let is_closed = progress == Progress::Drained;
            shared.with(self, |mode, _, _| mode.sockets_mut().record_drained(id, taken, is_closed));
        }
        Ok(progress)
    }

    /// Gives up the connected socket of a peer whose bulk traffic waits in it, if there are sockets
    /// in which its small messages need not wait behind that. What is in the socket is handled
    /// first, so that the order is kept.
    fn release_socket(
        &mut self,
        shared: &Shared<M>,
        socket: &UdpSocket,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        // what waits here would be sent by it
        if !self.send_batch.is_empty() || self.pending.is_some() {
            return Ok(());
        }
        let is_released = shared.with(self, |mode, core, _| mode.release_socket(core, socket_info.id));
        if !is_released || socket.stop_receiving().is_err() {
            return Ok(());
        }
        // nothing is left after an error, either
        while let Ok(batches) = socket.receive(&mut self.recv_buffer, SLOTS) {
            self.receive_batches(shared, batches, socket_info)?;
        }
        self.inbound.record_turn(socket_info.id, false);
        Ok(())
    }

    /// Writes small packets whose turn has come, by the message that was recorded last, after what
    /// was collected before it.
    pub(super) fn write_passed(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        if !self.inbound.has_passed() {
            return Ok(());
        }
        self.write_packets(shared)?;
        self.write_held(shared, false)
    }

    /// Writes small packets that waited for others of their flow.
    fn write_held(&mut self, shared: &Shared<M>, is_empty: bool) -> Result<(), DaemonError> {
        if !self.inbound.holds() {
            return Ok(());
        }
        let (queues, now) = (Arc::clone(&self.queues), self.now);
        while let Some((queue, packet)) = self.inbound.poll(is_empty, now) {
            let queue = queues.for_write(queue, packet, now).unwrap_or(&self.tun);
            let (written, length) = (write_packet(queue, packet), packet.len());
            self.count_written(shared, written, 1, length)?;
        }
        Ok(())
    }

    /// Handles the batches received last, and returns the number of datagrams and bytes in them.
    fn receive_batches(
        &mut self,
        shared: &Shared<M>,
        batches: usize,
        socket_info: SocketInfo,
    ) -> Result<(usize, usize), DaemonError> {
        let (mut datagrams, mut bytes) = (0, 0);
        for number in 0..batches {
            let Some(batch) = self.recv_buffer.batch(number) else {
                self.count_drops(DropReason::SocketError, 1, None);
                datagrams += 1;
                continue;
            };
            datagrams += batch.count();
            bytes += batch.length;
            // a super-packet that a message of bulk data ends with may continue in the next one;
            // small packets are collected as long as there is room
            let is_bulk = batch.length > BULK;
            if is_bulk && self.coalescer.as_ref().is_some_and(|it| it.room() < batch.count()) {
                self.write_with(shared, Coalescer::poll_complete_write)?;
            }
            M::receive_batch(shared, self, &batch, socket_info)?;
        }
        self.write_packets(shared)?;
        Ok((datagrams, bytes))
    }

    /// Selects the queue of the device to which the packets added next are written.
    pub(super) fn select_queue(&mut self, shared: &Shared<M>, queue: usize) -> Result<(), DaemonError> {
        if queue == self.write_queue {
            return Ok(());
        }
        let written = self.write_packets(shared);
        self.write_queue = queue;
        written
    }

    /// Adds a packet in the receive buffer that is for the tun. It is written by the next
    /// [`Self::write_packets`], or at once if there is no coalescing.
    pub(super) fn queue_packet(
        &mut self,
        shared: &Shared<M>,
        range: Range<usize>,
    ) -> Result<(), DaemonError> {
        if let Some(mtu) = self.clamps_mss.then(|| self.mtu())
            && let Some(packet) = self.recv_buffer.bytes_mut().get_mut(range.clone())
        {
            mss::clamp(packet, mtu, false);
        }
        let Some(coalescer) = &mut self.coalescer else {
            let packet = self.recv_buffer.bytes().get(range).unwrap_or_default();
            let written = self.write_packet(self.write_queue, packet);
            return self.count_written(shared, written, 1, packet.len());
        };
        match coalescer.handle_packet(self.recv_buffer.bytes(), range.clone()) {
            Ok(()) => Ok(()),
            Err(CoalesceError::Full) => {
                self.write_packets(shared)?;
                if let Some(coalescer) = &mut self.coalescer {
                    // the coalescer is empty now
                    let _ = coalescer.handle_packet(self.recv_buffer.bytes(), range);
                }
                Ok(())
            }
            Err(CoalesceError::OutOfBounds) => {
                self.count_drops(DropReason::Buffer, 1, None);
                Ok(())
            }
        }
    }

    /// Writes the collected packets to the tun.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn write_packets(&mut self, shared: &Shared<M>) -> Result<(), DaemonError> {
        self.write_with(shared, Coalescer::poll_write)
    }

    /// Writes the packets that `poll` returns to the tun.
    fn write_with(
        &mut self,
        shared: &Shared<M>,
        poll: for<'a> fn(&'a mut Coalescer, &'a [u8]) -> Option<Gather<'a>>,
    ) -> Result<(), DaemonError> {
        // taken out, because the written data borrows it
        let Some(mut coalescer) = self.coalescer.take() else { return Ok(()) };
        let mut result = Ok(());
        while let Some(gather) = poll(&mut coalescer, self.recv_buffer.bytes()) {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let mut count = 0;
            for (piece, bytes) in pieces.iter_mut().zip(gather.pieces()) {
                *piece = IoSlice::new(bytes);
                count += 1;
            }
            let headers = gather.headers();
            self.inbound.record_packets(headers, gather.packet_bytes(), self.now);
            let queue = self.queues.for_write(self.write_queue, headers, self.now).unwrap_or(&self.tun);
            let written = queue.send(pieces.get(..count).unwrap_or_default());
            let counted = self.count_written(shared, written, gather.packets(), gather.packet_bytes());
            result = result.and(counted);
        }
        self.coalescer = Some(coalescer);
        result
    }

    fn count_written(
        &mut self,
        shared: &Shared<M>,
        written: std::io::Result<()>,
        packets: usize,
        bytes: usize,
    ) -> Result<(), DaemonError> {
        match written {
            Ok(()) => {
                trace!(packets, bytes, "packet from the peer");
                if let Some(counters) = self.counters.get(self.number) {
                    counters.count_rx(packets, bytes);
                }
            }
            Err(error) => match error_class::of_tun(&error) {
                ErrorClass::Fatal => return Err(self.tun_gone(shared)),
                ErrorClass::Drop(reason) => self.count_drops(reason, packets, None),
                ErrorClass::WouldBlock | ErrorClass::SourceAddressLost => {
                    self.count_drops(DropReason::QueueFull, packets, None);
                }
            },
        }
        Ok(())
    }
}
