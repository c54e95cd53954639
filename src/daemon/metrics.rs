//! Collects the metrics of a tunnel, from a thread that is no worker.
//!
//! The lock is held for some dozen microseconds at a time, with longer pauses in between: the
//! workers can take it there, even though a mutex is not fair. Nothing is read from the system
//! while holding it.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::debug;

use super::core::Core;
use super::protocol::Protocol;
use super::shared::Shared;
use super::token::SocketId;
use crate::metrics::{ProcessReader, Sample, WorkerSample};
use crate::net::timer::now;
use crate::net::udp::UdpSocket;
use wontun_packet::DropReason;

/// Number of peers read while the lock is held once: some 20 to 90 µs.
const PEERS_AT_ONCE: usize = 128;
/// Pause between two such reads.
const PAUSE: Duration = Duration::from_micros(200);

/// Time within which the supervisor answers how many packets rules have denied; later the number
/// is an older one. It may be replacing a large table.
const COUNT_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval at which the answer is looked for.
const COUNT_INTERVAL: Duration = Duration::from_millis(1);

/// State kept between samples, so that counters only grow.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// Drop counter of each socket at the last sample.
    counted: HashMap<SocketId, u64>,
    /// Drops by the sockets of each worker, closed sockets included.
    drops: Vec<u64>,
    /// Number of packets that were queued and never sent.
    unsent: u64,
}

impl<M: Protocol> Shared<M> {
    /// Updates the number of packets that rules have denied, without holding the lock meanwhile.
    fn count_denied(&self) {
        let Some(request) = self.with_state(|_, core| core.count_denied()) else { return };
        let deadline = std::time::Instant::now() + COUNT_TIMEOUT;
        while !self.with_state(|_, core| core.supervisor.has_counted(request))
            && std::time::Instant::now() < deadline
        {
            thread::sleep(COUNT_INTERVAL);
        }
    }

    /// Takes a sample.
    pub(super) fn sample(&self, observer: &mut Observer, process: &ProcessReader) -> Sample {
        self.count_denied();
        let mut sample = Sample { mode: M::NAME, ..Sample::default() };
        let mut sockets = Vec::with_capacity(64);
        let mut longest = Duration::ZERO;
        self.with_state(|mode, core| {
            let moment = now().unwrap_or_default();
            core.collect(&mut sample);
            mode.collect(moment, &mut sample);
            sockets
                .extend(mode.sockets().in_use().map(|(worker, id, socket)| (worker, id, Arc::clone(socket))));
            longest = longest.max(now().unwrap_or_default().since(moment));
        });
        let mut last = None;
        loop {
            sample.peers.reserve(PEERS_AT_ONCE);
            let before = sample.peers.len();
            self.with_state(|mode, _| {
                let moment = now().unwrap_or_default();
                mode.collect_peers(last.as_ref(), PEERS_AT_ONCE, moment, &mut sample.peers);
                longest = longest.max(now().unwrap_or_default().since(moment));
            });
            if sample.peers.len() < before + PEERS_AT_ONCE {
                break;
            }
            last = sample.peers.last().map(|peer| peer.public_key);
            thread::sleep(PAUSE);
        }
        debug!(peers = sample.peers.len(), longest_lock_us = longest.as_micros(), "collected metrics");
        let unsent = sample.lost + sample.peers.iter().map(|peer| peer.lost).sum::<u64>();
        // a peer removed in between is missing both among the peers and in the sum of removed ones
        observer.unsent = observer.unsent.max(unsent);
        sample.totals.set_drops(DropReason::Unsent, observer.unsent);
        observer.sample_sockets(&sockets, &mut sample.workers);
        sample.process = process.sample(&sample.tun);
        sample
    }
}

impl Observer {
    fn sample_sockets(
        &mut self,
        sockets: &[(usize, SocketId, Arc<UdpSocket>)],
        workers: &mut [WorkerSample],
    ) {
        self.drops.resize(workers.len(), 0);
        self.counted.retain(|id, _| sockets.iter().any(|(_, known, _)| known == id));
        for (worker, id, socket) in sockets {
            let Ok(memory) = socket.memory() else { continue };
            let before = self.counted.insert(*id, memory.drops).unwrap_or_default();
            if let (Some(worker), Some(drops)) = (workers.get_mut(*worker), self.drops.get_mut(*worker)) {
                worker.receive_queue += memory.receive_queue;
                worker.receive_buffer += memory.receive_buffer;
                worker.send_queue += memory.send_queue;
                worker.send_buffer += memory.send_buffer;
                *drops += memory.drops.saturating_sub(before);
            }
        }
        for (worker, drops) in workers.iter_mut().zip(&self.drops) {
            worker.receive_drops = *drops;
        }
    }
}

impl Core {
    /// Fills in the metrics that are independent of the mode.
    fn collect(&self, sample: &mut Sample) {
        sample.tun = self.name.to_string();
        sample.host = self.supervisor.host.clone();
        (sample.is_up, sample.mtu) = (self.link.is_up, self.link.mtu);
        sample.totals = self.totals();
        sample.workers = vec![WorkerSample::default(); self.worker_count()];
    }
}
