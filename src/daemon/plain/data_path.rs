//! The data path of plain mode: tun → engine → wire, and back.

use tracing::{info, warn};

use super::tunnel::PlainTunnel;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::shared::Shared;
use crate::daemon::sockets_in_use::{SocketInfo, SocketRef};
use crate::daemon::worker::Worker;
use crate::net::error_class::ErrorClass;
use crate::net::recv_buffer::GroBatch;
use crate::net::send_batch::{SendBatch, SendRoute};
use wontun_packet::DropReason;
use wontun_packet::inner;
use wontun_proto::plain::{Datagram, Event};

impl PlainTunnel {
    /// Returns the route to the peer, if there is one.
    pub(super) fn route_to_peer(&self, core: &Core) -> Option<SendRoute<SocketRef<()>>> {
        let connected = self.sockets.connected(())?;
        self.sockets.table().route(core.current(), Some(()), connected.remote, connected.local, 0)
    }

    /// Handles a socket error caused by a datagram sent earlier.
    pub(super) fn process_socket_error(&mut self, core: &mut Core, reason: DropReason) {
        core.count_drop(reason, None);
        match reason {
            DropReason::Refused => self.handle_refused(core),
            DropReason::Unreachable => self.suspect_endpoint(),
            _ => {}
        }
    }

    pub(super) fn handle_refused(&mut self, core: &Core) {
        self.engine.handle_refused(core.now);
        self.suspect_endpoint();
    }

    pub(super) fn process_send_error(&mut self, core: &mut Core, class: ErrorClass, datagrams: usize) {
        let reason = match class {
            ErrorClass::WouldBlock => DropReason::QueueFull,
            ErrorClass::Drop(reason) => reason,
            ErrorClass::SourceAddressLost | ErrorClass::Fatal => {
                self.schedule_reconnect(core);
                DropReason::Unreachable
            }
        };
        core.count_drops(reason, datagrams, None);
        match reason {
            DropReason::Refused => self.handle_refused(core),
            DropReason::Unreachable => self.suspect_endpoint(),
            _ => {}
        }
    }

    pub(super) fn receive_datagrams(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        shared.with(worker, |mode, core, worker| {
            // another worker may have replaced the socket meanwhile
            let socket_info = mode.sockets.get(socket_info.id).map_or(socket_info, |(_, now)| now);
            for range in batch.ranges() {
                let datagram = worker.recv_buffer.bytes().get(range.clone()).unwrap_or_default();
                match mode.receive_datagram(core, batch, socket_info, datagram)? {
                    Some(Datagram::NewPeer) => mode.check_candidate(core, batch),
                    Some(Datagram::Packet) => {
                        worker.scratch.push(range);
                        mode.update_local_address(core, batch)?;
                    }
                    Some(Datagram::Hello) => mode.update_local_address(core, batch)?,
                    None => {}
                }
            }
            Ok::<_, DaemonError>(())
        })?;
        let mut packets = std::mem::take(&mut worker.scratch);
        let mut result = Ok(());
        for range in packets.drain(..) {
            result = result.and(worker.queue_packet(shared, range));
        }
        worker.scratch = packets;
        result
    }

    /// Handles one datagram, and returns its kind, unless it was dropped.
    fn receive_datagram(
        &mut self,
        core: &mut Core,
        batch: &GroBatch,
        socket_info: SocketInfo,
        datagram: &[u8],
    ) -> Result<Option<Datagram>, DaemonError> {
        let result = if core.is_from_own_tun(batch.local) {
            Err(DropReason::OwnTun)
        } else if let Some(Some(remote)) = socket_info.draining {
            // the old peer may still send packets, but nobody becomes the peer by a draining socket
            let is_packet =
                if batch.from == remote { inner::validate(datagram) } else { Err(DropReason::UnknownSource) };
            is_packet.map(|()| Datagram::Packet)
        } else {
            self.engine.handle_datagram(batch.from, datagram, core.now)
        };
        if let Err(reason) = result {
            core.count_drop(reason, Some(batch.from));
        }
        Ok(result.ok())
    }

    /// Warns of a server that answers no packet. The engine reports that with growing pauses.
    fn warn_unanswered(&self) {
        if !self.engine.is_unanswered() {
            return;
        }
        let endpoint = self.sockets.connected(()).map(|connected| tracing::field::display(connected.remote));
        let name = self.lookup.as_ref().map(|lookup| tracing::field::display(&lookup.name));
        warn!(
            endpoint,
            name,
            "no answer from the server: check that it runs and has this address and UDP port, and that no firewall or router \
             on the way drops the datagrams"
        );
    }

    /// Sends the datagram that is pending in the engine, and handles the engine's events.
    pub(super) fn serve_engine(&mut self, core: &mut Core, batch: Option<&mut SendBatch<SocketRef<()>>>) {
        if let Some(batch) = batch
            && let Some(datagram) = self.engine.poll_transmit()
            && let Some(route) = self.route_to_peer(core)
            // without room now, a later one is sent instead
            && let Some(room) = batch.reserve(datagram.len())
        {
            room.copy_from_slice(datagram);
            batch.commit(datagram.len(), &route);
        }
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Answered => {
                    if let Some(lookup) = &mut self.lookup {
                        lookup.is_suspect = false;
                    }
                    if let Some(suppressed) = self.log_limits.answered.allow(core.now) {
                        info!(suppressed, "the server answers");
                    }
                }
                Event::EndpointStale => {
                    self.warn_unanswered();
                    self.refresh_endpoint(core);
                }
            }
        }
    }
}
