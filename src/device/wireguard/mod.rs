//! WireGuard mode: many peers, each known by its key, wherever it is.
//!
//! The protocol engine ([`crate::tunnel::wireguard`]) decides what is sent and what is believed; the allowed IPs
//! ([`crate::routing`]) decide which peer a packet is for, and whether it may come from the peer that sent it. Here
//! are the ways between them and the descriptors: packets and datagrams in `data_path`, the peers' sockets in
//! `path`, their names in `names`, changes to all of it in `change`, what the supervisor is told
//! of their addresses in `endpoints`, answers to wg(8) in `answers`.

mod answers;
mod change;
mod data_path;
mod endpoints;
mod names;
mod path;
mod peer_log;
mod status;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use tracing::info;

use super::budget::Progress;
use super::core::{Core, QUIET};
use super::error::DeviceError;
use super::incoming::Receive;
use super::mode::{Mode, Way};
use super::run::Device;
use super::shared::Shared;
use super::sockets::{Entrance, Sockets, Via};
use super::token::Token;
use super::worker::Worker;
use crate::config::PeerName;
use crate::control::health::Handshake;
use crate::counters::DropReason;
use crate::io::batch::{Batch, Route};
use crate::io::fault::Fault;
use crate::io::mailbox::Arrival;
use crate::io::random::SystemRandom;
use crate::io::tun::Tun;
use crate::logging::RateLimit;
use crate::messages::{FromTunnel, Status, ToTunnel};
use crate::metrics::{PeerSample, QueueSample, Sample};
use crate::packet::split::Lengths;
use crate::routing::AllowedIps;
use crate::time::Instant;
use crate::tunnel::wireguard::message::{DATA_HEADER_LEN, INITIATION_LEN, RESPONSE_LEN, TAG_LEN};
use crate::tunnel::wireguard::padding::PADDING;
use crate::tunnel::wireguard::{Interface, Peer, PeerId, PublicKey, Sealing, Transmit, cipher_library};
use answers::Answers;
use endpoints::Endpoints;
use names::Names;
use peer_log::PeerLog;

/// A tunnel in WireGuard mode.
pub struct WireGuard {
    engine: Interface,
    allowed_ips: AllowedIps<PeerId>,
    sockets: Sockets<PeerId>,
    /// When peers were given their connected sockets.
    connected_at: HashMap<PeerId, Instant>,
    names: Names,
    /// What the peers are called, for people; most have no name.
    labels: HashMap<PeerId, PeerName>,
    answers: Answers,
    endpoints: Endpoints,
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
}

impl std::fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuard").finish_non_exhaustive()
    }
}

impl Device<WireGuard> {
    /// Makes a tunnel of what the supervisor has opened, without keys and peers.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn wireguard(
        core: Core,
        tuns: Vec<Tun>,
        sockets: Sockets<PeerId>,
        reports_endpoints: bool,
        clamps_mss: bool,
    ) -> Result<Self, DeviceError> {
        // now, when nobody waits for it
        cipher_library();
        let random = SystemRandom::open()?;
        let mtu = usize::try_from(core.link.mtu).unwrap_or(usize::MAX);
        let mut engine = Interface::new(mtu, Box::new(random));
        let receivers = u32::try_from(tuns.len()).ok().and_then(NonZeroU32::new);
        engine.set_receivers(receivers.unwrap_or(NonZeroU32::MIN));
        let mode = WireGuard {
            engine,
            allowed_ips: AllowedIps::new(),
            sockets,
            connected_at: HashMap::new(),
            names: Names::default(),
            labels: HashMap::new(),
            answers: Answers::default(),
            endpoints: Endpoints::new(reports_endpoints),
            share: Share::default(),
            lost: 0,
            quiet: Quiet { silent: RateLimit::new(QUIET), lookup: RateLimit::new(QUIET) },
            peer_log: PeerLog::default(),
        };
        Self::assemble(mode, core, tuns, clamps_mss)
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
            Token::UapiClient(number) => Ok(self.drain_answer(core, number)),
            _ => Ok(Progress::Drained),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.names.deadline(), self.engine.poll_timeout()].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.engine.handle_timeout(core.now);
        if self.engine.queued() > 0 {
            // out of the engine's backlog, which no datagram announces
            core.post(Token::Handshakes);
        }
        self.ask_names(core);
        Ok(())
    }

    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DeviceError> {
        match message {
            ToTunnel::Change { number, changes } => {
                self.change(core, &changes)?;
                if let Some(number) = number {
                    core.send(&FromTunnel::Changed(number));
                }
                Ok(())
            }
            ToTunnel::Name { peer, name } => {
                self.take_name(core, &peer, name);
                Ok(())
            }
            ToTunnel::Addresses { peer: Some(peer), result } => self.take_lookup(core, &peer, result),
            ToTunnel::Answer { client, report } => self.take_request(core, client, report, descriptors),
            _ => Err(DeviceError::Message),
        }
    }

    fn handle_spares(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.connect_peers(core)
    }

    fn handle_link(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.engine.set_mtu(usize::try_from(core.link.mtu).unwrap_or(usize::MAX));
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

    fn status(&self, now: Instant) -> Status {
        self.peers_status(now)
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
            let id = self.engine.peer_id(peer.public_key());
            PeerSample {
                public_key: *peer.public_key(),
                name: id.and_then(|id| self.labels.get(&id)).cloned(),
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

impl Receive for WireGuard {
    fn take_arrival(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        arrival: &Arrival,
        entrance: Entrance,
    ) -> Result<(), DeviceError> {
        Self::take_datagrams(shared, worker, arrival, entrance)
    }
}
