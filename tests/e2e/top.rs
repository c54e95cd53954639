//! `wontun top` on terminals of several sizes.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::lab::{Lab, unanswered};
use crate::mounts::BINARY;
use crate::setup::server::{Server, client};
use crate::terminal::Terminal;
use crate::waiting::{TIMEOUT, finish, succeed};
use crate::wireguard::site::Site;

fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = site.command("setsid");
    command.args(["--ctty", BINARY, "top", "--interval", "0.2"]).args(args);
    command
}

fn top(site: &Site, args: &[&str]) -> Terminal {
    Terminal::start(command(site, args), 80, 24)
}

fn width(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or_default()
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// Returns the line about a peer.
fn row(lines: &[String], name: &str) -> String {
    lines.iter().find(|line| line.starts_with(name)).cloned().unwrap_or_default()
}

#[test]
fn a_server_is_watched_with_its_clients_and_its_traffic() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let _daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    let text = server.output(&["peer", "add", "phone"]);
    server.output(&["peer", "add", "tablet"]);
    let (phone, _phone) = client(&lab, 1, &text);
    phone.ping([10, 8, 0, 1]);

    let mut top = top(&server.site, &[]);
    // the last line is drawn last
    let lines = top.wait_for("both peers", |lines| {
        row(lines, "phone").contains("192.0.2.2:") && lines[23].starts_with(" q quit")
    });
    assert!(top.is_alternate());
    assert!(
        lines[0].starts_with(" tun0 · up · mtu 1420 · port 51820 · 2 peers, 1 with a session"),
        "{lines:?}"
    );
    assert!(has(&lines, "ENDPOINT") && row(&lines, "tablet").contains("never"), "{lines:?}");
    assert!(row(&lines, "phone").contains(" active ") && !has(&lines, "BOTH WAYS"), "{lines:?}");
    assert!(width(&lines) <= 80, "{lines:?}");
    // no traffic
    top.resize(90, 24);
    top.wait_for("a second look", |lines| row(lines, "phone").contains('▁'));

    let mut pings = phone.command("ping");
    pings.args(["-n", "-i", "0.01", "-s", "1000", "-c", "601", "10.8.0.1"]);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| succeed(&mut pings));
        let lines = top.wait_for("rates", |lines| row(lines, "phone").matches(" KiB/s").count() == 2);
        assert!(row(&lines, "phone").contains('█') && row(&lines, "tablet").contains(" 0 B/s"), "{lines:?}");
        top.wait_for("rates of all", |lines| {
            let is_fast =
                |what: &str| lines.iter().any(|line| line.starts_with(what) && line.contains(" KiB/s"));
            is_fast(" received") && is_fast(" sent")
        });

        top.resize(120, 40);
        let lines = top.wait_for("a larger window", |lines| {
            has(lines, "RECV ALL") && lines[39].starts_with(" q quit") && lines[0].trim_end().ends_with(" s")
        });
        assert!(width(&lines) > 100 && width(&lines) <= 120 && has(&lines, "phone"), "{lines:?}");
        top.resize(20, 5);
        let lines = top.wait_for("a tiny window", |lines| {
            lines[1].starts_with("PEER")
                && lines[1].ends_with("RECEIVED")
                && row(lines, "phone").contains("B/s")
        });
        assert!(lines.len() == 5 && width(&lines) <= 20, "{lines:?}");
        top.resize(80, 24);
        top.wait_for("as before", |lines| has(lines, "ENDPOINT") && lines[23].starts_with(" q quit"));
        assert_eq!(unanswered(&pings.join().unwrap(), 600), [0; 0]);
    });

    // to an address that nobody has
    let _ = finish(server.site.command("ping").args(["-c", "1", "-W", "1", "10.8.0.77"]), TIMEOUT);
    top.wait_for_text("not_routed 1");
    top.press("s");
    top.wait_for_text("order: handshake");
    server.output(&["peer", "rename", "tablet", "pad"]);
    top.wait_for("the new name", |lines| !row(lines, "pad ").is_empty());
    top.press("q");
    assert_eq!(top.wait_exit().code(), 0);
}

#[test]
fn a_tunnel_that_goes_is_waited_for() {
    let lab = Arc::new(Lab::new(1));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    let mut top = top(&server.site, &["tun0"]);
    top.wait_for_text(" tun0 · up");
    assert!(daemon.stop().status.success());
    let lines = top.wait_for_text("tunnel tun0 is not running");
    assert!(lines[0].contains("waiting") && lines[23].starts_with(" q quit"), "{lines:?}");
    let daemon = server.serve(&[]);
    top.wait_for_text(" tun0 · up");
    drop(daemon);
    top.wait_for_text("tunnel tun0 is not running");
    // Ctrl-C
    top.press("\u{3}");
    assert_eq!(top.wait_exit().code(), 0);
}

#[test]
fn of_several_tunnels_one_is_chosen() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    let mut top = top(&site, &[]);
    top.wait_for_text("no wontun tunnel is running");
    let tunnels: Vec<_> = ["wt1", "wt2"]
        .map(|name| site.launch(std::path::Path::new(BINARY), &["-f", name]).spawn())
        .into_iter()
        .inspect(|daemon| drop(daemon.wait_for(" ready mode=")))
        .collect();
    // the first tunnel to come up may have been selected
    top.press("l");
    top.wait_for("both", |lines| lines[1].starts_with(" wt1 ") && lines[2].starts_with(" wt2 "));
    top.press("\u{1b}[B\r");
    top.wait_for_text(" wt2 · DOWN");
    // Esc
    top.press("\u{1b}");
    assert_eq!(top.wait_exit().code(), 0);
    drop(tunnels);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let top = top(&site, &["tun0"]);
        top.wait_for_text("tunnel tun0 is not running");
        top.signal(signal);
        assert_eq!(top.wait_exit().code(), 0, "{signal}");
    }
}

#[test]
fn a_window_that_is_closed_ends_it() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    let top = top(&site, &["tun0"]);
    top.wait_for_text("tunnel tun0 is not running");
    top.hang_up();
}

#[test]
fn without_a_terminal_it_names_the_other_command() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    let run = finish(site.command(BINARY).arg("top"), TIMEOUT);
    assert_eq!((run.code(), run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.lines().count() == 1 && run.stderr.contains("'wontun show'"), "{run:?}");
    for interval in ["0", "-1", "often", "3601"] {
        let run = finish(site.command(BINARY).args(["top", &format!("--interval={interval}")]), TIMEOUT);
        assert!(run.code() == 2 && run.stderr.contains("0.1 to 3600"), "{run:?}");
    }
}

/// Escape sequences in a process's answers never reach the terminal.
#[test]
fn no_escape_sequence_of_a_tunnel_reaches_the_terminal() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    site.shell("mkdir -p /run/wireguard");
    let listener = UnixListener::bind(site.socket("evil")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            let keys = ["01".repeat(32), "02".repeat(32)];
            let answer = format!(
                "version=\u{1b}]0;owned\u{7}\ndrop_\u{1b}[41mred=9\ndrop_replay=9\npublic_key={}\nname=\u{1b}[41mred\n\
                 public_key={}\nname=honest\nallowed_ip=10.0.0.0/8\nerrno=0\n\n",
                keys[0], keys[1]
            );
            // the client may have closed the connection
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let mut top = top(&site, &["evil"]);
    let lines = top.wait_for_text("honest");
    assert!(has(&lines, "replay 9") && has(&lines, "AQEBAQEBAQ…"), "{lines:?}");
    top.resize(90, 24);
    top.wait_for("a second look", |lines| row(lines, "honest").contains('▁'));
    top.press("q");
    let left = top.wait_exit();
    assert_eq!(left.code(), 0);
    for sequence in ["[41m", "owned", "red"] {
        assert!(!left.text().contains(sequence), "{sequence} in {}", left.bytes.escape_ascii());
    }
}

/// More peers than fit on the screen.
#[test]
fn many_peers_are_scrolled() {
    let lab = Arc::new(Lab::new(1));
    let site = Site::new(&lab, 0);
    let mut text = String::from("[Interface]\nPrivateKey = ");
    text += &wontun_proto::wireguard::PrivateKey::from_bytes(&[7; 32]).to_base64();
    for number in 0..100_u8 {
        let key = wontun_proto::wireguard::PublicKey::from_bytes([number + 1; 32]);
        text += &format!(
            "\n\n[Peer]\n# Name = peer {number:02}\nPublicKey = {key}\nAllowedIPs = 10.1.{number}.0/24"
        );
    }
    let file = site.write("wg0.conf", &text);
    let daemon = site.launch(std::path::Path::new(BINARY), &["--config", file.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    let mut top = top(&site, &[]);
    top.wait_for("the first page", |lines| {
        lines[6].starts_with("peer 00 ") && lines[23].contains("1–17 of 100")
    });
    top.press("\u{1b}[6~");
    top.wait_for("the second page", |lines| lines[6].starts_with("peer 17 "));
    top.press("G");
    top.wait_for("the end", |lines| lines[22].starts_with("peer 99 ") && lines[23].contains("84–100 of 100"));
    top.press("q");
    assert_eq!(top.wait_exit().code(), 0);
}
