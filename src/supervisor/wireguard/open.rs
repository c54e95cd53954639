//! Opens a tunnel from its options: everything that needs a privilege.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tracing::{debug, warn};

use super::admin::Admin;
use super::bypass::Bypass;
use super::change::SPARE_SOCKETS;
use super::dns;
use super::endpoint_cache::EndpointCache;
use super::excluded::{Access, Excluded};
use super::file::{self, ConfigFile, ConfigSource, DEFAULT_MTU};
use super::firewall::Firewall;
use super::hand_over;
use super::invitations::Invitations;
use super::names;
use super::nat64::Nat64;
use super::peers::Peers;
use super::saved_state::SavedState;
use super::state::{LogLimits, WireGuard};
use super::uapi::Uapi;
use crate::config::{Cidr, TunName};
use crate::logging::RateLimit;
use crate::messages::{ModeConfig, ToTunnel};
use crate::net::tun::{Tun, TunError};
use crate::supervisor::context::Context;
use crate::supervisor::error::{SupervisorError, system};
use crate::supervisor::event_loop::Supervisor;
use crate::supervisor::hand_over::{Inheritance, InheritedListeners, TakeOverSource};
use crate::supervisor::link_watch::LinkWatch;
use crate::supervisor::socket_budget::SocketBudget;
use crate::supervisor::sockets::{SocketOptions, Sockets, SocketsError};
use crate::supervisor::start::{Starting, TunnelResources, retry_while_in_use};
use crate::uapi::{UapiError, UapiListener};
use wontun_proto::wireguard::message::DATA_OVERHEAD;

/// Minimum interval between two log lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Supervisor<WireGuard> {
    /// Opens everything that needs a privilege, and passes the tunnel process what it needs. With a
    /// file the device is set up as configured; without one it only gets a name, since wg(8) and
    /// ip(8) do the rest. The file's kill switch is engaged before everything else, and stays in
    /// place after an error.
    ///
    /// With `take_over_from`, everything is prepared for
    /// [`Supervisor::take_over`], and nothing on the host is changed.
    ///
    /// # Errors
    /// [`SupervisorError`], with the remedy.
    pub(crate) fn open(
        name: TunName,
        file: Option<ConfigFile>,
        mut starting: Starting,
        mut take_over_from: Option<TakeOverSource>,
    ) -> Result<Self, SupervisorError> {
        let mut file = file;
        let inheritance = take_over_from.as_mut().and_then(TakeOverSource::take_inheritance);
        let is_taken_over = inheritance.is_some();
        if let Some(inheritance) = &inheritance {
            // the device and the sockets are as they are
            let of_workers = inheritance.queues.iter().filter(|(described, _)| !described.is_sparse);
            starting.tuning.workers = of_workers.count();
        }
        let (tuning, user) = (starting.tuning, starting.user);
        let kill_switch = file.as_mut().and_then(|file| file.kill_switch.take());
        let port = file.as_ref().and_then(|file| file.configuration.interface.listen_port);
        let options = SocketOptions {
            workers: tuning.workers,
            offload: tuning.offload,
            receives_traffic_class: true,
            has_many_peers: true,
            steers: true,
        };
        let port = Some(port.map_or(0, std::num::NonZeroU16::get));
        let Resources { uapi, sockets, tuns, mark, addresses, listeners } = match inheritance {
            Some(inheritance) => Resources::inherited(inheritance, options),
            None => Resources {
                uapi: open_uapi(&name, file.as_ref())?,
                sockets: retry_while_in_use(
                    |error| matches!(error, SocketsError::PortInUse(_)),
                    || Sockets::open(&[], port, false, options, starting.user),
                )?,
                tuns: retry_while_in_use(
                    |error| matches!(error, TunError::Busy(_)),
                    || Tun::open(&name, tuning.workers, tuning.offload),
                )?,
                mark: None,
                addresses: Vec::new(),
                listeners: None,
            },
        };
        // the file of the other process's socket may be gone
        let uapi = match uapi {
            None if is_taken_over => open_uapi(&name, file.as_ref()).unwrap_or_else(|error| {
                warn!(%error, "wg(8) and `wontun show` do not work");
                None
            }),
            uapi => uapi,
        };
        let is_offloaded = tuns.iter().any(|tun| tun.layout().is_some());
        let mut firewall = Firewall::open(&name, file.as_ref(), kill_switch);
        if !is_taken_over {
            firewall.set_up(&name, file.as_ref())?;
        }
        let bypass = Bypass::new(file.as_ref().is_some_and(|file| file.options.dns_bypass));
        let saved_state = SavedState::open(&name, file.as_ref(), is_taken_over)?;
        let endpoint_cache = EndpointCache::new(saved_state.addresses());
        let dns = dns::open(&name, file.as_ref(), &starting);
        let names = names::open(file.as_ref(), &mut starting);
        let admin = Admin::open(&name, file.as_ref(), &mut starting);
        let invitations = Invitations::open(&name, file.as_ref(), &starting);
        let mut link = LinkWatch::open(&name)?;
        // before the first packet: other tunnels' guards identify it by that
        if let Err(error) = link.link.join_tunnel_group() {
            debug!(%error, "cannot set the device group: guards of other tunnels drop packets from this one");
        }
        if let Some(file) = &file {
            link.is_managed = true;
            link.wanted_mtu = file.configuration.interface.mtu;
        }
        if is_taken_over {
            link.link.set_desired_addresses(&addresses);
        } else if let Some(file) = &file {
            let mtu = file::mtu(&mut link.link, &file.configuration, file.configuration.interface.fwmark);
            let configured = link.link.configure(&file.configuration.interface.addresses, mtu)?;
            link.warn_ipv6_disabled(&configured);
        } else {
            link.link.set_mtu(DEFAULT_MTU)?;
        }
        link.record_state()?;
        let mode = ModeConfig::WireGuard { reports_endpoints: file.is_some() };
        let clamps_mss = tuning.clamp_mss.unwrap_or(true);
        let opened = TunnelResources { name, link, tuns, mode, clamps_mss, inherited: listeners };
        let messages = sockets.messages().map_err(system("handing over sockets"))?;
        let mut context = starting.start_tunnel(opened)?;
        context.tunnel.send_all(messages);
        let mut mode = WireGuard {
            peers: Peers::new(),
            sockets,
            mark,
            fwmark: None,
            uapi: Uapi::new(uapi),
            source: file.map_or(ConfigSource::Socket, |file| ConfigSource::File(Box::new(file))),
            routes: None,
            routes_due: None,
            ipv6_due: None,
            routed_at: None,
            firewall,
            dns,
            admin,
            invitations,
            endpoint_cache,
            saved_state,
            access: Access::new().map_err(system("creating a timer"))?,
            bypass,
            nat64: Nat64::new(),
            names,
            is_running: false,
            spare: SocketBudget::default(),
            log_limits: LogLimits {
                routes: RateLimit::new(LOG_INTERVAL),
                ruleset: RateLimit::new(Duration::from_secs(1)),
                route_warnings: RateLimit::new(LOG_INTERVAL),
            },
        };
        if let Some(mark) = mark {
            context.tunnel.send(&ToTunnel::Mark(mark.get()));
        }
        mode.configure(&mut context, is_taken_over)?;
        if is_taken_over {
            context.link.datagram_overhead =
                is_offloaded.then(|| u32::try_from(DATA_OVERHEAD).ok()).flatten();
        } else if is_offloaded {
            // after the firewall, which may have turned forwarding on
            context.link.set_gso_queue(DATA_OVERHEAD);
        } else {
            context.link.set_plain_queue();
        }
        match mode.sockets.first_spare(SPARE_SOCKETS, user) {
            Ok((message, descriptors)) => context.tunnel.send_with(&message, descriptors),
            Err(error) => warn!(%error, "cannot create connected sockets for peers"),
        }
        mode.is_running = true;
        mode.update_names(context.now);
        if let Some(configuration) = mode.source.configuration() {
            // where the device has its addresses, and this process may use ports below 1024
            mode.admin.start(&mut context, &configuration.interface.addresses, is_taken_over);
        }
        mode.start_invitations(&mut context);
        if !is_taken_over {
            mode.apply_dns(&mut context);
            mode.dns.wait(context.now);
        }
        let mut supervisor = Self::new(mode, context);
        supervisor.take_over_from = take_over_from;
        Ok(supervisor)
    }
}

/// Resources of a tunnel, which are opened, or those of the process that the tunnel is taken over
/// from.
struct Resources {
    uapi: Option<UapiListener>,
    sockets: Sockets,
    tuns: Vec<Tun>,
    mark: Option<NonZeroU32>,
    /// Addresses of the device, if it is taken over.
    addresses: Vec<Cidr>,
    listeners: Option<InheritedListeners>,
}

impl Resources {
    fn inherited(inheritance: Inheritance, options: SocketOptions) -> Self {
        let Inheritance { port, mark, addresses, queues, sockets, listeners, uapi } = inheritance;
        let adopt = |(path, socket): (PathBuf, OwnedFd)| {
            UapiListener::adopt(socket, path)
                .inspect_err(|error| debug!(%error, "cannot use the socket for wg(8) of the other process"))
                .ok()
        };
        let tuns = queues.into_iter().map(|(described, queue)| Tun::from_parts(queue, described));
        Self {
            uapi: uapi.and_then(adopt),
            sockets: Sockets::adopt(port, mark, options, sockets),
            tuns: tuns.collect(),
            mark,
            addresses: hand_over::addresses(addresses),
            listeners: Some(listeners),
        }
    }
}

impl WireGuard {
    /// Applies the file to the interface; routes and tables only unless the tunnel `is_taken_over`,
    /// whose other process has its own in place.
    fn configure(&mut self, context: &mut Context, is_taken_over: bool) -> Result<(), SupervisorError> {
        let Some(configuration) = self.source.configuration().cloned() else { return Ok(()) };
        self.access.excluded = self.excluded_of(&configuration);
        let mut changes = file::changes(&configuration, None, &HashSet::new(), &self.access.excluded);
        // bound already
        changes.listen_port = None;
        if is_taken_over {
            self.fwmark = changes.fwmark.take().and_then(NonZeroU32::new);
        }
        if let Err(error) = self.apply(context, &changes) {
            warn!(%error, "the configuration was applied only in part");
        }
        let names = self.update_endpoint_names(&configuration, None, &HashSet::new());
        self.look_up_before_routes(context, &configuration)?;
        if !is_taken_over {
            self.enforce_rules(&mut changes);
            self.open_routes(context)?;
            self.update_firewall();
            self.warn_of_other_family();
        }
        self.send_excluded(context, &Excluded::default());
        self.log_excluded();
        self.send_changes(context, changes);
        names.iter().for_each(|name| context.tunnel.send(name));
        self.watch_paths(context);
        self.restored_state(&configuration).iter().for_each(|message| context.tunnel.send(message));
        Ok(())
    }
}

/// Opens the socket for wg(8). It is optional for a tunnel with a file, and required for one that
/// wg(8) is to configure.
fn open_uapi(name: &TunName, file: Option<&ConfigFile>) -> Result<Option<UapiListener>, SupervisorError> {
    match UapiListener::open(name, file.and_then(|file| file.path.parent())) {
        Ok((listener, warning)) => {
            if let Some(warning) = warning {
                warn!("{warning}");
            }
            Ok(Some(listener))
        }
        Err(error @ UapiError::NoFolder(_)) if file.is_some() => {
            warn!("{error}; until then wg(8) and `wontun show` do not work");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
