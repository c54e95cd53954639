//! Formats the status as text, in the style of `wg show`.

use std::fmt::{self, Display, Write};
use std::io::{self, IsTerminal};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::documents::{ListedPeer, words};
use crate::traffic::{self, Traffic};
use crate::uapi::PeerState;
use crate::uapi::{TunnelPeer, TunnelStatus};

const KIB: f64 = 1024.0;
const LABEL: Style = Style::new().bold();
const INTERFACE: Style = AnsiColor::Green.on_default().bold();
const PEER: Style = AnsiColor::Yellow.on_default().bold();

/// Returns true if the output may have colours: on a terminal, unless NO_COLOR is set
/// (<https://no-color.org>).
pub(in crate::commands) fn wants_colours() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !is_refused && !is_dumb
}

/// Formats all tunnels; `now` is the time by the wall clock, since 1970.
pub(super) fn format(statuses: &[TunnelStatus], now: Duration, colours: bool) -> String {
    let mut page = Page::new(colours);
    for (place, status) in statuses.iter().enumerate() {
        if place > 0 {
            page.blank_line();
        }
        page.status(status, now);
    }
    page.text
}

/// Formats one peer of a server's file.
pub(in crate::commands) fn format_peer(listed: &ListedPeer, now: Duration, colours: bool) -> String {
    let mut page = Page::new(colours);
    page.peer(&listed.peer, listed.state, now);
    for (key, value) in &listed.settings {
        page.line(&words(*key, ' '), value);
    }
    page.text
}

/// The text written so far.
struct Page {
    text: String,
    colours: bool,
}

impl Page {
    const fn new(colours: bool) -> Self {
        Self { text: String::new(), colours }
    }

    fn status(&mut self, status: &TunnelStatus, now: Duration) {
        self.title(INTERFACE, "interface", &status.name);
        if let Some(key) = &status.public_key {
            self.line("public key", key);
            self.line("private key", "(hidden)");
        }
        if status.listen_port != 0 {
            self.line("listening port", status.listen_port);
        }
        if status.fwmark != 0 {
            self.line("fwmark", format_args!("{:#x}", status.fwmark));
        }
        if let Some(mtu) = status.mtu {
            self.line("mtu", mtu);
        }
        if status.is_up == Some(false) {
            self.line("device", "down");
        }
        for problem in &status.problems {
            self.line("problem", problem);
        }
        if !status.repairs.is_empty() {
            let repairs = status.repairs.iter().map(|(piece, count)| format!("{count} {piece}"));
            self.line("repairs", repairs.collect::<Vec<_>>().join(", "));
        }
        if !status.dropped.is_empty() {
            let drops = status.dropped.iter().map(|(reason, count)| format!("{count} {reason}"));
            self.line("dropped", drops.collect::<Vec<_>>().join(", "));
        }
        for peer in &status.peers {
            self.blank_line();
            self.peer(peer, Some(PeerState::of_live(peer)), now);
        }
    }

    fn peer(&mut self, peer: &TunnelPeer, state: Option<PeerState>, now: Duration) {
        match &peer.name {
            Some(name) => {
                self.title(PEER, "peer", name);
                self.line("public key", peer.public_key);
            }
            None => self.title(PEER, "peer", peer.public_key),
        }
        if let Some(state) = state {
            self.line("state", state.text());
        }
        if peer.has_preshared_key {
            self.line("preshared key", "(hidden)");
        }
        if let Some(endpoint) = peer.endpoint {
            self.line("endpoint", endpoint);
        }
        let networks: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        self.line("allowed ips", if networks.is_empty() { "(none)".into() } else { networks.join(", ") });
        if !peer.latest_handshake().is_zero() {
            self.line("latest handshake", ago(peer.latest_handshake(), now));
        }
        if peer.received > 0 || peer.sent > 0 {
            let (received, sent) = (Bytes(peer.received), Bytes(peer.sent));
            self.line("transfer", format_args!("{received} received, {sent} sent"));
        }
        if let Some(traffic) = &peer.traffic {
            self.traffic(traffic);
        }
        if peer.persistent_keepalive > 0 {
            let seconds = Span(peer.persistent_keepalive.into());
            self.line("persistent keepalive", format_args!("every {seconds}"));
        }
    }

    /// Adds the traffic of all runs, and that of the periods in which there was some.
    fn traffic(&mut self, traffic: &Traffic) {
        let Traffic { total, day, month } = traffic;
        for (label, bytes) in [
            ("today", day.current),
            ("yesterday", day.previous),
            ("this month", month.current),
            ("last month", month.previous),
            ("all runs", traffic::Bytes { received: total.received, sent: total.sent }),
        ] {
            if bytes.both() > 0 {
                let (received, sent) = (Bytes(bytes.received), Bytes(bytes.sent));
                self.line(label, format_args!("{received} received, {sent} sent"));
            }
        }
    }

    fn title(&mut self, style: Style, label: &str, value: impl Display) {
        let style = self.style(style);
        // writing to memory does not fail
        let _ = writeln!(self.text, "{style}{label}{style:#}: {style}{value}{style:#}");
    }

    fn line(&mut self, label: &str, value: impl Display) {
        let style = self.style(LABEL);
        let _ = writeln!(self.text, "  {style}{label}{style:#}: {value}");
    }

    fn blank_line(&mut self) {
        self.text.push('\n');
    }

    const fn style(&self, style: Style) -> Style {
        if self.colours { style } else { Style::new() }
    }
}

pub(in crate::commands) fn ago(then: Duration, now: Duration) -> String {
    match now.as_secs().checked_sub(then.as_secs()) {
        Some(0) => "Now".to_owned(),
        Some(seconds) => format!("{} ago", Span(seconds)),
        None => "(in the future: the system's clock was set back)".to_owned(),
    }
}

/// Returns the age in its largest unit, such as `2 hours ago`.
pub(in crate::commands) fn about(then: Duration, now: Duration) -> String {
    let age = ago(then, now);
    match age.split_once(',') {
        Some((largest, _)) => format!("{largest} ago"),
        None => age,
    }
}

/// A number of seconds, displayed as `1 hour, 2 minutes, 3 seconds`.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut separator = "";
        for (name, length) in
            [("year", 365 * 86_400), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)]
        {
            let count = left / length;
            left %= length;
            if count > 0 {
                write!(f, "{separator}{count} {name}{}", if count == 1 { "" } else { "s" })?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// A number of bytes, displayed as `1.50 MiB`.
pub(in crate::commands) struct Bytes(pub(in crate::commands) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        // an approximation is sufficient
        #[allow(clippy::cast_precision_loss)]
        let mut amount = self.0 as f64 / KIB;
        let mut unit = "KiB";
        for larger in ["MiB", "GiB", "TiB"] {
            if amount < KIB {
                break;
            }
            amount /= KIB;
            unit = larger;
        }
        write!(f, "{amount:.2} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_wgs() {
        let then = Duration::from_secs(1_000_000_000);
        let ago = |seconds| ago(then, then + Duration::from_secs(seconds));
        assert_eq!(ago(0), "Now");
        assert_eq!(ago(1), "1 second ago");
        assert_eq!(ago(63), "1 minute, 3 seconds ago");
        assert_eq!(ago(7200), "2 hours ago");
        assert_eq!(ago(2 * 365 * 86_400 + 86_400 + 1), "2 years, 1 day, 1 second ago");
        assert!(super::ago(Duration::from_secs(2), Duration::from_secs(1)).contains("set back"));
        assert_eq!(Span(25).to_string(), "25 seconds");
        assert_eq!(Span(65_535).to_string(), "18 hours, 12 minutes, 15 seconds");
    }

    #[test]
    fn amounts_read_as_wgs() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (1024 * 1024 - 1, "1024.00 KiB"),
            (1024 * 1024, "1.00 MiB"),
            (5 << 30, "5.00 GiB"),
            (5 << 40, "5.00 TiB"),
            (5 << 50, "5120.00 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
