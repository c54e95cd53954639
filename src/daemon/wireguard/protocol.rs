//! Implements `DataPath`, `Control` and `Receive` for WireGuard mode.

use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::data_path::DataBatch;
use super::peer_lookup::PeerLookup;
use super::tunnel::WireGuard;
use crate::control::health::LatestHandshake;
use crate::daemon::budget::Progress;
use crate::daemon::carry::Carry;
use crate::daemon::core::Core;
use crate::daemon::data_path::{DataPath, Route, RouteDecision};
use crate::daemon::error::DaemonError;
use crate::daemon::protocol::Control;
use crate::daemon::shared::Shared;
use crate::daemon::sockets::Sockets;
use crate::daemon::sockets_in_use::{SocketInfo, SocketRef};
use crate::daemon::token::{SocketId, Token};
use crate::daemon::worker::Worker;
use crate::messages::{ConnectedSocket, FromTunnel, Status, ToTunnel};
use crate::metrics::{PeerSample, QueueSample, Sample};
use crate::net::error_class::ErrorClass;
use crate::net::recv_buffer::GroBatch;
use crate::net::send_batch::{SendBatch, SendRoute};
use crate::net::timer::unix_now;
use crate::net::udp::UdpSocket;
use crate::traffic::Today;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, TAG_LEN};
use wontun_proto::wireguard::padding::PADDING_MULTIPLE;
use wontun_proto::wireguard::{
    HandshakeProgress, HandshakeStepResult, PeerId, PublicKey, Sealing, cipher_library,
};

impl DataPath for WireGuard {
    type Owner = PeerId;
    type Sealing = Sealing;
    type Scratch = DataBatch;
    type Lookup = PeerLookup;
    const HEADROOM: usize = DATA_HEADER_LEN;
    const TAG: usize = TAG_LEN;
    const TAILROOM: usize = TAG_LEN + PADDING_MULTIPLE;

    fn lookup(&self) -> PeerLookup {
        PeerLookup::new(self.engine.peers(), Arc::clone(&self.published), self.workers)
    }

    fn scratch() -> Self::Scratch {
        DataBatch::with_capacity()
    }

    fn sockets(&self) -> &Sockets<PeerId> {
        &self.sockets
    }

    fn sockets_mut(&mut self) -> &mut Sockets<PeerId> {
        &mut self.sockets
    }

    fn route(
        &mut self,
        core: &mut Core,
        packet: &[u8],
        lengths: PacketLengths,
    ) -> Result<RouteDecision<Self>, DropReason> {
        self.route_packet(core, packet, lengths)
    }

    fn stage(&mut self, core: &mut Core, peer: PeerId, packet: &[u8]) -> Result<(), DropReason> {
        self.engine.stage(peer, packet, core.now)
    }

    fn limit(&mut self, core: &mut Core, peer: PeerId, packet: &[u8]) -> Result<(), DropReason> {
        self.engine.limit_outgoing(peer, packet, core.now)
    }

    fn poll_limited_transmit(
        &mut self,
        core: &mut Core,
        batch: &mut SendBatch<SocketRef<PeerId>>,
    ) -> Progress {
        self.send_limited(core, batch)
    }

    fn poll_limited_packet(&mut self, core: &mut Core, room: &mut [u8]) -> Option<usize> {
        self.engine.poll_limited_packet(core.current(), core.now, room)
    }

    fn release_socket(&mut self, core: &mut Core, id: SocketId) -> bool {
        self.release_connected(core, id)
    }

    fn device_queue(&self, core: &Core, packet: &[u8]) -> usize {
        self.queue_of_packet(core, packet)
    }

    fn seal(sealing: &mut Sealing, place: &mut [u8], len: usize) -> Option<usize> {
        sealing.seal(place, len)
    }

    fn handle_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        route: &SendRoute<SocketRef<PeerId>>,
        datagrams: usize,
    ) -> Result<Option<SendRoute<SocketRef<PeerId>>>, DaemonError> {
        self.process_send_error(core, class, route, datagrams)
    }

    fn handle_socket_error(&mut self, core: &mut Core, id: SocketId, reason: DropReason) {
        core.count_drop(reason, None);
        if let Some((peer, remote)) = self.sockets.connected_by_id(id).map(|each| (each.owner, each.remote)) {
            self.handle_datagram_error(core, peer, reason, remote);
        }
    }

    fn handle_suspect_error(
        &mut self,
        core: &mut Core,
        route: &SendRoute<SocketRef<PeerId>>,
        reason: DropReason,
    ) {
        // any other is the kernel's about this datagram, and comes again with the next attempt
        if reason == DropReason::Refused
            && let Some(peer) = route.owner.owner
        {
            self.handle_datagram_error(core, peer, reason, route.remote);
        }
    }

    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut SendBatch<SocketRef<PeerId>>>,
    ) -> Result<Progress, DaemonError> {
        self.serve_engine(core, batch)
    }
}

impl Control for WireGuard {
    const NAME: &'static str = "wireguard";
    const HAS_HANDSHAKES: bool = true;

    fn start(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        let peers = self.engine.peer_ids().count();
        let (mtu, port, cipher) = (core.link.mtu, self.sockets.port(), cipher_library());
        info!(mode = "wireguard", tun = %core.name, mtu, port, peers, cipher, "ready");
        self.request_lookups(core);
        self.start_greetings(core);
        Ok(())
    }

    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DaemonError> {
        match token {
            Token::UapiClient(number) => Ok(self.drain_response(core, number)),
            _ => Ok(Progress::Drained),
        }
    }

    fn begin_handshake(&mut self, core: &mut Core) -> Option<HandshakeProgress> {
        self.engine.begin_handshake(core.now)
    }

    fn continue_handshake(&mut self, core: &mut Core, result: HandshakeStepResult) -> HandshakeProgress {
        self.engine.continue_handshake(result, core.now)
    }

    fn deadline(&self) -> Option<Instant> {
        let reports = [self.outages.deadline(), self.state_reports.deadline(), self.greetings.deadline()];
        let deadlines = [self.resolver.deadline(), self.engine.poll_timeout(), self.quotas.deadline()];
        let others = [self.connections.deadline()];
        deadlines.into_iter().chain(reports).chain(others).flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        self.engine.handle_timeout(core.now);
        self.post_limited(core);
        if self.engine.queued() > 0 {
            // from the engine's backlog, which no datagram announces
            core.handshakes.post();
        }
        self.handle_overdue_lookups(core);
        self.request_lookups(core);
        self.handle_recovered(core.now);
        self.send_greetings(core.now);
        self.handle_ended_sessions(core);
        self.report_state(core);
        self.check_quotas(core);
        Ok(())
    }

    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DaemonError> {
        match message {
            ToTunnel::Change { number, changes } => {
                self.change(core, &changes)?;
                if let Some(number) = number {
                    core.send(&FromTunnel::Changed(number));
                }
                Ok(())
            }
            ToTunnel::Excluded { is_first, peers } => {
                self.excluded.handle_message(is_first, peers);
                Ok(())
            }
            ToTunnel::Name { peer, name } => {
                self.set_endpoint_name(core, &peer, name);
                Ok(())
            }
            ToTunnel::PathChanged { peer: Some(peer), is_reachable } => {
                self.handle_path_changed(core, &peer, is_reachable);
                Ok(())
            }
            ToTunnel::Restore { sent, peers } => {
                self.restore(core, sent, peers);
                Ok(())
            }
            ToTunnel::Addresses { peer: Some(peer), result } => self.handle_lookup(core, &peer, result),
            ToTunnel::Answer { client, report } => self.handle_request(core, client, report, descriptors),
            _ => Err(DaemonError::UnexpectedMessage),
        }
    }

    fn handle_spares(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        self.connect_peers(core)
    }

    fn handle_link(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        self.engine.set_mtu(usize::try_from(core.link.mtu).unwrap_or(usize::MAX));
        Ok(())
    }

    fn handle_resume(&mut self, core: &mut Core, suspended: Duration) {
        self.engine.handle_suspended(suspended, core.now);
        // the network may be another one
        self.resolver.suspect_all(core.now);
        info!("resumed from suspend: dropped all sessions, starting new handshakes");
    }

    fn handle_stop(&mut self, core: &mut Core) {
        self.report_whole_state(core);
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DaemonError> {
        self.handle_source_lost(core, address);
        Ok(())
    }

    fn export(&self, core: &Core, to: OwnedFd) -> Result<Vec<(ConnectedSocket, Arc<UdpSocket>)>, String> {
        self.export_sessions(core, to).map_err(|error| error.to_string())
    }

    fn import(
        &mut self,
        core: &mut Core,
        from: OwnedFd,
        sockets: Vec<(ConnectedSocket, OwnedFd)>,
    ) -> Result<u32, String> {
        self.import_sessions(core, from, sockets).map_err(|error| error.to_string())
    }

    fn status(&self, now: Instant) -> Status {
        self.peers_status(now)
    }

    fn handshake(&self, now: Instant) -> LatestHandshake {
        let last = self.engine.peers_after(None).filter_map(|peer| peer.last_handshake()).max();
        last.map_or(LatestHandshake::Never, |last| LatestHandshake::Ago(now.since(last)))
    }

    fn collect(&self, _: Instant, sample: &mut Sample) {
        sample.peer_count = self.engine.peer_count();
        sample.lost = self.lost;
        let (handshakes, backlog) = (self.engine.queued(), self.engine.backlog());
        sample.queues = Some(QueueSample { handshakes, backlog });
    }

    fn collect_peers(
        &self,
        after: Option<&PublicKey>,
        limit: usize,
        now: Instant,
        peers: &mut Vec<PeerSample>,
    ) {
        let today = Today::at(unix_now());
        peers.extend(self.engine.peers_after(after).take(limit).map(|peer| {
            let transfer = peer.transfer();
            let id = peer.id();
            PeerSample {
                public_key: *peer.public_key(),
                name: self.peer_names.get(&id).cloned(),
                rx_bytes: transfer.received,
                tx_bytes: transfer.sent,
                rx_packets: transfer.packets_received,
                tx_packets: transfer.packets_sent,
                traffic: self.state_reports.is_reporting.then(|| self.ledger.traffic(id, transfer, today)),
                handshake_age: peer.last_handshake().map(|last| now.since(last)),
                has_session: peer.has_session(now),
                is_over_quota: self.quotas.peers.contains_key(&peer.id()).then(|| peer.is_over_quota()),
                staged: peer.staged(),
                lost: peer.lost(),
            }
        }));
    }

    fn ended_sessions(&self) -> u64 {
        self.engine.ended_sessions()
    }

    fn lost_packets(&self) -> u64 {
        let present = self.engine.peer_ids().filter_map(|id| self.engine.peer(id));
        self.lost + present.map(|peer| peer.lost()).sum::<u64>()
    }
}

impl Carry for WireGuard {
    fn route_without_lock(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        packet: Range<usize>,
        lengths: PacketLengths,
    ) -> Option<(Route<Self>, Sealing)> {
        Self::route_by_peer(shared, worker, packet, lengths)
    }

    fn latest_ended_sessions(worker: &Worker<Self>) -> u64 {
        worker.lookup.peers.ended_sessions()
    }

    fn receive_batch(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        Self::receive_datagrams(shared, worker, batch, socket_info)
    }
}
