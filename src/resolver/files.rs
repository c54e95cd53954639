//! The system's files about names, as far as name servers are asked without the system: hosts(5), resolv.conf(5).

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::net::if_::if_nametoindex;

const DNS: u16 = 53;
/// As many as the system's resolvers ask.
const MAX_SERVERS: usize = 3;
/// Limits of `options`, as in resolv.conf(5), in seconds.
const MAX_TIMEOUT: u64 = 30;
const MAX_ATTEMPTS: usize = 5;
/// Where systemd-resolved, which itself is asked on loopback and marks nothing, writes down whom it asks.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Whom to ask, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) timeout: Duration,
    pub(super) attempts: usize,
}

impl ResolvConf {
    /// As /etc/resolv.conf is now. Where that names systemd-resolved, whom that asks.
    pub(super) fn read() -> Self {
        let own = Self::parse(&read("/etc/resolv.conf"));
        if own.servers.iter().all(|server| server.ip().is_loopback()) {
            let behind = Self::parse(&read(BEHIND_RESOLVED));
            if behind.servers.iter().any(|server| !server.ip().is_loopback()) {
                return Self { servers: behind.servers, ..own };
            }
        }
        own
    }

    fn parse(text: &str) -> Self {
        let mut found = Self { servers: Vec::new(), timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().and_then(server)),
                Some("options") => words.for_each(|option| found.take_option(option)),
                _ => {}
            }
        }
        found.servers.truncate(MAX_SERVERS);
        if found.servers.is_empty() {
            found.servers.push(SocketAddr::from(([127, 0, 0, 1], DNS)));
        }
        found
    }

    fn take_option(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("timeout", value)) => {
                if let Ok(seconds) = value.parse::<u64>() {
                    self.timeout = Duration::from_secs(seconds.clamp(1, MAX_TIMEOUT));
                }
            }
            Some(("attempts", value)) => {
                if let Ok(attempts) = value.parse::<usize>() {
                    self.attempts = attempts.clamp(1, MAX_ATTEMPTS);
                }
            }
            _ => {}
        }
    }
}

/// An address, with `%DEVICE` behind a link-local one.
fn server(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        Some((address, scope)) => {
            let scope = scope.parse().ok().or_else(|| if_nametoindex(scope).ok())?;
            Some(SocketAddrV6::new(address.parse().ok()?, DNS, 0, scope).into())
        }
        None => Some(SocketAddr::new(text.parse().ok()?, DNS)),
    }
}

/// The addresses of `host` in /etc/hosts, as that is now.
pub(super) fn hosts(host: &str) -> Vec<IpAddr> {
    addresses(&read("/etc/hosts"), host)
}

fn addresses(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

/// Nothing, if it is not there: whoever needs it says what is missing.
fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_system_does() {
        let found = ResolvConf::parse(
            "# a comment\n; another\nsearch example.com\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 # here too\n\
             nameserver nonsense\nnameserver fe80::1%lo\nnameserver 192.0.2.99\noptions rotate timeout:99 attempts:0\n",
        );
        let servers = ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%1]:53"].map(|s| s.parse().unwrap());
        assert_eq!(found.servers, servers);
        assert_eq!((found.timeout, found.attempts), (Duration::from_secs(30), 1));
    }

    #[test]
    fn without_a_word_the_own_host_is_asked() {
        let found = ResolvConf::parse("options timeout:x");
        assert_eq!(found.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((found.timeout, found.attempts), (Duration::from_secs(5), 2));
    }

    #[test]
    fn hosts_have_names_and_aliases() {
        let text = "127.0.0.1 localhost\n192.0.2.7\tvpn.example VPN2.example # no.example\n2001:db8::7 vpn.example\n\
                    nonsense vpn.example\n#192.0.2.8 vpn.example\n";
        let ips = |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        assert_eq!(addresses(text, "vpn.example."), ips(&["192.0.2.7", "2001:db8::7"]));
        assert_eq!(addresses(text, "vpn2.EXAMPLE"), ips(&["192.0.2.7"]));
        assert_eq!(addresses(text, "no.example"), ips(&[]));
    }
}
