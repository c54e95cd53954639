//! Expected values and examples of arguments, for error messages.

/// Returns what [`option`] does for an option of the command `path`: the options of `peer` differ
/// from those of tunnels with the same name.
pub(super) fn option_of(path: &[String], name: &str) -> Option<(Option<&'static str>, &'static str)> {
    match name {
        _ if path.first().is_none_or(|command| command != "peer") => option(name),
        "address" => Some((Some("an address in the server's network"), "10.8.0.9")),
        "allow" | "allow-from" | "deny" => Some((None, "lan,dns,192.0.2.7:443/tcp")),
        "keepalive" => Some((Some("a number of seconds, 0 to 65535, or off"), "25")),
        _ => option(name),
    }
}

/// Returns the description of the expected value of an option, unless the error of its parser
/// contains it, and a valid value. Options with fixed values are not in this list.
fn option(name: &str) -> Option<(Option<&'static str>, &'static str)> {
    Some(match name {
        "address" => (None, "10.8.0.1/24"),
        "admin" => (None, "0.0.0.0:8443"),
        "admin-cert" | "admin-key" => (Some("the path of a PEM file"), "/etc/wontun/admin.pem"),
        "admin-name" => (None, "vpn.example.com"),
        "admin-proxy" => (Some("the IPv4 or IPv6 address of a proxy"), "127.0.0.1"),
        "admin-proxy-header" => (None, "X-Real-IP"),
        "allow" | "kill-switch-allow" => (None, "192.0.2.0/24"),
        "config" => (Some("the path of a file"), "/etc/wontun/tun0.conf"),
        "dir" => (Some("the path of a folder"), "/etc/wontun"),
        "dns" => (None, "9.9.9.9,2620:fe::fe"),
        "from" => (Some("the path of a file"), "clients.csv"),
        "dns-upstream" => (None, "tls://9.9.9.9#dns.quad9.net"),
        "domain" => (None, "vpn"),
        "forward" => (Some("PORT/tcp or PORT/udp, and =PORT for another port of the client"), "8443/tcp=443"),
        "endpoint" => (None, "vpn.example.com:51820"),
        "expires" => (None, "2026-12-31"),
        "valid" => (None, "1h"),
        "interval" => (None, "0.5"),
        "kill-switch-for" => (None, "wg0"),
        "keepalive" => (Some("a number of seconds, 0 to 65535"), "25"),
        "link" => (None, "https://vpn.example.com:8443"),
        "listen" => (Some("an IPv4 or IPv6 address"), "192.0.2.1"),
        "listen-port" => (Some("a UDP port, 1 to 65535 (in plain mode 0 for any)"), "51820"),
        "max-handshake-age" => (Some("a number of seconds"), "180"),
        "metrics" => (Some("an address and a TCP port"), "127.0.0.1:9586"),
        "metrics-host" => (None, "vpn.example.com"),
        "mtu" => (Some("a number of bytes"), "1400"),
        "nat-allow" => (None, "169.254.169.254/32"),
        "note" => (None, "'Anna, room 5'"),
        "owner" => (None, "anna"),
        "out" => (Some("the path of a new file"), "phone.conf"),
        "over" => (Some("drop, rate, or a rate"), "rate"),
        "peer" => (None, "vpn.example.com:19988"),
        "private-key-file" => (None, "/run/credentials/wontun.service/key"),
        "public-key" => (Some("a public key in base64"), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="),
        "qr-file" => (Some("the path of a new file"), "phone.svg"),
        "scope" => (None, "read,peers"),
        "quota" => (None, "100GB/month"),
        "rate-down" => (None, "50Mbit"),
        "rate-up" => (None, "20Mbit"),
        "resolver" => (Some("the IPv4 or IPv6 address of a name server"), "9.9.9.9"),
        "route" => (None, "10.0.0.0/8"),
        "site" => (None, "192.168.5.0/24"),
        "state" => (Some("the path of a file, or off"), "/var/lib/wontun/tun0.state"),
        "subnet" => (None, "10.8.0.0/24"),
        "timeout" => (None, "10"),
        "tun" => (None, "tun0"),
        "user" => (None, "nobody"),
        "workers" => (Some("a number of threads, 1 to 256"), "2"),
        _ => return None,
    })
}

/// Returns valid arguments of a command that needs some.
pub(super) fn arguments(path: &[String]) -> &'static str {
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] => "serve",
        ["completions"] => "bash",
        ["import" | "check" | "doctor"] => "wg0.conf",
        ["kill-switch"] => "off",
        ["peer"] => "list",
        ["peer", "add" | "invite" | "show" | "disable" | "enable" | "renew" | "remove" | "reset"] => "phone",
        ["peer", "test"] => "phone 192.0.2.7:443/tcp",
        ["admin"] => "link",
        ["admin", "remove"] => "anna",
        ["admin", "token"] => "list",
        ["admin", "token", "add" | "remove"] => "grafana",
        ["enroll"] => "-",
        ["peer", "set"] => "phone --note 'Anna, room 5'",
        ["peer", "rename"] => "phone tablet",
        ["interface"] => "wg0",
        ["down" | "health" | "reload" | "show" | "status" | "top" | "unlock"] | ["kill-switch", _] => "tun0",
        _ => "",
    }
}
