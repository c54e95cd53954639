//! Plain mode: one peer, whose packets are datagrams as they are. Where it is, is in `endpoint`; what goes to and
//! fro, in `data_path`.

mod data_path;
mod endpoint;

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use tracing::info;

use super::core::{Core, LinkWatch, system};
use super::sockets::SocketOptions;
use super::{Device, DeviceError, Entrance, Mode, Progress, QUIET, Shared, Sockets, Token, Via, Way, Worker};
use crate::config::{Config, PeerAddress, Tuning};
use crate::control::health::Handshake;
use crate::counters::DropReason;
use crate::io::batch::{Batch, Route};
use crate::io::fault::Fault;
use crate::io::mailbox::{Arrival, MOST_DATAGRAMS};
use crate::io::signal::Signals;
use crate::io::tun::Tun;
use crate::logging::RateLimit;
use crate::metrics::{PeerSample, Sample};
use crate::packet::split::Lengths;
use crate::resolver::Resolver;
use crate::sandbox::Confinement;
use crate::time::Instant;
use crate::tunnel::plain::{Plain, Role};
use crate::tunnel::wireguard::PublicKey;
use endpoint::{Adoptions, Lookup};

/// Index of the loopback device, by which the kernel routes to each of the host's own addresses.
const LOOPBACK: u32 = 1;

/// A tunnel in plain mode.
#[derive(Debug)]
pub struct PlainTunnel {
    config: Config,
    sockets: Sockets<()>,
    lookup: Option<Lookup>,
    engine: Plain,
    /// When to connect anew, once the way to the peer or our own address was lost.
    reconnect_at: Option<Instant>,
    /// When the peer's socket was last made, or tried.
    connected_at: Option<Instant>,
    adoptions: Adoptions,
    quiet: Quiet,
}

/// Brakes on lines that a network can provoke.
#[derive(Debug)]
struct Quiet {
    connect: RateLimit,
    lookup: RateLimit,
    replaced: RateLimit,
    answered: RateLimit,
}

impl Device<PlainTunnel> {
    /// Opens everything that needs a privilege, and sets up the device. To be called while the process has one
    /// thread: the resolver process is forked here, and confined as `confinement` says.
    ///
    /// # Errors
    /// [`DeviceError`], with the remedy.
    pub fn open(config: Config, tuning: Tuning, confinement: Confinement) -> Result<Self, DeviceError> {
        let signals = Signals::open().map_err(system("blocking signals"))?;
        let lookup = match &config.peer {
            Some(PeerAddress::Name { host, port }) => {
                Some(Lookup::new(Resolver::start_forked(confinement)?, host, *port))
            }
            _ => None,
        };
        let options = SocketOptions {
            workers: tuning.workers,
            offload: tuning.offload,
            tells_class: false,
            has_many_peers: false,
            steers: false,
        };
        let is_client = config.role() == Role::Client;
        let sockets =
            Sockets::open(&config.listen, config.listen_port, is_client, options, confinement.user)?;
        let tuns = Tun::open(&config.tun, tuning.workers, tuning.offload)?;
        let mut link = LinkWatch::open(&config.tun)?;
        link.configured = config.configure;
        if config.configure {
            let configured = link.link.configure(&config.addresses, config.mtu_over(config.is_outer_v4()))?;
            link.warn_ipv6_disabled(&configured);
        }
        if let Some(peer @ PeerAddress::Socket(address)) = &config.peer {
            let interface = link.link.route_interface(address.ip())?;
            if interface == Some(link.index) {
                return Err(DeviceError::PeerInTunnel { peer: peer.clone(), tun: config.tun });
            }
            if address.port() == sockets.port() && interface == Some(LOOPBACK) {
                return Err(DeviceError::PeerIsSelf(*address));
            }
        }
        link.settle()?;
        if config.configure {
            if tuns.iter().any(|tun| tun.layout().is_some()) {
                link.fit_queue(0);
            } else {
                link.fit_plain_queue();
            }
        }
        let core = Core::open(config.tun.clone(), tuning.workers, link, signals)?;
        if let Some(lookup) = &lookup {
            core.register(0, &lookup.resolver, Token::Resolver)?;
        }
        let mode = PlainTunnel {
            engine: Plain::new(config.role(), config.keepalive),
            config,
            sockets,
            lookup,
            reconnect_at: None,
            connected_at: None,
            adoptions: Adoptions::default(),
            quiet: Quiet {
                connect: RateLimit::new(QUIET),
                lookup: RateLimit::new(QUIET * 6),
                replaced: RateLimit::new(Duration::from_secs(1)),
                answered: RateLimit::new(Duration::from_secs(1)),
            },
        };
        Self::assemble(mode, core, tuns, tuning.clamp_mss.unwrap_or(false))
    }
}

impl Mode for PlainTunnel {
    type Owner = ();
    type Sealing = ();
    type Scratch = Vec<Range<usize>>;
    const NAME: &'static str = "plain";
    const HEADROOM: usize = 0;
    const TAG: usize = 0;
    const TAILROOM: usize = 0;

    fn scratch() -> Self::Scratch {
        Vec::with_capacity(MOST_DATAGRAMS)
    }

    fn resolver(&self) -> Option<&Resolver> {
        self.lookup.as_ref().map(|lookup| &lookup.resolver)
    }

    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let role = if self.config.role() == Role::Server { "server" } else { "client" };
        info!(role, tun = %core.name, mtu = core.link.mtu, port = self.sockets.port(), "ready");
        self.start_peer(core)
    }

    fn sockets(&self) -> &Sockets<()> {
        &self.sockets
    }

    fn sockets_mut(&mut self) -> &mut Sockets<()> {
        &mut self.sockets
    }

    fn route(&mut self, core: &mut Core, packet: &[u8], _lengths: Lengths) -> Result<Way<Self>, DropReason> {
        self.engine.handle_packet(packet, core.now)?;
        Ok(Way::Send(self.way(core).ok_or(DropReason::Unreachable)?, ()))
    }

    fn stage(&mut self, _core: &mut Core, _owner: (), _packet: &[u8]) -> Result<(), DropReason> {
        Err(DropReason::NoPeer)
    }

    fn seal(_sealing: &mut (), _place: &mut [u8], len: usize) -> Option<usize> {
        Some(len)
    }

    fn handle_send_fault(
        &mut self,
        core: &mut Core,
        fault: Fault,
        _route: &Route<Via<()>>,
        datagrams: usize,
    ) -> Result<Option<Route<Via<()>>>, DeviceError> {
        self.take_send_fault(core, fault, datagrams);
        Ok(None)
    }

    fn take_arrival(
        shared: &Shared<Self>,
        worker: &mut Worker<Self>,
        arrival: &Arrival,
        entrance: Entrance,
    ) -> Result<(), DeviceError> {
        Self::take_datagrams(shared, worker, arrival, entrance)
    }

    fn handle_bounce(&mut self, core: &mut Core, reason: DropReason) {
        self.take_bounce(core, reason);
    }

    fn handle_doubtful_bounce(&mut self, core: &mut Core, reason: DropReason) {
        if reason == DropReason::Refused {
            self.handle_refused(core);
        }
    }

    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut Batch<Via<()>>>,
    ) -> Result<Progress, DeviceError> {
        self.serve_engine(core, batch);
        Ok(Progress::Drained)
    }

    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError> {
        match token {
            Token::Resolver => self.drain_resolver(core),
            _ => Ok(Progress::Drained),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let lookup = self.lookup.as_ref().and_then(|lookup| lookup.again_at);
        [self.engine.poll_timeout(), self.reconnect_at, lookup].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        if self.lookup.as_ref().and_then(|lookup| lookup.again_at).is_some_and(|at| core.now >= at) {
            self.look_up(core);
        }
        if self.reconnect_at.is_some_and(|at| core.now >= at) {
            self.reconnect(core)?;
        }
        self.engine.handle_timeout(core.now);
        Ok(())
    }

    fn reload(&mut self, _: &mut Core) -> Result<(), DeviceError> {
        info!("SIGHUP: there is no file to read again in plain mode");
        Ok(())
    }

    fn handle_link(&mut self, _: &mut Core, _: bool) -> Result<(), DeviceError> {
        Ok(())
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError> {
        if self.sockets.connected(()).is_some_and(|connected| connected.local == Some(address)) {
            self.schedule_reconnect(core);
        }
        Ok(())
    }

    fn status(&self, _: Instant) -> String {
        let status = match (self.config.role(), self.engine.peer()) {
            (Role::Server, None) => "waiting for a client",
            (Role::Server, Some(_)) => "has a client",
            (Role::Client, _) if self.engine.is_heard() => "the server is heard",
            (Role::Client, _) => "nothing is heard of the server",
        };
        status.to_owned()
    }

    fn handshake(&self, _: Instant) -> Handshake {
        Handshake::Unknown
    }

    fn tell(&self, now: Instant, sample: &mut Sample) {
        sample.peer_count = self.engine.peer().iter().count();
        sample.silence = self.engine.silence(now);
    }

    fn tell_peers(&self, _: Option<&PublicKey>, _: usize, _: Instant, _: &mut Vec<PeerSample>) {}

    fn lost_packets(&self) -> u64 {
        0
    }
}
