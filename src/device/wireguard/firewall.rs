//! What of the host's packet filter belongs to a tunnel with a file: the way out for its peers, and the kill switch.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::WireGuard;
use super::file::ConfigFile;
use crate::config::wg_quick::WgQuick;
use crate::config::{NatMode, TunName};
use crate::device::core::Core;
use crate::device::{Device, DeviceError, Progress, Token};
use crate::link::{KillSwitch, LinkError, Nat, Routes, RulesetChange, Watch};
use crate::routing::Prefix;
use crate::time::Instant;

/// Least time between two looks at what others have in the ruleset: some hosts change it all the time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The tables of a tunnel. Address translation ends with it; the kill switch only by [`Device::close`].
#[derive(Debug)]
pub(super) struct Firewall {
    name: TunName,
    nat: Option<Nat>,
    kill_switch: Option<KillSwitch>,
    /// Changes of the ruleset; `None` where the kernel has no nf_tables, or without a file.
    watch: Option<Watch>,
    /// When others' rules are looked at next, after a change.
    look_at: Option<Instant>,
    looked_at: Option<Instant>,
}

impl Firewall {
    /// Engages the kill switch, if the file's options want it: to be called before the device is up. Address
    /// translation is still to be set, and what a killed run left of it goes if it is not wanted any more. Without a
    /// file the host's packet filter is not looked at.
    ///
    /// # Errors
    /// There is no kill switch to be had, without which nobody who wants one wants a tunnel.
    pub(super) fn open(name: &TunName, file: Option<&ConfigFile>) -> Result<Self, LinkError> {
        let mut firewall = Self {
            name: name.clone(),
            nat: None,
            kill_switch: None,
            watch: None,
            look_at: None,
            looked_at: None,
        };
        let Some(file) = file else { return Ok(firewall) };
        if file.kill_switch {
            let mark = file.configuration.interface.fwmark;
            firewall.kill_switch = Some(KillSwitch::engage(name.as_str(), mark)?);
        } else if KillSwitch::is_engaged(name.as_str()).unwrap_or(false) {
            warn!(
                tun = %name,
                "an earlier run's kill switch is still engaged, and may stop the tunnel too: start with --kill-switch, \
                 or let everything out with `wontun unlock {name}`"
            );
        }
        firewall.watch = match Watch::open() {
            Ok(watch) => Some(watch),
            Err(error) => {
                debug!(%error, "changes of the nf_tables ruleset are not watched");
                None
            }
        };
        let mut nat = Nat::new(name.as_str());
        match file.nat {
            NatMode::Off => nat.take_away(),
            NatMode::Auto => firewall.nat = Some(nat),
        }
        if file.nat == NatMode::Auto && file.configuration.is_full_tunnel() {
            info!(tun = %name, "no address translation: a peer has the default route, so this is no way out for others");
        }
        Ok(firewall)
    }

    /// Has the first worker's epoll report changes of the ruleset.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register(&self, core: &Core) -> Result<(), DeviceError> {
        self.watch.as_ref().map_or(Ok(()), |watch| core.register(0, watch, Token::Ruleset))
    }

    /// When [`WireGuard::look_at_ruleset`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// What the sockets are to be marked with, where `mark` is what the file and the routes want.
    pub(super) fn mark(&self, mark: Option<NonZeroU32>) -> Option<NonZeroU32> {
        mark.or(self.kill_switch.as_ref().map(|_| KillSwitch::MARK))
    }

    /// Lets what carries `mark` through the kill switch.
    ///
    /// # Errors
    /// The kernel does not take it, and lets through what it did before.
    pub(super) fn let_through(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        match &mut self.kill_switch {
            Some(kill_switch) => kill_switch.let_through(mark).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        if self.kill_switch.is_some() {
            let name = &self.name;
            warn!(
                tun = %name,
                "the kill switch stays engaged: nothing leaves this host until the tunnel runs again, or \
                 `wontun unlock {name}` lets it out"
            );
        }
    }
}

impl WireGuard {
    /// Address translation follows the networks that the tunnel has now.
    pub(super) fn follow_networks(&mut self) {
        let networks = self.networks();
        if self.firewall.nat.as_ref().is_some_and(|nat| !nat.is_wanted(&networks)) {
            self.update_firewall();
        }
    }

    /// Sets address translation for the networks that the tunnel has now, and puts back what somebody has flushed.
    pub(super) fn update_firewall(&mut self) {
        let networks = self.networks();
        if let Some(nat) = &mut self.firewall.nat {
            let applied = nat.apply(&networks);
            if let Some(table) = applied.repaired {
                warn!(table, "an nf_tables table of this tunnel was deleted or changed, and is back");
            }
            for key in applied.turned_on {
                info!("{key} was off: it is on now, and stays on");
            }
            for warning in applied.warnings {
                warn!("{warning}");
            }
        }
        if let Err(error) = self.firewall.let_through(self.mark) {
            warn!(%error, "the kill switch may not be as it should");
        }
        if self.firewall.kill_switch.is_some() && !self.is_full_tunnel() {
            warn!(
                "no peer has the default route any more, and the kill switch holds back all that has no other way"
            );
        }
    }

    /// Reads that the ruleset was changed, and puts back at once what is missing of this tunnel's tables.
    pub(super) fn drain_ruleset(&mut self, core: &Core) -> Progress {
        let change = self.firewall.watch.as_mut().map_or(Ok(None), Watch::poll_change);
        match change {
            Ok(None) => Progress::Drained,
            Ok(Some(change)) => {
                self.repair_tables(core.now, &change);
                let next = self.firewall.looked_at.map_or(core.now, |looked| looked + BETWEEN_LOOKS);
                self.firewall.look_at = Some(next.max(core.now));
                Progress::More
            }
            Err(error) => {
                if let Some(suppressed) = self.quiet.repairs.allow(core.now) {
                    warn!(%error, suppressed, "changes of the nf_tables ruleset are not heard");
                }
                Progress::Drained
            }
        }
    }

    fn repair_tables(&mut self, now: Instant, change: &RulesetChange) {
        let mut repaired = Vec::new();
        match self.firewall.kill_switch.as_mut().map_or(Ok(None), KillSwitch::repair) {
            Ok(table) => repaired.extend(table),
            Err(error) => {
                if let Some(suppressed) = self.quiet.repairs.allow(now) {
                    warn!(%error, suppressed, "the kill switch is not engaged any more");
                }
            }
        }
        repaired.extend(self.firewall.nat.as_mut().and_then(Nat::repair));
        repaired.extend(self.routes.as_mut().map(Routes::repair_tables).unwrap_or_default());
        if !repaired.is_empty()
            && let Some(suppressed) = self.quiet.repairs.allow(now)
        {
            let (by, pid) = change.author.clone().unzip();
            let tables = repaired.join(", ");
            warn!(
                tables,
                by, pid, suppressed, "nf_tables tables of this tunnel were deleted or changed: they are back"
            );
        }
    }

    /// Looks at the ruleset of others, a while after it was changed: whether something drops what this
    /// tunnel forwards.
    pub(super) fn look_at_ruleset(&mut self, now: Instant) {
        if self.firewall.look_at.is_some_and(|due| now >= due) {
            self.firewall.look_at = None;
            self.firewall.looked_at = Some(now);
            if self.firewall.nat.is_some() {
                self.update_firewall();
            }
        }
    }

    /// Warns of a family that leaves this host past a full tunnel of the other one, unless it is held back.
    pub(super) fn warn_of_other_family(&self) {
        let past = self.source.configuration().and_then(WgQuick::past_full_tunnel);
        if let Some(warning) = past.filter(|_| self.firewall.kill_switch.is_none()) {
            warn!("{warning}");
        }
    }

    fn is_full_tunnel(&self) -> bool {
        self.source.configuration().is_some_and(WgQuick::is_full_tunnel)
    }

    /// The VPN's own addresses: the networks that the device is in, and peers that are single hosts elsewhere. The
    /// networks behind a peer are not: they have ways of their own. None where a peer has the default route: this is no
    /// way out for others.
    fn networks(&self) -> Vec<Prefix> {
        if self.is_full_tunnel() {
            return Vec::new();
        }
        let interface = self.source.configuration().map(|file| &file.interface);
        let addresses = interface.into_iter().flat_map(|interface| &interface.addresses);
        let own = addresses.filter_map(|address| Prefix::new(address.address(), address.prefix()));
        let hosts = self.allowed_ips.iter().map(|(prefix, _)| prefix).filter(|prefix| is_host(*prefix));
        own.chain(hosts).collect()
    }
}

fn is_host(prefix: Prefix) -> bool {
    match prefix.network() {
        IpAddr::V4(_) => prefix.length() == 32,
        IpAddr::V6(_) => prefix.length() == 128,
    }
}

impl Device<WireGuard> {
    /// The tunnel's end in good order, after [`Device::run`] has returned without an error: all that was put up goes,
    /// and last of all the kill switch. A device that is dropped otherwise leaves that behind.
    pub fn close(self) {
        let kill_switch = self.shared.alone(|mode, _| mode.firewall.kill_switch.take());
        drop(self);
        if let Some(Err(error)) = kill_switch.map(KillSwitch::release) {
            warn!(%error, "the kill switch stays engaged");
        }
    }
}
