//! A running server, and clients that use the files that it printed for them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use nix::sys::signal::Signal;

use super::server::{Server, addresses, client, value, while_pings_are_answered};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::site::Site;
use crate::wireguard::wg_quick_tool::wg_quick;

/// The server's inner address.
const SERVER: [u8; 4] = [10, 8, 0, 1];

/// Returns `wg`'s line about the peer `name`: endpoint, networks, latest handshake and so on.
fn live(server: &Server, name: &str) -> Option<String> {
    let dump = server.site.wg(&["show", "tun0", "dump"]);
    let key = server.key_of(name);
    dump.lines().find(|line| line.starts_with(&key)).map(str::to_owned)
}

fn handshake(server: &Server, name: &str) -> String {
    live(server, name).unwrap().split('\t').nth(4).unwrap().to_owned()
}

#[test]
fn from_an_empty_folder_to_two_clients() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    daemon.wait_for("wontun: created ");
    let added = server.run(&["peer", "add", "phone"]);
    assert_eq!((added.code(), added.stderr.as_str()), (0, ""), "{added:?}");
    let (phone, _phone) = client(&lab, 1, &added.stdout);
    phone.ping(SERVER);
    let v6 = server.read().configuration().interface.addresses[1].address();
    phone.ping(v6);
    assert!(
        server
            .output(&["peer", "list"])
            .lines()
            .any(|line| line.starts_with("phone ") && !line.contains("never"))
    );
    assert!(server.output(&["peer", "show", "phone"]).contains("endpoint: 192.0.2.2:"));

    // another peer is added, renamed and removed: the first one's session and packet stream
    // continue
    let before = handshake(&server, "phone");
    let (tablet, _tablet, text) = while_pings_are_answered(&phone, || {
        let text = server.output(&["peer", "add", "tablet"]);
        let (tablet, daemon) = client(&lab, 2, &text);
        tablet.ping(SERVER);
        server.output(&["peer", "rename", "tablet", "pad"]);
        server.output(&["peer", "add", "third"]);
        server.output(&["peer", "remove", "third"]);
        (tablet, daemon, text)
    });
    assert_eq!(handshake(&server, "phone"), before);
    assert_eq!(daemon.count("changed the listen port"), 0);

    // each reaches the other
    for address in addresses(&text) {
        phone.ping(address);
    }

    // reading the file again changes nothing
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    assert_eq!(handshake(&server, "phone"), before);
    phone.ping(SERVER);

    // a removed peer is cut off at once, and nobody else
    server.output(&["peer", "remove", "pad"]);
    assert!(!tablet.ping_once(SERVER, 56), "a peer that was removed is answered");
    phone.ping(SERVER);
    assert_eq!(handshake(&server, "phone"), before);

    // the same server after a restart
    let key = server.read().public_key().to_string();
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    assert_eq!(daemon.count("wontun: created "), 0);
    assert_eq!(server.site.wg(&["show", "tun0", "public-key"]).trim(), key);
    phone.ping(SERVER);
}

#[test]
fn a_peer_that_was_added_before_connects_once_it_runs() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    server.output(&["init", "--endpoint", &lab.host(0).v4.to_string(), "--subnet", "10.8.0.0/24"]);
    let added = server.run(&["peer", "add", "phone", "--full-tunnel", "--dns", "none"]);
    assert!(added.code() == 0 && added.stderr.contains("'phone' can connect once it does"), "{added:?}");
    assert!(!added.stdout.contains("DNS ="), "{}", added.stdout);
    let _daemon = server.serve(&[]);
    let (phone, _phone) = client(&lab, 1, &added.stdout);
    phone.ping(SERVER);
}

/// Returns the user, group and mode of the server's file.
fn owner_and_mode(server: &Server) -> (u32, u32, u32) {
    let file = std::fs::metadata(server.file()).unwrap();
    (file.uid(), file.gid(), file.mode() & 0o7777)
}

#[test]
fn a_new_file_of_roots_is_the_folders_owners() {
    let server = Server::alone();
    std::fs::create_dir(&server.dir).unwrap();
    std::os::unix::fs::chown(&server.dir, Some(65534), Some(65533)).unwrap();
    server.output(&["init", "--endpoint", "192.0.2.1"]);
    assert_eq!(owner_and_mode(&server), (65534, 65533, 0o600));
}

/// As with systemd's LoadCredential=: a directory that the service may read and not change, whose
/// files' modes show the mask of an access list. Root's commands find the key at the path that the
/// file names.
#[test]
fn a_servers_key_may_be_a_credential() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let credentials = server.site.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let key = server.site.write("credentials/private-key", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o440)).unwrap();
    let launch = server.launch(&["--endpoint", "192.0.2.1"]);
    let launch = launch.env("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    let daemon = launch.env("WONTUN_PRIVATE_KEY_FILE", key.to_str().unwrap()).spawn();
    daemon.wait_for(" ready mode=");
    assert_eq!(daemon.count("lets others read"), 0, "{:?}", daemon.lines());
    assert!(
        server.text().contains(&format!("PrivateKeyFile = {}\n", key.display()))
            && !server.text().contains("dwdtCn")
    );
    let text = server.output(&["peer", "add", "phone"]);
    assert_eq!(value(&text, "PublicKey"), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    let (phone, _phone) = client(&lab, 1, &text);
    phone.ping(SERVER);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    phone.ping(SERVER);
    for path in ["", "a#b", " key", "two\nlines"] {
        let run = server.run(&["init", "--private-key-file", path]);
        assert!(run.code() == 2 && run.stderr.contains("--private-key-file"), "{path:?}: {run:?}");
    }
}

/// The tunnel and its directory belong to another user, as with systemd's DynamicUser and
/// StateDirectory; root changes peers.
#[test]
fn root_changes_the_peers_of_a_tunnel_of_another_user() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let (daemon, _) = server.serve_as_nobody();
    let added = server.run(&["peer", "add", "phone"]);
    assert_eq!((added.code(), added.stderr.as_str()), (0, ""), "{added:?}");
    assert_eq!(owner_and_mode(&server), (65534, 65534, 0o600));
    std::fs::set_permissions(server.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    server.output(&["peer", "add", "tablet"]);
    server.output(&["peer", "rename", "tablet", "pad"]);
    assert_eq!(owner_and_mode(&server), (65534, 65534, 0o640));
    let (phone, _phone) = client(&lab, 1, &added.stdout);
    phone.ping(SERVER);
    // the tunnel can read it again
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    server.output(&["peer", "remove", "phone"]);
    assert!(!phone.ping_once(SERVER, 56), "a peer that was removed is answered");
}

#[test]
fn a_tunnel_of_the_same_name_with_another_key_is_left_alone() {
    let lab = Arc::new(Lab::new(1));
    let server = Server::new(&lab, 0);
    let _daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    let shown = server.site.wg(&["showconf", "tun0"]);
    let other = Server { dir: server.site.path().join("other"), site: Arc::clone(&server.site) };
    other.output(&["init", "--endpoint", "192.0.2.1", "--subnet", "10.9.0.0/24"]);
    for args in [["peer", "add", "phone"], ["peer", "remove", "phone"]] {
        let run = other.run(&args);
        assert!(run.code() == 0 && run.stderr.contains("tunnel tun0 of "), "{run:?}");
    }
    assert_eq!(server.site.wg(&["showconf", "tun0"]), shown);
}

/// The client's file is printed all the same: its key exists nowhere else.
#[test]
fn a_tunnel_that_hangs_is_told_of_and_the_peer_is_in_the_file() {
    let lab = Arc::new(Lab::new(1));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    daemon.signal(Signal::SIGSTOP);
    let run = server.run(&["peer", "add", "phone"]);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(run.code(), 1, "{run:?}");
    assert!(run.stderr.contains("was changed, but the running tunnel was not"), "{run:?}");
    assert!(run.stdout.contains("PrivateKey = "), "{run:?}");
    daemon.signal(Signal::SIGHUP);
    eventually("the peer comes with the file", || live(&server, "phone").is_some());
}

#[test]
fn without_ipv6_all_goes_over_ipv4() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    server.site.shell("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    daemon.wait_for("IPv6 is disabled on tun0");
    let text = server.output(&["peer", "add", "phone"]);
    let (phone, _phone) = client(&lab, 1, &text);
    phone.ping(SERVER);
}

#[test]
fn a_server_that_is_reached_over_ipv6_only() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    server.site.ip(&["address", "flush", "dev", "eth0", "scope", "global"]);
    server.site.ip(&["address", "add", &format!("{}/64", lab.host(0).v6), "dev", "eth0", "nodad"]);
    let _daemon = server.serve(&["--endpoint", &lab.host(0).v6.to_string(), "--subnet", "fd77::/64"]);
    let text = server.output(&["peer", "add", "phone"]);
    assert_eq!(value(&text, "Endpoint"), "[2001:db8::1]:51820");
    let (phone, _phone) = client(&lab, 1, &text);
    phone.ping([0xfd77, 0, 0, 0, 0, 0, 0, 1]);
}

/// wg-quick with wontun as its user space implementation: a file name that looks like a command is
/// treated as a name.
#[test]
fn wg_quick_brings_a_client_up() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let _daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    let site = Site::new(&lab, 1);
    let file = site.write("server.conf", &server.output(&["peer", "add", "phone"]));
    let up = wg_quick(&site, Implementation::Wontun, "up", &file);
    assert!(up.status.success(), "{up:?}");
    site.ping(SERVER);
    let said = finish(site.command(BINARY).args(["servers"]), TIMEOUT);
    assert!(said.code() == 2 && said.stderr.contains("did you mean 'serve'"), "{said:?}");
}
