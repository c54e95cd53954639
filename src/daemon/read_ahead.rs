//! The queue of packets that were read from the TUN device and wait to be encrypted.
//!
//! A super-packet takes a tenth of its time to read. So those that wait in the device are read at
//! once while bulk traffic is being sent: packets of other flows, which are behind them in the
//! device, are found and sent first, and the length of the queue is known.

use std::collections::VecDeque;

use super::congestion::Congestion;
use crate::config::QueueDiscipline;
use wontun_packet::flow;
use wontun_proto::time::Instant;

/// Maximum number of packets in the queue. Their memory is used only if the queue is ever that
/// long.
pub(super) const MAX_QUEUED: usize = 16;
/// Maximum length of a packet that overtakes the queue if no packet of its flow is there: a ping, a
/// name, a voice, an acknowledgement.
const SMALL: usize = 300;

/// The queue of a worker, and the buffers for it.
#[derive(Debug)]
pub(super) struct ReadAhead {
    free: Vec<Box<[u8]>>,
    queued: VecDeque<Queued>,
    /// Bytes that wait.
    bytes: usize,
    congestion: Congestion,
}

#[derive(Debug)]
struct Queued {
    buffer: Box<[u8]>,
    len: usize,
    flow: u8,
}

impl ReadAhead {
    /// Creates a queue with buffers of `size` bytes, in which no packet ever waits if `kind` is the
    /// order of arrival. Nothing is allocated afterwards.
    pub(super) fn new(kind: QueueDiscipline, size: usize) -> Self {
        let capacity = match kind {
            QueueDiscipline::Fq => MAX_QUEUED,
            QueueDiscipline::Fifo => 0,
        };
        Self {
            free: (0..capacity).map(|_| vec![0; size].into_boxed_slice()).collect(),
            queued: VecDeque::with_capacity(capacity),
            bytes: 0,
            congestion: Congestion::default(),
        }
    }

    /// Returns the buffer for the next packet; `None` if the queue is full.
    pub(super) fn buffer(&mut self) -> Option<&mut [u8]> {
        self.free.last_mut().map(|buffer| &mut **buffer)
    }

    /// Handles a read of `len` bytes into the buffer that was returned last, whose packet is behind
    /// `header_len` bytes. Returns true if it overtakes those that wait: it is in `current` then.
    /// Otherwise it is appended.
    pub(super) fn handle_read(&mut self, len: usize, header_len: usize, current: &mut Box<[u8]>) -> bool {
        let Some(mut buffer) = self.free.pop() else { return false };
        let packet = buffer.get(header_len..len).unwrap_or_default();
        let flow = flow::number(packet);
        let is_sparse = packet.len() <= SMALL && self.queued.iter().all(|queued| queued.flow != flow);
        if is_sparse {
            std::mem::swap(&mut buffer, current);
            self.free.push(buffer);
        } else {
            self.bytes += len;
            self.queued.push_back(Queued { buffer, len, flow });
        }
        is_sparse
    }

    /// Exchanges `current` for the first packet, and returns its length in bytes.
    pub(super) fn pop(&mut self, current: &mut Box<[u8]>) -> Option<usize> {
        let Queued { mut buffer, len, .. } = self.queued.pop_front()?;
        self.bytes = self.bytes.saturating_sub(len);
        std::mem::swap(&mut buffer, current);
        self.free.push(buffer);
        Some(len)
    }

    /// Records the length of the queue, once in a turn.
    pub(super) fn sample(&mut self, now: Instant) {
        self.congestion.sample(u32::try_from(self.bytes).unwrap_or(u32::MAX), now);
    }

    /// As [`Congestion::take_signal`].
    pub(super) fn take_signal(&mut self) -> bool {
        self.congestion.take_signal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 2000;

    /// An IPv4 packet of UDP with that source port.
    fn packet(port: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![0; len];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        packet[9] = 17;
        packet[21] = port;
        packet
    }

    /// Reads `packet`, and returns the packet that is to be sent at once.
    fn read(queue: &mut ReadAhead, packet: &[u8]) -> Option<Vec<u8>> {
        let mut current = vec![0; SIZE].into_boxed_slice();
        queue.buffer().unwrap()[2..2 + packet.len()].copy_from_slice(packet);
        let is_sparse = queue.handle_read(2 + packet.len(), 2, &mut current);
        is_sparse.then(|| current[2..2 + packet.len()].to_vec())
    }

    fn pop(queue: &mut ReadAhead) -> Option<Vec<u8>> {
        let mut current = vec![0; SIZE].into_boxed_slice();
        queue.pop(&mut current).map(|len| current[2..len].to_vec())
    }

    #[test]
    fn small_packets_of_other_flows_overtake() {
        let mut queue = ReadAhead::new(QueueDiscipline::Fq, SIZE);
        let (bulk, voice) = (packet(1, 1400), packet(2, 100));
        assert_eq!(read(&mut queue, &bulk), None);
        assert_eq!(read(&mut queue, &voice), Some(voice));
        // none overtakes its own flow
        let last = packet(1, 100);
        assert_eq!(read(&mut queue, &last), None);
        // nor does a large one
        let other = packet(3, 1400);
        assert_eq!(read(&mut queue, &other), None);
        assert_eq!(
            [pop(&mut queue), pop(&mut queue), pop(&mut queue)],
            [Some(bulk), Some(last), Some(other)]
        );
        assert_eq!(pop(&mut queue), None);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_full_queue_reads_no_more() {
        let mut queue = ReadAhead::new(QueueDiscipline::Fq, SIZE);
        for _ in 0..3 {
            for _ in 0..MAX_QUEUED {
                assert_eq!(read(&mut queue, &packet(1, 1400)), None);
            }
            assert!(queue.buffer().is_none());
            for _ in 0..MAX_QUEUED {
                assert!(pop(&mut queue).is_some());
            }
        }
        assert!(ReadAhead::new(QueueDiscipline::Fifo, SIZE).buffer().is_none());
    }
}
