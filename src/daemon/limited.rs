//! Packets that had to wait for the rate of their peer, and may leave now.

use super::budget::{BUDGET, Progress};
use super::carry::Carry;
use super::error::DaemonError;
use super::shared::Shared;
use super::worker::Worker;
use crate::net::recv_buffer::SLOT;

impl<M: Carry> Worker<M> {
    /// Sends the packets of this worker's peers, and writes those from them to the tun.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more.
    pub(super) fn drain_limited(&mut self, shared: &Shared<M>) -> Result<Progress, DaemonError> {
        let sent = self.send_limited(shared)?;
        let written = self.write_limited(shared)?;
        Ok(if sent == Progress::More || written == Progress::More {
            Progress::More
        } else {
            Progress::Drained
        })
    }

    /// Sends limited packets. While a socket is full they wait; its event continues here.
    fn send_limited(&mut self, shared: &Shared<M>) -> Result<Progress, DaemonError> {
        for _ in 0..BUDGET {
            if self.blocked.is_some() {
                return Ok(Progress::Drained);
            }
            if self.send_batch.should_send() {
                // what is left has room for the largest packet
                self.flush(shared)?;
                continue;
            }
            let progress = shared
                .with(self, |mode, core, worker| mode.poll_limited_transmit(core, &mut worker.send_batch));
            if progress == Progress::Drained {
                self.flush(shared)?;
                return Ok(Progress::Drained);
            }
        }
        self.flush(shared)?;
        Ok(Progress::More)
    }

    fn write_limited(&mut self, shared: &Shared<M>) -> Result<Progress, DaemonError> {
        // the receive buffer is empty between two events
        let mut start = 0;
        let mut progress = Progress::More;
        for _ in 0..BUDGET {
            if self.recv_buffer.bytes().len() - start < SLOT {
                self.write_packets(shared)?;
                start = 0;
            }
            let polled = shared.with(self, |mode, core, worker| {
                let room = worker.recv_buffer.bytes_mut().get_mut(start..).unwrap_or_default();
                let len = mode.poll_limited_packet(core, room)?;
                Some((len, mode.device_queue(core, room.get(..len).unwrap_or_default())))
            });
            let Some((len, queue)) = polled else {
                progress = Progress::Drained;
                break;
            };
            self.select_queue(shared, queue)?;
            self.queue_packet(shared, start..start + len)?;
            start += len;
        }
        self.write_packets(shared)?;
        Ok(progress)
    }
}
