//! Packets that wait for a handshake.

use std::collections::VecDeque;

/// Maximum number of packets that wait for one peer; one more displaces the oldest.
pub const MAX_STAGED: usize = 128;

/// The waiting packets of one peer, oldest first.
#[derive(Default)]
pub(super) struct Staged(VecDeque<Box<[u8]>>);

impl Staged {
    /// Adds a copy of `packet`; returns true if the oldest was dropped for it.
    pub(super) fn push(&mut self, packet: &[u8]) -> bool {
        let full = self.0.len() >= MAX_STAGED;
        if full {
            self.0.pop_front();
        }
        self.0.push_back(packet.into());
        full
    }

    /// Removes and returns the oldest packet.
    pub(super) fn pop(&mut self) -> Option<Box<[u8]>> {
        let packet = self.0.pop_front();
        if self.0.is_empty() {
            // an idle peer keeps no memory for this
            self.0 = VecDeque::new();
        }
        packet
    }

    /// Drops all packets; returns their number.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_128_wait() {
        let mut staged = Staged::default();
        let pushed_out = (0..200_u8).filter(|i| staged.push(&[*i])).count();
        assert_eq!((pushed_out, staged.len()), (72, MAX_STAGED));
        assert_eq!(staged.pop().as_deref(), Some(&[72][..]));
        assert_eq!(staged.clear(), 127);
        assert!(staged.is_empty());
    }
}
