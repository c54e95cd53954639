//! The control socket as `wg(8)` uses it. The requests received and the output are compared with
//! the arguments of `wg`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, SockAddr, Socket, Type};
use wontun::net::random::SystemRandom;
use wontun::uapi::{UapiError, UapiListener};
use wontun_proto::wireguard::PrivateKey;

use crate::mounts::Folder;
use crate::uapi_server::{End, Server, with_own_run};
use crate::waiting::{Finished, SetAtEnd, TIMEOUT, finish, succeed, uninterrupted};

const SOCKET: &str = "/var/run/wireguard/wt0.sock";
/// Environment variable that tells [`a_live_socket_outside_of_our_pid_namespace_is_refused`] that
/// it runs inside.
const INSIDE: &str = "E2E_UAPI_INSIDE";

const PRIVATE: &str = "6EtabScXwQA6E7QxVwNT26ypFGzxUMX4V1aA/rpSAno=";
const PRESHARED: &str = "GIUVCT6VL18i6GXO8wEucvi18LWYrAMJ1drM47cPz1I=";
const ALICE: &str = "uFmW/sycfx/G0lcqdu2hHVm80gvo5UOxXOS9hajnWjM=";
const BOB: &str = "WEAuaVuhdyscyTCXVfBDJR6nf9zxD75jmJzrfhkyE3Y=";

fn wg_command(arguments: &[&str]) -> Command {
    let mut command = Command::new("wg");
    command.args(arguments).env_remove("WG_HIDE_KEYS");
    command
}

fn wg(arguments: &[&str]) -> String {
    succeed(&mut wg_command(arguments))
}

fn wg_fails(arguments: &[&str]) -> String {
    let finished: Finished = finish(&mut wg_command(arguments), TIMEOUT);
    assert_eq!(finished.code(), 1, "{arguments:?}: {finished:?}");
    finished.stderr
}

fn dump() -> Vec<Vec<String>> {
    wg(&["show", "wt0", "dump"]).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn own_public_key() -> String {
    PRIVATE.parse::<PrivateKey>().unwrap().public_key().to_string()
}

#[test]
fn what_wg_sets_arrives_and_what_it_shows_is_the_same() {
    with_own_run(|| {
        let folder = Folder::new();
        let private = folder.write("private", PRIVATE);
        let preshared = folder.write("preshared", PRESHARED);
        let server = Server::new("wt0", None);
        assert!(server.warning.is_none(), "{:?}", server.warning);
        assert_eq!(dump(), [["(none)", "(none)", "0", "off"]]);

        wg(&[
            "set",
            "wt0",
            "listen-port",
            "51820",
            "fwmark",
            "0xca6c",
            "private-key",
            private.to_str().unwrap(),
        ]);
        let alice = ["peer", ALICE, "preshared-key", preshared.to_str().unwrap()];
        let alice_too = ["endpoint", "192.0.2.1:7", "persistent-keepalive", "25"];
        let networks = ["allowed-ips", "10.1.2.3/16,::/0,192.0.2.7/32"];
        wg(&[&["set", "wt0"][..], &alice, &alice_too, &networks].concat());
        wg(&["set", "wt0", "peer", BOB, "endpoint", "[fe80::1%lo]:65535", "allowed-ips", "10.2.0.0/16"]);
        {
            let mut state = server.state();
            assert_eq!(state.changes.len(), 3);
            assert!(state.changes[1].peers[0].replace_allowed_ips && !state.changes[1].replace_peers);
            let peer = &mut state.model.peers[0];
            peer.last_handshake = Duration::new(1_600_000_000, 999_999_999);
            peer.transfer = (u64::MAX, 1 << 40);
        }
        assert_eq!(
            dump(),
            [
                vec![PRIVATE, &own_public_key(), "51820", "0xca6c"],
                vec![
                    ALICE,
                    PRESHARED,
                    "192.0.2.1:7",
                    "10.1.0.0/16,::/0,192.0.2.7/32",
                    "1600000000",
                    "1099511627776",
                    "18446744073709551615",
                    "25",
                ],
                vec![BOB, "(none)", "[fe80::1%lo]:65535", "10.2.0.0/16", "0", "0", "0", "off"],
            ]
        );

        // each test removes its own state again
        wg(&["set", "wt0", "private-key", "/dev/null", "fwmark", "off", "listen-port", "0"]);
        wg(&["set", "wt0", "peer", ALICE, "preshared-key", "/dev/null", "persistent-keepalive", "off"]);
        wg(&["set", "wt0", "peer", BOB, "allowed-ips", "::/0"]);
        let dumped = dump();
        assert_eq!(dumped[0], ["(none)", "(none)", "0", "off"]);
        assert_eq!(dumped[1][1..4], ["(none)", "192.0.2.1:7", "10.1.0.0/16,192.0.2.7/32"]);
        assert_eq!((dumped[1][7].as_str(), dumped[2][3].as_str()), ("off", "::/0"));
        wg(&["set", "wt0", "peer", ALICE, "remove"]);
        assert_eq!(wg(&["show", "wt0", "peers"]), format!("{BOB}\n"));
        assert!(server.state().refused.is_empty());
    });
}

#[test]
fn wg_lists_it_and_prints_it_for_people() {
    with_own_run(|| {
        let server = Server::new("wt0", None);
        wg(&["set", "wt0", "peer", ALICE, "allowed-ips", "10.0.0.0/8", "persistent-keepalive", "25"]);
        assert_eq!(wg(&["show", "interfaces"]), "wt0\n");
        let shown = wg(&["show"]);
        for line in
            ["interface: wt0", &format!("peer: {ALICE}"), "allowed ips: 10.0.0.0/8", "every 25 seconds"]
        {
            assert!(shown.contains(line), "{shown}");
        }
        drop(server);
        assert_eq!(wg(&["show", "interfaces"]), "");
        assert!(!Path::new(SOCKET).exists());
    });
}

fn show_configuration() -> String {
    wg(&["showconf", "wt0"]).trim_end().to_owned()
}

fn configuration(peers: &str) -> String {
    format!("[Interface]\nListenPort = 51820\nFwMark = 0x51\nPrivateKey = {PRIVATE}\n\n{peers}")
}

fn section(key: &str, rest: &str) -> String {
    format!("[Peer]\nPublicKey = {key}\n{rest}\n")
}

#[test]
fn configurations_are_set_synchronised_and_shown() {
    with_own_run(|| {
        let folder = Folder::new();
        let server = Server::new("wt0", None);
        let load = |command: &str, text: &str| {
            let file = folder.write("wt0.conf", text);
            wg(&[command, "wt0", file.to_str().unwrap()]);
        };
        let alice = section(
            ALICE,
            &format!(
                "PresharedKey = {PRESHARED}\nAllowedIPs = 10.1.0.0/16, fd00::/64\nEndpoint = 192.0.2.1:7\nPersistentKeepalive = 5\n"
            ),
        );
        let bob = section(BOB, "AllowedIPs = 10.2.0.0/16\nEndpoint = [2001:db8::1]:7\n");
        let both = configuration(&format!("{alice}{bob}"));
        load("setconf", &both);
        assert_eq!(show_configuration(), both.trim_end());
        // its output is valid input
        let shown = show_configuration();
        load("setconf", &shown);
        assert_eq!(show_configuration(), both.trim_end());
        assert!(server.state().changes.iter().all(|changes| changes.replace_peers));

        // only differences: Alice is unchanged, Bob is removed
        server.state().model.peers[0].last_handshake = Duration::from_secs(1_600_000_000);
        let only_alice = configuration(&alice);
        load("syncconf", &only_alice);
        assert_eq!(show_configuration(), only_alice.trim_end());
        assert_eq!(dump()[1][4], "1600000000", "Alice was replaced");
        {
            let state = server.state();
            let changes = state.changes.last().unwrap();
            assert!(!changes.replace_peers);
            let removed: Vec<_> = changes.peers.iter().filter(|peer| peer.remove).collect();
            assert_eq!(removed.len(), 1);
            assert_eq!(removed[0].public_key.to_string(), BOB);
        }
        load("addconf", &section(BOB, "AllowedIPs = 10.3.0.0/16\n"));
        assert_eq!(dump()[2][3], "10.3.0.0/16");
        assert!(server.state().refused.is_empty());
    });
}

#[test]
fn errors_reach_wg_as_what_they_are() {
    with_own_run(|| {
        let server = Server::new("wt0", None);
        for (errno, message) in [
            (-98, "Address already in use"),
            (-22, "Invalid argument"),
            (-71, "Protocol error"),
            (-5, "Input/output"),
        ] {
            server.state().errno = Some(errno);
            let printed = wg_fails(&["set", "wt0", "listen-port", "1"]);
            assert!(printed.contains(message), "{printed}");
        }
        server.state().errno = None;
        wg(&["set", "wt0", "listen-port", "1"]);

        // requests that wg would never send, none of which has an effect
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream.write_all(b"set=1\nlisten_port=2\nfwmark=x\n\nget=1\n\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "errno=-22\n\nlisten_port=1\nerrno=0\n\n");
        assert_eq!(server.state().refused.len(), 1);
    });
}

#[test]
fn a_hundred_thousand_networks_go_in_and_come_out() {
    const NETWORKS: u32 = 100_000;
    with_own_run(|| {
        let folder = Folder::new();
        let _server = Server::new("wt0", None);
        let networks: Vec<_> = (0..NETWORKS)
            .map(|number| format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + number)))
            .collect();
        let text = configuration(&section(ALICE, &format!("AllowedIPs = {}\n", networks.join(", "))));
        let file = folder.write("wt0.conf", &text);
        wg(&["setconf", "wt0", file.to_str().unwrap()]);
        assert!(show_configuration() == text.trim_end(), "what comes out is not what went in");
    });
}

/// The loop that answers has one thread.
#[test]
fn those_who_say_nothing_and_those_who_read_nothing_hold_nobody_up() {
    with_own_run(|| {
        let server = Server::new("wt0", None);
        let networks: Vec<_> =
            (0..20_000_u32).map(|n| format!("{}/32", std::net::Ipv4Addr::from(n))).collect();
        let folder = Folder::new();
        let text = section(ALICE, &format!("AllowedIPs = {}\n", networks.join(",")));
        wg(&["setconf", "wt0", folder.write("wt0.conf", &text).to_str().unwrap()]);

        let mut silent = UnixStream::connect(SOCKET).unwrap();
        silent.write_all(b"set=1\nlisten_po").unwrap();
        let mut deaf = UnixStream::connect(SOCKET).unwrap();
        deaf.write_all(&b"get=1\n\n".repeat(100)).unwrap();
        // more of both kinds than are kept; the two above are the first to be closed
        for _ in 0..40 {
            assert_eq!(wg(&["show", "wt0", "listen-port"]), "0\n");
        }
        let crowd: Vec<_> = (0..40).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
        assert_eq!(wg(&["show", "wt0", "listen-port"]), "0\n");
        drop(crowd);
        assert_eq!(uninterrupted(|| silent.read(&mut [0; 1])).unwrap(), 0);
        assert_eq!(server.state().changes.len(), 1);
    });
}

#[test]
fn only_its_owner_may_use_it() {
    with_own_run(|| {
        let _server = Server::new("wt0", None);
        assert_eq!(fs::metadata(SOCKET).unwrap().mode() & 0o7777, 0o600);
        let folder = fs::metadata("/run/wireguard").unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.uid()), (0o755, 0));
        let show_as = |user| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--clear-groups", "wg", "show", "wt0"]);
            finish(&mut command, TIMEOUT)
        };
        // without capabilities of its own, only the mode decides
        assert_eq!(show_as("0").code(), 0);
        assert_eq!(show_as("65534").code(), 1);
    });
}

#[test]
fn removing_the_socket_ends_the_tunnel() {
    with_own_run(|| {
        let server = Server::new("wt0", None);
        wg(&["show", "wt0"]);
        succeed(Command::new("rm").args(["-f", SOCKET]));
        assert_eq!(server.wait(), End::Removed);
    });
}

/// `wg` removes a socket that refuses connections: while one is created, none that refuses may be
/// found.
#[test]
fn wg_never_meets_a_socket_that_does_not_listen() {
    with_own_run(|| {
        let (done, looks) = (&AtomicBool::new(false), [const { AtomicU32::new(0) }; 2]);
        fs::create_dir("/run/wireguard").unwrap();
        std::thread::scope(|scope| {
            let _end = SetAtEnd(done);
            let lookers: Vec<_> = looks
                .iter()
                .map(|looks| {
                    scope.spawn(move || {
                        let mut refusals = 0;
                        let file = || fs::metadata(SOCKET).map(|file| file.ino()).ok();
                        while !done.load(Ordering::Relaxed) {
                            looks.fetch_add(1, Ordering::Relaxed);
                            let before = file();
                            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
                            let refused = socket
                                .connect(&SockAddr::unix(SOCKET).unwrap())
                                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
                            // a socket that was closed in between has been removed before
                            refusals += u32::from(refused && before.is_some() && before == file());
                        }
                        refusals
                    })
                })
                .collect();
            let (start, mut opened) = (Instant::now(), 0);
            let have_looked = || looks.iter().all(|looks| looks.load(Ordering::Relaxed) > 300);
            while opened < 300 || !have_looked() {
                assert!(start.elapsed() < 3 * TIMEOUT, "they looked {looks:?} times only");
                opened += 1;
                let (listener, _) = UapiListener::open(&"wt0".parse().unwrap(), None).unwrap();
                drop(listener);
            }
            done.store(true, Ordering::Relaxed);
            for looker in lookers {
                assert_eq!(looker.join().unwrap(), 0, "of {looks:?}");
            }
        });
    });
}

#[test]
fn a_live_socket_of_another_network_namespace_is_refused() {
    with_own_run(|| {
        let _server = Server::new("wt0", None);
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let error = UapiListener::open(&"wt0".parse().unwrap(), None).unwrap_err();
        let UapiError::InUse { pid, .. } = error else { panic!("{error}") };
        assert_eq!(pid, i32::try_from(std::process::id()).ok());
        wg(&["show", "wt0"]);
    });
}

#[test]
fn a_live_socket_outside_of_our_pid_namespace_is_refused() {
    if std::env::var_os(INSIDE).is_some() {
        let error = UapiListener::open(&"wt0".parse().unwrap(), None).unwrap_err();
        assert!(matches!(error, UapiError::InUse { pid: None, .. }), "{error}");
        println!("refused: {error}");
        return;
    }
    with_own_run(|| {
        let _server = Server::new("wt0", None);
        let itself = std::env::current_exe().unwrap();
        let mut inside = Command::new("unshare");
        inside.args(["--pid", "--fork", "--kill-child"]).arg(itself).env(INSIDE, "1");
        inside.args(["--exact", "--nocapture"]);
        inside.arg("uapi::a_live_socket_outside_of_our_pid_namespace_is_refused");
        let printed = succeed(&mut inside);
        assert!(printed.contains("refused: /var/run/wireguard/wt0.sock is in use by a process"), "{printed}");
    });
}

#[test]
fn without_a_place_where_wg_looks_there_is_one_beside_the_configuration_or_in_run_wontun() {
    with_own_run(|| {
        fs::create_dir("/run/wireguard").unwrap();
        let none: Option<&Path> = None;
        mount(Some("none"), "/run/wireguard", Some("tmpfs"), MsFlags::MS_RDONLY, none).unwrap();
        let folder = Folder::new();
        let status = |path: &Path| {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"status=1\n\n").unwrap();
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"version=");
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
        };
        for (config, path) in [
            (Some(folder.path()), folder.path().join("wt0.sock")),
            (Some(Path::new("/run/wireguard")), "/run/wontun/wt0.sock".into()),
            (None, "/run/wontun/wt0.sock".into()),
        ] {
            let server = Server::new("wt0", config);
            let warning = server.warning.as_ref().unwrap().to_string();
            assert!(warning.contains("Read-only file system"), "{warning}");
            assert!(warning.contains(path.to_str().unwrap()), "{warning}");
            status(&path);
            drop(server);
            assert!(!path.exists());
        }
    });
}

#[test]
fn keys_are_what_wg_makes_of_them() {
    let mut random = SystemRandom::open().unwrap();
    for _ in 0..8 {
        let ours = PrivateKey::generate(&mut random);
        let theirs = wg(&["genkey"]).trim_end().parse::<PrivateKey>().unwrap();
        for key in [ours, theirs] {
            let script = format!("echo {} | wg pubkey", *key.to_base64());
            let public = succeed(Command::new("sh").args(["-c", &script]));
            assert_eq!(public.trim_end(), key.public_key().to_string());
        }
    }
}
