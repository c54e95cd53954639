//! Packets that were read from the TUN device and have no room in the batch yet.

use std::ops::Range;

use super::protocol::Protocol;
use super::sockets_in_use::SocketRef;
use crate::net::send_batch::SendRoute;
use wontun_packet::split::Split;

/// Packets of one read that are still to be encrypted and sent. The bytes stay in the read buffer.
#[derive(Debug)]
pub(super) struct Pending<M: Protocol> {
    pub(super) split: Split,
    pub(super) packet: Range<usize>,
    pub(super) route: SendRoute<SocketRef<M::Owner>>,
    pub(super) sealing: M::Sealing,
}

impl<M: Protocol> Pending<M> {
    /// Returns the number of packets that are still to be encrypted.
    pub(super) fn packets(&self) -> usize {
        self.split.remaining()
    }
}
