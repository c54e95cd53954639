//! The packets that wait, in two buffers that grow to their limit and are reused.

use std::collections::VecDeque;

use wontun_packet::flow;

/// Number of flows that are told apart. Flows may share a number, and only a peer's own do so.
const FLOWS: usize = 256;

/// Returns the number of the packet's flow.
fn flow_number(packet: &[u8]) -> u8 {
    let [first, ..] = flow::hash(packet).to_be_bytes();
    first
}

/// A queue of packets, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    records: VecDeque<Record>,
    bytes: VecDeque<u8>,
    /// Number of packets of each flow.
    flows: [u16; FLOWS],
}

#[derive(Clone, Copy, Debug)]
struct Record {
    len: usize,
    flow: u8,
    is_marked: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { records: VecDeque::new(), bytes: VecDeque::new(), flows: [0; FLOWS] }
    }
}

impl Queue {
    /// Returns the number of packets.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the sum of their lengths.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns true if a packet of this one's flow waits, or possibly does.
    pub(super) fn has_flow_of(&self, packet: &[u8]) -> bool {
        !self.records.is_empty() && self.flows.get(usize::from(flow_number(packet))).is_some_and(|it| *it > 0)
    }

    /// Adds a copy of a packet, and the mark that it leaves with.
    pub(super) fn push(&mut self, packet: &[u8], is_marked: bool) {
        let flow = flow_number(packet);
        self.records.push_back(Record { len: packet.len(), flow, is_marked });
        self.bytes.extend(packet);
        if let Some(count) = self.flows.get_mut(usize::from(flow)) {
            *count = count.saturating_add(1);
        }
    }

    /// Moves the oldest packet to the front of `out`, unless it is too long for it. Returns its
    /// length and mark.
    pub(super) fn pop(&mut self, out: &mut [u8]) -> Option<(usize, bool)> {
        loop {
            let Record { len, flow, is_marked } = self.records.pop_front()?;
            if let Some(count) = self.flows.get_mut(usize::from(flow)) {
                *count = count.saturating_sub(1);
            }
            let room = out.get_mut(..len);
            let fits = room.is_some();
            if let Some(room) = room {
                let (first, second) = self.bytes.as_slices();
                let (one, other) = room.split_at_mut(len.min(first.len()));
                one.copy_from_slice(first.get(..one.len()).unwrap_or_default());
                for (to, from) in other.iter_mut().zip(second) {
                    *to = *from;
                }
            }
            self.bytes.drain(..len.min(self.bytes.len()));
            if fits {
                return Some((len, is_marked));
            }
        }
    }

    /// Drops all packets and frees the buffers; returns the number of packets.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).len()
    }

    /// Returns true if the buffers take memory.
    pub(super) fn has_memory(&self) -> bool {
        self.bytes.capacity() > 0
    }
}
