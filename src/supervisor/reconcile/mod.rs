//! State of the host that the tunnel needs: compared with what is wanted whenever the kernel
//! reports a change, and put back.
//!
//! [`Piece`] is the list of what wontun sets up itself. It is derived from the configuration and
//! the peers by whoever sets it up, which keeps what is wanted: the device and its addresses by
//! [`Link`](crate::link::Link), routes and rules by [`Routes`](crate::link::Routes), tables and
//! settings by [`Nat`](crate::link::Nat), [`Guard`](crate::link::Guard) and
//! [`KillSwitch`](crate::link::KillSwitch). [`Need`] is the list of what is relied on and belongs
//! to others: it is reported and left alone.
//!
//! What was compared is the kernel's state at that moment, never what an event said; so events may
//! come late, twice or, after an overrun, not at all.

mod limit;

use std::time::Duration;

use tracing::warn;

use self::limit::RepairLimit;
use super::context::Context;
use super::mode::Mode;
use crate::logging::RateLimit;
use crate::messages::{Host, Repairs, ToTunnel};
use crate::time::Instant;

/// Least time between two comparisons of everything that somebody asks for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Least time between two lines about the same piece that cannot be put back.
const QUIET: Duration = Duration::from_secs(10);
/// Lines about the host that a report of the health has at most.
const MAX_WARNINGS: usize = 8;

/// A piece of state that wontun sets up on the host, in the order in which pieces are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The table of the kill switch. Reported by `NFNLGRP_NFTABLES`.
    KillSwitch,
    /// The TUN device: up, with the MTU that the configuration names; its owner and queues can only
    /// be compared. Reported by `RTNLGRP_LINK`.
    Device,
    /// The device's addresses. Reported by `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`.
    Addresses,
    /// Routes and policy rules. Reported by `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_RULE` and IPv6's.
    Routing,
    /// The tables of the guard, of address translation and of policy routing's marks. Reported by
    /// `NFNLGRP_NFTABLES`.
    Tables,
    /// Settings that were turned on: forwarding, reported by `RTNLGRP_IPV4_NETCONF` and IPv6's, and
    /// `src_valid_mark`, whose changes the kernel does not report.
    Settings,
}

/// A condition that the tunnel relies on, and which is others' to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This host forwards, and no chain of others drops what comes from the tunnel.
    Forwarding,
    /// No chain of others drops what comes to the UDP port.
    Port,
    /// The tunnel's networks are not those of other devices.
    Networks,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Pieces that were missing and are back, in words.
    pub repaired: Option<String>,
    /// Error with which something that is missing cannot be put back.
    pub error: Option<String>,
    /// Something is missing that was not to be put back yet.
    pub is_missing: bool,
}

impl Piece {
    const ALL: [Self; 6] =
        [Self::KillSwitch, Self::Device, Self::Addresses, Self::Routing, Self::Tables, Self::Settings];

    /// Returns true if it is put back at once, however often that was. Of the routing, that is true
    /// of policy rules and the routes of their table.
    const fn is_urgent(self) -> bool {
        matches!(self, Self::KillSwitch)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::KillSwitch => "the kill switch",
            Self::Device => "the device",
            Self::Addresses => "addresses",
            Self::Routing => "routes or policy rules",
            Self::Tables => "nf_tables tables",
            Self::Settings => "settings",
        }
    }

    /// Returns a sentence about a repair, which the pieces that were put back are to follow.
    const fn repaired(self) -> &'static str {
        match self {
            Self::KillSwitch => "the kill switch was deleted or changed by another program, and is back",
            Self::Device => "the device was set down or changed by another program, and is as it was",
            Self::Addresses => "addresses were deleted by another program, and are back",
            Self::Routing => "routes or policy rules were deleted by another program, and are back",
            Self::Tables => "nf_tables tables were deleted or changed by another program, and are back",
            Self::Settings => "settings were turned off by another program, and are on again",
        }
    }

    /// Returns advice on how to make other programs leave it alone.
    fn advice(self, tun: &str) -> String {
        match self {
            Self::KillSwitch | Self::Tables => {
                "have the other program replace its own tables only (nft delete table instead of nft flush ruleset)"
                    .to_owned()
            }
            Self::Device | Self::Addresses => format!(
                "if it is a network manager, have it leave {tun} alone (NetworkManager: \
                 unmanaged-devices=interface-name:{tun}; systemd-networkd: [Link] Unmanaged=yes)"
            ),
            Self::Routing => "if it is systemd-networkd, set ManageForeignRoutingPolicyRules=no and \
                              ManageForeignRoutes=no in networkd.conf"
                .to_owned(),
            Self::Settings => "look for a file in /etc/sysctl.d, or a firewall, that turns them off".to_owned(),
        }
    }
}

impl Need {
    const ALL: [Self; 3] = [Self::Forwarding, Self::Port, Self::Networks];
}

/// State of the comparison of one piece.
#[derive(Debug)]
struct Entry {
    piece: Piece,
    /// It is to be compared, and what is missing put back.
    is_pending: bool,
    /// It was reported to have changed since the last comparison.
    is_changed: bool,
    limit: RepairLimit,
    /// The line about too many repairs was written.
    is_limit_reported: bool,
    /// Error of the last comparison.
    error: Option<String>,
    quiet: RateLimit,
}

impl Entry {
    const fn note_change(&mut self) {
        (self.is_pending, self.is_changed) = (true, true);
    }
}

/// The pieces, what was found of them, and what was reported.
#[derive(Debug)]
pub(super) struct Reconciler {
    entries: [Entry; Piece::ALL.len()],
    /// Number of repairs so far.
    pub(super) repairs: Repairs,
    /// Program that changed the ruleset last, and its process id.
    pub(super) author: Option<(String, u32)>,
    /// Time of the last comparison of everything.
    compared_at: Option<Instant>,
    /// Error of the last reload.
    pub(super) reload_error: Option<String>,
    /// What the tunnel process was told.
    sent: Host,
}

impl Reconciler {
    pub(super) fn new() -> Self {
        let entry = |piece| Entry {
            piece,
            is_pending: false,
            is_changed: false,
            limit: RepairLimit::default(),
            is_limit_reported: false,
            error: None,
            quiet: RateLimit::new(QUIET),
        };
        Self {
            entries: Piece::ALL.map(entry),
            repairs: Repairs::default(),
            author: None,
            compared_at: None,
            reload_error: None,
            sent: Host::default(),
        }
    }

    /// Has `piece` compared before the loop waits again.
    pub(super) fn note_change(&mut self, piece: Piece) {
        self.entries.iter_mut().filter(|entry| entry.piece == piece).for_each(Entry::note_change);
    }

    /// Has everything compared: events were lost.
    pub(super) fn note_overrun(&mut self) {
        self.entries.iter_mut().for_each(Entry::note_change);
    }

    /// Returns the time at which something is to be compared that was put back too often to be at
    /// once.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.is_pending)
            .map(|entry| entry.limit.allowed_at(now))
            .min()
    }

    /// Returns what is missing on the host and cannot be put back, in one line.
    pub(super) fn trouble(&self, tun: &str) -> Option<String> {
        self.entries.iter().find_map(|entry| {
            let piece = entry.piece.name();
            match &entry.error {
                Some(error) => Some(format!("{piece} of {tun}: {error}")),
                None if entry.is_pending => Some(format!(
                    "{piece} of {tun} are removed again and again by another program, and put back at most once a \
                     second: {}",
                    entry.piece.advice(tun)
                )),
                None => None,
            }
        })
    }
}

impl Context {
    /// Compares what was changed, and puts back what is missing.
    pub(super) fn reconcile(&mut self, mode: &mut impl Mode) {
        for place in 0..Piece::ALL.len() {
            self.reconcile_entry(mode, place, false);
        }
        self.reconciler.author = None;
    }

    /// Compares everything, for somebody who asks for the health: at most once in
    /// [`BETWEEN_LOOKS`].
    pub(super) fn reconcile_all(&mut self, mode: &mut impl Mode) {
        let now = self.now;
        if self.reconciler.compared_at.is_some_and(|at| now.since(at) < BETWEEN_LOOKS) {
            return;
        }
        self.reconciler.compared_at = Some(now);
        self.reconciler.note_overrun();
        self.reconcile(mode);
    }

    /// Compares and puts back everything, however often that was.
    pub(super) fn reconcile_by_request(&mut self, mode: &mut impl Mode) {
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
        // the routes that need them
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
            && let Some(suppressed) = entry.quiet.allow(now)
        {
            let what = piece.name();
            warn!(%tun, %error, suppressed, "{what} of {tun} cannot be put back");
        }
    }

    /// Tells the tunnel process, which answers for the health and the metrics, what was found, if
    /// it is another than before.
    pub(super) fn send_host(&mut self, mode: &impl Mode) {
        let mut warnings: Vec<String> = Need::ALL.into_iter().flat_map(|need| mode.unmet(need)).collect();
        warnings.truncate(MAX_WARNINGS);
        let host = Host {
            repairs: self.reconciler.repairs,
            trouble: self.unreachable(mode).or_else(|| self.reconciler.trouble(self.name.as_str())),
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
