//! Compares resources that may have changed, restores what is missing, and reports it.

use std::time::Duration;

use tracing::warn;

use super::resource::{HostResource, ReconcileOutcome, Requirement};
use crate::messages::{HostState, ToTunnel};
use crate::supervisor::context::Context;
use crate::supervisor::mode::Mode;

/// Minimum interval between two comparisons of everything on request.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum number of warnings in a health report.
const MAX_WARNINGS: usize = 8;

impl Context {
    /// Compares the resources that have changed, and restores what is missing.
    pub(in crate::supervisor) fn reconcile(&mut self, mode: &mut impl Mode) {
        for index in 0..HostResource::ALL.len() {
            self.reconcile_entry(mode, index, false);
        }
        self.reconciler.author = None;
    }

    /// Compares everything, for a health request: at most once in [`MIN_INTERVAL`]. In between only
    /// the resources that have changed are compared.
    pub(in crate::supervisor) fn reconcile_all(&mut self, mode: &mut impl Mode) {
        let now = self.now;
        if self.reconciler.compared_at.is_none_or(|at| now.since(at) >= MIN_INTERVAL) {
            self.reconciler.compared_at = Some(now);
            self.reconciler.schedule_all();
        }
        self.reconcile(mode);
    }

    /// Compares and restores everything, regardless of the limits.
    pub(in crate::supervisor) fn reconcile_unlimited(&mut self, mode: &mut impl Mode) {
        self.reconciler.compared_at = None;
        self.reconciler.schedule_all();
        for index in 0..HostResource::ALL.len() {
            self.reconcile_entry(mode, index, true);
        }
    }

    fn reconcile_entry(&mut self, mode: &mut impl Mode, index: usize, is_requested: bool) {
        let now = self.now;
        let Some(entry) = self.reconciler.entries.get_mut(index).filter(|entry| entry.is_due(now)) else {
            return;
        };
        let resource = entry.resource;
        let may_repair = is_requested || resource.is_urgent() || entry.limit.allowed_at(now) <= now;
        let is_changed = std::mem::take(&mut entry.is_changed);
        if !may_repair && !is_changed {
            return;
        }
        let outcome = mode.reconcile(self, resource, may_repair);
        if let Some(entry) = self.reconciler.entries.get_mut(index) {
            entry.is_pending = outcome.is_missing;
            entry.record_result(outcome.error.is_some(), now);
        }
        // restores the routes that need these addresses
        if resource == HostResource::Addresses && outcome.repaired.is_some() {
            self.reconciler.schedule(HostResource::Routing);
        }
        self.report_outcome(index, outcome);
    }

    fn report_outcome(&mut self, index: usize, outcome: ReconcileOutcome) {
        let (now, tun) = (self.now, self.name.clone());
        let author = self.reconciler.author.clone();
        let Some(entry) = self.reconciler.entries.get_mut(index) else { return };
        let resource = entry.resource;
        if let Some(repaired) = outcome.repaired {
            entry.limit.record(now);
            let advice = resource.advice(tun.as_str());
            let (by, pid) = author
                .filter(|_| matches!(resource, HostResource::KillSwitch | HostResource::Tables))
                .filter(|(_, pid)| *pid != std::process::id())
                .unzip();
            let happened = resource.repaired();
            if !entry.limit.is_reached() {
                entry.is_limit_reported = false;
                warn!(%tun, what = repaired, by, pid, "{happened}; {advice}");
            } else if !std::mem::replace(&mut entry.is_limit_reported, true) {
                let pace = if resource.is_urgent() { "at once" } else { "at most once a second" };
                warn!(
                    %tun, what = repaired, by, pid,
                    "{happened}, repeatedly: from now on restored {pace}, without further log lines; {advice}"
                );
            }
        }
        entry.error = outcome.error;
        if let Some(error) = &entry.error
            && let Some(suppressed) = entry.log_limit.allow(now)
        {
            let what = resource.name();
            warn!(%tun, %error, suppressed, "cannot restore {what} of {tun}");
        }
    }

    /// Sends the state of the host to the tunnel process, which reports it in health and metrics,
    /// if it has changed.
    pub(in crate::supervisor) fn send_host(&mut self, mode: &impl Mode) {
        let mut warnings: Vec<String> = Requirement::ALL
            .into_iter()
            .flat_map(|requirement| mode.unmet_requirements(requirement))
            .collect();
        warnings.truncate(MAX_WARNINGS);
        let host = HostState {
            repairs: self.reconciler.repairs,
            failure: self.unreachable_warning(mode).or_else(|| self.reconciler.failure(self.name.as_str())),
            warnings,
            reload_error: self.reconciler.reload_error.clone(),
            denied: mode.denied(),
        };
        if self.reconciler.sent != host {
            let is_sent = self.tunnel.answer(&ToTunnel::HostState(Box::new(host.clone())), Vec::new());
            if is_sent {
                self.reconciler.sent = host;
            }
        }
    }
}
