//! Formats one screen of 80 columns and 24 lines.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::summary::{Host, Summary};
use crate::commands::top::text::{age, amount, fit, name};
use crate::config::TunName;
use crate::uapi::PeerState;
use crate::uapi::TunnelStatus;

/// Columns of the screen.
const WIDTH: usize = 80;
/// Lines for all peers together, and for all problems of a tunnel.
const PEER_LINES: usize = 8;
const PROBLEMS: usize = 3;
/// Widths of the peers' columns.
const NAME: usize = 16;
const AGE: usize = 10;
const AMOUNT: usize = 9;
const STATE: usize = 10;
const UP: Style = AnsiColor::Green.on_default().bold();
const DOWN: Style = AnsiColor::Red.on_default().bold();

const HOW_TO_START: &str = "\
To start one:
  sudo systemctl enable --now wontun@tun0     the tunnel of a unit
  sudo wontun serve --endpoint HOST           a server; creates its key first
  sudo wontun --config /etc/wontun/wg0.conf   the tunnel of a wg-quick file
'wontun check FILE' shows what a file would set up, 'sudo wontun doctor' what is
missing on this host.
";

/// Formats the tunnels; `name` is the one that was asked for.
pub(super) fn format(host: &Host, name: Option<&TunName>, now: Duration, colours: bool) -> String {
    let mut page = Page { text: String::new(), colours };
    if host.tunnels.is_empty() {
        match name {
            Some(name) => page.line(format_args!("The tunnel {name} is not running here.")),
            None => page.line("No tunnel is running here."),
        }
        page.left_kill_switches(host);
        page.text.push_str(HOW_TO_START);
        return page.text;
    }
    let peers = PEER_LINES / host.tunnels.len();
    for (place, tunnel) in host.tunnels.iter().enumerate() {
        if place > 0 {
            page.line("");
        }
        page.tunnel(tunnel, peers.max(1), now);
    }
    page.left_kill_switches(host);
    if let Some(conf) = &host.resolv_conf {
        page.line(fit(&format!("This host's names: {conf}"), WIDTH));
    }
    page.text
}

struct Page {
    text: String,
    colours: bool,
}

impl Page {
    fn line(&mut self, text: impl Display) {
        // writing to memory does not fail
        let _ = writeln!(self.text, "{text}");
    }

    fn tunnel(&mut self, tunnel: &Summary, peers: usize, now: Duration) {
        let status = tunnel.status.as_ref();
        let is_up = status.is_none_or(|status| status.is_up != Some(false));
        let word = match (is_up, tunnel.problems.is_empty()) {
            (false, _) => "DOWN",
            (true, true) => "up",
            (true, false) => "up, with a problem",
        };
        let style = if is_up && tunnel.problems.is_empty() { UP } else { DOWN };
        let style = if self.colours { style } else { Style::new() };
        let file = tunnel.file.as_ref().map(|file| format!("   {}", file.display())).unwrap_or_default();
        let room = WIDTH.saturating_sub(tunnel.name.as_str().len() + 2 + word.len());
        self.line(format_args!("{}: {style}{word}{style:#}{}", tunnel.name, fit(&file, room)));
        let kill_switch = match tunnel.kill_switch {
            Some(true) => "on",
            Some(false) => "off",
            None => "unknown (run this as root)",
        };
        let dns = if tunnel.dns.is_empty() {
            "no name servers of its own".to_owned()
        } else {
            tunnel.dns.join(", ")
        };
        let port = status.map(|status| format!("UDP port {}   ", status.listen_port)).unwrap_or_default();
        self.line(fit(&format!("  {port}kill switch: {kill_switch}   DNS: {dns}"), WIDTH));
        if let Some(status) = status {
            self.peers(status, peers, now);
        }
        for problem in tunnel.problems.iter().take(PROBLEMS) {
            self.wrapped("  problem: ", problem);
        }
        if let Some(more) = tunnel.problems.len().checked_sub(PROBLEMS).filter(|more| *more > 0) {
            self.line(format_args!("  and {more} more: 'wontun show {}' lists them", tunnel.name));
        }
    }

    fn peers(&mut self, status: &TunnelStatus, limit: usize, now: Duration) {
        let count = status.peers.len();
        let sessions = status.peers.iter().filter(|peer| peer.has_session).count();
        let sum = |of: fn(&crate::uapi::TunnelPeer) -> u64| {
            amount(status.peers.iter().map(of).fold(0, u64::saturating_add))
        };
        self.line(format_args!(
            "  {count} peer{}, {sessions} connected; {} received, {} sent",
            if count == 1 { "" } else { "s" },
            sum(|peer| peer.received),
            sum(|peer| peer.sent),
        ));
        if count == 0 {
            return;
        }
        let row = |[name, age, received, sent, state, endpoint]: [&str; 6]| {
            let (name, age) = (fit(name, NAME), fit(age, AGE));
            let row = format!(
                "  {name:NAME$} {age:>AGE$} {received:>AMOUNT$} {sent:>AMOUNT$}  {state:STATE$}  {endpoint}"
            );
            fit(row.trim_end(), WIDTH)
        };
        self.line(row(["PEER", "HANDSHAKE", "RECEIVED", "SENT", "STATE", "ENDPOINT"]));
        for peer in status.peers.iter().take(limit) {
            let endpoint = peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
            let last = peer.latest_handshake();
            let age = match age(last, now) {
                age if last.is_zero() => age,
                age => format!("{age} ago"),
            };
            let (received, sent) = (amount(peer.received), amount(peer.sent));
            let state = PeerState::of_live(peer).text();
            self.line(row([&name(peer), &age, &received, &sent, state, &endpoint]));
        }
        if let Some(more) = count.checked_sub(limit).filter(|more| *more > 0) {
            self.line(format_args!("  and {more} more: 'wontun show {}' or 'wontun top {0}'", status.name));
        }
    }

    fn left_kill_switches(&mut self, host: &Host) {
        for name in &host.left_kill_switches {
            self.wrapped(
                "problem: ",
                &format!(
                    "the kill switch of {name} is on, and {name} does not run: it blocks this host's traffic; start \
                     {name}, or 'sudo wontun kill-switch off {name}'"
                ),
            );
        }
    }

    /// Adds a text, wrapped at [`WIDTH`] columns and indented after `label`.
    fn wrapped(&mut self, label: &str, text: &str) {
        let mut line = label.to_owned();
        let mut is_empty = true;
        for word in text.split_whitespace() {
            let needed = line.chars().count() + usize::from(!is_empty) + word.chars().count();
            if !is_empty && needed > WIDTH {
                self.line(&line);
                line = " ".repeat(label.len());
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::TunnelPeer;
    use wontun_proto::wireguard::PublicKey;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn summary(peers: u8, problems: &[&str]) -> Summary {
        let name: TunName = "wg0".parse().unwrap();
        let peer = |number: u8| TunnelPeer {
            name: format!("peer-{number}").parse().ok(),
            endpoint: Some("[2001:db8:1111:2222:3333:4444:5555:6666]:51820".parse().unwrap()),
            last_handshake: NOW - Duration::from_secs(u64::from(number) * 61),
            received: 1 << (number * 3),
            sent: u64::MAX,
            has_session: number < 2,
            ..TunnelPeer::new(PublicKey::from_bytes([number; 32]))
        };
        let status = TunnelStatus {
            listen_port: 51820,
            mtu: Some(1420),
            is_up: Some(true),
            peers: (1..=peers).map(peer).collect(),
            ..TunnelStatus::new(&name)
        };
        Summary {
            name,
            status: Some(status),
            kill_switch: Some(true),
            file: Some("/etc/wontun/wg0.conf".into()),
            dns: vec!["10.64.0.1".to_owned()],
            problems: problems.iter().map(ToString::to_string).collect(),
        }
    }

    fn shown(tunnels: Vec<Summary>, left: &[&str]) -> String {
        let left = left.iter().map(ToString::to_string).collect();
        let host = Host { tunnels, left_kill_switches: left, resolv_conf: None };
        let text = format(&host, None, NOW, false);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        text
    }

    #[test]
    fn a_tunnel_fits_on_a_screen() {
        let long = "word ".repeat(40);
        let text = shown(vec![summary(20, &[&long, "b", "c", "d"])], &[]);
        assert!(text.lines().count() <= 24, "{text}");
        assert!(
            text.starts_with(
                "wg0: up, with a problem   /etc/wontun/wg0.conf\n  UDP port 51820   kill switch: on   DNS: 10.64.0.1\n"
            ),
            "{text}"
        );
        assert!(text.contains("  20 peers, 1 connected; "), "{text}");
        assert!(
            text.contains("and 12 more: 'wontun show wg0'") && text.contains("  and 1 more: 'wontun show"),
            "{text}"
        );
        assert!(text.contains(" 1m 01s ago "), "{text}");
    }

    #[test]
    fn without_tunnels_it_says_how_to_start_one() {
        let text = shown(Vec::new(), &["wg9"]);
        assert!(
            text.starts_with("No tunnel is running here.\nproblem: the kill switch of wg9 is on"),
            "{text}"
        );
        assert!(text.contains("wontun serve") && text.contains("wontun --config"), "{text}");
        let host = Host { tunnels: Vec::new(), left_kill_switches: Vec::new(), resolv_conf: None };
        let text = format(&host, Some(&"wg7".parse().unwrap()), NOW, false);
        assert!(text.starts_with("The tunnel wg7 is not running here.\n"), "{text}");
    }

    #[test]
    fn a_tunnel_that_does_not_answer_is_named() {
        let silent = Summary {
            status: None,
            kill_switch: None,
            file: None,
            dns: Vec::new(),
            ..summary(0, &["run this as root"])
        };
        let text = shown(vec![silent], &[]);
        assert!(
            text.contains("wg0: up, with a problem\n  kill switch: unknown (run this as root)"),
            "{text}"
        );
        assert!(text.contains("problem: run this as root"), "{text}");
    }
}
