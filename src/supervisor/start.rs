//! Starts a tunnel: first the helper processes, while this process has no keys in memory, then
//! everything that needs a privilege, then what the tunnel process needs is passed to it.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{info, warn};

use super::context::Context;
use super::error::{SupervisorError, system};
use super::event_loop::Supervisor;
use super::hand_over::{HandOver, InheritedListeners};
use super::link_watch::LinkWatch;
use super::lookups::Lookups;
use super::mode::Mode;
use super::path_watch::PathWatch;
use super::reconcile::Reconciler;
use super::service_manager::ServiceManager;
use super::tunnel::Tunnel;
use crate::config::{ApplyDns, TunName, Tuning};
use crate::control::health::{self, HealthListener};
use crate::control::notify::Notifier;
use crate::dns::handle::DnsProcess;
use crate::messages::{FromTunnel, LogConfig, MetricsConfig, ModeConfig, Queue, ToTunnel, TunnelConfig};
use crate::metrics::{HostName, MetricsError, MetricsListener};
use crate::net::signal::Signals;
use crate::net::timer::now;
use crate::net::tun::Tun;
use crate::privileges::UserIds;
use crate::process::{MAX_DESCRIPTORS, Nursery, NurseryError};
use crate::resolver::{NameServers, Resolver};
use crate::sandbox::Confinement;

/// Time that the tunnel process has to confine itself. It takes a few milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which the processes of a tunnel that was just killed end.
const IN_USE_TIMEOUT: Duration = Duration::from_millis(300);

/// Retries `open` for a moment while it fails because another process holds the resource: that may
/// be the tunnel process of a killed supervisor, which is about to end.
pub(super) fn retry_while_in_use<T, E>(
    is_taken: impl Fn(&E) -> bool,
    mut open: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let pause = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        match open() {
            Err(error) if is_taken(&error) && waited < IN_USE_TIMEOUT => {}
            result => return result,
        }
        thread::sleep(pause);
        waited += pause;
    }
}

/// Options of the start.
#[derive(Debug)]
pub(crate) struct StartOptions {
    /// User to switch to, and whether to use the sandbox.
    pub confinement: Confinement,
    /// Workers and offloads.
    pub tuning: Tuning,
    /// True if names may have to be looked up.
    pub looks_up_names: bool,
    /// True if the admin page is served, whose editor needs this process's user.
    pub has_admin: bool,
    /// Name servers that are queried first.
    pub resolvers: NameServers,
    /// Name of the tunnel if it may have name servers of its own.
    pub name: Option<TunName>,
    /// True if nobody reads standard error once the tunnel runs.
    pub is_in_background: bool,
    /// Log settings of the tunnel process.
    pub log: LogConfig,
    /// Address on which metrics are served, and additional host names accepted in requests.
    pub metrics: Option<(SocketAddr, Vec<HostName>)>,
    /// Connection to the service manager.
    pub notifier: Option<Notifier>,
}

/// A start in progress: the helper processes are started, and wait.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(super) tuning: Tuning,
    pub(super) user: Option<UserIds>,
    is_sandboxed: bool,
    log: LogConfig,
    metrics: Option<(SocketAddr, Vec<HostName>)>,
    notifier: Option<Notifier>,
    nursery: Nursery,
    /// That of the admin page's editor.
    own_nursery: Option<Nursery>,
    tunnel: Tunnel,
    lookups: Lookups,
}

/// Resources opened for the tunnel process.
#[derive(Debug)]
pub(super) struct TunnelResources {
    pub(super) name: TunName,
    pub(super) link: LinkWatch,
    pub(super) tuns: Vec<Tun>,
    pub(super) mode: ModeConfig,
    pub(super) clamps_mss: bool,
    /// Listening sockets of the process that the tunnel is taken over from, if it is.
    pub(super) inherited: Option<InheritedListeners>,
}

impl Starting {
    /// Starts the helper processes. Must be called while this process has one thread and no keys in
    /// memory, which a child would inherit, and before privileges are dropped.
    ///
    /// # Errors
    /// [`SupervisorError`].
    pub(crate) fn new(options: StartOptions) -> Result<Self, SupervisorError> {
        let StartOptions {
            confinement,
            tuning,
            looks_up_names,
            has_admin,
            resolvers,
            name,
            is_in_background,
            log,
            metrics,
            notifier,
        } = options;
        let Confinement { user, is_sandboxed } = confinement;
        let stderr = if is_in_background {
            File::options().write(true).open("/dev/null").map(OwnedFd::from)
        } else {
            io::stderr().as_fd().try_clone_to_owned()
        };
        let stderr = stderr.map_err(system("opening the helper processes' standard error"))?;
        let mut nursery = Nursery::start(is_sandboxed)?;
        let own_nursery = has_admin.then(|| Nursery::start_as_own_user(is_sandboxed)).transpose()?;
        let tunnel = Tunnel::start(&mut nursery, stderr.as_fd())?;
        let resolver = if looks_up_names {
            Some(Resolver::start(&mut nursery, is_sandboxed, stderr.as_fd())?)
        } else {
            None
        };
        let lookups = Lookups::new(resolver, resolvers, name, is_sandboxed, stderr);
        Ok(Self { tuning, user, is_sandboxed, log, metrics, notifier, nursery, own_nursery, tunnel, lookups })
    }

    /// Starts the process that applies name servers, as `method` says. The tunnel is started as
    /// `name`.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(super) fn start_dns(&self, name: &TunName, method: ApplyDns) -> Result<DnsProcess, NurseryError> {
        DnsProcess::start(name, method, self.is_sandboxed, self.lookups.stderr())
    }

    /// Takes the nursery whose helpers run as this process's user, if there is one.
    pub(super) const fn take_own_nursery(&mut self) -> Option<Nursery> {
        self.own_nursery.take()
    }

    /// Returns true if helper processes use the sandbox.
    pub(super) const fn is_sandboxed(&self) -> bool {
        self.is_sandboxed
    }

    /// Returns the standard error of helper processes.
    pub(super) fn stderr(&self) -> BorrowedFd<'_> {
        self.lookups.stderr()
    }

    /// Returns the look-ups, and the nursery to restart their process.
    pub(super) const fn lookups(&mut self) -> (&mut Lookups, &mut Nursery) {
        (&mut self.lookups, &mut self.nursery)
    }

    /// Passes the tunnel process what it needs of the device, the log, health and metrics.
    ///
    /// # Errors
    /// [`SupervisorError`].
    pub(super) fn start_tunnel(self, opened: TunnelResources) -> Result<Context, SupervisorError> {
        let TunnelResources { name, mut link, tuns, mode, clamps_mss, inherited } = opened;
        link.tun_at_start = link.link.describe().ok();
        let awaits_sessions = inherited.is_some();
        let InheritedListeners { hand_over, health, metrics } = inherited.unwrap_or_default();
        let mut tunnel = self.tunnel;
        let mut descriptors = Vec::new();
        let health = open_health(&name, health);
        let has_health = health.is_some();
        link.identity.health = has_health.then(|| name.clone());
        let opened =
            self.metrics.map(|(address, hosts)| open_metrics(address, &hosts, metrics)).transpose()?;
        let (metrics, metrics_socket) = opened.unzip();
        // only a tunnel with a file can be taken over
        let can_hand_over = mode == ModeConfig::WireGuard { reports_endpoints: true };
        let mut shared = if can_hand_over { HandOver::open(&name, hand_over) } else { HandOver::default() };
        let failed = system("duplicating a descriptor");
        if can_hand_over {
            shared.health = health.as_ref().map(OwnedFd::try_clone).transpose().map_err(&failed)?;
            let address = metrics.as_ref().map(|metrics: &MetricsConfig| metrics.address);
            let socket = metrics_socket.as_ref().map(OwnedFd::try_clone).transpose().map_err(&failed)?;
            shared.metrics = address.zip(socket);
        }
        descriptors.extend(health);
        descriptors.extend(metrics_socket);
        let start = TunnelConfig {
            tun: name.clone(),
            index: link.index,
            link: link.message(),
            workers: u16::try_from(self.tuning.workers).unwrap_or(u16::MAX),
            clamps_mss,
            offload: self.tuning.offload,
            awaits_sessions,
            is_sandboxed: self.is_sandboxed,
            user: self.user.map_or_else(|| nix::unistd::geteuid().as_raw(), UserIds::uid),
            log: self.log,
            has_health,
            metrics,
            mode,
        };
        tunnel.send_with(&ToTunnel::Start(Box::new(start)), descriptors);
        let parts = tuns.into_iter().map(Tun::into_parts).collect::<io::Result<Vec<_>>>();
        let mut parts = parts.map_err(system("handing over the TUN device"))?;
        if can_hand_over {
            let share = |(queue, described): &(OwnedFd, Queue)| Ok((*described, queue.try_clone()?));
            shared.queues = parts.iter().map(share).collect::<io::Result<_>>().map_err(&failed)?;
        }
        while !parts.is_empty() {
            let rest = parts.split_off(parts.len().min(MAX_DESCRIPTORS));
            let (descriptors, queues) = parts.into_iter().unzip();
            tunnel.send_with(&ToTunnel::Queues(queues), descriptors);
            parts = rest;
        }
        tunnel.set_link(link.message());
        Ok(Context {
            name,
            now: now().map_err(system("reading the clock"))?,
            link,
            tunnel,
            lookups: self.lookups,
            service_manager: ServiceManager::new(self.notifier),
            nursery: self.nursery,
            signals: Signals::open().map_err(system("blocking signals"))?,
            stop: None,
            reconciler: Reconciler::new(),
            hand_over: shared,
            paths: PathWatch::open()?,
        })
    }
}

/// Opens the health socket, or uses that of the process that the tunnel is taken over from. Returns
/// `None` with a warning if that fails.
fn open_health(name: &TunName, inherited: Option<OwnedFd>) -> Option<OwnedFd> {
    let opened = match inherited {
        // listening again makes this process the one that `wontun reload` finds
        Some(socket) => {
            rustix::net::listen(&socket, health::BACKLOG).map(|()| socket).map_err(io::Error::from)
        }
        None => HealthListener::open(name).map(HealthListener::into_fd),
    };
    let warn = |error: &io::Error| {
        warn!(%error, "another process holds the health socket's name: `wontun health` will not work");
    };
    opened.inspect_err(warn).ok()
}

/// Opens the socket for metrics and logs its address. If the process that the tunnel is taken over
/// from has one at the same address, that is used.
fn open_metrics(
    address: SocketAddr,
    hosts: &[HostName],
    inherited: Option<(SocketAddr, OwnedFd)>,
) -> Result<(MetricsConfig, OwnedFd), MetricsError> {
    let is_same = |other: &SocketAddr| *other == address || address.port() == 0 && other.ip() == address.ip();
    let listener = match inherited.filter(|(other, _)| is_same(other)) {
        Some((address, socket)) => MetricsListener::from_fd(socket, address),
        None => MetricsListener::open(address)?,
    };
    let address = listener.address();
    info!("serving metrics at http://{address}/metrics");
    if listener.is_public() {
        warn!(
            "anyone who can reach {address} can read the metrics, which include the peers' names and activity: \
             restrict access with a firewall, or serve them on a private address"
        );
    }
    let hosts = hosts.iter().map(ToString::to_string).collect();
    Ok((MetricsConfig { address, hosts }, listener.into_fd()))
}

impl<M: Mode> Supervisor<M> {
    /// Makes the tunnel process confine itself and carry packets, and waits until it does.
    ///
    /// # Errors
    /// It ended, or did not become ready.
    pub(crate) fn start(&mut self) -> Result<(), SupervisorError> {
        let context = &mut self.context;
        context.tunnel.send(&ToTunnel::Run);
        self.wait_for_tunnel(|message| matches!(message, FromTunnel::Ready).then_some(()).ok_or(message))
    }

    /// Waits for a message of the tunnel process from which `take` returns a value. Other messages
    /// are handled.
    ///
    /// # Errors
    /// It ended, or does not send one.
    pub(super) fn wait_for_tunnel<T>(
        &mut self,
        mut take: impl FnMut(FromTunnel) -> Result<T, FromTunnel>,
    ) -> Result<T, SupervisorError> {
        let context = &mut self.context;
        let start = now().map_err(system("reading the clock"))?;
        let mut waited = Duration::ZERO;
        while waited < READY_TIMEOUT {
            let wanted = if context.tunnel.is_behind() {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            let mut descriptors = [PollFd::new(context.tunnel.as_fd(), wanted)];
            let limit = u16::try_from((READY_TIMEOUT - waited).as_millis()).unwrap_or(u16::MAX);
            match poll(&mut descriptors, PollTimeout::from(limit)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(system("waiting for the tunnel process")(error.into())),
            }
            context.now = now().map_err(system("reading the clock"))?;
            waited = context.now.since(start);
            context.tunnel.flush();
            while let Some(message) = context.tunnel.receive(context.now) {
                match take(message) {
                    Ok(taken) => return Ok(taken),
                    Err(other) => self.mode.handle_message(context, other),
                }
            }
            if context.tunnel.is_gone() {
                return Err(context.tunnel.error().unwrap_or(SupervisorError::TunnelExited(0)));
            }
        }
        Err(SupervisorError::NotReady)
    }
}
