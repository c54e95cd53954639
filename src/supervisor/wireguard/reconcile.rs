//! Compares the state of the host that belongs to a tunnel in WireGuard mode, resource by resource.

use super::kill_switch::EngagedKillSwitch;
use super::state::WireGuard;
use crate::netlink::{AccessTable, Guard, Nat, Routes};
use crate::supervisor::context::Context;
use crate::supervisor::reconcile::{ReconcileOutcome, Requirement};

impl WireGuard {
    pub(super) fn reconcile_kill_switch(&mut self, context: &mut Context) -> ReconcileOutcome {
        match self.firewall.kill_switch.as_mut().map_or(Ok(None), EngagedKillSwitch::repair) {
            Ok(repaired) => {
                context.reconciler.repairs.tables += u64::from(repaired.is_some());
                ReconcileOutcome { repaired, ..ReconcileOutcome::default() }
            }
            Err(error) => ReconcileOutcome { error: Some(error.to_string()), ..ReconcileOutcome::default() },
        }
    }

    pub(super) fn reconcile_tables(&mut self, context: &mut Context, may_repair: bool) -> ReconcileOutcome {
        if !may_repair {
            return ReconcileOutcome { is_missing: !self.has_tables(), ..ReconcileOutcome::default() };
        }
        let access = self.firewall.rules.as_mut().map_or(Ok(None), AccessTable::repair);
        let mut access_error = None;
        let mut repaired: Vec<_> = match access {
            Ok(repaired) => repaired.into_iter().collect(),
            Err(error) => {
                self.stop_restricted_peers(context);
                access_error = Some(error.to_string());
                Vec::new()
            }
        };
        let firewall = &mut self.firewall;
        repaired.extend(firewall.guard.as_mut().and_then(Guard::repair));
        repaired.extend(firewall.nat.as_mut().and_then(Nat::repair));
        repaired.extend(self.routes.as_mut().map(Routes::repair_tables).unwrap_or_default());
        context.reconciler.repairs.tables += repaired.len() as u64;
        let error =
            access_error.or_else(|| (!self.has_tables()).then(|| "the kernel rejects a table".to_owned()));
        let repaired = (!repaired.is_empty()).then(|| repaired.join(", "));
        ReconcileOutcome { repaired, error, ..ReconcileOutcome::default() }
    }

    /// Returns true if all tables but the kill switch's exist and are unchanged.
    fn has_tables(&mut self) -> bool {
        let firewall = &mut self.firewall;
        firewall.rules.as_mut().is_none_or(AccessTable::is_intact)
            && firewall.guard.as_mut().is_none_or(Guard::is_intact)
            && firewall.nat.as_mut().is_none_or(Nat::is_intact)
            && self.routes.as_mut().is_none_or(Routes::has_tables)
    }

    /// Compares forwarding, and everything that depends on other devices and on rules of other
    /// programs.
    pub(super) fn reconcile_settings(&mut self, context: &mut Context, may_repair: bool) -> ReconcileOutcome {
        if !may_repair {
            let is_missing = self.firewall.nat.as_ref().is_some_and(Nat::has_lost_forwarding);
            return ReconcileOutcome { is_missing, ..ReconcileOutcome::default() };
        }
        let restored = self.update_tables();
        context.reconciler.repairs.settings += restored.len() as u64;
        let error = self.firewall.nat.as_ref().and_then(Nat::lost_forwarding);
        ReconcileOutcome {
            repaired: (!restored.is_empty()).then(|| restored.join("; ")),
            error,
            ..ReconcileOutcome::default()
        }
    }

    /// Returns a warning for each condition that is not met, as of the last check.
    pub(super) fn unmet_requirements(&self, requirement: Requirement) -> Vec<String> {
        let firewall = &self.firewall;
        match requirement {
            Requirement::Forwarding => lines(firewall.nat.iter().flat_map(Nat::warnings)),
            Requirement::Port => lines(&firewall.input_warnings),
            Requirement::Networks => {
                let mut unmet = lines(firewall.guard.iter().flat_map(Guard::warnings));
                unmet.extend(lines(&firewall.overlaps));
                unmet
            }
            Requirement::NameServers => self.dns.failure().map(ToOwned::to_owned).into_iter().collect(),
        }
    }
}

fn lines<T: ToString>(warnings: impl IntoIterator<Item = T>) -> Vec<String> {
    warnings.into_iter().map(|warning| warning.to_string()).collect()
}
