//! One-time enrolment: `wontun peer invite` and `wontun enroll`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use wontun::enroll::code::InvitationCode;
use wontun::enroll::datagram::{Answer, Identifier, Request};

use super::server::{Server, client, value};
use crate::lab::{Host, Lab};
use crate::mounts::BINARY;
use crate::process::{has_no_capability, thread_states};
use crate::processes::helper;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};
use crate::wireguard::no_nftables;
use crate::wireguard::site::Site;

const SERVER: [u8; 4] = [10, 8, 0, 1];
const IDENTIFIER: Identifier = *b"a device";
/// Time to wait for a packet that must not arrive.
const ARRIVES: Duration = Duration::from_millis(400);

/// Runs `wontun enroll - --out FILE` with the code on standard input, as a user without any
/// privilege, who may not open /dev/net/tun. Returns the path of the file, too.
fn enroll(site: &Site, code: &str, timeout: &str) -> (Finished, PathBuf) {
    let folder = site.path().join("enrolled");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(site.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (copy, file, input) = (folder.join("wontun"), folder.join("phone.conf"), folder.join("code"));
    std::fs::copy(BINARY, &copy).unwrap();
    std::fs::File::create(&input).unwrap().write_all(code.as_bytes()).unwrap();
    let without_rights =
        "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all";
    let [copy, path, input] = [&copy, &file, &input].map(|path| path.display());
    let script = format!("exec {without_rights} {copy} enroll - --timeout {timeout} --out {path} < {input}");
    let mut command = site.command("sh");
    command.args(["-c", &script]);
    (finish(&mut command, TIMEOUT), file)
}

/// Returns a client's file with the one-time keys of a code.
fn one_time_file(code: &InvitationCode) -> String {
    let (private_key, preshared_key) = (code.secret.private_key(), code.secret.preshared_key());
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = {}/24\n[Peer]\nPublicKey = {}\nPresharedKey = {}\n\
         Endpoint = {}\nAllowedIPs = 10.8.0.0/24\n",
        *private_key.to_base64(),
        code.address,
        code.server,
        *preshared_key.to_base64(),
        code.endpoint,
    )
}

fn is_pinged(host: &Host, address: &str) -> bool {
    let mut ping = host.command("ping");
    finish(ping.args(["-n", "-c", "1", "-W", "0.4", address]), TIMEOUT).status.success()
}

/// Returns true if the responder answers a request of `host` for settings.
fn is_answered(host: &Host, from: IpAddr, to: SocketAddr) -> bool {
    let socket = host.udp(SocketAddr::new(from, 0));
    socket.set_read_timeout(Some(ARRIVES)).unwrap();
    for garbage in [&b""[..], b"WTEQ", &[0xff; 1300], b"GET / HTTP/1.1\r\n\r\n"] {
        socket.send_to(garbage, to).unwrap();
    }
    socket.send_to(&Request::Settings { offset: 0 }.to_bytes(&IDENTIFIER), to).unwrap();
    let mut buffer = [0; 2000];
    let answer = socket.recv(&mut buffer).ok().and_then(|length| Answer::parse(&buffer[..length]));
    matches!(answer, Some((IDENTIFIER, Answer::Settings { .. })))
}

#[test]
fn a_device_is_enrolled_once_and_its_code_reaches_nothing_else() {
    let lab = Arc::new(Lab::new(4));
    let server = Server::new(&lab, 0);
    let options = ["--endpoint", &lab.host(0).v4.to_string(), "--invitations", "--policy", "open"];
    let daemon = server.serve(&options);
    let (tablet, _tablet) = client(&lab, 2, &server.output(&["peer", "add", "tablet"]));
    tablet.ping(SERVER);
    let invited =
        server.run(&["peer", "invite", "phone", "--valid=2h", "--qr", "--allow=server,tablet", "--mtu=1380"]);
    assert!(invited.code() == 0 && invited.stderr.contains("wontun enroll"), "{invited:?}");
    assert!(invited.stderr.contains("█"), "a QR code: {invited:?}");
    let text = invited.stdout.trim_end().to_owned();
    assert!(
        text.starts_with("wontun1:") && text.len() < 200 && !text.contains(char::is_whitespace),
        "{text}"
    );
    let code: InvitationCode = text.parse().unwrap();
    assert!(server.text().contains("# Invitation = "));
    let listed = server.output(&["peer", "list"]);
    assert!(listed.lines().any(|line| line.contains("phone") && line.contains("invited")), "{listed}");
    server.fails(&["peer", "show", "phone", "--file"], 1, "is an invitation");
    server.fails(&["peer", "set", "phone", "--address", "10.8.0.9"], 1, "code has its address");

    // the one-time key reaches the responder, and nothing else, although all peers reach all
    let (finder, finder_daemon) = client(&lab, 3, &one_time_file(&code));
    eventually("the responder answers", || is_answered(&finder, code.address, code.responder));
    let elsewhere: SocketAddr = "10.8.0.1:5353".parse().unwrap();
    let listener = server.site.udp(elsewhere);
    listener.set_read_timeout(Some(ARRIVES)).unwrap();
    finder.udp(SocketAddr::new(code.address, 0)).send_to(b"x", elsewhere).unwrap();
    assert!(listener.recv(&mut [0]).is_err(), "another port of the server");
    assert!(!is_pinged(&finder, "10.8.0.1") && !is_pinged(&finder, "10.8.0.2"), "the server, the tablet");
    let phone = code.address.to_string();
    assert!(!is_pinged(&tablet, &phone) && !is_pinged(&server.site, &phone), "it is reached itself");
    // nor is the responder reached from outside of the tunnel
    let outside = lab.host(1);
    outside.ip(&["address", "add", &format!("{phone}/32"), "dev", "lo"]);
    outside.ip(&["route", "add", "10.8.0.1", "via", &lab.host(0).v4.to_string()]);
    assert!(!is_answered(outside, code.address, code.responder), "with the invitation's address");
    outside.ip(&["route", "delete", "10.8.0.1"]);
    outside.ip(&["address", "delete", &format!("{phone}/32"), "dev", "lo"]);
    assert!(finder_daemon.stop().status.success());

    // the server is restarted, the responder too, and the device makes its own key
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&options);
    let responder = helper(daemon.pid(), "wontun-enroll");
    eventually("the responder is confined", || {
        thread_states(responder).iter().all(|state| state["Seccomp"] == "2")
    });
    has_no_capability(responder);
    kill(responder, Signal::SIGKILL).unwrap();
    daemon.wait_for("the process that enrols devices ended: starting it again");
    let device = Site::new(&lab, 1);
    let (enrolled, path) = enroll(&device, &text, "10");
    assert_eq!(enrolled.code(), 0, "{enrolled:?}");
    daemon.wait_for("a device was enrolled");
    let file = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!((value(&file, "Address"), value(&file, "MTU")), ("10.8.0.3/32", "1380"), "{file}");
    assert!(!file.contains(&*code.secret.private_key().to_base64()), "{file}");
    assert!(!server.text().contains("Invitation") && server.text().contains("# Allow = server, tablet\n"));
    let one_time = code.secret.private_key().public_key().to_string();
    assert!(!server.site.wg(&["show", "tun0", "peers"]).contains(&one_time), "the one-time key");
    let _phone = device.launch(Path::new(BINARY), &["--config", path.to_str().unwrap()]).spawn();
    device.ping(SERVER);
    device.ping([10, 8, 0, 2]);

    // once
    let other = Site::new(&lab, 3);
    let (again, path) = enroll(&other, &text, "0.7");
    assert!(again.code() == 1 && again.stderr.contains("the code was used before"), "{again:?}");
    assert!(!path.exists());
    device.ping(SERVER);
    assert_eq!(daemon.count("the process that edits the file for invitations ended"), 0);
}

#[test]
fn an_invitation_ends_by_the_clock_or_a_command_and_is_refused_where_nobody_enforces_it() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let address = lab.host(0).v4.to_string();
    server.output(&["init", "--endpoint", &address]);
    // while the server does not run
    let invited = server.run(&["peer", "invite", "tv"]);
    assert!(invited.code() == 0 && invited.stderr.contains("is not running"), "{invited:?}");
    // without a responder, invitations have no access
    let daemon = server.serve(&[]);
    daemon.wait_for("peers without access: tv (invited");
    server.fails(&["peer", "invite", "phone"], 1, "wontun serve --invitations");
    assert!(daemon.stop().status.success());

    let daemon = server.serve(&["--invitations"]);
    let key = server.key_of("tv");
    assert!(server.site.wg(&["show", "tun0", "peers"]).contains(&key));
    server.output(&["peer", "remove", "tv"]);
    assert!(!server.site.wg(&["show", "tun0", "peers"]).contains(&key));
    let code = server.output(&["peer", "invite", "phone", "--valid", "3s"]);
    daemon.wait_for("expired phone");
    eventually("the file has no invitation", || !server.text().contains("phone"));
    let device = Site::new(&lab, 1);
    let (late, _) = enroll(&device, &code, "1");
    assert!(late.code() == 1 && late.stderr.contains("the code has expired"), "{late:?}");
    for (wrong, expected) in
        [(&code[..60], "incomplete"), ("wontun9:AAAA", "version 9"), ("", "no invitation code")]
    {
        let (refused, _) = enroll(&device, wrong, "1");
        assert!(refused.code() == 2 && refused.stderr.contains(expected), "{refused:?}");
    }
    assert!(daemon.stop().status.success());

    // a kernel without nf_tables: its rules cannot be enforced, so it has no access
    server.output(&["peer", "invite", "phone"]);
    let arguments = ["serve", "--dir", server.dir.to_str().unwrap(), "--invitations"];
    let refuse = no_nftables::refuse(&server.site, &arguments, |places| places.nth(3));
    let daemon = server.site.launch(Path::new(BINARY), &arguments).wrap(&refuse).spawn();
    daemon.wait_for("cannot enforce the rules of the peers: 1 peers with rules are not served");
    daemon.wait_for(" ready mode=");
    assert_eq!(server.site.wg(&["show", "tun0", "peers"]), "");
}
