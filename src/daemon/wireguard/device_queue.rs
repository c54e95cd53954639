//! Chooses the queue of the TUN device to which packets are written.
//!
//! The kernel delivers a flow's packets to the queue to which the last packet of that flow, in
//! either direction, was written (`tun_flow_update`). So a worker writes to its own queue, and
//! reads the answers there. Packets between two peers are forwarded by the kernel from the device
//! to the device: if the peers are on different workers, and each writes to its own queue, such a
//! flow alternates between both queues and gets out of order. The packets of both directions are
//! written to the same queue instead.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use wontun_packet::ip;
use wontun_proto::allowed_ips::AllowedIps;
use wontun_proto::wireguard::PeerId;

/// State that the choice depends on.
#[derive(Clone, Copy)]
pub(super) struct QueueTable<'a> {
    pub(super) allowed_ips: &'a AllowedIps<PeerId>,
    /// Number of workers, each of which has a queue.
    pub(super) workers: NonZeroU32,
    /// Number of the present worker.
    pub(super) current: usize,
}

impl QueueTable<'_> {
    /// Returns the queue for a packet from `peer` to `destination`: the one of the present worker,
    /// or, if it is for another peer, that of the worker of either.
    fn queue_to(self, peer: PeerId, destination: IpAddr) -> usize {
        match self.allowed_ips.lookup(destination) {
            Some(other) if other != peer => {
                usize::try_from(peer.min(other).receiver(self.workers)).unwrap_or(self.current)
            }
            _ => self.current,
        }
    }
}

impl WireGuard {
    /// Returns the state that the choice of the worker that holds the lock depends on.
    pub(super) fn queue_table(&self, core: &Core) -> QueueTable<'_> {
        QueueTable { allowed_ips: &self.allowed_ips, workers: self.workers, current: core.current() }
    }

    /// Returns the queue for a packet whose source address was checked.
    pub(super) fn queue_of_packet(&self, core: &Core, packet: &[u8]) -> usize {
        let chosen = ip::addresses(packet).and_then(|(source, destination)| {
            Some(self.queue_table(core).queue_to(self.allowed_ips.lookup(source)?, destination))
        });
        chosen.unwrap_or_else(|| core.current())
    }
}

/// Cache of the last choice for the packets of one peer, which mostly have one destination.
#[derive(Default)]
pub(super) struct QueueChoice(Option<(IpAddr, usize)>);

impl QueueChoice {
    /// Returns the queue for a packet from `peer`.
    pub(super) fn queue(&mut self, table: QueueTable<'_>, peer: PeerId, packet: &[u8]) -> usize {
        if table.workers == NonZeroU32::MIN {
            return table.current;
        }
        let Some((_, destination)) = ip::addresses(packet) else { return table.current };
        match self.0 {
            Some((last, queue)) if last == destination => queue,
            _ => {
                let queue = table.queue_to(peer, destination);
                self.0 = Some((destination, queue));
                queue
            }
        }
    }
}
