//! Chooses the queue of the TUN device to which packets are written.
//!
//! The kernel delivers a flow's packets to the queue to which the last packet of that flow, in
//! either direction, was written (`tun_flow_update`). So a worker writes to its own queue, and
//! reads the answers there. Packets between two peers are forwarded by the kernel from the device
//! to the device: if the peers are on different workers, and each writes to its own queue, such a
//! flow alternates between both queues and gets out of order. The packets of both directions are
//! written to the same queue instead.

use std::net::IpAddr;

use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use wontun_packet::ip;
use wontun_proto::wireguard::PeerId;

impl WireGuard {
    /// Returns the queue for a packet from `peer` to `destination`: the one of the current worker,
    /// or, if it is for another peer, that of the worker of either.
    fn queue_to(&self, core: &Core, peer: PeerId, destination: IpAddr) -> usize {
        match self.allowed_ips.lookup(destination) {
            Some(other) if other != peer => {
                usize::try_from(self.engine.receiver(peer.min(other))).unwrap_or_else(|_| core.current())
            }
            _ => core.current(),
        }
    }

    /// Returns the queue for a packet whose source address was checked.
    pub(super) fn queue_of_packet(&self, core: &Core, packet: &[u8]) -> usize {
        let chosen = ip::addresses(packet).and_then(|(source, destination)| {
            Some(self.queue_to(core, self.allowed_ips.lookup(source)?, destination))
        });
        chosen.unwrap_or_else(|| core.current())
    }
}

/// Cache of the last choice for the packets of one peer, which mostly have one destination.
#[derive(Default)]
pub(super) struct QueueChoice(Option<(IpAddr, usize)>);

impl QueueChoice {
    /// Returns the queue for a packet from `peer`.
    pub(super) fn queue(&mut self, mode: &WireGuard, core: &Core, peer: PeerId, packet: &[u8]) -> usize {
        if core.worker_count() == 1 {
            return core.current();
        }
        let Some((_, destination)) = ip::addresses(packet) else { return core.current() };
        match self.0 {
            Some((last, queue)) if last == destination => queue,
            _ => {
                let queue = mode.queue_to(core, peer, destination);
                self.0 = Some((destination, queue));
                queue
            }
        }
    }
}
