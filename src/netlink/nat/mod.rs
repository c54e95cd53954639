//! Forwarding and NAT for a server's peers.
//!
//! The table is `wontun-nat-NAME`, with the name that the tunnel was started with, of the family
//! inet; its rules are in `nat/rules.rs`:
//!
//! - `postrouting` gives packets that leave from the VPN's networks by another device than the
//!   tunnel the address of that device;
//! - `forward` clamps the MSS of TCP connections through the tunnel to the path MTU in both
//!   directions. Packets to the VPN's networks pass only if they belong to a known connection, come
//!   from the tunnel, were redirected there by this host's own NAT, or go to a peer whose rules let
//!   others open connections to it (`super::access` decides about these). Networks behind a peer are
//!   routed and not translated: they stay open. Packets from the tunnel to link-local addresses,
//!   which are services for this host alone, are dropped unless they are allowed;
//! - `others` drops packets that would be forwarded between other devices only because wontun
//!   turned forwarding on ([`super::forwarding`]).
//!
//! An accept here does not override a drop in another table: such tables are detected and reported.

mod foreign;
mod rules;
mod warning;

use std::collections::BTreeSet;
use std::io;

use self::foreign::find_forward_drops;
use self::rules::{FORWARD, OTHERS, PREFIX, TableParams, has_family, table, table_name};
pub(crate) use self::warning::NatWarning;
use super::forwarding::{DroppedPackets, Forwarding, ForwardingOutcome, ForwardingPlan};
use super::interfaces::{Interface, interfaces};
use super::nft::{Ensured, Family, Nft, Table};
use super::request_error::{self, RequestError};
use wontun_proto::allowed_ips::Prefix;

/// Forwarding and NAT for one tunnel device. Dropping it removes the table.
#[derive(Debug)]
pub(crate) struct Nat {
    /// The tunnel's name, which the table's name contains.
    tunnel: String,
    /// The current name of the tunnel's device.
    device: String,
    /// The nf_tables socket; opened on first use, since that may load kernel modules.
    nft: Option<Nft>,
    /// The networks of the last [`Nat::apply`].
    networks: Vec<Prefix>,
    /// The networks of peers to which others may open connections, of the last [`Nat::apply`].
    reachable: Vec<Prefix>,
    /// Link-local networks that the peers may reach.
    allowed: Vec<Prefix>,
    /// The table that was installed; it is in place unless another program has removed it.
    table: Option<Table>,
    forwarding: Forwarding,
    reported: Vec<NatWarning>,
}

/// Result of `Nat::apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NatApplied {
    /// Changes to the host to report to the user, one line each.
    pub changes: Vec<String>,
    /// Settings that were on before, had been turned off, and are on again, one line each.
    pub restored: Vec<String>,
    /// Warnings that the last call did not return.
    pub warnings: Vec<NatWarning>,
}

/// Tables of other tunnels of this host.
#[derive(Debug, Default)]
struct OtherTunnels {
    /// The devices of the tunnels with NAT.
    tunnels: BTreeSet<String>,
    /// Packets dropped by these tables, of IPv4 and IPv6.
    dropped: [DroppedPackets; 2],
    /// Packets dropped by the table of a killed run of this tunnel, of IPv4 and IPv6.
    own: [DroppedPackets; 2],
}

impl Nat {
    /// Creates the NAT for the device called `name` in this thread's network namespace; peers may
    /// reach the link-local networks `allowed`. Changes nothing in the kernel.
    pub(crate) fn new(name: &str, allowed: &[Prefix]) -> Self {
        Self {
            tunnel: name.to_owned(),
            device: name.to_owned(),
            nft: None,
            networks: Vec::new(),
            reachable: Vec::new(),
            allowed: allowed.to_vec(),
            table: None,
            forwarding: Forwarding::new(),
            reported: Vec::new(),
        }
    }

    /// Returns a warning for each firewall of this host that drops what the device called `device`
    /// forwards; `families` are true for IPv4 and IPv6 if they matter. Changes nothing.
    ///
    /// # Errors
    /// The privilege is missing, or the kernel has no nf_tables.
    pub(crate) fn find_drops(device: &str, families: [bool; 2]) -> io::Result<Vec<NatWarning>> {
        Ok(find_forward_drops(&mut Nft::open()?, device, families))
    }

    /// Returns the sysctl name of the switch that forwards packets of all devices.
    pub(crate) const fn forwarding_key(v6: bool) -> &'static str {
        Forwarding::key(v6)
    }

    /// Returns the name of the table of the tunnel called `name`.
    pub(crate) fn table_of(name: &str) -> String {
        table_name(name)
    }

    /// Sets the new name of the tunnel's device, which the next [`Self::apply`] puts into the
    /// table.
    pub(crate) fn set_device(&mut self, device: &str) {
        device.clone_into(&mut self.device);
    }

    /// Enables forwarding and NAT from `networks` to all devices but the tunnel. Packets to
    /// `reachable` pass, since another table decides about them. Replaces a table that a killed run
    /// of the same tunnel left behind. Without networks the table is removed.
    ///
    /// A failure is reported as a warning, since the tunnel itself does not depend on it. The rules
    /// of other programs are read only if `checks_rules` is true; otherwise the warnings about them
    /// are kept from the last call.
    pub(crate) fn apply(
        &mut self,
        networks: &[Prefix],
        reachable: &[Prefix],
        checks_rules: bool,
    ) -> NatApplied {
        let mut applied = NatApplied::default();
        self.networks = networks.to_vec();
        self.reachable = reachable.to_vec();
        if networks.is_empty() {
            self.remove();
            return applied;
        }
        match self.install(&mut applied) {
            Ok(wanted) if checks_rules => applied.warnings.extend(self.find_forward_drops(&wanted)),
            Ok(_) => applied
                .warnings
                .extend(self.reported.iter().filter(|reported| reported.is_about_foreign_rules()).cloned()),
            // nothing is forwarded without the accompanying rules
            Err(failure) => applied.warnings.push(NatWarning::Nftables {
                table: table_name(&self.tunnel),
                reason: failure.description(),
            }),
        }
        let new =
            applied.warnings.iter().filter(|warning| !self.reported.contains(warning)).cloned().collect();
        self.reported = std::mem::replace(&mut applied.warnings, new);
        applied
    }

    /// Returns the warnings of the last call.
    pub(crate) fn warnings(&self) -> &[NatWarning] {
        &self.reported
    }

    /// Returns true if forwarding was on, and is now off for the tunnel or another device.
    pub(crate) fn has_lost_forwarding(&self) -> bool {
        self.forwarding.has_lost(&self.device)
    }

    /// Returns the warning about forwarding that was on, is now off, and cannot be turned on.
    pub(crate) fn lost_forwarding(&self) -> Option<String> {
        let is_lost = |warning: &&NatWarning| match warning {
            NatWarning::Forwarding { key, off: true, .. } => {
                [false, true].into_iter().any(|v6| *key == Forwarding::key(v6) && self.forwarding.was_on(v6))
            }
            _ => false,
        };
        self.reported.iter().find(is_lost).map(ToString::to_string)
    }

    /// Returns true if these are the networks of the last [`Nat::apply`], so that there is nothing
    /// to do unless another program changed something.
    pub(crate) fn is_applied(&self, networks: &[Prefix], reachable: &[Prefix]) -> bool {
        self.networks == networks && self.reachable == reachable
    }

    /// Removes the table and turns forwarding off, including the state that a killed run left
    /// behind.
    pub(crate) fn remove(&mut self) {
        if let Ok(others) = self.others() {
            for (v6, own) in [false, true].into_iter().zip(&others.own) {
                self.forwarding.adopt(v6, own);
            }
            self.forwarding.turn_off(&self.device, &others.dropped);
        }
        self.table = None;
        let name = table_name(&self.tunnel);
        if let Ok(nft) = self.nft() {
            let _ = nft.delete(Family::Inet, &name);
        }
    }

    /// Installs the table, and turns forwarding on afterwards.
    fn install(&mut self, applied: &mut NatApplied) -> Result<Table, RequestError> {
        let others = self.others()?;
        let interfaces = self.interfaces();
        let mut wanted = self.wanted(&others);
        let families = [false, true].into_iter().filter(|v6| has_family(&wanted, *v6)).collect::<Vec<_>>();
        for v6 in families {
            // a second attempt if the first shows that the switches of single devices cannot be
            // written
            for _ in 0..2 {
                let plan = self.plan(v6, &interfaces, &others);
                wanted = self.wanted(&others);
                self.install_table(&wanted)?;
                let outcome = self.forwarding.turn_on(&self.device, v6, plan);
                let is_refused = matches!(outcome, ForwardingOutcome::Refused);
                self.report_outcome(v6, outcome, applied);
                if !is_refused {
                    break;
                }
            }
        }
        Ok(wanted)
    }

    fn plan(&mut self, v6: bool, interfaces: &[Interface], others: &OtherTunnels) -> ForwardingPlan {
        let [mut v4_found, mut v6_found] = others.dropped.clone();
        let [v4_own, v6_own] = &others.own;
        v4_found.merge(v4_own);
        v6_found.merge(v6_own);
        let found = if v6 { v6_found } else { v4_found };
        // another tunnel with NAT turns on the switch of its own device, whose packets are not to
        // be dropped
        let devices = interfaces.iter().filter(|interface| {
            interface.has_family(v6)
                && !interface.is_loopback
                && interface.name != self.device
                && !others.tunnels.contains(&interface.name)
        });
        let devices = devices.map(|interface| interface.name.clone()).collect();
        self.forwarding.plan(&self.device, v6, &devices, &found)
    }

    fn report_outcome(&mut self, v6: bool, outcome: ForwardingOutcome, applied: &mut NatApplied) {
        let key = Forwarding::key(v6);
        match outcome {
            ForwardingOutcome::On | ForwardingOutcome::Absent | ForwardingOutcome::Refused => {}
            ForwardingOutcome::TurnedOn(note) if self.forwarding.take_lost(v6) => applied.restored.push(note),
            ForwardingOutcome::TurnedOn(note) => applied.changes.push(note),
            ForwardingOutcome::Released => applied.changes.push(format!(
                "{key} was turned on by another program: packets between other devices are not dropped any more"
            )),
            ForwardingOutcome::Off(error) => applied.warnings.push(self.no_forwarding(v6, true, &error)),
            ForwardingOutcome::Unknown(error) => applied.warnings.push(self.no_forwarding(v6, false, &error)),
        }
    }

    /// Returns the table for the current state.
    fn wanted(&self, others: &OtherTunnels) -> Table {
        table(&TableParams {
            tunnel: &self.tunnel,
            device: &self.device,
            networks: &self.networks,
            reachable: &self.reachable,
            allowed: &self.allowed,
            dropped: [false, true].map(|v6| self.forwarding.dropped(v6)),
            tunnels: &others.tunnels,
        })
    }

    fn no_forwarding(&self, v6: bool, off: bool, error: &io::Error) -> NatWarning {
        let (device, key) = (self.device.clone(), Forwarding::key(v6));
        NatWarning::Forwarding { device, key, off, reason: request_error::describe_io(error) }
    }

    fn install_table(&mut self, wanted: &Table) -> Result<(), RequestError> {
        let mut current = self.table.take();
        let outcome = self.nft().and_then(|nft| nft.update(&mut current, wanted));
        self.table = current;
        outcome.map(drop)
    }

    /// Restores the table if another program has deleted or changed it, and returns its name
    /// then. A failure is reported by the next [`Nat::apply`].
    pub(crate) fn repair(&mut self) -> Option<String> {
        let wanted = self.table.clone()?;
        let found = self.nft().and_then(|nft| nft.ensure(&wanted)).ok()?;
        (found == Ensured::Repaired).then(|| format!("inet {}", wanted.name))
    }

    /// Returns true if the table is in place unchanged, or is not wanted.
    pub(crate) fn is_intact(&mut self) -> bool {
        let Some(wanted) = self.table.clone() else { return true };
        self.nft().is_ok_and(|nft| nft.is_intact(&wanted).unwrap_or(true))
    }

    /// Reads the tables of other tunnels, and this tunnel's own unless this run has put it up.
    fn others(&mut self) -> Result<OtherTunnels, RequestError> {
        let mut others = OtherTunnels::default();
        let (own, is_up) = (table_name(&self.tunnel), self.table.is_some());
        let nft = self.nft()?;
        for name in nft.tables(Family::Inet)? {
            let Some(tunnel) = name.strip_prefix(PREFIX) else { continue };
            let is_own = name == own;
            if is_own && is_up {
                continue;
            }
            let dropped = if is_own { &mut others.own } else { &mut others.dropped };
            for (v6, device) in nft.dropped_packets(&name, OTHERS)? {
                let [v4_dropped, v6_dropped] = &mut *dropped;
                let dropped = if v6 { v6_dropped } else { v4_dropped };
                match device {
                    Some(device) => drop(dropped.devices.insert(device)),
                    None => dropped.all = true,
                }
            }
            if !is_own {
                let device = nft.input_device(&name, FORWARD)?;
                others.tunnels.insert(device.unwrap_or_else(|| tunnel.to_owned()));
            }
        }
        Ok(others)
    }

    /// Returns the host's devices; empty if they cannot be read.
    fn interfaces(&mut self) -> Vec<Interface> {
        let netlink = self.forwarding.netlink();
        netlink.and_then(|netlink| interfaces(netlink).ok()).unwrap_or_default()
    }

    fn find_forward_drops(&mut self, wanted: &Table) -> Vec<NatWarning> {
        let families = [false, true].map(|v6| has_family(wanted, v6));
        let device = self.device.clone();
        // if nf_tables is unavailable, no drops are known
        self.nft().ok().map(|nft| find_forward_drops(nft, &device, families)).unwrap_or_default()
    }

    fn nft(&mut self) -> Result<&mut Nft, RequestError> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open().map_err(RequestError::Socket)?)),
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        if self.table.is_some() || self.forwarding.needs_turn_off() {
            self.remove();
        }
    }
}
