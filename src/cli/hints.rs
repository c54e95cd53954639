//! Expected values and examples of arguments, for error messages.

/// Returns the description of the expected value of an option, unless the error of its parser
/// contains it, and a valid value. Options with fixed values are not in this list.
pub(super) fn option(name: &str) -> Option<(Option<&'static str>, &'static str)> {
    Some(match name {
        "address" => (None, "10.8.0.1/24"),
        "allow" | "kill-switch-allow" => (None, "192.0.2.0/24"),
        "config" => (Some("the path of a file"), "/etc/wontun/tun0.conf"),
        "dir" => (Some("the path of a folder"), "/etc/wontun"),
        "dns" => (None, "9.9.9.9,2620:fe::fe"),
        "endpoint" => (None, "vpn.example.com:51820"),
        "interval" => (None, "0.5"),
        "kill-switch-for" => (None, "wg0"),
        "keepalive" => (Some("a number of seconds, 0 to 65535"), "25"),
        "listen" => (Some("an IPv4 or IPv6 address"), "192.0.2.1"),
        "listen-port" => (Some("a UDP port, 1 to 65535 (in plain mode 0 for any)"), "51820"),
        "max-handshake-age" => (Some("a number of seconds"), "180"),
        "metrics" => (Some("an address and a TCP port"), "127.0.0.1:9586"),
        "metrics-host" => (None, "vpn.example.com"),
        "mtu" => (Some("a number of bytes"), "1400"),
        "nat-allow" => (None, "169.254.169.254/32"),
        "note" => (None, "'Anna, room 5'"),
        "peer" => (None, "vpn.example.com:19988"),
        "private-key-file" => (None, "/run/credentials/wontun.service/key"),
        "public-key" => (Some("a public key in base64"), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="),
        "qr-file" => (Some("the path of a new file"), "phone.svg"),
        "resolver" => (Some("the IPv4 or IPv6 address of a name server"), "9.9.9.9"),
        "state" => (Some("the path of a file, or off"), "/var/lib/wontun/tun0.state"),
        "subnet" => (None, "10.8.0.0/24"),
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
        ["peer", "add" | "show" | "remove" | "reset"] => "phone",
        ["peer", "set"] => "phone --note 'Anna, room 5'",
        ["peer", "rename"] => "phone tablet",
        ["interface"] => "wg0",
        ["down" | "health" | "reload" | "show" | "status" | "top" | "unlock"] | ["kill-switch", _] => "tun0",
        _ => "",
    }
}
