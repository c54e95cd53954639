//! Finds out whether systemd-resolved answers the queries of this host's programs.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// File that lists the system's name servers.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Files with its stub listener as the only server.
const STUB_FILES: [&str; 3] =
    ["/run/systemd/resolve/stub-resolv.conf", "/usr/lib/systemd/resolv.conf", "/lib/systemd/resolv.conf"];
/// File with the servers of all links, which it writes, too.
const LISTED_FILE: &str = "/run/systemd/resolve/resolv.conf";
/// Addresses of its stub listeners.
const STUB_ADDRESSES: [[u8; 4]; 2] = [[127, 0, 0, 53], [127, 0, 0, 54]];

/// Role of systemd-resolved for programs that read /etc/resolv.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dns) enum Role {
    /// It answers their queries.
    Answers,
    /// It lists the name servers of all links for them.
    Listed,
    /// Nothing.
    Absent,
}

/// Returns what systemd-resolved does on this host (systemd-resolved.service(8),
/// "/etc/resolv.conf").
pub(in crate::dns) fn role() -> Role {
    let target = Path::new(RESOLV_CONF).canonicalize().ok();
    let text = fs::read(RESOLV_CONF).unwrap_or_default();
    role_of(target.as_deref(), &String::from_utf8_lossy(&text))
}

/// As [`role`], for the file at `target` with the contents `text`: a copy, or a file that is
/// mounted into a container, counts as well.
fn role_of(target: Option<&Path>, text: &str) -> Role {
    if target.is_some_and(|target| STUB_FILES.iter().any(|file| target == Path::new(file))) {
        return Role::Answers;
    }
    if target == Some(Path::new(LISTED_FILE)) {
        return Role::Listed;
    }
    let mut servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") { words.next() } else { None }
    });
    let is_stub = |server: &str| STUB_ADDRESSES.iter().any(|stub| server.parse() == Ok(IpAddr::from(*stub)));
    if servers.next().is_some_and(is_stub) && servers.all(is_stub) { Role::Answers } else { Role::Absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_copies_are_recognized() {
        let role = |path: &str, text| role_of(Some(Path::new(path)), text);
        assert_eq!(role("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53"), Role::Answers);
        assert_eq!(role("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1"), Role::Listed);
        assert_eq!(role(RESOLV_CONF, "# a copy\nnameserver 127.0.0.53\nsearch lan\n"), Role::Answers);
        for other in ["", "search lan", "nameserver 127.0.0.53\nnameserver 192.0.2.1", "nameserver 127.0.0.1"]
        {
            assert_eq!(role(RESOLV_CONF, other), Role::Absent, "{other:?}");
        }
        assert_eq!(role_of(None, ""), Role::Absent);
    }
}
