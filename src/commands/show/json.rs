//! For programs. What is written is a handful of fields, so no library is needed for it.

use std::fmt::{self, Display, Write};

use super::report::{Peer, Report};

/// One document with all tunnels, on one line.
pub(super) fn print(reports: &[Report]) -> String {
    let mut text = String::new();
    // writing to memory does not fail
    let _ = write!(text, "{{\"tunnels\":{}}}", List(reports, write_report));
    text.push('\n');
    text
}

fn write_report(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{{\"name\":{},\"version\":{},\"public_key\":{},\"listen_port\":{},\"fwmark\":{},\"mtu\":{},\"up\":{},\"dropped\":{{",
        Text(&report.name),
        Text(&report.version),
        OrNull(report.public_key.as_ref().map(Text)),
        report.listen_port,
        report.fwmark,
        OrNull(report.mtu),
        OrNull(report.is_up),
    )?;
    let mut separator = "";
    for (reason, count) in &report.dropped {
        write!(f, "{separator}{}:{count}", Text(reason))?;
        separator = ",";
    }
    write!(f, "}},\"peers\":{}}}", List(&report.peers, write_peer))
}

fn write_peer(peer: &Peer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let latest_handshake = Some(peer.last_handshake.as_secs()).filter(|&seconds| seconds > 0);
    let persistent_keepalive = Some(peer.persistent_keepalive).filter(|&seconds| seconds > 0);
    write!(
        f,
        "{{\"public_key\":{},\"has_preshared_key\":{},\"has_session\":{},\"endpoint\":{},\"allowed_ips\":{},\
         \"latest_handshake\":{},\"received_bytes\":{},\"sent_bytes\":{},\"persistent_keepalive\":{}}}",
        Text(peer.public_key),
        peer.has_preshared_key,
        peer.has_session,
        OrNull(peer.endpoint.map(Text)),
        List(&peer.allowed_ips, |prefix, f| Text(prefix).fmt(f)),
        OrNull(latest_handshake),
        peer.received,
        peer.sent,
        OrNull(persistent_keepalive),
    )
}

/// An array.
struct List<'a, T>(&'a [T], fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result);

impl<T> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (place, item) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char(',')?;
            }
            self.1(item, f)?;
        }
        f.write_char(']')
    }
}

struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A string (RFC 8259, section 7).
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.to_string().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // control characters, and what JavaScript takes for the end of a line
                '\0'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(Text("tun0").to_string(), r#""tun0""#);
        assert_eq!(Text("a\"b\\c\n\u{1b}\u{2028}é🦀").to_string(), "\"a\\\"b\\\\c\\u000a\\u001b\\u2028é🦀\"");
    }

    #[test]
    fn nothing_runs() {
        assert_eq!(print(&[]), "{\"tunnels\":[]}\n");
    }
}
