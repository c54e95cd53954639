//! What metrics tell of a tunnel, looked at from a thread that is none of the workers.
//!
//! The lock is taken for some dozen microseconds at a time, and given up for longer than that between two of them: the
//! workers have it in between, though a mutex is not fair. Nothing is read from the system with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::debug;

use super::core::Core;
use super::mode::Mode;
use super::shared::Shared;
use super::token::SockId;
use crate::counters::DropReason;
use crate::io::timer::now;
use crate::io::udp::UdpSocket;
use crate::metrics::{Process, Sample, WorkerSample};

/// Peers that are looked at with one taking of the lock: some 20 to 90 µs.
const PEERS_AT_ONCE: usize = 128;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_micros(200);

/// What must be known from one look to the next, so that what is told only grows.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// What each socket had dropped.
    seen: HashMap<SockId, u64>,
    /// What each worker's sockets dropped, those that are closed included.
    drops: Vec<u64>,
    /// Packets that waited in vain.
    unsent: u64,
}

impl<M: Mode> Shared<M> {
    /// Looks at everything.
    pub(super) fn sample(&self, observer: &mut Observer, process: &Process) -> Sample {
        let mut sample = Sample { mode: M::NAME, ..Sample::default() };
        let mut sockets = Vec::with_capacity(64);
        let mut longest = Duration::ZERO;
        self.alone(|mode, core| {
            let moment = now().unwrap_or_default();
            core.tell(&mut sample);
            mode.tell(moment, &mut sample);
            sockets
                .extend(mode.sockets().in_use().map(|(worker, id, socket)| (worker, id, Arc::clone(socket))));
            longest = longest.max(now().unwrap_or_default().since(moment));
        });
        let mut last = None;
        loop {
            sample.peers.reserve(PEERS_AT_ONCE);
            let before = sample.peers.len();
            self.alone(|mode, _| {
                let moment = now().unwrap_or_default();
                mode.tell_peers(last.as_ref(), PEERS_AT_ONCE, moment, &mut sample.peers);
                longest = longest.max(now().unwrap_or_default().since(moment));
            });
            if sample.peers.len() < before + PEERS_AT_ONCE {
                break;
            }
            last = sample.peers.last().map(|peer| peer.public_key);
            thread::sleep(PAUSE);
        }
        debug!(peers = sample.peers.len(), longest_lock_us = longest.as_micros(), "looked at for metrics");
        let unsent = sample.lost + sample.peers.iter().map(|peer| peer.lost).sum::<u64>();
        // a peer that goes in between is counted neither with the others nor with those that are gone
        observer.unsent = observer.unsent.max(unsent);
        sample.totals.set_drops(DropReason::Unsent, observer.unsent);
        observer.look_at(&sockets, &mut sample.workers);
        sample.process = process.sample(&sample.tun);
        sample
    }
}

impl Observer {
    fn look_at(&mut self, sockets: &[(usize, SockId, Arc<UdpSocket>)], workers: &mut [WorkerSample]) {
        self.drops.resize(workers.len(), 0);
        self.seen.retain(|id, _| sockets.iter().any(|(_, known, _)| known == id));
        for (worker, id, socket) in sockets {
            let Ok(memory) = socket.memory() else { continue };
            let before = self.seen.insert(*id, memory.drops).unwrap_or_default();
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
    /// What is known whatever the mode.
    fn tell(&self, sample: &mut Sample) {
        sample.tun = self.name.to_string();
        sample.host = self.supervisor.host.clone();
        (sample.is_up, sample.mtu) = (self.link.up, self.link.mtu);
        sample.totals = self.totals();
        sample.workers = vec![WorkerSample::default(); self.workers()];
    }
}
