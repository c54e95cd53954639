//! What of the host's packet filter belongs to a tunnel with a file: the way out for its peers, and the kill switch.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use tracing::{info, warn};

use super::WireGuard;
use super::file::ConfigFile;
use super::kill_switch::EngagedKillSwitch;
use super::ruleset::RulesetWatch;
use crate::config::wg_quick::{Table, WgQuick};
use crate::config::{Cidr, NatMode, PeerPolicy, TunName};
use crate::link::{
    Guard, GuardWarning, InputWarning, KillSwitch, LinkError, Nat, Overlap, Pass, input_drops, overlaps,
};
use crate::routing::Prefix;

/// The tables of a tunnel. Address translation ends with it; the kill switch only by
/// [`WireGuard::finish`].
#[derive(Debug)]
pub(super) struct Firewall {
    pub(super) nat: Option<Nat>,
    /// Only with a file.
    pub(super) guard: Option<Guard>,
    pub(super) kill_switch: Option<EngagedKillSwitch>,
    pub(super) ruleset: RulesetWatch,
    /// The chains that drop what comes to the port, which were told.
    pub(super) input: Vec<InputWarning>,
    /// The networks of other devices that overlap the peers', which were told.
    pub(super) overlaps: Vec<Overlap>,
}

impl Firewall {
    /// Takes the kill switch, if there is one. Address translation is still to be set, and what a
    /// killed run left of it goes if it is not wanted any more. Without a file the host's packet
    /// filter is not looked at.
    ///
    /// # Errors
    /// The peers are to be isolated, and cannot be; a tunnel that was started with this name runs.
    pub(super) fn open(
        name: &TunName,
        file: Option<&ConfigFile>,
        kill_switch: Option<EngagedKillSwitch>,
    ) -> Result<Self, LinkError> {
        let mut firewall = Self {
            nat: None,
            guard: None,
            kill_switch,
            ruleset: RulesetWatch::default(),
            input: Vec::new(),
            overlaps: Vec::new(),
        };
        let Some(file) = file else { return Ok(firewall) };
        if firewall.kill_switch.is_none() && KillSwitch::is_in_place(name.as_str()).unwrap_or(false) {
            warn!(
                tun = %name,
                "an earlier run's kill switch is still engaged, and may stop the tunnel too: start with --kill-switch, \
                 or let everything out with `wontun kill-switch off {name}`"
            );
        }
        firewall.ruleset = RulesetWatch::open();
        firewall.guard = Some(Guard::new(name.as_str(), file.policy == PeerPolicy::Isolate));
        firewall.update_guard(&file.configuration.interface.addresses)?;
        let mut nat = Nat::new(name.as_str(), &file.nat_allow);
        match file.nat {
            NatMode::Off => nat.take_away(),
            NatMode::Auto => firewall.nat = Some(nat),
        }
        if file.nat == NatMode::Auto && file.configuration.is_full_tunnel() {
            info!(tun = %name, "no address translation: a peer has the default route, so this is no way out for others");
        }
        Ok(firewall)
    }

    /// Guards these addresses of the tunnel, and warns once of what cannot be guarded.
    ///
    /// # Errors
    /// The peers are to be isolated, and cannot be; another tunnel has the table.
    fn update_guard(&mut self, addresses: &[Cidr]) -> Result<(), LinkError> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let warnings = match guard.apply(addresses) {
            Ok(warnings) => warnings,
            Err(error) if guard.isolates() || matches!(error, LinkError::Owned { .. }) => return Err(error),
            Err(error) => guard.told(vec![GuardWarning::Nftables(error.to_string())]),
        };
        for warning in warnings {
            warn!("{warning}");
        }
        Ok(())
    }

    /// Returns the mark of the sockets, where `mark` is what the file and the routes want.
    pub(super) fn mark(&self, mark: Option<NonZeroU32>) -> Option<NonZeroU32> {
        mark.or(self.kill_switch.as_ref().map(|_| KillSwitch::MARK))
    }

    /// Lets the tunnel's datagrams through the kill switch: UDP from `port` with `mark`, and if
    /// `dns` is true marked questions to name servers.
    ///
    /// # Errors
    /// The kernel does not take it, and lets through what it did before.
    pub(super) fn let_through(&mut self, mark: Option<NonZeroU32>, port: u16, dns: bool) -> io::Result<()> {
        match (&mut self.kill_switch, mark) {
            (Some(kill_switch), Some(mark)) => kill_switch.let_through(Pass { mark, port, dns }),
            _ => Ok(()),
        }
    }

    /// Puts the table of the kill switch up again if somebody has taken it away.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub(super) fn restore_kill_switch(&mut self) -> io::Result<()> {
        self.kill_switch.as_mut().map_or(Ok(None), EngagedKillSwitch::put_back).map(drop)
    }

    /// Switches the kill switch off or on by request. A tunnel without one has none to switch off.
    ///
    /// # Errors
    /// The kernel does not take it; `Unsupported` if there is none to switch on.
    pub(super) fn set_kill_switch(&mut self, is_engaged: bool) -> io::Result<()> {
        match &mut self.kill_switch {
            Some(kill_switch) => kill_switch.set_engaged(is_engaged),
            None if is_engaged => Err(io::ErrorKind::Unsupported.into()),
            None => Ok(()),
        }
    }

    /// Returns true if a kill switch is in place.
    pub(super) fn is_locked(&self) -> bool {
        self.kill_switch.as_ref().is_some_and(EngagedKillSwitch::is_engaged)
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

    /// Sets address translation and the guard for what the tunnel and the host's other devices have
    /// now, and puts back what somebody has flushed. Returns a line for each setting that had been
    /// turned off.
    pub(super) fn update_tables(&mut self) -> Vec<String> {
        self.update_guard();
        let looks = self.firewall.ruleset.is_quiet();
        if looks {
            self.look_at_input();
        }
        self.look_at_overlaps();
        let networks = self.networks();
        let Some(nat) = &mut self.firewall.nat else { return Vec::new() };
        let applied = nat.apply(&networks, looks);
        for note in applied.notes {
            info!("{note}");
        }
        for warning in applied.warnings {
            warn!("{warning}");
        }
        applied.restored
    }

    /// Warns once of each firewall of this host that drops what comes to the port. A port that the
    /// file does not name is a client's, whose peers answer.
    fn look_at_input(&mut self) {
        let listens = |file: &WgQuick| file.interface.listen_port.is_some();
        let is_server = self.source.configuration().is_some_and(listens);
        let found = match &self.firewall.guard {
            Some(guard) if is_server => input_drops(guard.device(), self.sockets.port()),
            _ => Vec::new(),
        };
        for warning in found.iter().filter(|warning| !self.firewall.input.contains(warning)) {
            warn!("{warning}");
        }
        self.firewall.input = found;
    }

    /// Returns the networks of other devices that overlap what the routes lead to the peers. None
    /// where the routes are somebody else's.
    pub(super) fn overlaps(&self) -> Vec<Overlap> {
        let interface = self.source.configuration().map(|file| &file.interface);
        match (&self.firewall.guard, interface.filter(|interface| interface.table != Table::Off)) {
            (Some(guard), Some(interface)) => {
                overlaps(guard.device(), &interface.addresses, self.peers.allowed_ips())
            }
            _ => Vec::new(),
        }
    }

    /// Warns once of each network of another device that overlaps the peers'.
    fn look_at_overlaps(&mut self) {
        let found = self.overlaps();
        let told = &self.firewall.overlaps;
        for warning in found.iter().filter(|warning| !told.iter().any(|told| told.is_same(warning))) {
            warn!("{warning}");
        }
        self.firewall.overlaps = found;
    }

    /// Guards the addresses that the file gives the tunnel.
    pub(super) fn update_guard(&mut self) {
        let addresses = self.source.configuration().map(|file| file.interface.addresses.clone());
        if let Err(error) = self.firewall.update_guard(&addresses.unwrap_or_default()) {
            warn!(%error, "the tunnel's addresses are not guarded, and the peers may reach each other");
        }
    }

    /// As [`Self::update_tables`], and sees that the kill switch is as it should be.
    pub(super) fn update_firewall(&mut self) {
        self.update_tables().iter().for_each(|line| info!("{line}"));
        let outcome = self.let_through(self.mark, self.sockets.port());
        if let Err(error) = outcome.and_then(|()| self.firewall.restore_kill_switch()) {
            warn!(%error, "the kill switch may not be as it should");
        }
        if self.firewall.is_locked() && !self.is_full_tunnel() {
            warn!(
                "no peer has the default route any more, and the kill switch holds back all that has no other way"
            );
        }
    }

    /// Warns of a family that leaves this host past a full tunnel of the other one, unless it is
    /// held back.
    pub(super) fn warn_of_other_family(&self) {
        let past = self.source.configuration().and_then(WgQuick::past_full_tunnel);
        if let Some(warning) = past.filter(|_| !self.firewall.is_locked()) {
            warn!("{warning}");
        }
    }

    /// Lets datagrams from `port` with `mark` through the kill switch, if there is one.
    ///
    /// # Errors
    /// The kernel does not take it, and lets through what it did before.
    pub(super) fn let_through(&mut self, mark: Option<NonZeroU32>, port: u16) -> io::Result<()> {
        self.firewall.let_through(mark, port, self.peers.has_hosts())
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
        let hosts = self.peers.allowed_ips().filter(|prefix| is_host(*prefix));
        own.chain(hosts).collect()
    }
}

fn is_host(prefix: Prefix) -> bool {
    match prefix.network() {
        IpAddr::V4(_) => prefix.length() == 32,
        IpAddr::V6(_) => prefix.length() == 128,
    }
}
