//! From options to a running tunnel: everything that needs a privilege.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::{debug, warn};

use super::change::open_sockets;
use super::file::{self, ConfigFile, DEFAULT_MTU, Source};
use super::firewall::Firewall;
use super::names::Names;
use super::peer_log::PeerLog;
use super::uapi::Uapi;
use super::{Quiet, Share, WireGuard};
use crate::config::{TunName, Tuning};
use crate::control::uapi::{UapiError, UapiListener};
use crate::device::core::{Core, LinkWatch, system};
use crate::device::{Device, DeviceError, QUIET, Token};
use crate::io::random::SystemRandom;
use crate::io::signal::Signals;
use crate::io::tun::Tun;
use crate::logging::RateLimit;
use crate::privileges::Identity;
use crate::resolver::Resolver;
use crate::routing::AllowedIps;
use crate::tunnel::wireguard::message::DATA_OVERHEAD;
use crate::tunnel::wireguard::{Interface, cipher_library};

impl Device<WireGuard> {
    /// Opens everything that needs a privilege. With a file the device is set up as it says; without one it gets a name and
    /// nothing else, since wg(8) and ip(8) do the rest.
    ///
    /// `user` is whom the process becomes afterwards ([`crate::privileges`]), if it does.
    ///
    /// The resolver is for names that the file has now, or at a later reload. It is to be started
    /// before the file is read: a child made later would have our keys in its memory. The file's
    /// kill switch comes before either, and stays in place if there is an error.
    ///
    /// # Errors
    /// [`DeviceError`], with the remedy.
    pub fn open(
        name: TunName,
        file: Option<(ConfigFile, Resolver)>,
        tuning: Tuning,
        user: Option<Identity>,
    ) -> Result<Self, DeviceError> {
        // now, when nobody waits for it
        cipher_library();
        let signals = Signals::open().map_err(system("blocking signals"))?;
        let (mut file, resolver) = file.unzip();
        let kill_switch = file.as_mut().and_then(|file| file.kill_switch.take());
        let random = SystemRandom::open()?;
        let uapi = open_uapi(&name, file.as_ref())?;
        let port = file.as_ref().and_then(|file| file.configuration.interface.listen_port);
        let sockets = open_sockets(port.map_or(0, std::num::NonZeroU16::get), tuning, user)?;
        let tuns = Tun::open(&name, tuning.workers, tuning.offload)?;
        let firewall = Firewall::open(&name, file.as_ref(), kill_switch)?;
        let mut link = LinkWatch::open(&name)?;
        // before the first packet: other tunnels' guards tell it by that
        if let Err(error) = link.link.join_tunnels() {
            debug!(%error, "other tunnels' guards take this one for a network");
        }
        if let Some(file) = &file {
            link.configured = true;
            let mtu = file::mtu(&mut link.link, &file.configuration, file.configuration.interface.fwmark);
            let configured = link.link.configure(&file.configuration.interface.addresses, mtu)?;
            link.warn_ipv6_disabled(&configured);
        } else {
            link.link.set_mtu(DEFAULT_MTU)?;
        }
        link.settle()?;
        let mtu = usize::try_from(link.mtu).unwrap_or(usize::MAX);
        let mut core = Core::open(name, tuning.workers, link, signals)?;
        if let Some(resolver) = &resolver {
            core.register(0, resolver, Token::Resolver)?;
        }
        let uapi = Uapi::new(uapi);
        uapi.register(&core)?;
        firewall.ruleset.register(&core)?;
        let mut engine = Interface::new(mtu, Box::new(random));
        let receivers = u32::try_from(tuning.workers).ok().and_then(NonZeroU32::new);
        engine.set_receivers(receivers.unwrap_or(NonZeroU32::MIN));
        let mut mode = WireGuard {
            engine,
            allowed_ips: AllowedIps::new(),
            sockets,
            mark: None,
            fwmark: None,
            connected_at: HashMap::new(),
            labels: HashMap::new(),
            names: Names::new(resolver),
            uapi,
            source: file.map_or(Source::Socket, |file| Source::File(Box::new(file))),
            routes: None,
            firewall,
            share: Share::default(),
            lost: 0,
            quiet: Quiet {
                silent: RateLimit::new(QUIET),
                lookup: RateLimit::new(QUIET),
                routes: RateLimit::new(QUIET),
                repairs: RateLimit::new(Duration::from_secs(1)),
                route_warnings: RateLimit::new(QUIET),
            },
            peer_log: PeerLog::default(),
        };
        mode.configure(&mut core)?;
        // after the firewall, which may have turned forwarding on
        if tuns.iter().any(|tun| tun.layout().is_some()) {
            core.link.fit_queue(DATA_OVERHEAD);
        } else {
            core.link.fit_plain_queue();
        }
        Self::assemble(mode, core, tuns, tuning.clamp_mss.unwrap_or(true))
    }
}

impl WireGuard {
    /// Gives the interface what the file says.
    fn configure(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let Some(configuration) = self.source.configuration().cloned() else { return Ok(()) };
        let mut changes = file::changes(&configuration, None, &HashSet::new());
        // bound already
        changes.listen_port = None;
        // nothing is sent before the routes are right
        if let Err(error) = self.apply(core, &changes)? {
            warn!(%error, "not all of the configuration is in force");
        }
        self.take_names(core, &configuration, None, &HashSet::new());
        self.open_routes(core)?;
        self.update_firewall();
        self.warn_of_other_family();
        Ok(())
    }
}

/// A tunnel that has a file can do without the socket; one that wg(8) is to configure cannot.
fn open_uapi(name: &TunName, file: Option<&ConfigFile>) -> Result<Option<UapiListener>, DeviceError> {
    match UapiListener::open(name, file.and_then(|file| file.path.parent())) {
        Ok((listener, warning)) => {
            if let Some(warning) = warning {
                warn!("{warning}");
            }
            Ok(Some(listener))
        }
        Err(error @ UapiError::Nowhere(_)) if file.is_some() => {
            warn!("{error}; until then wg(8) and `wontun show` do not work");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
