//! From the wire to the tun: datagrams are received many at once, opened where they lie, and what is in them is joined and
//! written from there.

use std::io::IoSlice;
use std::ops::Range;

use tracing::trace;

use super::budget::{BUDGET, Progress};
use super::error::{DeviceError, system};
use super::mode::Mode;
use super::shared::Shared;
use super::sockets::Entrance;
use super::token::{SockId, Token};
use super::worker::Worker;
use crate::counters::DropReason;
use crate::io::fault::{self, Fault};
use crate::io::mailbox::{Arrival, SLOT, SLOTS};
use crate::packet::coalesce::{CoalesceError, MAX_PIECES};
use crate::packet::mss;

/// Datagrams that the socket for handshake messages may hand over in one turn, and so the cookie
/// replies: a tenth of what a turn with data takes, so that a flood of them leaves the rest to the
/// data.
const HANDSHAKE_BUDGET: usize = 16;

/// Bytes of an arrival from which on it is taken for a super-packet.
const BULK: usize = SLOT / 2;

/// A mode that takes received datagrams.
pub trait Receive: Mode {
    /// Takes datagrams of one sender, which lie in the worker's mailbox, and hands what is in them to
    /// `Worker::take_inner`.
    ///
    /// # Errors
    /// As for [`Mode::start`].
    fn take_arrival(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        arrival: &Arrival,
        entrance: Entrance,
    ) -> Result<(), DeviceError>;
}

impl<M: Receive> Worker<M> {
    pub(super) fn drain_socket(&mut self, shared: &Shared<M>, id: SockId) -> Result<Progress, DeviceError> {
        if self.blocked.is_some() {
            self.flush(shared)?;
        }
        let found = shared.with(self, |mode, _, _| mode.sockets().get(id));
        // closed by now, perhaps by what it received
        let Some((socket, entrance)) = found else { return Ok(Progress::Drained) };
        if entrance.is_for_handshakes && !self.begin_handshakes(Token::Sock(id))? {
            return Ok(Progress::Drained);
        }
        let budget = if entrance.is_for_handshakes { HANDSHAKE_BUDGET } else { BUDGET };
        let mut left = budget;
        // Who sends in bulk fills an arrival; one call takes two of them, since a super-packet may have been sent as two
        // messages. Where many send little, one call takes many.
        let mut count = SLOTS;
        let mut progress = Progress::More;
        while left > 0 {
            count = count.min(left);
            match socket.receive(&mut self.mailbox, count) {
                Ok(arrivals) => {
                    let datagrams = self.take_arrivals(shared, arrivals, entrance)?;
                    left = left.saturating_sub(datagrams);
                    if arrivals < count {
                        // that was all: what comes later, an error included, is a new edge
                        progress = Progress::Drained;
                        break;
                    }
                    count = if datagrams > 4 * arrivals { 2 } else { SLOTS };
                }
                Err(error) => {
                    let reason = match fault::of_socket(&error) {
                        Fault::WouldBlock => {
                            progress = Progress::Drained;
                            break;
                        }
                        Fault::Drop(reason) => reason,
                        Fault::SourceGone => DropReason::Unreachable,
                        Fault::Dead => return Err(system("receiving from a socket")(error)),
                    };
                    shared.with(self, |mode, core, _| {
                        // of a socket that is out of use it says nothing about where the peer is now
                        if entrance.retired.is_some() {
                            core.count_drop(reason, None);
                        } else {
                            mode.handle_bounce(core, reason);
                        }
                    });
                    left -= 1;
                }
            }
        }
        drop(socket);
        if entrance.retired.is_some() {
            let taken = budget - left;
            let is_closed = progress == Progress::Drained;
            shared.with(self, |mode, _, _| mode.sockets_mut().finish(id, taken, is_closed));
        }
        Ok(progress)
    }

    /// Takes what was received last, and gives how many datagrams that were.
    fn take_arrivals(
        &mut self,
        shared: &Shared<M>,
        arrivals: usize,
        entrance: Entrance,
    ) -> Result<usize, DeviceError> {
        let mut datagrams = 0;
        for number in 0..arrivals {
            let Some(arrival) = self.mailbox.arrival(number) else {
                self.count_drops(DropReason::SocketError, 1, None);
                datagrams += 1;
                continue;
            };
            datagrams += arrival.count();
            // bulk that was sent as one message is mostly one super-packet, and is to be written as one; of small packets
            // as many as fit
            let is_bulk = arrival.length > BULK;
            if is_bulk && self.coalescer.as_ref().is_some_and(|it| it.room() < arrival.count()) {
                self.deliver(shared)?;
            }
            M::take_arrival(shared, self, &arrival, entrance)?;
        }
        self.deliver(shared)?;
        Ok(datagrams)
    }

    /// Takes a packet that is to go to the tun and lies there in the mailbox. It is written by the next
    /// [`Self::deliver`], or at once where nothing is joined.
    pub(super) fn take_inner(&mut self, shared: &Shared<M>, place: Range<usize>) -> Result<(), DeviceError> {
        if self.clamps_mss
            && let Some(packet) = self.mailbox.bytes_mut().get_mut(place.clone())
        {
            mss::clamp(packet, self.mtu, false);
        }
        let Some(coalescer) = &mut self.coalescer else {
            let packet = self.mailbox.bytes().get(place).unwrap_or_default();
            let written = self.write_one(packet);
            return self.count_delivered(shared, written, 1, packet.len());
        };
        match coalescer.handle_packet(self.mailbox.bytes(), place.clone()) {
            Ok(()) => Ok(()),
            Err(CoalesceError::Full) => {
                self.deliver(shared)?;
                if let Some(coalescer) = &mut self.coalescer {
                    // it is empty now
                    let _ = coalescer.handle_packet(self.mailbox.bytes(), place);
                }
                Ok(())
            }
            Err(CoalesceError::OutOfBounds) => {
                self.count_drops(DropReason::Buffer, 1, None);
                Ok(())
            }
        }
    }

    /// Writes what was taken to the tun.
    ///
    /// # Errors
    /// The device is gone.
    fn deliver(&mut self, shared: &Shared<M>) -> Result<(), DeviceError> {
        // taken out, since what is written borrows it
        let Some(mut coalescer) = self.coalescer.take() else { return Ok(()) };
        let mut result = Ok(());
        while let Some(gather) = coalescer.poll_write(self.mailbox.bytes()) {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let mut count = 0;
            for (piece, bytes) in pieces.iter_mut().zip(gather.pieces()) {
                *piece = IoSlice::new(bytes);
                count += 1;
            }
            let written = self.tun.send(pieces.get(..count).unwrap_or_default());
            let told = self.count_delivered(shared, written, gather.packets(), gather.packet_bytes());
            result = result.and(told);
        }
        self.coalescer = Some(coalescer);
        result
    }

    fn count_delivered(
        &mut self,
        shared: &Shared<M>,
        written: std::io::Result<()>,
        packets: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        match written {
            Ok(()) => {
                trace!(packets, bytes, "packet from the peer");
                if let Some(counters) = self.counters.get(self.number) {
                    counters.count_rx(packets, bytes);
                }
            }
            Err(error) => match fault::of_tun(&error) {
                Fault::Dead => return Err(self.tun_gone(shared)),
                Fault::Drop(reason) => self.count_drops(reason, packets, None),
                Fault::WouldBlock | Fault::SourceGone => {
                    self.count_drops(DropReason::QueueFull, packets, None);
                }
            },
        }
        Ok(())
    }
}
