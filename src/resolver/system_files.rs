//! The system's files about names that are needed to query name servers directly: hosts(5),
//! resolv.conf(5).

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};
use tracing::warn;

use crate::dns::resolv_conf::Stack;

const DNS_PORT: u16 = 53;
/// File that lists the system's name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Permission to read for other users.
const READABLE: u32 = 0o004;
/// Maximum number of bytes read from a descriptor of it.
const MAX_RESOLV_CONF: usize = 64 * 1024;
/// Maximum number of servers from one file, as in the system's resolvers, and from all files
/// together.
const MAX_SERVERS: usize = 3;
const MAX_TOTAL: usize = 8;
/// Limits of `options`, as in resolv.conf(5), in seconds.
const MAX_TIMEOUT: u64 = 30;
const MAX_ATTEMPTS: usize = 5;
/// Files in which programs that run a name server on this host, which does not mark its queries,
/// list its upstream servers: systemd-resolved, NetworkManager (also with its dnsmasq), and
/// resolvconf for dnsmasq.
const UPSTREAM_FILES: [&str; 4] = [
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
];
/// Timeout for each server if one of them is on this host or was given by the user: a silent one
/// must not delay the next.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The name servers to query, and their timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) timeout: Duration,
    pub(super) attempts: usize,
    /// True if all servers are on this host and their upstream servers are unknown.
    pub(super) is_local_only: bool,
}

impl ResolvConf {
    /// Returns the servers `first`, then those of /etc/resolv.conf as it is now. If all of these
    /// are on this host, their upstream servers come before them: their own queries carry no mark.
    /// Servers of the system that are among `behind`, behind the tunnel, come last: it may be down.
    /// `text` is the contents of the file if this process may not read it.
    pub(super) fn read(first: &[IpAddr], behind: &[IpAddr], text: Option<&str>) -> Self {
        let text = text.map_or_else(|| read(RESOLV_CONF), str::to_owned);
        Self::assemble(first, behind, &text, is_local, read)
    }

    fn assemble(
        first: &[IpAddr],
        behind: &[IpAddr],
        text: &str,
        is_local: impl Fn(SocketAddr) -> bool,
        read: impl Fn(&str) -> String,
    ) -> Self {
        let own = Self::parse(text);
        let is_local_only = own.servers.iter().all(|server| is_local(*server));
        let mut servers: Vec<_> = first.iter().map(|address| SocketAddr::new(*address, DNS_PORT)).collect();
        if is_local_only {
            // systemd-resolved lists the servers of all links, the tunnel's too
            let is_upstream = |server: &SocketAddr| !behind.contains(&server.ip());
            let files = UPSTREAM_FILES.into_iter().flat_map(|path| {
                servers_of(&read(path)).into_iter().filter(is_upstream).take(MAX_SERVERS).collect::<Vec<_>>()
            });
            servers.extend(files.chain(docker_servers(text)).filter(|server| !is_local(*server)));
        }
        let is_short = !first.is_empty() || own.servers.iter().any(|server| is_local(*server));
        let timeout = if is_short { own.timeout.min(SHORT_TIMEOUT) } else { own.timeout };
        let mut listed = Vec::new();
        for server in servers {
            if !listed.contains(&server) {
                listed.push(server);
            }
        }
        // leave room for the servers of /etc/resolv.conf in any case
        listed.truncate(MAX_TOTAL - MAX_SERVERS);
        let (last, own_servers): (Vec<_>, Vec<_>) =
            own.servers.into_iter().partition(|server| behind.contains(&server.ip()));
        for server in own_servers.into_iter().chain(last) {
            if !listed.contains(&server) {
                listed.push(server);
            }
        }
        let is_local_only = listed.iter().all(|server| is_local(*server));
        Self { servers: listed, timeout, attempts: own.attempts, is_local_only }
    }

    fn parse(text: &str) -> Self {
        let mut found = Self {
            servers: name_servers(text),
            timeout: Duration::from_secs(5),
            attempts: 2,
            is_local_only: false,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() == Some("options") {
                words.for_each(|option| found.parse_option(option));
            }
        }
        if found.servers.is_empty() {
            found.servers.push(SocketAddr::from(([127, 0, 0, 1], DNS_PORT)));
        }
        found
    }

    fn parse_option(&mut self, option: &str) {
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

/// Opens /etc/resolv.conf for a process that may not, and warns if other users may not read it.
pub(super) fn open_resolv_conf() -> Option<File> {
    let file = File::open(RESOLV_CONF).ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    if metadata.mode() & READABLE == 0 {
        warn!(
            "{RESOLV_CONF} is not readable by other users, nor by the resolver process, which therefore gets its contents as of \
             the start: chmod 644 {RESOLV_CONF}"
        );
    }
    Some(file)
}

/// Returns the contents of /etc/resolv.conf before the tunnel `tunnel` wrote its own name servers
/// into it; `None` if it has not. `text` is the contents if this process may not read the file.
pub(super) fn previous_resolv_conf(tunnel: &str, text: Option<&str>) -> Option<String> {
    let text = text.map_or_else(|| read(RESOLV_CONF), str::to_owned);
    Stack::previous(&text, tunnel)
}

/// Splits the descriptors of a request. Returns the sockets, and the contents of /etc/resolv.conf
/// if it is among them and this process may not open it.
pub(super) fn take_resolv_conf(descriptors: Vec<OwnedFd>) -> (Vec<OwnedFd>, Option<String>) {
    let (files, sockets): (Vec<_>, Vec<_>) = descriptors.into_iter().map(File::from).partition(is_file);
    let is_hidden =
        || File::open(RESOLV_CONF).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let text = files.first().filter(|_| is_hidden()).map(|file| {
        let mut bytes = vec![0; MAX_RESOLV_CONF];
        // with an explicit offset: other processes share the file position
        let length = file.read_at(&mut bytes, 0).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()
    });
    (sockets.into_iter().map(OwnedFd::from).collect(), text)
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Returns the first servers listed in a resolv.conf(5) file.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = servers_of(text);
    servers.truncate(MAX_SERVERS);
    servers
}

/// Returns all servers listed in a resolv.conf(5) file.
fn servers_of(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") { words.next().and_then(server) } else { None }
    });
    servers.collect()
}

/// Returns the upstream servers of Docker's own name server, at 127.0.0.11 in a container. Docker
/// lists them in a comment of the container's resolv.conf: `# ExtServers: [192.0.2.53
/// host(198.51.100.53)]`, where `host(…)` is queried from outside the container.
fn docker_servers(text: &str) -> Vec<SocketAddr> {
    let lists = text.lines().filter_map(|line| {
        let comment = line.trim_start().strip_prefix('#')?.trim();
        comment.strip_prefix("ExtServers:")?.trim().strip_prefix('[')?.strip_suffix(']')
    });
    let bare = |word: &str| -> Option<SocketAddr> {
        server(word.strip_prefix("host(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(word))
    };
    lists.flat_map(str::split_whitespace).filter_map(bare).take(MAX_SERVERS).collect()
}

/// Returns true if `server` is on this host: on loopback, or at another local address, which the
/// kernel then also uses as the source.
fn is_local(server: SocketAddr) -> bool {
    let address = server.ip().to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let source = || {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None).ok()?;
        socket.connect(&server.into()).ok()?;
        socket.local_addr().ok()?.as_socket()
    };
    source().is_some_and(|source| source.ip() == server.ip())
}

/// Parses an address, with `%DEVICE` after a link-local one.
fn server(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        Some((address, scope)) => {
            let scope = scope.parse().ok().or_else(|| if_nametoindex(scope).ok())?;
            Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into())
        }
        None => Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)),
    }
}

/// Returns the addresses of `host` in /etc/hosts as it is now.
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

/// Reads a file; returns an empty text if that fails, which the caller reports if it matters.
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

    fn assembled(first: &[&str], text: &str, files: &[(&str, &str)]) -> (Vec<String>, Duration) {
        assembled_with(first, &[], text, files)
    }

    fn assembled_with(
        first: &[&str],
        behind: &[&str],
        text: &str,
        files: &[(&str, &str)],
    ) -> (Vec<String>, Duration) {
        let behind: Vec<_> = behind.iter().map(|address| address.parse().unwrap()).collect();
        let first: Vec<_> = first.iter().map(|address| address.parse().unwrap()).collect();
        let own: IpAddr = "192.0.2.2".parse().unwrap();
        let is_local = |server: SocketAddr| server.ip().is_loopback() || server.ip() == own;
        let read = |path: &str| {
            let file = files.iter().find(|(known, _)| *known == path);
            file.map_or(String::new(), |(_, text)| (*text).to_owned())
        };
        let found = ResolvConf::assemble(&first, &behind, text, is_local, read);
        (found.servers.iter().map(|server| server.ip().to_string()).collect(), found.timeout)
    }

    #[test]
    fn those_behind_the_hosts_own_name_servers_come_before_them() {
        let files = [
            ("/run/systemd/resolve/resolv.conf", "nameserver 127.0.0.1\nnameserver 192.0.2.53\n"),
            ("/run/NetworkManager/no-stub-resolv.conf", "nameserver 192.0.2.53\nnameserver 2001:db8::53"),
            ("/run/dnsmasq/resolv.conf", "# a comment\nnameserver 192.0.2.54\n"),
        ];
        for stub in ["127.0.0.53", "::1", "192.0.2.2"] {
            let (servers, timeout) = assembled(&[], &format!("nameserver {stub}\n"), &files);
            assert_eq!(servers, ["192.0.2.53", "2001:db8::53", "192.0.2.54", stub]);
            assert_eq!(timeout, SHORT_TIMEOUT);
        }
        // no upstream servers are known
        let none = "nameserver 127.0.0.1\nnameserver ::1\n";
        assert_eq!(assembled(&[], none, &[]).0, ["127.0.0.1", "::1"]);
        // a server elsewhere can be queried directly
        let mixed = "nameserver 127.0.0.1\nnameserver 192.0.2.99\n";
        assert_eq!(
            assembled(&[], mixed, &files),
            (vec!["127.0.0.1".to_owned(), "192.0.2.99".to_owned()], SHORT_TIMEOUT)
        );
        let (servers, timeout) = assembled(&[], "nameserver 192.0.2.99\n", &files);
        assert_eq!((servers, timeout), (vec!["192.0.2.99".to_owned()], Duration::from_secs(5)));
    }

    #[test]
    fn the_users_servers_come_first() {
        let (servers, timeout) = assembled(&["203.0.113.53", "192.0.2.99"], "nameserver 192.0.2.99\n", &[]);
        assert_eq!(
            (servers.as_slice(), timeout),
            (["203.0.113.53", "192.0.2.99"].map(str::to_owned).as_slice(), SHORT_TIMEOUT)
        );
        let many: Vec<_> = (1..20).map(|byte| format!("203.0.113.{byte}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let (servers, _) = assembled(&many, "nameserver 127.0.0.1\n", &[]);
        assert_eq!((servers.len(), servers.last().map(String::as_str)), (6, Some("127.0.0.1")));
    }

    #[test]
    fn servers_behind_the_tunnel_are_the_last() {
        let listed =
            "nameserver 10.0.0.53\nnameserver fd00::53\nnameserver 10.0.0.54\nnameserver 192.0.2.53\n";
        let behind = ["10.0.0.53", "fd00::53", "10.0.0.54"];
        let stub = [("/run/systemd/resolve/resolv.conf", listed)];
        let (servers, _) = assembled_with(&[], &behind, "nameserver 127.0.0.53\n", &stub);
        assert_eq!(servers, ["192.0.2.53", "127.0.0.53"]);
        let (servers, _) =
            assembled_with(&["10.0.0.53"], &behind, "nameserver 10.0.0.54\nnameserver 192.0.2.9\n", &[]);
        assert_eq!(servers, ["10.0.0.53", "192.0.2.9", "10.0.0.54"]);
    }

    #[test]
    fn docker_tells_whom_it_asks() {
        let text = "# Generated by Docker Engine.\n\nnameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n\n\
                    # Based on host file: '/etc/resolv.conf' (internal resolver)\n\
                    # ExtServers: [host(127.0.0.53) 192.0.2.53 host(192.0.2.54) nonsense host( 2001:db8::53]\n\
                    # Overrides: []\n# Option ndots from: internal\n";
        assert_eq!(assembled(&[], text, &[]).0, ["192.0.2.53", "192.0.2.54", "127.0.0.11"]);
        for none in
            ["# ExtServers: []", "# ExtServers: 192.0.2.53", "ExtServers: [192.0.2.53]", "# ExtServers: [[]"]
        {
            assert_eq!(docker_servers(none), []);
        }
    }

    #[test]
    fn addresses_of_this_host_are_known() {
        for own in ["127.0.0.11:53", "[::1]:53", "0.0.0.0:53", "[::ffff:127.0.0.1]:53"] {
            assert!(is_local(own.parse().unwrap()), "{own}");
        }
        assert!(!is_local("192.0.2.53:53".parse().unwrap()));
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
