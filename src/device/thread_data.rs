//! A worker's buffers: made once, none per packet.

use nix::sys::epoll::EpollEvent;

use super::poll::EVENTS;
use crate::io::udp::CONTROL;
use crate::tunnel::wireguard::message::{DATA_HEADER_LEN, TAG_LEN};
use crate::tunnel::wireguard::padding::PADDING;

/// The largest packet and the largest datagram there can be, rounded up.
const LARGEST: usize = 65_536;
/// Bytes in front of a packet from the tun, where a protocol's header goes.
pub(super) const HEADROOM: usize = DATA_HEADER_LEN;
/// Bytes behind it, for padding and tag.
const TAILROOM: usize = TAG_LEN + PADDING;

/// What one worker owns.
#[derive(Debug)]
pub(super) struct ThreadData {
    /// The last packet read from the tun, which begins at [`HEADROOM`].
    pub(super) packet: Box<[u8]>,
    /// The last datagram received.
    pub(super) datagram: Box<[u8]>,
    /// The kernel's notes about it.
    pub(super) control: [u8; CONTROL],
    /// Events of the last wake-up.
    pub(super) events: [EpollEvent; EVENTS],
}

impl ThreadData {
    /// Where the tun's next packet goes.
    pub(super) fn packet_room(&mut self) -> &mut [u8] {
        self.packet.get_mut(HEADROOM..HEADROOM + LARGEST).unwrap_or_default()
    }

    /// The packet of `length` bytes that was read last.
    pub(super) fn packet(&self, length: usize) -> &[u8] {
        self.packet.get(HEADROOM..).and_then(|packet| packet.get(..length)).unwrap_or_default()
    }
}

impl Default for ThreadData {
    fn default() -> Self {
        Self {
            packet: vec![0; HEADROOM + LARGEST + TAILROOM].into_boxed_slice(),
            datagram: vec![0; LARGEST].into_boxed_slice(),
            control: [0; CONTROL],
            events: [EpollEvent::empty(); EVENTS],
        }
    }
}
