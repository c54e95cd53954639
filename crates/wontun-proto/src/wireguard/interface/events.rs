//! Events for the caller, in the order in which they occurred for each peer.

use super::Interface;
use crate::wireguard::peer::Peer;
use crate::wireguard::{Event, PeerId};

impl Interface {
    /// Returns the next event; the caller repeats the call until it returns `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some((from, public)) = self.unknown.take() {
            return Some(Event::UnknownPeer { from, public });
        }
        while let Some(id) = self.events.front().copied() {
            let peer = self.peers.get_mut(id);
            if let Some(event) = peer.and_then(Peer::poll_event) {
                return Some(event);
            }
            self.events.pop_front();
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_in_events = false;
            }
        }
        None
    }

    /// Adds a peer with pending events to the list.
    pub(super) fn queue_events(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id)
            && !peer.is_in_events
            && peer.has_events()
        {
            peer.is_in_events = true;
            self.events.push_back(id);
        }
    }
}
