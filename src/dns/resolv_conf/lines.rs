//! The lines of a tunnel in /etc/resolv.conf.

use std::fmt::Write as _;

use crate::dns::{DnsSettings, Domain};

/// Number of name servers that resolvers use (MAXNS of resolv.conf(5), also musl's).
const MAX_SERVERS: usize = 3;
/// Option that makes glibc trust the server's DNSSEC validation: it is about the previous servers.
const TRUST_AD: &str = "trust-ad";

/// Returns the lines that apply `settings` over the contents `beneath`, and warnings. Options and
/// sort lists are kept, and without search domains of its own a split tunnel keeps those, too.
pub(super) fn lines(settings: &DnsSettings, beneath: &[u8]) -> (Vec<u8>, Vec<String>) {
    let beneath = String::from_utf8_lossy(beneath);
    let (mut kept, mut search) = (String::new(), None);
    for line in beneath.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(keyword @ ("options" | "sortlist")) => {
                let words: Vec<_> = words.filter(|word| *word != TRUST_AD).collect();
                if !words.is_empty() {
                    let _ = writeln!(kept, "{keyword} {}", words.join(" "));
                }
            }
            // the last one applies
            Some("search" | "domain") => search = Some(words.collect::<Vec<_>>().join(" ")),
            _ => {}
        }
    }
    let own: Vec<_> =
        settings.search.iter().filter(|domain| !domain.is_routing_only).map(Domain::as_str).collect();
    let search =
        if own.is_empty() { search.filter(|_| !settings.is_full_tunnel) } else { Some(own.join(" ")) };
    let mut text = kept;
    if let Some(search) = search.filter(|search| !search.is_empty()) {
        let _ = writeln!(text, "search {search}");
    }
    for server in settings.servers.iter().take(MAX_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    (text.into_bytes(), warnings(settings))
}

fn warnings(settings: &DnsSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let unused: Vec<_> = settings.servers.iter().skip(MAX_SERVERS).map(ToString::to_string).collect();
    if !unused.is_empty() {
        warnings.push(format!(
            "DNS: {} left out, since programs that read /etc/resolv.conf use {MAX_SERVERS} name servers only",
            unused.join(", ")
        ));
    }
    let routed: Vec<_> = settings.search.iter().filter(|domain| domain.is_routing_only).collect();
    if !routed.is_empty() {
        let routed: Vec<_> = routed.iter().map(|domain| format!("~{}", domain.as_str())).collect();
        warnings.push(format!(
            "DNS: {} has no effect in /etc/resolv.conf, which has no servers for single domains: use systemd-resolved",
            routed.join(", ")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: &[&str], is_full_tunnel: bool, beneath: &str) -> (String, usize) {
        let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
        let settings = DnsSettings::from_entries(&entries, "wg0", 7, is_full_tunnel).0.unwrap();
        let (lines, warnings) = lines(&settings, beneath.as_bytes());
        (String::from_utf8(lines).unwrap(), warnings.len())
    }

    const OLD: &str = "# Generated\nnameserver 192.0.2.53\ndomain old.example\nsearch lan home.arpa\n\
                       options edns0 trust-ad ndots:2\noptions trust-ad\nsortlist 192.0.2.0/24\nbogus\n";

    #[test]
    fn options_are_kept_and_servers_replaced() {
        let kept = "options edns0 ndots:2\nsortlist 192.0.2.0/24\n";
        assert_eq!(written(&["10.8.0.1"], true, OLD), (format!("{kept}nameserver 10.8.0.1\n"), 0));
        assert_eq!(
            written(&["10.8.0.1"], false, OLD),
            (format!("{kept}search lan home.arpa\nnameserver 10.8.0.1\n"), 0)
        );
        assert_eq!(
            written(&["fd00::1", "corp.example", "b.example"], false, OLD),
            (format!("{kept}search corp.example b.example\nnameserver fd00::1\n"), 0)
        );
        assert_eq!(written(&["10.8.0.1"], false, ""), ("nameserver 10.8.0.1\n".to_owned(), 0));
    }

    #[test]
    fn what_a_file_cannot_hold_is_a_warning() {
        let (text, warnings) = written(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "~corp"], true, "");
        assert_eq!((text.lines().count(), warnings), (3, 2));
    }
}
