//! State of the host that belongs to a tunnel in WireGuard mode, compared piece by piece.

use super::{EngagedKillSwitch, WireGuard};
use crate::link::{Guard, Nat, Routes};
use crate::supervisor::context::Context;
use crate::supervisor::reconcile::{Compared, Need};

impl WireGuard {
    pub(super) fn compare_kill_switch(&mut self, context: &mut Context) -> Compared {
        match self.firewall.kill_switch.as_mut().map_or(Ok(None), EngagedKillSwitch::put_back) {
            Ok(repaired) => {
                context.reconciler.repairs.tables += u64::from(repaired.is_some());
                Compared { repaired, ..Compared::default() }
            }
            Err(error) => Compared { error: Some(error.to_string()), ..Compared::default() },
        }
    }

    pub(super) fn compare_tables(&mut self, context: &mut Context) -> Compared {
        let firewall = &mut self.firewall;
        let mut repaired: Vec<_> = firewall.guard.as_mut().and_then(Guard::repair).into_iter().collect();
        repaired.extend(firewall.nat.as_mut().and_then(Nat::repair));
        repaired.extend(self.routes.as_mut().map(Routes::repair_tables).unwrap_or_default());
        context.reconciler.repairs.tables += repaired.len() as u64;
        Compared { repaired: (!repaired.is_empty()).then(|| repaired.join(", ")), ..Compared::default() }
    }

    /// Compares forwarding, and with it everything that depends on other devices and on others'
    /// rules.
    pub(super) fn compare_settings(&mut self, context: &mut Context) -> Compared {
        let restored = self.update_tables();
        context.reconciler.repairs.settings += restored.len() as u64;
        let error = self.firewall.nat.as_ref().and_then(Nat::lost_forwarding);
        Compared {
            repaired: (!restored.is_empty()).then(|| restored.join("; ")),
            error,
            ..Compared::default()
        }
    }

    /// Returns a line for each condition that others do not meet, as it was found last.
    pub(super) fn unmet_needs(&self, need: Need) -> Vec<String> {
        match need {
            Need::Forwarding => self
                .firewall
                .nat
                .as_ref()
                .map(|nat| nat.warnings().iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            Need::Port => self.firewall.input.iter().map(ToString::to_string).collect(),
            Need::Networks => self
                .firewall
                .guard
                .as_ref()
                .map(|guard| guard.warnings().iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
        }
    }
}
