//! The lines that `wontun serve` prints on a terminal.

use crate::mounts::BINARY;
use crate::terminal::Terminal;

use super::server::Server;

/// Starts `wontun serve args…` on a terminal, and returns the lines once the greeting is there.
fn lines(server: &Server, args: &[&str]) -> (Terminal, Vec<String>) {
    let mut command = server.site.command("setsid");
    command.args(["--ctty", BINARY, "serve"]).args(args).env("WONTUN_DIR", &server.dir);
    let terminal = Terminal::start(command, 160, 50);
    let lines = terminal.wait_for("the greeting", |lines| {
        lines.iter().any(|line| line.starts_with("Add a client: wontun peer add phone --qr"))
    });
    (terminal, lines)
}

fn at(lines: &[String], start: &str) -> usize {
    let found = lines.iter().position(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with '{start}': {lines:?}"))
}

#[test]
fn a_terminal_gets_five_lines_at_the_end_of_the_start() {
    let server = Server::alone();
    let (terminal, lines) = lines(&server, &["--endpoint", "vpn.example.com"]);
    let first = at(&lines, "Listening on UDP port 51820; in the tunnel at 10.8.0.1 and fd");
    // the line of the tunnel process comes beside them
    terminal.wait_for("the tunnel is ready", |lines| lines.iter().any(|line| line.contains("ready")));
    assert_eq!(lines[first + 1], "Clients connect to vpn.example.com:51820.", "{lines:?}");
    assert!(lines[first + 2].starts_with("Firewall: nothing on this host drops UDP port 51820"), "{lines:?}");
    let ipv6 = "IPv6: within the VPN only, since this host has no route to the IPv6 Internet.";
    assert_eq!(lines[first + 3], ipv6, "{lines:?}");
    assert_eq!(lines[first + 4], "Add a client: wontun peer add phone --qr", "{lines:?}");
}

#[test]
fn a_dropped_port_and_a_missing_endpoint_are_named() {
    let server = Server::alone();
    server.site.shell(
        "nft add table inet filter; nft 'add chain inet filter input { type filter hook input priority 0; policy drop; }'",
    );
    let (_terminal, lines) = lines(&server, &[]);
    let missing = at(&lines, "wontun: no address for clients to connect to is set: give it with --endpoint");
    let first = at(&lines, "Listening on UDP port 51820");
    assert!(missing < first);
    assert_eq!(lines[first + 1], "Clients have no address to connect to: see above.");
    assert!(lines[first + 2].starts_with("Firewall: ") && lines[first + 2].contains("51820"), "{lines:?}");
    assert!(!lines[first + 2].contains("nothing on this host"), "{lines:?}");
}

#[test]
fn what_is_no_terminal_gets_the_log_only() {
    let server = Server::alone();
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    server.output(&["peer", "add", "phone"]);
    assert_eq!(daemon.count("Add a client") + daemon.count("Listening on"), 0, "{:?}", daemon.lines());
    let run = server.run(&["serve", "--endpoint", "192.0.2.1:443"]);
    assert_eq!(run.code(), 78, "{run:?}");
    assert!(
        run.stderr.contains("--endpoint has port 443, but") && run.stderr.contains("--listen-port 51820")
    );
}
