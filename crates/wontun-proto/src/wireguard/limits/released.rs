//! Peers of one receiver with limited packets that may leave now.

use std::collections::VecDeque;

use super::super::index::PeerId;
use super::admission::Direction;

/// Peers of one receiver with limited packets that may leave now.
#[derive(Default)]
pub(in super::super) struct Released {
    up: VecDeque<PeerId>,
    down: VecDeque<PeerId>,
}

impl Released {
    /// Returns true if there are none.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    /// Returns the peers with packets in this direction.
    pub(in super::super) const fn peers(&mut self, direction: Direction) -> &mut VecDeque<PeerId> {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}
