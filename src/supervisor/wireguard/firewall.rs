//! The packet filter state of a tunnel with a file: NAT for its peers, their rules, the guard and
//! the kill switch.

use std::io;
use std::num::NonZeroU32;

use tracing::{info, warn};

use super::file::ConfigFile;
use super::kill_switch::EngagedKillSwitch;
use super::ruleset::RulesetMonitor;
use crate::config::access::{AccessRules, UnknownPeer};
use crate::config::{Cidr, NatMode, PeerPolicy, TunName};
use crate::netlink::{
    AccessTable, AllowedTraffic, Guard, GuardWarning, InputWarning, KillSwitch, LinkError, Nat, Overlap,
};

/// The tables of a tunnel. NAT is removed when this is dropped; the kill switch only by
/// [`Mode::finish`].
///
/// [`Mode::finish`]: crate::supervisor::mode::Mode::finish
#[derive(Debug)]
pub(super) struct Firewall {
    pub(super) nat: Option<Nat>,
    /// `None` without a file.
    pub(super) guard: Option<Guard>,
    /// `None` without a file.
    pub(super) rules: Option<AccessTable>,
    /// Reported rules about peers that do not exist.
    pub(super) unknown_peers: Vec<UnknownPeer>,
    pub(super) kill_switch: Option<EngagedKillSwitch>,
    pub(super) ruleset: RulesetMonitor,
    /// Reported chains that drop packets to the port.
    pub(super) input_warnings: Vec<InputWarning>,
    /// Reported networks of other devices that overlap the peers'.
    pub(super) overlaps: Vec<Overlap>,
}

impl Firewall {
    /// Takes over the kill switch, if there is one. Changes nothing in the kernel, and without a
    /// file reads nothing of the host's packet filter.
    pub(super) fn open(
        name: &TunName,
        file: Option<&ConfigFile>,
        kill_switch: Option<EngagedKillSwitch>,
    ) -> Self {
        let mut firewall = Self {
            nat: None,
            guard: None,
            rules: None,
            unknown_peers: Vec::new(),
            kill_switch,
            ruleset: RulesetMonitor::default(),
            input_warnings: Vec::new(),
            overlaps: Vec::new(),
        };
        let Some(file) = file else { return firewall };
        if firewall.kill_switch.is_none() && KillSwitch::is_in_place(name.as_str()).unwrap_or(false) {
            warn!(
                tun = %name,
                "the kill switch of an earlier run is still engaged, and may block the tunnel too: start with \
                 --kill-switch, or remove it with `wontun kill-switch off {name}`"
            );
        }
        firewall.ruleset = RulesetMonitor::open();
        firewall.guard = Some(Guard::new(name.as_str(), file.policy() == PeerPolicy::Isolate));
        firewall.rules = Some(AccessTable::new(name.as_str()));
        if file.options.nat == NatMode::Auto {
            firewall.nat = Some(Nat::new(name.as_str(), &file.options.nat_allow));
            if file.configuration.is_full_tunnel() {
                info!(tun = %name, "no NAT: a peer has the default route, so this host is not a gateway for the peers");
            }
        }
        firewall
    }

    /// Sets the guard. NAT is set later; what an earlier run left of it is removed if it is not
    /// configured any more.
    ///
    /// # Errors
    /// The policy cannot be enforced; another tunnel started with this name runs.
    pub(super) fn set_up(&mut self, name: &TunName, file: Option<&ConfigFile>) -> Result<(), LinkError> {
        let Some(file) = file else { return Ok(()) };
        let rules = AccessRules::of_file(&file.configuration, file.policy(), &file.server.dns);
        let needs_no_table = rules.needs_no_table();
        if file.policy() != PeerPolicy::Open {
            self.update_rules(rules, &file.configuration.interface.addresses)?;
        }
        self.update_guard(&file.configuration.interface.addresses)?;
        if let (Some(guard), true) = (&mut self.guard, needs_no_table) {
            guard.remove_leftover(&AccessTable::table_of(name.as_str()));
        }
        if file.options.nat == NatMode::Off {
            Nat::new(name.as_str(), &file.options.nat_allow).remove();
        }
        Ok(())
    }

    /// Guards these addresses of the tunnel, and warns once of what cannot be guarded.
    ///
    /// # Errors
    /// The peers are to be isolated, and cannot be; another tunnel owns the table.
    pub(super) fn update_guard(&mut self, addresses: &[Cidr]) -> Result<(), LinkError> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let warnings = match guard.apply(addresses) {
            Ok(warnings) => warnings,
            Err(error) if guard.isolates() || matches!(error, LinkError::Owned { .. }) => return Err(error),
            Err(error) => guard.new_warnings(vec![GuardWarning::Nftables(error.to_string())]),
        };
        for warning in warnings {
            warn!("{warning}");
        }
        Ok(())
    }

    /// Enforces the rules of the peers. `addresses` are those of the tunnel.
    ///
    /// # Errors
    /// The kernel refuses the table, and the rules are those of before.
    pub(super) fn update_rules(&mut self, rules: AccessRules, addresses: &[Cidr]) -> Result<(), LinkError> {
        for unknown in rules.unknown_peers().iter().filter(|unknown| !self.unknown_peers.contains(unknown)) {
            warn!("{unknown}");
        }
        self.unknown_peers = rules.unknown_peers().to_vec();
        // peers are isolated by the guard, or, with rules of their own, by the other table
        let by_guard = rules.policy() == PeerPolicy::Isolate && rules.needs_no_table();
        let Some(access) = &mut self.rules else { return Ok(()) };
        if !by_guard {
            self.ruleset.unmonitored(|| access.apply(rules))?;
            return self.set_isolates(false, addresses);
        }
        self.set_isolates(true, addresses)?;
        let (access, ruleset) = (&mut self.rules, &mut self.ruleset);
        access.as_mut().map_or(Ok(()), |access| ruleset.unmonitored(|| access.apply(rules)))
    }

    fn set_isolates(&mut self, isolates: bool, addresses: &[Cidr]) -> Result<(), LinkError> {
        match &mut self.guard {
            Some(guard) if guard.isolates() != isolates => guard.set_isolates(isolates),
            _ => return Ok(()),
        }
        self.update_guard(addresses)
    }

    /// Returns the mark of the sockets, where `mark` is that of the file and the routes.
    pub(super) fn mark(&self, mark: Option<NonZeroU32>) -> Option<NonZeroU32> {
        mark.or(self.kill_switch.as_ref().map(|_| KillSwitch::MARK))
    }

    /// Makes the kill switch accept the tunnel's datagrams: UDP from `port` with `mark`, and if
    /// `dns` is true marked DNS queries.
    ///
    /// # Errors
    /// The kernel rejects the change, and the rules stay as they were.
    pub(super) fn allow_tunnel(&mut self, mark: Option<NonZeroU32>, port: u16, dns: bool) -> io::Result<()> {
        match (&mut self.kill_switch, mark) {
            (Some(kill_switch), Some(mark)) => kill_switch.allow_tunnel(AllowedTraffic { mark, port, dns }),
            _ => Ok(()),
        }
    }

    /// Restores the table of the kill switch if another program has removed it.
    ///
    /// # Errors
    /// The kernel rejects it.
    pub(super) fn restore_kill_switch(&mut self) -> io::Result<()> {
        self.kill_switch.as_mut().map_or(Ok(None), EngagedKillSwitch::repair).map(drop)
    }

    /// Switches the kill switch off or on by request. Does nothing to switch off a missing one.
    ///
    /// # Errors
    /// The kernel rejects it; `Unsupported` if there is none to switch on.
    pub(super) fn set_kill_switch(&mut self, is_engaged: bool) -> io::Result<()> {
        match &mut self.kill_switch {
            Some(kill_switch) => kill_switch.set_engaged(is_engaged),
            None if is_engaged => Err(io::ErrorKind::Unsupported.into()),
            None => Ok(()),
        }
    }

    /// Returns true if a kill switch is in place.
    pub(super) fn is_kill_switch_engaged(&self) -> bool {
        self.kill_switch.as_ref().is_some_and(EngagedKillSwitch::is_engaged)
    }
}
