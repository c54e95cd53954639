//! WireGuard mode: many peers, each known by its key, wherever it is.
//!
//! The protocol engine ([`crate::tunnel::wireguard`]) decides what is sent and what is believed; the allowed IPs
//! ([`crate::routing`]) decide which peer a packet is for, and whether it may come from the peer that sent it. Here
//! are the ways between them and the descriptors: packets and datagrams in `data_path`, the peers' sockets in
//! `path`, their names in `names`, changes to all of it in `change`, the file in `file`, wg(8)'s socket in `uapi`.

mod change;
mod data_path;
mod file;
mod firewall;
mod kill_switch;
mod names;
mod open;
mod path;
mod peer_log;
mod route;
mod ruleset;
mod status;
mod uapi;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use tracing::info;

use super::core::Core;
use super::{DeviceError, Entrance, Mode, Progress, Shared, Sockets, Token, Via, Way, Worker};
use crate::config::PeerName;
use crate::control::health::Handshake;
use crate::counters::DropReason;
use crate::io::batch::{Batch, Route};
use crate::io::fault::Fault;
use crate::io::mailbox::Arrival;
use crate::link::Routes;
use crate::logging::RateLimit;
use crate::metrics::{PeerSample, QueueSample, Sample};
use crate::packet::split::Lengths;
use crate::resolver::Resolver;
use crate::routing::AllowedIps;
use crate::sandbox::Places;
use crate::time::Instant;
use crate::tunnel::wireguard::message::{DATA_HEADER_LEN, INITIATION_LEN, RESPONSE_LEN, TAG_LEN};
use crate::tunnel::wireguard::padding::PADDING;
use crate::tunnel::wireguard::{Interface, Peer, PeerId, PublicKey, Sealing, Transmit, cipher_library};
pub use file::ConfigFile;
use file::Source;
use firewall::Firewall;
pub use kill_switch::EngagedKillSwitch;
use names::Names;
use peer_log::PeerLog;
use uapi::Uapi;

/// A tunnel in WireGuard mode.
pub struct WireGuard {
    engine: Interface,
    allowed_ips: AllowedIps<PeerId>,
    sockets: Sockets<PeerId>,
    /// What the sockets carry: what was asked for, or because the routes need it.
    mark: Option<NonZeroU32>,
    /// What the file or wg(8) asked for.
    fwmark: Option<NonZeroU32>,
    /// When peers were given their connected sockets.
    connected_at: HashMap<PeerId, Instant>,
    names: Names,
    /// What the peers are called, for people; most have no name.
    labels: HashMap<PeerId, PeerName>,
    uapi: Uapi,
    source: Source,
    /// The host's routes, where they are ours to set.
    routes: Option<Routes>,
    firewall: Firewall,
    share: Share,
    /// Packets that waited for a handshake in vain, of peers that were removed.
    lost: u64,
    quiet: Quiet,
    peer_log: PeerLog,
}

/// What of the engine may leave in one turn, so that thousands of peers that all have something to say do not keep the
/// loop from packets.
#[derive(Debug, Default)]
struct Share {
    turn: Instant,
    left: usize,
}

impl Share {
    const ALL: usize = 1024;
    /// An initiation takes as long as a hundred packets.
    const HANDSHAKE: usize = Self::ALL / 8;

    /// Whether anything may leave in the turn that began at `now`.
    fn has_some(&mut self, now: Instant) -> bool {
        if self.turn != now {
            *self = Self { turn: now, left: Self::ALL };
        }
        self.left > 0
    }

    const fn take(&mut self, transmit: Transmit) {
        let cost = if matches!(transmit.len, INITIATION_LEN | RESPONSE_LEN) { Self::HANDSHAKE } else { 1 };
        self.left = self.left.saturating_sub(cost);
    }
}

/// Brakes on lines that a network can provoke. Those on what one peer can provoke are in
/// `peer_log`.
#[derive(Debug)]
struct Quiet {
    silent: RateLimit,
    lookup: RateLimit,
    routes: RateLimit,
    repairs: RateLimit,
    route_warnings: RateLimit,
}

impl std::fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuard").finish_non_exhaustive()
    }
}

impl Mode for WireGuard {
    type Owner = PeerId;
    type Sealing = Sealing;
    type Scratch = data_path::Run;
    const NAME: &'static str = "wireguard";
    const HEADROOM: usize = DATA_HEADER_LEN;
    const TAG: usize = TAG_LEN;
    const TAILROOM: usize = TAG_LEN + PADDING;

    fn scratch() -> Self::Scratch {
        data_path::Run::with_room()
    }

    fn places(&self) -> Places {
        let places = match &self.source {
            Source::File(file) => Places::of_configuration(&file.path, &file.key_files),
            Source::Socket => Places::default(),
        };
        Places { socket_folder: self.uapi.folder(), ..places }
    }

    fn resolver(&self) -> Option<&Resolver> {
        self.names.resolver()
    }

    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let peers = self.engine.peer_ids().count();
        let (mtu, port, cipher) = (core.link.mtu, self.sockets.port(), cipher_library());
        info!(mode = "wireguard", tun = %core.name, mtu, port, peers, cipher, "ready");
        self.ask_names(core);
        Ok(())
    }

    fn sockets(&self) -> &Sockets<PeerId> {
        &self.sockets
    }

    fn sockets_mut(&mut self) -> &mut Sockets<PeerId> {
        &mut self.sockets
    }

    fn route(&mut self, core: &mut Core, packet: &[u8], lengths: Lengths) -> Result<Way<Self>, DropReason> {
        self.route_packet(core, packet, lengths)
    }

    fn stage(&mut self, core: &mut Core, peer: PeerId, packet: &[u8]) -> Result<(), DropReason> {
        self.engine.stage(peer, packet, core.now)
    }

    fn seal(sealing: &mut Sealing, place: &mut [u8], len: usize) -> Option<usize> {
        sealing.seal(place, len)
    }

    fn handle_send_fault(
        &mut self,
        core: &mut Core,
        fault: Fault,
        route: &Route<Via<PeerId>>,
        datagrams: usize,
    ) -> Result<Option<Route<Via<PeerId>>>, DeviceError> {
        self.take_send_fault(core, fault, route, datagrams)
    }

    fn take_arrival(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        arrival: &Arrival,
        entrance: Entrance,
    ) -> Result<(), DeviceError> {
        Self::take_datagrams(shared, worker, arrival, entrance)
    }

    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut Batch<Via<PeerId>>>,
    ) -> Result<Progress, DeviceError> {
        self.serve_engine(core, batch)
    }

    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError> {
        match token {
            Token::Handshakes => Ok(self.take_handshake(core)),
            Token::Resolver => self.drain_resolver(core),
            Token::Uapi => self.drain_uapi_listener(core),
            Token::UapiWatch => Ok(self.drain_uapi_watch(core)),
            Token::UapiClient(number) => self.drain_uapi_client(core, number),
            Token::Ruleset => Ok(self.drain_ruleset(core)),
            _ => Ok(Progress::Drained),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let others = [self.names.deadline(), self.uapi.deadline(), self.firewall.ruleset.deadline()];
        others.into_iter().chain([self.engine.poll_timeout()]).flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.engine.handle_timeout(core.now);
        if self.engine.queued() > 0 {
            // out of the engine's backlog, which no datagram announces
            core.post(Token::Handshakes);
        }
        self.ask_names(core);
        self.uapi.handle_timeout(core);
        self.look_at_ruleset(core.now);
        Ok(())
    }

    fn reload(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.reload_file(core)
    }

    fn handle_link(&mut self, core: &mut Core, came_up: bool) -> Result<(), DeviceError> {
        self.engine.set_mtu(usize::try_from(core.link.mtu).unwrap_or(usize::MAX));
        if came_up {
            self.restore_routes(core);
        }
        Ok(())
    }

    fn handle_resume(&mut self, core: &mut Core) {
        self.engine.forget_sessions(core.now);
        info!("the machine was suspended: all sessions were dropped, and new ones are made");
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError> {
        self.leave_source(core, address);
        Ok(())
    }

    fn handle_routing_lost(&mut self, core: &mut Core) {
        self.repair_routing(core);
    }

    fn handle_host_changed(&mut self, _core: &mut Core) {
        self.update_tables();
    }

    fn status(&self, now: Instant) -> String {
        self.status_line(now)
    }

    fn handshake(&self, now: Instant) -> Handshake {
        let last = self.engine.peers_after(None).filter_map(Peer::last_handshake).max();
        last.map_or(Handshake::Never, |last| Handshake::Ago(now.since(last)))
    }

    fn tell(&self, _: Instant, sample: &mut Sample) {
        sample.peer_count = self.engine.peer_count();
        sample.lost = self.lost;
        let (handshakes, backlog) = (self.engine.queued(), self.engine.backlog());
        sample.queues = Some(QueueSample { handshakes, backlog });
    }

    fn tell_peers(&self, after: Option<&PublicKey>, most: usize, now: Instant, peers: &mut Vec<PeerSample>) {
        peers.extend(self.engine.peers_after(after).take(most).map(|peer| {
            let transfer = peer.transfer();
            PeerSample {
                public_key: *peer.public_key(),
                rx_bytes: transfer.received,
                tx_bytes: transfer.sent,
                rx_packets: transfer.packets_received,
                tx_packets: transfer.packets_sent,
                handshake_age: peer.last_handshake().map(|last| now.since(last)),
                has_session: peer.has_session(now),
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
        self.lost + present.map(Peer::lost).sum::<u64>()
    }
}
