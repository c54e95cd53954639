//! The supervisor's part of plain mode: the device, its MTU, the server's name, and the check which
//! addresses are reachable outside the tunnel.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{info, warn};

use super::context::Context;
use super::error::{SupervisorError, system};
use super::event_loop::Supervisor;
use super::link_watch::LinkWatch;
use super::lookups::LookupTarget;
use super::mode::{EventSource, Mode};
use super::reconcile::{HostResource, ReconcileOutcome, Requirement};
use super::socket_budget::SocketBudget;
use super::sockets::{SocketOptions, Sockets, SocketsError};
use super::start::{Starting, TunnelResources, retry_while_in_use};
use crate::config::{PeerAddress, PlainConfig};
use crate::messages::{Address, FromTunnel, ModeConfig, ToTunnel};
use crate::net::tun::{Tun, TunError};
use crate::sandbox::AllowedPaths;
use wontun_proto::plain::Role;
use wontun_proto::time::Instant;

/// Index of the loopback device, to which the kernel routes each of the host's own addresses.
const LOOPBACK: u32 = 1;
/// Number of spare sockets that the tunnel process gets at the start.
const SPARE_SOCKETS: u8 = 4;
/// Number of candidates checked per second; each takes a request to the kernel.
const CANDIDATES_PER_SECOND: u32 = 32;

/// The supervisor's part of a tunnel in plain mode.
#[derive(Debug)]
pub(crate) struct Plain {
    config: PlainConfig,
    sockets: Sockets,
    spare: SocketBudget,
    /// Start of the current second, and the number of candidates checked in it.
    candidate_checks: (Option<Instant>, u32),
}

impl Supervisor<Plain> {
    /// Opens everything that needs a privilege, sets up the device, and passes the tunnel process
    /// what it needs.
    ///
    /// # Errors
    /// [`SupervisorError`], with the remedy.
    pub(crate) fn open(config: PlainConfig, starting: Starting) -> Result<Self, SupervisorError> {
        let (tuning, user) = (starting.tuning, starting.user);
        let options = SocketOptions {
            workers: tuning.workers,
            offload: tuning.offload,
            receives_traffic_class: false,
            has_many_peers: false,
            steers: false,
        };
        let is_client = config.role() == Role::Client;
        let sockets = retry_while_in_use(
            |error| matches!(error, SocketsError::PortInUse(_)),
            || Sockets::open(&config.listen, config.listen_port, is_client, options, starting.user),
        )?;
        let tuns = retry_while_in_use(
            |error| matches!(error, TunError::Busy(_)),
            || Tun::open(&config.tun, tuning.workers, tuning.offload),
        )?;
        let mut link = LinkWatch::open(&config.tun)?;
        link.is_managed = config.configure;
        link.wanted_mtu = config.mtu;
        if config.configure {
            let configured = link.link.configure(&config.addresses, config.mtu_over(config.is_outer_v4()))?;
            link.warn_ipv6_disabled(&configured);
        }
        let mut server = None;
        if let Some(peer @ PeerAddress::Socket(address)) = &config.peer {
            let interface = link.link.route_interface(address.ip())?;
            if interface == Some(link.index) {
                return Err(SupervisorError::PeerInTunnel { peer: peer.clone(), tun: config.tun });
            }
            if address.port() == sockets.port() && interface == Some(LOOPBACK) {
                return Err(SupervisorError::PeerIsSelf(*address));
            }
            server = Some(Address::from(*address));
        }
        link.record_state()?;
        if config.configure {
            if tuns.iter().any(|tun| tun.layout().is_some()) {
                link.set_gso_queue(0);
            } else {
                link.set_plain_queue();
            }
        }
        let name = match &config.peer {
            Some(PeerAddress::Name { host, .. }) => Some(host.clone()),
            Some(PeerAddress::Socket(_)) | None => None,
        };
        let mode = ModeConfig::Plain { is_client, server, name, keepalive: config.keepalive };
        let clamps_mss = tuning.clamp_mss.unwrap_or(false);
        let mut context = starting.start_tunnel(TunnelResources {
            name: config.tun.clone(),
            link,
            tuns,
            mode,
            clamps_mss,
            inherited: None,
        })?;
        let failed = system("handing over sockets");
        context.tunnel.send_all(sockets.messages().map_err(&failed)?);
        let (message, descriptors) = sockets.first_spare(SPARE_SOCKETS, user).map_err(&failed)?;
        context.tunnel.send_with(&message, descriptors);
        let mode = Plain { config, sockets, spare: SocketBudget::default(), candidate_checks: (None, 0) };
        Ok(Self::new(mode, context))
    }
}

impl Mode for Plain {
    fn allowed_paths(&self) -> AllowedPaths {
        AllowedPaths::default()
    }

    fn descriptors(&self) -> Vec<(EventSource, BorrowedFd<'_>, PollFlags)> {
        Vec::new()
    }

    fn handle_ready(&mut self, _: &mut Context, _: EventSource, _: PollFlags) {}

    fn handle_message(&mut self, context: &mut Context, message: FromTunnel) {
        match message {
            FromTunnel::LookUp(None) => {
                let result = match &self.config.peer {
                    Some(PeerAddress::Name { host, port }) => {
                        context.lookups.request(LookupTarget::Server, host, *port, None)
                    }
                    _ => Err("the server's endpoint is not a host name".to_owned()),
                };
                if let Err(error) = result {
                    context.send_lookup_result(None, Err(error), false);
                }
            }
            FromTunnel::CheckCandidate(address) if self.allows_candidate(context.now) => {
                let is_usable = !routes_into_tun(context, address);
                let message = ToTunnel::CandidateChecked { address, is_usable };
                context.tunnel.answer(&message, Vec::new());
            }
            FromTunnel::OuterFamily { is_ipv4 } => self.fit_mtu(context, is_ipv4),
            FromTunnel::NeedSockets { ipv4, ipv6 } => {
                let (ipv4, ipv6) = self.spare.take(context.now, ipv4, ipv6);
                match self.sockets.spare(ipv4, ipv6) {
                    Ok((message, descriptors)) => {
                        context.tunnel.answer(&message, descriptors);
                    }
                    Err(error) => warn!(%error, "cannot create a connected socket for the peer"),
                }
            }
            FromTunnel::Path { peer: None, remote, local } => {
                context.confirm_path(None, None, remote, local);
            }
            // over the limit, for the other mode, or handled by the event loop
            FromTunnel::CheckCandidate(_)
            | FromTunnel::Ready
            | FromTunnel::Changed(_)
            | FromTunnel::LookUp(Some(_))
            | FromTunnel::State { .. }
            | FromTunnel::Path { .. }
            | FromTunnel::Endpoint { .. }
            | FromTunnel::Alive { .. }
            | FromTunnel::Probe(_)
            | FromTunnel::CountDenied(_)
            | FromTunnel::Answered(_)
            | FromTunnel::StopRequested
            | FromTunnel::Exported(_)
            | FromTunnel::Imported(_) => {}
        }
    }

    fn handle_addresses(
        &mut self,
        context: &mut Context,
        _: LookupTarget,
        result: Result<Vec<SocketAddr>, String>,
    ) {
        let result = result.map(|mut addresses| {
            addresses.retain(|address| {
                self.sockets.has_family(address.ip()) && !routes_into_tun(context, address.ip())
            });
            addresses
        });
        context.send_lookup_result(None, result, true);
    }

    fn mark(&self) -> Option<NonZeroU32> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn handle_timeouts(&mut self, _: &mut Context) {}

    fn reload(&mut self, _: &mut Context) -> Result<u32, String> {
        info!("SIGHUP: plain mode has no configuration file to reload");
        Err("plain mode has no configuration file".to_owned())
    }

    fn handle_renamed(&mut self, _: &mut Context) -> Result<(), String> {
        Ok(())
    }

    fn handle_netns_move(&mut self, _: &mut Context) {}

    fn blocks(&self) -> bool {
        false
    }

    fn handle_link_up(&mut self, _: &mut Context) {}

    fn reconcile(
        &mut self,
        context: &mut Context,
        resource: HostResource,
        may_repair: bool,
    ) -> ReconcileOutcome {
        match resource {
            HostResource::Device => context.reconcile_device(self, may_repair),
            HostResource::Addresses => context.reconcile_addresses(may_repair),
            HostResource::KillSwitch
            | HostResource::Routing
            | HostResource::Tables
            | HostResource::Settings => ReconcileOutcome::default(),
        }
    }

    fn unmet_requirements(&self, _: Requirement) -> Vec<String> {
        Vec::new()
    }

    fn finish(self, _: bool) {}
}

impl Plain {
    /// Returns true if another candidate may be checked in this second.
    fn allows_candidate(&mut self, now: Instant) -> bool {
        let (second, count) = &mut self.candidate_checks;
        if second.is_none_or(|second| now.since(second) >= Duration::from_secs(1)) {
            (*second, *count) = (Some(now), 0);
        }
        *count += 1;
        *count <= CANDIDATES_PER_SECOND
    }

    /// Adapts the MTU to the outer address family, unless the user has set it.
    fn fit_mtu(&self, context: &mut Context, is_outer_v4: bool) {
        let mtu = self.config.mtu_over(is_outer_v4);
        if self.config.mtu.is_some()
            || !self.config.configure
            || context.link.is_in_other_netns
            || mtu == context.link.mtu
        {
            return;
        }
        match context.link.link.set_mtu(mtu) {
            Ok(()) => {
                context.link.mtu = mtu;
                context.link.adapt_gso_size();
                context.tunnel.set_link(context.link.message());
                info!(mtu, "adapted the MTU to the peer's address family");
            }
            Err(error) => warn!(%error, "cannot adapt the MTU to the peer's address family"),
        }
    }
}

/// Returns true if datagrams to `address` would be routed into the tunnel's own tun.
fn routes_into_tun(context: &mut Context, address: IpAddr) -> bool {
    !context.link.is_in_other_netns
        && context
            .link
            .link
            .route_interface(address)
            .is_ok_and(|interface| interface == Some(context.link.index))
}
