//! State of a tunnel in WireGuard mode.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::connections::Connections;
use super::endpoint_reports::EndpointReports;
use super::endpoint_resolver::EndpointResolver;
use super::excluded::ExcludedPeers;
use super::greetings::Greetings;
use super::ledger::Ledger;
use super::outages::Outages;
use super::peer_log::PeerLog;
use super::peer_lookup::PublishedAllowedIps;
use super::quotas::Quotas;
use super::responses::PendingResponses;
use super::state_reports::StateReports;
use super::unknown_keys::UnknownKeys;
use crate::config::{PeerName, display_name};
use crate::daemon::core::Core;
use crate::daemon::device_queues::DeviceQueues;
use crate::daemon::error::DaemonError;
use crate::daemon::run::Daemon;
use crate::daemon::sockets::Sockets;
use crate::net::random::SystemRandom;
use wontun_proto::allowed_ips::AllowedIps;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::message::{INITIATION_LEN, RESPONSE_LEN};
use wontun_proto::wireguard::{Interface, PeerId, Transmit, cipher_library};

/// A tunnel in WireGuard mode.
pub struct WireGuard {
    pub(super) engine: Interface,
    pub(super) allowed_ips: Arc<AllowedIps<PeerId>>,
    /// The same for workers without the lock.
    pub(super) published: PublishedAllowedIps,
    /// Number of workers.
    pub(super) workers: NonZeroU32,
    pub(super) sockets: Sockets<PeerId>,
    /// Times at which peers got their connected sockets.
    pub(super) connected_at: HashMap<PeerId, Instant>,
    /// Peers with bulk traffic, which lost their connected sockets.
    pub(super) has_bulk: HashSet<PeerId>,
    /// Time of the last handshake message that was refused because of a flood of them.
    pub(super) loaded_at: Option<Instant>,
    /// Paths by which the last handshakes were completed, as reported to the supervisor.
    pub(super) reported_paths: HashMap<PeerId, (IpAddr, Option<IpAddr>)>,
    pub(super) resolver: EndpointResolver,
    /// Names of the peers for display; most peers have none.
    pub(super) peer_names: HashMap<PeerId, PeerName>,
    pub(super) responses: PendingResponses,
    pub(super) endpoint_reports: EndpointReports,
    pub(super) state_reports: StateReports,
    pub(super) connections: Connections,
    /// Traffic of the peers.
    pub(super) ledger: Ledger,
    pub(super) greetings: Greetings,
    pub(super) send_budget: SendBudget,
    /// Packets of removed peers that waited for a handshake and were never sent.
    pub(super) lost: u64,
    pub(super) peer_log: PeerLog,
    pub(super) outages: Outages,
    pub(super) unknown_keys: UnknownKeys,
    pub(super) excluded: ExcludedPeers,
    pub(super) quotas: Quotas,
    /// Peers whose endpoint was configured as an address; that of a client is learned.
    pub(super) has_configured_endpoint: HashSet<PeerId>,
}

/// Send budget: limits the messages of the engine per turn, so that thousands of peers with
/// messages to send do not keep the loop from packets.
#[derive(Debug, Default)]
pub(super) struct SendBudget {
    turn: Instant,
    remaining: usize,
}

impl SendBudget {
    const PER_TURN: usize = 1024;
    /// Cost of an initiation, which takes as long as a hundred packets.
    const HANDSHAKE_COST: usize = Self::PER_TURN / 8;

    /// Returns true if there is budget left in the turn that began at `now`.
    pub(super) fn is_available(&mut self, now: Instant) -> bool {
        if self.turn != now {
            *self = Self { turn: now, remaining: Self::PER_TURN };
        }
        self.remaining > 0
    }

    pub(super) const fn spend(&mut self, transmit: Transmit) {
        let cost =
            if matches!(transmit.len, INITIATION_LEN | RESPONSE_LEN) { Self::HANDSHAKE_COST } else { 1 };
        self.remaining = self.remaining.saturating_sub(cost);
    }
}

impl std::fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuard").finish_non_exhaustive()
    }
}

impl Daemon<WireGuard> {
    /// Creates a tunnel from the descriptors that the supervisor has opened, without keys and
    /// peers.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn wireguard(
        core: Core,
        queues: DeviceQueues,
        sockets: Sockets<PeerId>,
        reports_endpoints: bool,
        shows_addresses: bool,
        clamps_mss: bool,
    ) -> Result<Self, DaemonError> {
        // initialized now, when nothing waits for it
        cipher_library();
        let random = SystemRandom::open()?;
        let mtu = usize::try_from(core.link.mtu).unwrap_or(usize::MAX);
        let mut engine = Interface::new(mtu, Box::new(random));
        let workers = u32::try_from(queues.workers()).ok().and_then(NonZeroU32::new);
        let workers = workers.unwrap_or(NonZeroU32::MIN);
        engine.set_receivers(workers);
        let mode = WireGuard {
            engine,
            allowed_ips: Arc::new(AllowedIps::new()),
            published: Arc::default(),
            workers,
            sockets,
            connected_at: HashMap::new(),
            has_bulk: HashSet::new(),
            loaded_at: None,
            reported_paths: HashMap::new(),
            resolver: EndpointResolver::default(),
            peer_names: HashMap::new(),
            responses: PendingResponses::default(),
            endpoint_reports: EndpointReports::new(reports_endpoints),
            state_reports: StateReports::new(reports_endpoints),
            connections: Connections::new(shows_addresses),
            ledger: Ledger::default(),
            greetings: Greetings::default(),
            send_budget: SendBudget::default(),
            lost: 0,
            peer_log: PeerLog::default(),
            outages: Outages::default(),
            unknown_keys: UnknownKeys::default(),
            excluded: ExcludedPeers::default(),
            quotas: Quotas::default(),
            has_configured_endpoint: HashSet::new(),
        };
        Self::assemble(mode, core, queues, clamps_mss)
    }
}

impl WireGuard {
    /// Returns the allowed IPs to change. Until [`Self::publish_allowed_ips`], workers look them up
    /// with the lock, so that they need not be copied.
    pub(super) fn allowed_ips_mut(&mut self) -> &mut AllowedIps<PeerId> {
        self.published.store(None);
        Arc::make_mut(&mut self.allowed_ips)
    }

    /// Lets workers look up the allowed IPs without the lock.
    pub(super) fn publish_allowed_ips(&self) {
        if self.published.load().is_none() {
            self.published.store(Some(Arc::clone(&self.allowed_ips)));
        }
    }

    /// Returns the name of a peer for log lines.
    pub(super) fn peer_name(&self, peer: PeerId) -> String {
        let state = self.engine.peer(peer);
        state.map(|state| display_name(self.peer_names.get(&peer), state.public_key())).unwrap_or_default()
    }
}
