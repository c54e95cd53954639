//! Formats the status as JSON, as described in docs/src/reference/json.md. It has only a few
//! fields, so no library is needed.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use crate::config::TunName;
use crate::uapi::{TunnelPeer, TunnelStatus};

/// A peer of a server's file, with its state in the tunnel if it is `running` and knows the peer.
#[derive(Clone, Debug)]
pub(in crate::commands) struct ListedPeer {
    pub(in crate::commands) peer: TunnelPeer,
    pub(in crate::commands) running: bool,
}

/// Formats one document with all tunnels, on one line.
pub(super) fn to_json(statuses: &[TunnelStatus]) -> String {
    document(format_args!("{{\"tunnels\":{}}}", List(statuses, write_report)))
}

/// Formats one document with the peers of a server's file, on one line.
pub(in crate::commands) fn peers_to_json(tun: &TunName, peers: &[ListedPeer]) -> String {
    document(format_args!("{{\"tunnel\":{},\"peers\":{}}}", Text(tun), List(peers, write_listed)))
}

fn document(content: fmt::Arguments<'_>) -> String {
    let mut text = String::new();
    // writing to memory does not fail
    let _ = writeln!(text, "{content}");
    text
}

fn write_report(status: &TunnelStatus, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{{\"name\":{},\"version\":{},\"public_key\":{},\"listen_port\":{},\"fwmark\":{},\"mtu\":{},\"up\":{},\"dropped\":{{",
        Text(&status.name),
        Text(&status.version),
        OrNull(status.public_key.as_ref().map(Text)),
        status.listen_port,
        status.fwmark,
        OrNull(status.mtu),
        OrNull(status.is_up),
    )?;
    write_counts(&status.dropped, f)?;
    f.write_str("},\"repairs\":{")?;
    write_counts(&status.repairs, f)?;
    let problems = List(&status.problems, |problem, f| Text(problem).fmt(f));
    write!(f, "}},\"problems\":{problems},\"peers\":{}}}", List(&status.peers, write_peer))
}

fn write_counts(counts: &BTreeMap<String, u64>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut separator = "";
    for (name, count) in counts {
        write!(f, "{separator}{}:{count}", Text(name))?;
        separator = ",";
    }
    Ok(())
}

fn write_peer(peer: &TunnelPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('{')?;
    write_peer_fields(peer, f)?;
    f.write_char('}')
}

fn write_listed(listed: &ListedPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('{')?;
    write_peer_fields(&listed.peer, f)?;
    write!(f, ",\"running\":{}}}", listed.running)
}

fn write_peer_fields(peer: &TunnelPeer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let latest_handshake = Some(peer.last_handshake.as_secs()).filter(|&seconds| seconds > 0);
    let persistent_keepalive = Some(peer.persistent_keepalive).filter(|&seconds| seconds > 0);
    write!(
        f,
        "\"name\":{},\"public_key\":{},\"has_preshared_key\":{},\"has_session\":{},\"endpoint\":{},\"allowed_ips\":{},\
         \"latest_handshake\":{},\"received_bytes\":{},\"sent_bytes\":{},\"persistent_keepalive\":{}",
        OrNull(peer.name.as_ref().map(Text)),
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

/// A string (RFC 8259, section 7). Non-printable characters are escaped too: the text may come from
/// another process, and the document may be displayed on a terminal.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.to_string().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\'' => f.write_char(c)?,
                c if c.escape_debug().count() == 1 => f.write_char(c)?,
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(f, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(Text("tun0").to_string(), r#""tun0""#);
        assert_eq!(Text("it's").to_string(), r#""it's""#);
        assert_eq!(Text("a\"b\\c\n\u{1b}\u{2028}é🦀").to_string(), "\"a\\\"b\\\\c\\u000a\\u001b\\u2028é🦀\"");
        assert_eq!(Text("\u{9b}31m\u{202e}\u{e0001}").to_string(), r#""\u009b31m\u202e\udb40\udc01""#);
    }

    /// Every field is documented in docs/src/reference/json.md, and no other is.
    #[test]
    fn the_fields_are_those_that_are_documented() {
        let peer = TunnelPeer::new(wontun_proto::wireguard::PublicKey::from_bytes([1; 32]));
        let status = TunnelStatus { peers: vec![peer.clone()], ..TunnelStatus::new(&TunName::default()) };
        let documents =
            to_json(&[status]) + &peers_to_json(&TunName::default(), &[ListedPeer { peer, running: true }]);
        let keys = documents.split("\":").filter_map(|part| part.rsplit('"').next());
        let written: BTreeSet<_> = keys.filter(|key| !key.contains(['{', '}', '['])).collect();
        let promised: BTreeSet<_> = include_str!("../../../docs/src/reference/json.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        assert!(written.contains("latest_handshake") && written.contains("running"), "{written:?}");
        assert_eq!(written, promised);
    }

    #[test]
    fn nothing_runs() {
        assert_eq!(to_json(&[]), "{\"tunnels\":[]}\n");
        assert_eq!(peers_to_json(&TunName::default(), &[]), "{\"tunnel\":\"tun0\",\"peers\":[]}\n");
    }
}
