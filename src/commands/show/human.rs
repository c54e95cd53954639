//! For people, in the manner of `wg show`.

use std::fmt::{self, Write};
use std::time::Duration;

use super::report::{Peer, Report};

const KIB: f64 = 1024.0;

/// All tunnels, as of `now`, the wall clock's time since 1970.
pub(super) fn print(reports: &[Report], now: Duration) -> String {
    let mut text = String::new();
    for (place, report) in reports.iter().enumerate() {
        if place > 0 {
            text.push('\n');
        }
        // writing to memory does not fail
        let _ = write_report(&mut text, report, now);
    }
    text
}

fn write_report(out: &mut String, report: &Report, now: Duration) -> fmt::Result {
    writeln!(out, "interface: {}", report.name)?;
    if let Some(key) = &report.public_key {
        writeln!(out, "  public key: {key}")?;
        writeln!(out, "  private key: (hidden)")?;
    }
    if report.listen_port != 0 {
        writeln!(out, "  listening port: {}", report.listen_port)?;
    }
    if report.fwmark != 0 {
        writeln!(out, "  fwmark: {:#x}", report.fwmark)?;
    }
    if let Some(mtu) = report.mtu {
        writeln!(out, "  mtu: {mtu}")?;
    }
    if report.is_up == Some(false) {
        writeln!(out, "  device: down")?;
    }
    if !report.dropped.is_empty() {
        let drops: Vec<_> =
            report.dropped.iter().map(|(reason, count)| format!("{count} {}", Plain(reason))).collect();
        writeln!(out, "  dropped: {}", drops.join(", "))?;
    }
    for peer in &report.peers {
        out.push('\n');
        write_peer(out, peer, now)?;
    }
    Ok(())
}

pub(in crate::commands) fn write_peer(out: &mut String, peer: &Peer, now: Duration) -> fmt::Result {
    writeln!(out, "peer: {}", peer.public_key)?;
    if peer.has_preshared_key {
        writeln!(out, "  preshared key: (hidden)")?;
    }
    if let Some(endpoint) = peer.endpoint {
        writeln!(out, "  endpoint: {endpoint}")?;
    }
    let networks: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "  allowed ips: {}",
        if networks.is_empty() { "(none)".into() } else { networks.join(", ") }
    )?;
    if !peer.last_handshake.is_zero() {
        writeln!(out, "  latest handshake: {}", ago(peer.last_handshake, now))?;
    }
    if peer.received > 0 || peer.sent > 0 {
        writeln!(out, "  transfer: {} received, {} sent", Bytes(peer.received), Bytes(peer.sent))?;
    }
    if peer.persistent_keepalive > 0 {
        writeln!(out, "  persistent keepalive: every {}", Span(peer.persistent_keepalive.into()))?;
    }
    Ok(())
}

/// A word of another process, without what would move a terminal's cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

pub(in crate::commands) fn ago(then: Duration, now: Duration) -> String {
    match now.as_secs().checked_sub(then.as_secs()) {
        Some(0) => "Now".to_owned(),
        Some(seconds) => format!("{} ago", Span(seconds)),
        None => "(in the future: the system's clock was set back)".to_owned(),
    }
}

/// Seconds, as `1 hour, 2 minutes, 3 seconds`.
struct Span(u64);

impl fmt::Display for Span {
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

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        // an approximation is what is wanted
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
