//! `wontun show` and related commands: names, other users' tunnels, colours, exit codes.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::setup::server::Server;
use crate::terminal::Terminal;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::site::Site;

const AS_NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

#[test]
fn peers_have_their_names_wherever_they_come_from() {
    let server = Server::alone();
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    server.output(&["peer", "add", "Anna's phone"]);
    assert!(server.output(&["show"]).contains("\npeer: Anna's phone\n  public key: "));
    server.output(&["peer", "rename", "Anna's phone", "phone"]);
    assert!(server.output(&["show", "tun0"]).contains("\npeer: phone\n"));
    // an editor's change takes effect when the file is read next
    let text = server.text().replace("# Name = phone", "# name = büro");
    std::fs::write(server.file(), text).unwrap();
    daemon.signal(Signal::SIGHUP);
    eventually("the new name", || server.output(&["show", "--json"]).contains(r#""name":"büro""#));
    // from the start, too
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&[]);
    let json = server.output(&["show", "--json"]);
    assert!(json.contains(r#""peers":[{"name":"büro","public_key":""#), "{json}");
    // a name that is unsafe for a terminal is ignored
    let text = server.text().replace("# name = büro", "# name = \u{1b}[31mred");
    std::fs::write(server.file(), text).unwrap();
    daemon.signal(Signal::SIGHUP);
    eventually("no name", || server.output(&["show", "--json"]).contains(r#""name":null"#));
    let shown = server.output(&["show"]);
    assert!(!shown.contains('\u{1b}') && !shown.contains("mred"), "{shown}");
    // wg(8) does not support names, and still adds peers
    let key = wontun_proto::wireguard::PublicKey::from_bytes([3; 32]).to_string();
    server.site.wg(&["set", "tun0", "peer", &key]);
    assert!(server.output(&["show"]).contains(&format!("\npeer: {key}\n")));
}

#[test]
fn peer_list_and_show_speak_json() {
    let server = Server::with_file();
    server.output(&["peer", "add", "phone"]);
    let key = server.key_of("phone");
    let begins = format!(
        r#"{{"tunnel":"tun0","peers":[{{"name":"phone","public_key":"{key}","has_preshared_key":true,"#
    );
    let alone = server.output(&["peer", "list", "--json"]);
    assert!(
        alone.starts_with(&begins) && alone.ends_with("\"running\":false,\"settings\":{}}]}\n"),
        "{alone}"
    );
    let _daemon = server.serve(&[]);
    let running = server.output(&["peer", "show", "phone", "--json"]);
    assert!(
        running.starts_with(&begins) && running.ends_with("\"running\":true,\"settings\":{}}]}\n"),
        "{running}"
    );
    server.output(&["peer", "add", "tablet"]);
    let both = server.output(&["peer", "list", "--json"]);
    assert_eq!(both.matches("\"running\":true").count(), 2, "{both}");
    // an independent JSON parser
    let dir = server.dir.display();
    server.site.shell(&format!("{BINARY} peer list --json --dir {dir} | python3 -m json.tool >/dev/null"));
}

/// As with systemd's DynamicUser: the tunnel belongs to another user, and root queries it.
#[test]
fn root_sees_the_tunnel_of_another_user_unless_others_could_be_that_user() {
    let server = Server::alone();
    let (_daemon, copy) = server.serve_as_nobody();
    server.output(&["peer", "add", "phone"]);
    for args in [&["show"][..], &["show", "tun0"]] {
        assert!(server.output(args).contains("\npeer: phone\n"), "{args:?}");
    }
    // where any user can create a socket, this one is not trusted
    for mode in [0o775, 0o1777] {
        std::fs::set_permissions(&server.dir, PermissionsExt::from_mode(mode)).unwrap();
        let run = server.run(&["show", "tun0"]);
        assert!(run.code() == 77 && run.stderr.contains("runs as user 65534"), "{run:?}");
    }
    // a third user may not even query
    std::fs::set_permissions(&server.dir, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = server.site.command("setpriv");
    command.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]).arg(&copy).args(["show", "tun0"]);
    let run = finish(command.env("WONTUN_DIR", &server.dir), TIMEOUT);
    assert!(run.code() == 77 && run.stderr.contains("permission denied"), "{run:?}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let server = Server::alone();
    let _daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    server.output(&["peer", "add", "phone"]);
    assert!(!server.output(&["show"]).contains('\u{1b}'), "into a pipe");
    let run = |settings: &[&str], arguments: &[&str]| {
        let mut command = server.site.command("setsid");
        command.args(["--ctty", "env"]).args(settings).arg(BINARY).args(arguments);
        let left = Terminal::start(command, 80, 24).wait_exit();
        assert_eq!(left.code(), 0);
        left.text()
    };
    let shown = |settings: &[&str]| run(settings, &["show", "tun0"]);
    let coloured = shown(&[]);
    assert!(coloured.contains("\u{1b}[1mpublic key\u{1b}[0m: "), "{coloured:?}");
    for setting in ["NO_COLOR=1", "TERM=dumb"] {
        let plain = shown(&[setting]);
        assert!(plain.contains("peer: phone") && !plain.contains('\u{1b}'), "{setting}: {plain:?}");
    }
    assert!(shown(&["NO_COLOR="]).contains('\u{1b}'), "an empty variable is none");
    let help = |settings: &[&str]| run(settings, &["genkey", "--help"]);
    assert!(help(&[]).contains('\u{1b}') && !help(&["NO_COLOR=1"]).contains('\u{1b}'));
}

#[test]
fn what_needs_a_right_says_so_with_the_exit_code() {
    let (lab, folder) = (Arc::new(Lab::new(1)), Folder::new());
    let site = Site::new(&lab, 0);
    let copy = folder.install(std::path::Path::new(BINARY), None);
    let (on, off) = (&["kill-switch", "on", "tun0"][..], &["kill-switch", "off"][..]);
    for args in [on, off, &["unlock"], &["unlock", "tun0"]] {
        let run = finish(site.command("setpriv").args(AS_NOBODY).arg(&copy).args(args), TIMEOUT);
        assert_eq!((run.code(), run.stdout.as_str()), (77, ""), "{run:?}");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains("CAP_NET_ADMIN"), "{run:?}");
    }
}
