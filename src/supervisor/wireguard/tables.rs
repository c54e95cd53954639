//! Adapts the tunnel's tables to its networks and addresses, and checks the rules of other
//! programs.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use tracing::{info, warn};

use super::state::WireGuard;
use crate::config::Cidr;
use crate::config::access::AccessRules;
use crate::config::wg_quick::{Table, WgQuick};
use crate::netlink::{AccessTable, Overlap, find_input_drops, find_overlaps};
use crate::supervisor::context::Context;
use crate::supervisor::reconcile::HostResource;
use wontun_proto::allowed_ips::Prefix;

/// Number of changes read per turn.
const BUDGET: usize = 128;

fn compare_tables(context: &mut Context) {
    context.reconciler.schedule(HostResource::KillSwitch);
    context.reconciler.schedule(HostResource::Tables);
}

impl WireGuard {
    /// Reads changes of the ruleset: this tunnel's tables are compared at once, other programs'
    /// rules are checked later.
    pub(super) fn drain_ruleset(&mut self, context: &mut Context) {
        let now = context.now;
        for _ in 0..BUDGET {
            match self.firewall.ruleset.poll_change(now) {
                Ok(None) => return,
                Ok(Some(change)) => {
                    context.reconciler.author = change.author;
                    compare_tables(context);
                }
                Err(error) => {
                    if let Some(suppressed) = self.log_limits.ruleset.allow(now) {
                        warn!(%error, suppressed, "cannot read changes of the nf_tables ruleset");
                    }
                    return;
                }
            }
        }
    }

    /// Schedules a comparison of this tunnel's tables after unmonitored changes, and, some time after
    /// a change, a check for rules of other programs that drop what this tunnel forwards.
    pub(super) fn handle_ruleset_timeout(&mut self, context: &mut Context) {
        if self.firewall.ruleset.take_missed(context.now) {
            context.reconciler.author = None;
            compare_tables(context);
        }
        if self.firewall.ruleset.take_due_check(context.now) {
            context.reconciler.schedule(HostResource::Settings);
        }
    }

    /// Adapts NAT to the current networks of the tunnel.
    pub(super) fn update_nat(&mut self) {
        let (networks, reachable) = (self.networks(), self.reachable());
        if self.firewall.nat.as_ref().is_some_and(|nat| !nat.is_applied(&networks, &reachable)) {
            self.update_firewall();
        }
    }

    /// Adapts NAT and the guard to the current networks of the tunnel and the host's other devices,
    /// and restores what another program has flushed. Returns a line for each setting that had been
    /// turned off.
    pub(super) fn update_tables(&mut self) -> Vec<String> {
        self.update_guard();
        let checks_rules = self.firewall.ruleset.is_settled();
        if checks_rules {
            self.check_input();
        }
        self.check_overlaps();
        let (networks, reachable) = (self.networks(), self.reachable());
        let Some(nat) = &mut self.firewall.nat else { return Vec::new() };
        let applied = nat.apply(&networks, &reachable, checks_rules);
        for change in applied.changes {
            info!("{change}");
        }
        for warning in applied.warnings {
            warn!("{warning}");
        }
        applied.restored
    }

    /// Warns once of each firewall of this host that drops packets to the port. A port that the
    /// file does not specify is a client's, to which peers only send answers.
    fn check_input(&mut self) {
        let listens = |file: &WgQuick| file.interface.listen_port.is_some();
        let is_server = self.source.configuration().is_some_and(listens);
        let found = match &self.firewall.guard {
            Some(guard) if is_server => find_input_drops(guard.device(), self.sockets.port()),
            _ => Vec::new(),
        };
        for warning in found.iter().filter(|warning| !self.firewall.input_warnings.contains(warning)) {
            warn!("{warning}");
        }
        self.firewall.input_warnings = found;
    }

    /// Returns the networks of other devices that overlap those routed to the peers; none if wontun
    /// does not manage the routes.
    pub(super) fn overlaps(&self) -> Vec<Overlap> {
        let interface = self.source.configuration().map(|file| &file.interface);
        match (&self.firewall.guard, interface.filter(|interface| interface.table != Table::Off)) {
            (Some(guard), Some(interface)) => {
                find_overlaps(guard.device(), &interface.addresses, self.peers.allowed_ips())
            }
            _ => Vec::new(),
        }
    }

    /// Warns once of each network of another device that overlaps the peers'.
    fn check_overlaps(&mut self) {
        let found = self.overlaps();
        let reported = &self.firewall.overlaps;
        for warning in
            found.iter().filter(|warning| !reported.iter().any(|reported| reported.is_same(warning)))
        {
            warn!("{warning}");
        }
        self.firewall.overlaps = found;
    }

    /// Guards the addresses that the file assigns to the tunnel.
    pub(super) fn update_guard(&mut self) {
        let addresses = self.source.configuration().map(|file| file.interface.addresses.clone());
        if let Err(error) = self.firewall.update_guard(&addresses.unwrap_or_default()) {
            warn!(%error, "cannot install the guard: the tunnel's addresses can be spoofed, and the peers may \
             reach each other");
        }
    }

    /// Like [`Self::update_tables`], and checks the kill switch too.
    pub(super) fn update_firewall(&mut self) {
        self.update_tables().iter().for_each(|line| info!("{line}"));
        let outcome = self.allow_tunnel(self.mark, self.sockets.port());
        if let Err(error) = outcome.and_then(|()| self.firewall.restore_kill_switch()) {
            warn!(%error, "cannot update the kill switch");
        }
        if self.firewall.is_kill_switch_engaged() && !self.is_full_tunnel() {
            warn!(
                "no peer has the default route any more, and the kill switch drops all packets outside the tunnel"
            );
        }
    }

    /// Warns about an address family whose traffic bypasses a full tunnel of the other family,
    /// unless the kill switch blocks it.
    pub(super) fn warn_of_other_family(&self) {
        let past = self.source.configuration().and_then(WgQuick::leak_warning);
        if let Some(warning) = past.filter(|_| !self.firewall.is_kill_switch_engaged()) {
            warn!("{warning}");
        }
    }

    /// Makes the kill switch, if there is one, accept datagrams from `port` with `mark`.
    ///
    /// # Errors
    /// The kernel rejects the change, and the rules stay as they were.
    pub(super) fn allow_tunnel(&mut self, mark: Option<NonZeroU32>, port: u16) -> io::Result<()> {
        self.firewall.allow_tunnel(mark, port, self.peers.has_hosts())
    }

    fn is_full_tunnel(&self) -> bool {
        self.source.configuration().is_some_and(WgQuick::is_full_tunnel)
    }

    /// Returns the networks of peers whose rules let others open connections to them, if the rules
    /// are enforced.
    fn reachable(&self) -> Vec<Prefix> {
        let access = self.firewall.rules.as_ref().filter(|access| access.is_installed());
        access.and_then(AccessTable::rules).map(AccessRules::reachable).unwrap_or_default()
    }

    /// Returns the networks for which NAT is set up. The networks behind a peer are excluded: they
    /// have routes of their own. Empty if a peer has the default route: NAT is not set up for
    /// others then.
    fn networks(&self) -> Vec<Prefix> {
        if self.is_full_tunnel() {
            return Vec::new();
        }
        let interface = self.source.configuration().map(|file| &file.interface);
        nat_networks(interface.map_or(&[], |interface| &interface.addresses), self.peers.allowed_ips())
    }
}

/// Returns the VPN's own addresses: the networks of the device's `addresses`, and peers that are
/// single hosts elsewhere.
pub(super) fn nat_networks(addresses: &[Cidr], allowed_ips: impl Iterator<Item = Prefix>) -> Vec<Prefix> {
    let own = addresses.iter().filter_map(|address| Prefix::new(address.address(), address.prefix()));
    own.chain(allowed_ips.filter(|prefix| is_host(*prefix))).collect()
}

fn is_host(prefix: Prefix) -> bool {
    match prefix.network() {
        IpAddr::V4(_) => prefix.length() == 32,
        IpAddr::V6(_) => prefix.length() == 128,
    }
}
