//! A worker's buffers: made once, none per packet.

use nix::sys::epoll::EpollEvent;

use super::poll::EVENTS;
use crate::io::udp::CONTROL;

/// The largest packet and the largest datagram there can be, rounded up.
pub(super) const LARGEST: usize = 65_536;

/// What one worker owns.
#[derive(Debug)]
pub(super) struct ThreadData {
    /// The last packet read from the tun.
    pub(super) packet: Box<[u8]>,
    /// Bytes of `packet` that the socket had no room for; the tun is not read until they are sent.
    pub(super) unsent: Option<usize>,
    /// The last datagram received.
    pub(super) datagram: Box<[u8]>,
    /// The kernel's notes about it.
    pub(super) control: [u8; CONTROL],
    /// Events of the last wake-up.
    pub(super) events: [EpollEvent; EVENTS],
}

impl Default for ThreadData {
    fn default() -> Self {
        Self {
            packet: vec![0; LARGEST].into_boxed_slice(),
            unsent: None,
            datagram: vec![0; LARGEST].into_boxed_slice(),
            control: [0; CONTROL],
            events: [EpollEvent::empty(); EVENTS],
        }
    }
}
