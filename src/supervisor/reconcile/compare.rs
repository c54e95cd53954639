//! Compares pieces that may have changed, restores what is missing, and reports it.

use std::time::Duration;

use tracing::warn;

use super::piece::{Compared, Need, Piece};
use crate::messages::{Host, ToTunnel};
use crate::supervisor::context::Context;
use crate::supervisor::mode::Mode;

/// Minimum interval between two comparisons of everything on request.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Maximum number of warnings in a health report.
const MAX_WARNINGS: usize = 8;

impl Context {
    /// Compares the pieces that have changed, and restores what is missing.
    pub(in crate::supervisor) fn reconcile(&mut self, mode: &mut impl Mode) {
        for place in 0..Piece::ALL.len() {
            self.reconcile_entry(mode, place, false);
        }
        self.reconciler.author = None;
    }

    /// Compares everything, for a health request: at most once in [`BETWEEN_LOOKS`]. In between only
    /// the pieces that have changed are compared.
    pub(in crate::supervisor) fn reconcile_all(&mut self, mode: &mut impl Mode) {
        let now = self.now;
        if self.reconciler.compared_at.is_none_or(|at| now.since(at) >= BETWEEN_LOOKS) {
            self.reconciler.compared_at = Some(now);
            self.reconciler.note_overrun();
        }
        self.reconcile(mode);
    }

    /// Compares and restores everything, regardless of the limits.
    pub(in crate::supervisor) fn reconcile_by_request(&mut self, mode: &mut impl Mode) {
        self.reconciler.compared_at = None;
        self.reconciler.note_overrun();
        for place in 0..Piece::ALL.len() {
            self.reconcile_entry(mode, place, true);
        }
    }

    fn reconcile_entry(&mut self, mode: &mut impl Mode, place: usize, is_requested: bool) {
        let now = self.now;
        let Some(entry) = self.reconciler.entries.get_mut(place).filter(|entry| entry.is_pending) else {
            return;
        };
        let piece = entry.piece;
        let is_allowed = is_requested || piece.is_urgent() || entry.limit.allowed_at(now) <= now;
        let is_changed = std::mem::take(&mut entry.is_changed);
        if !is_allowed && !is_changed {
            return;
        }
        let compared = mode.compare(self, piece, is_allowed);
        if let Some(entry) = self.reconciler.entries.get_mut(place) {
            entry.is_pending = compared.is_missing;
        }
        // restores the routes that need these addresses
        if piece == Piece::Addresses && compared.repaired.is_some() {
            self.reconciler.note_change(Piece::Routing);
        }
        self.take_compared(place, compared);
    }

    fn take_compared(&mut self, place: usize, compared: Compared) {
        let (now, tun) = (self.now, self.name.clone());
        let author = self.reconciler.author.clone();
        let Some(entry) = self.reconciler.entries.get_mut(place) else { return };
        let piece = entry.piece;
        if let Some(repaired) = compared.repaired {
            entry.limit.note(now);
            let advice = piece.advice(tun.as_str());
            let (by, pid) = author
                .filter(|_| matches!(piece, Piece::KillSwitch | Piece::Tables))
                .filter(|(_, pid)| *pid != std::process::id())
                .unzip();
            let happened = piece.repaired();
            if !entry.limit.is_reached() {
                entry.is_limit_reported = false;
                warn!(%tun, what = repaired, by, pid, "{happened}; {advice}");
            } else if !std::mem::replace(&mut entry.is_limit_reported, true) {
                let pace = if piece.is_urgent() { "at once" } else { "at most once a second" };
                warn!(
                    %tun, what = repaired, by, pid,
                    "{happened}, again and again: from now on without further lines, and {pace}; {advice}"
                );
            }
        }
        entry.error = compared.error;
        if let Some(error) = &entry.error
            && let Some(suppressed) = entry.log_limit.allow(now)
        {
            let what = piece.name();
            warn!(%tun, %error, suppressed, "{what} of {tun} cannot be put back");
        }
    }

    /// Sends the state of the host to the tunnel process, which reports it in health and metrics,
    /// if it has changed.
    pub(in crate::supervisor) fn send_host(&mut self, mode: &impl Mode) {
        let mut warnings: Vec<String> = Need::ALL.into_iter().flat_map(|need| mode.unmet(need)).collect();
        warnings.truncate(MAX_WARNINGS);
        let host = Host {
            repairs: self.reconciler.repairs,
            trouble: self.unreachable_warning(mode).or_else(|| self.reconciler.trouble(self.name.as_str())),
            warnings,
            reload_error: self.reconciler.reload_error.clone(),
        };
        if self.reconciler.sent != host {
            let is_sent = self.tunnel.answer(&ToTunnel::Host(Box::new(host.clone())), Vec::new());
            if is_sent {
                self.reconciler.sent = host;
            }
        }
    }
}
