//! Implements `DataPath`, `Control` and `Receive` for plain mode.

use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;

use tracing::info;

use super::tunnel::PlainTunnel;
use crate::control::health::LatestHandshake;
use crate::daemon::budget::Progress;
use crate::daemon::carry::Carry;
use crate::daemon::core::Core;
use crate::daemon::data_path::{DataPath, RouteDecision};
use crate::daemon::error::DaemonError;
use crate::daemon::protocol::Control;
use crate::daemon::shared::Shared;
use crate::daemon::sockets::Sockets;
use crate::daemon::sockets_in_use::{SocketInfo, SocketRef};
use crate::daemon::token::{SocketId, Token};
use crate::daemon::worker::Worker;
use crate::messages::{Status, ToTunnel};
use crate::metrics::{PeerSample, Sample};
use crate::net::error_class::ErrorClass;
use crate::net::recv_buffer::{GroBatch, MAX_GRO_SEGMENTS};
use crate::net::send_batch::{SendBatch, SendRoute};
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;
use wontun_proto::plain::Role;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

impl DataPath for PlainTunnel {
    type Owner = ();
    type Sealing = ();
    type Scratch = Vec<Range<usize>>;
    const HEADROOM: usize = 0;
    const TAG: usize = 0;
    const TAILROOM: usize = 0;

    type Lookup = ();

    fn lookup(&self) {}

    fn scratch() -> Self::Scratch {
        Vec::with_capacity(MAX_GRO_SEGMENTS)
    }

    fn sockets(&self) -> &Sockets<()> {
        &self.sockets
    }

    fn sockets_mut(&mut self) -> &mut Sockets<()> {
        &mut self.sockets
    }

    fn route(
        &mut self,
        core: &mut Core,
        packet: &[u8],
        _lengths: PacketLengths,
    ) -> Result<RouteDecision<Self>, DropReason> {
        self.engine.handle_packet(packet, core.now)?;
        Ok(RouteDecision::Send(self.route_to_peer(core).ok_or(DropReason::Unreachable)?, ()))
    }

    fn stage(&mut self, _core: &mut Core, _owner: (), _packet: &[u8]) -> Result<(), DropReason> {
        Err(DropReason::NoPeer)
    }

    fn seal(_sealing: &mut (), _place: &mut [u8], len: usize) -> Option<usize> {
        Some(len)
    }

    fn handle_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        _route: &SendRoute<SocketRef<()>>,
        datagrams: usize,
    ) -> Result<Option<SendRoute<SocketRef<()>>>, DaemonError> {
        self.process_send_error(core, class, datagrams);
        Ok(None)
    }

    fn handle_socket_error(&mut self, core: &mut Core, _id: SocketId, reason: DropReason) {
        self.process_socket_error(core, reason);
    }

    fn handle_suspect_error(
        &mut self,
        core: &mut Core,
        _route: &SendRoute<SocketRef<()>>,
        reason: DropReason,
    ) {
        if reason == DropReason::Refused {
            self.handle_refused(core);
        }
    }

    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut SendBatch<SocketRef<()>>>,
    ) -> Result<Progress, DaemonError> {
        self.serve_engine(core, batch);
        Ok(Progress::Drained)
    }
}

impl Control for PlainTunnel {
    const NAME: &'static str = "plain";

    fn start(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        let role = if self.role == Role::Server { "server" } else { "client" };
        info!(role, tun = %core.name, mtu = core.link.mtu, port = self.sockets.port(), "ready");
        self.start_peer(core)
    }

    fn drain(&mut self, _: &mut Core, _: Token) -> Result<Progress, DaemonError> {
        Ok(Progress::Drained)
    }

    fn deadline(&self) -> Option<Instant> {
        let lookup = self.lookup.as_ref().and_then(|lookup| lookup.retry_at);
        [self.engine.poll_timeout(), self.reconnect_at, lookup].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        if self.lookup.as_ref().and_then(|lookup| lookup.retry_at).is_some_and(|at| core.now >= at) {
            self.look_up(core);
        }
        if self.reconnect_at.is_some_and(|at| core.now >= at) {
            self.reconnect(core)?;
        }
        self.engine.handle_timeout(core.now);
        Ok(())
    }

    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        _: Vec<OwnedFd>,
    ) -> Result<(), DaemonError> {
        match message {
            ToTunnel::Addresses { peer: None, result } => self.handle_lookup(core, result),
            ToTunnel::PathChanged { peer: None, is_reachable } => {
                self.handle_path_changed(core, is_reachable)
            }
            ToTunnel::CandidateChecked { address, is_usable } => {
                self.handle_candidate(core, address, is_usable)
            }
            _ => Err(DaemonError::UnexpectedMessage),
        }
    }

    fn handle_mark(&mut self, core: &mut Core) {
        self.schedule_reconnect(core);
    }

    fn handle_link(&mut self, _: &mut Core) -> Result<(), DaemonError> {
        Ok(())
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DaemonError> {
        if self.sockets.connected(()).is_some_and(|connected| connected.local == Some(address)) {
            self.schedule_reconnect(core);
        }
        Ok(())
    }

    fn status(&self, _: Instant) -> Status {
        match self.role {
            Role::Server => Status::PlainServer { has_client: self.engine.peer().is_some() },
            Role::Client => Status::PlainClient { is_reachable: self.engine.is_reachable() },
        }
    }

    fn handshake(&self, _: Instant) -> LatestHandshake {
        LatestHandshake::Unknown
    }

    fn collect(&self, now: Instant, sample: &mut Sample) {
        sample.peer_count = self.engine.peer().iter().count();
        sample.silence = self.engine.silence(now);
    }

    fn collect_peers(&self, _: Option<&PublicKey>, _: usize, _: Instant, _: &mut Vec<PeerSample>) {}

    fn lost_packets(&self) -> u64 {
        0
    }
}

impl Carry for PlainTunnel {
    fn receive_batch(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        batch: &GroBatch,
        socket_info: SocketInfo,
    ) -> Result<(), DaemonError> {
        Self::receive_datagrams(shared, worker, batch, socket_info)
    }
}
