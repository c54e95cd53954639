//! Events for the caller, in the order in which they occurred for each peer.

use super::{Interface, list_events};
use crate::wireguard::{Event, PeerId};

impl Interface {
    /// Returns the next event; the caller repeats the call until it returns `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some((from, public)) = self.unknown.take() {
            return Some(Event::UnknownPeer { from, public });
        }
        while let Some(id) = self.events.front().copied() {
            if let Some(mut peer) = self.peers.lock(id) {
                if let Some(event) = peer.poll_event() {
                    return Some(event);
                }
                peer.is_in_events = false;
            }
            self.events.pop_front();
        }
        None
    }

    /// Adds a peer with pending events to the list.
    pub(super) fn queue_events(&mut self, id: PeerId) {
        if let Some(mut peer) = self.peers.lock(id) {
            list_events(&mut peer, &mut self.events);
        }
    }
}
