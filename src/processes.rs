//! The processes of a tunnel and their rights: the one list of them. The table in SECURITY.md is
//! tested against it.

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    /// Its name in `ps`, at most 15 bytes.
    pub name: &'static str,
    /// Capabilities that it keeps.
    pub capabilities: &'static str,
    /// User that it runs as.
    pub user: &'static str,
    /// Untrusted data that it reads.
    pub reads: &'static str,
    /// Descriptors and files that it has or may open.
    pub has: &'static str,
    /// Condition under which it runs.
    pub runs: &'static str,
}

const OWN_USER: &str = "the one that it was started as, or `--user`";
const HELPER_USER: &str = "65533, where the start has CAP_SETUID and CAP_SETGID; else the supervisor's";

/// All of them, and that of `wontun hold`.
pub(crate) const PROCESSES: [ProcessInfo; 11] = [
    ProcessInfo {
        name: "wontun",
        capabilities: "CAP_NET_ADMIN",
        user: OWN_USER,
        reads: "nothing: requests of root to the control socket, messages of the other processes",
        has: "netlink, nf_tables, /proc/sys/net, the configuration's folder, key files, the state file, signals",
        runs: "always: it is the supervisor",
    },
    ProcessInfo {
        name: "wontun-tunnel",
        capabilities: "none",
        user: HELPER_USER,
        reads: "packets, datagrams, requests for metrics",
        has: "queues of the TUN device, UDP sockets, the health and metrics sockets, keys; opens no file and no socket",
        runs: "always",
    },
    ProcessInfo {
        name: "wontun-resolver",
        capabilities: "none",
        user: HELPER_USER,
        reads: "answers of name servers",
        has: "the files that name resolution needs; sockets to name servers",
        runs: "where an endpoint may be a name",
    },
    ProcessInfo {
        name: "wontun-dns",
        capabilities: "none",
        user: "the one that wontun was started as, to whom /etc/resolv.conf belongs; with systemd-resolved as the others",
        reads: "/etc/resolv.conf, which DHCP clients write, or messages of the system bus",
        has: "/etc/resolv.conf and no other file, or connections to the system bus and to `wontun-dns-set`",
        runs: "where a client's file has DNS, unless --apply-dns off",
    },
    ProcessInfo {
        name: "wontun-dns-set",
        capabilities: "none",
        user: HELPER_USER,
        reads: "nothing: it discards what the bus sends",
        has: "root's connection to the system bus; opens no file and no socket",
        runs: "where systemd-resolved applies `DNS =` and the start is root's",
    },
    ProcessInfo {
        name: "wontun-names",
        capabilities: "none",
        user: HELPER_USER,
        reads: "DNS queries of the peers, answers of name servers, /etc/resolv.conf",
        has: "its listening sockets, the peers' names and addresses; sockets to name servers; may read the folder of /etc/resolv.conf",
        runs: "where a server's file has `# ClientDomain`",
    },
    ProcessInfo {
        name: "wontun-admin",
        capabilities: "none",
        user: HELPER_USER,
        reads: "HTTP requests to the admin page, and TLS",
        has: "the listening sockets of the page, the hashes of its password and tokens, the key of its certificate, for a moment the file of a new client; opens no file and no socket",
        runs: "with `--admin`",
    },
    ProcessInfo {
        name: "wontun-editor",
        capabilities: "none",
        user: "the one that wontun was started as, to whom the configuration belongs",
        reads: "changes that `wontun-admin` or `wontun-enroll` asks for, checked by the supervisor",
        has: "the configuration's folder; reads the folders of the page's certificate and key; opens no other file and no socket",
        runs: "with `--admin`, and once more with `--invitations`",
    },
    ProcessInfo {
        name: "wontun-enroll",
        capabilities: "none",
        user: HELPER_USER,
        reads: "requests of invited devices, which have a one-time key",
        has: "its sockets on the tunnel's addresses; for a moment the file of a device without its private key; opens no file and no socket",
        runs: "with `--invitations`",
    },
    ProcessInfo {
        name: "wontun-nursery",
        capabilities: "none",
        user: HELPER_USER,
        reads: "nothing",
        has: "the program's own file, to execute it: it starts the others, and ends them with the supervisor",
        runs: "always; with `--admin` a second one, as the user that wontun was started as, for `wontun-editor`",
    },
    ProcessInfo {
        name: "wontun-hold",
        capabilities: "none",
        user: "65533, where the start has CAP_SETUID and CAP_SETGID; else the one that it was started as",
        reads: "nothing",
        has: "signals; opens no file and no socket",
        runs: "as `wontun hold`, without a tunnel of its own",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_security_page_says_the_same() {
        let page = include_str!("../SECURITY.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `wontun")).collect();
        let expected = PROCESSES.map(|process| {
            let ProcessInfo { name, capabilities, user, reads, has, runs } = process;
            format!("| `{name}` | {capabilities} | {user} | {reads} | {has} | {runs} |")
        });
        assert_eq!(rows, expected);
    }

    #[test]
    fn names_fit_the_kernels_field() {
        assert!(PROCESSES.iter().all(|process| process.name.len() <= 15));
    }
}
