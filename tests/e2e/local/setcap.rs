//! A binary with CAP_NET_ADMIN as a file capability (setcap) that every user may start: no user may
//! redirect the traffic of others. The user here is nobody, with no capability but the file's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder, OPEN_TUN_NODE};
use crate::waiting::Finished;
use crate::wireguard::settings::Keys;
use crate::wireguard::site::Site;

const NOBODY: u32 = 65_534;
const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";
/// An address beyond the host's default route.
const WORLD: &str = "203.0.113.9";

/// A host with a default route, the setcap binary, and a user with their own directory.
struct Stage {
    site: Site,
    binary: PathBuf,
    user: Folder,
    _binaries: Folder,
}

impl Stage {
    fn new() -> Self {
        let site = Site::new(&Arc::new(Lab::new(2)), 0);
        site.ip(&["route", "add", "default", "via", "192.0.2.2"]);
        site.shell(OPEN_TUN_NODE);
        let (binaries, user) = (Folder::new(), Folder::new());
        let binary = binaries.install(Path::new(BINARY), Some("cap_net_admin=ep"));
        chown(user.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        Self { site, binary, user, _binaries: binaries }
    }

    fn launch(&self, arguments: &[&str]) -> Launch<'_> {
        self.site.launch(&self.binary, arguments).wrap(AS_NOBODY)
    }

    /// Writes a file in the user's directory.
    fn write(&self, name: &str, text: &str, owner: u32, mode: u32) -> String {
        let path = self.user.write(name, text);
        chown(&path, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Returns this host's route to the Internet.
    fn route(&self) -> String {
        self.site.ip(&["route", "get", WORLD])
    }

    /// Panics unless the run failed for lack of permission, with one line that contains `part`, and
    /// redirected nothing.
    fn is_refused(&self, run: &Finished, part: &str) {
        assert_eq!(run.code(), 77, "{run:?}\n{}", self.route());
        let lines: Vec<_> = run.stderr.lines().collect();
        let [line] = lines.as_slice() else { panic!("one line expected: {run:?}") };
        assert!(line.contains("setcap") && line.contains(part), "no {part:?} in: {line}");
        assert!(!self.site.has_device("tun") && self.route().contains("dev eth0"), "{}", self.route());
    }
}

/// Returns a configuration of all of IPv4, to a host of the user's.
fn full_tunnel(key: &str) -> String {
    format!(
        "[Interface]\n{key}\nAddress = 10.9.0.2/32\n[Peer]\nPublicKey = {}\nEndpoint = 192.0.2.2:51820\n\
         AllowedIPs = 0.0.0.0/0\n",
        Keys::new().public
    )
}

fn inline() -> String {
    full_tunnel(&format!("PrivateKey = {}", Keys::new().private))
}

#[test]
fn a_user_does_not_lead_the_hosts_default_route_into_their_tunnel() {
    let stage = Stage::new();
    let text = inline();
    let own = stage.write("tun0.conf", &text, NOBODY, 0o600);
    stage.is_refused(&stage.launch(&["--config", &own]).run(), "tun0.conf");
    // as an environment gives it
    stage.is_refused(&stage.launch(&[]).env("WONTUN_CONFIG", &own).run(), "tun0.conf");
    // root's file, which others may write
    let shared = stage.write("tun1.conf", &text, 0, 0o646);
    stage.is_refused(&stage.launch(&["--config", &shared]).run(), "tun1.conf");
    // root's file by a path of the user's, from which the key's path is read
    let roots = Folder::new();
    let file = roots.write("roots.conf", &full_tunnel("PrivateKeyFile = key"));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    stage.write("key", &format!("{}\n", Keys::new().private), NOBODY, 0o600);
    let link = stage.user.path().join("tun2.conf");
    symlink(&file, &link).unwrap();
    stage.is_refused(&stage.launch(&["--config", link.to_str().unwrap()]).run(), "key");
    // a pipe is not trusted
    let pipe = stage.user.path().join("tun3.conf");
    stage.site.shell(&format!("mkfifo -m 666 {}", pipe.display()));
    let mut writer = stage.site.command("cp").arg(&own).arg(&pipe).spawn().unwrap();
    stage.is_refused(&stage.launch(&["--config", pipe.to_str().unwrap()]).run(), "tun3.conf");
    writer.wait().unwrap();
    // and a user's own server redirects its network and enables forwarding
    let dir = stage.user.path().join("etc");
    let serve = ["serve", "--dir", dir.to_str().unwrap(), "--endpoint", "192.0.2.1"];
    stage.is_refused(&stage.launch(&serve).run(), "serve");
    assert!(!dir.exists());
}

#[test]
fn roots_file_is_run_without_what_root_did_not_say() {
    let stage = Stage::new();
    let file = stage.write("tun0.conf", &inline(), 0, 0o644);
    for option in ["--nat=auto", "--kill-switch"] {
        stage
            .is_refused(&stage.launch(&["--config", &file, option]).run(), option.split('=').next().unwrap());
    }
    let daemon = stage.launch(&["--config", &file]).spawn();
    daemon.wait_for(" ready mode=");
    assert!(stage.route().contains("dev tun0"), "{}", stage.route());
    // The user, who owns the directory, replaces the file.
    let rules = stage.site.ip(&["rule"]);
    let other = stage.write("other", &inline().replace("10.9.0.2", "10.9.9.9"), NOBODY, 0o600);
    fs::rename(other, &file).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("cannot reload the configuration");
    let addresses = stage.site.ip(&["address", "show", "dev", "tun0"]);
    assert!(addresses.contains("10.9.0.2") && !addresses.contains("10.9.9.9"), "{addresses}");
    assert_eq!(stage.site.ip(&["rule"]), rules);
    assert_eq!(daemon.stop().status.code(), Some(0));
}

#[test]
fn a_user_does_not_take_a_kill_switch_away() {
    let stage = Stage::new();
    let file = stage.write("tun0.conf", &inline(), 0, 0o600);
    let root = stage.site.launch(Path::new(BINARY), &["--config", &file, "--kill-switch"]).spawn();
    root.wait_for(" ready mode=");
    root.signal(Signal::SIGKILL);
    root.wait_exit();
    let has_kill_switch = || stage.site.shell("nft list tables").contains("wontun-lock-tun0");
    assert!(has_kill_switch());
    for arguments in [&["unlock"][..], &["unlock", "tun0"]] {
        let run = stage.launch(arguments).run();
        assert!(has_kill_switch(), "{run:?}");
        stage.is_refused(&run, "kill-switch");
    }
}

#[test]
fn a_plain_tunnel_of_a_users_takes_only_addresses_that_lead_nothing_away() {
    let stage = Stage::new();
    stage.site.ip(&["address", "add", "10.20.0.1/16", "dev", "eth0"]);
    stage.site.ip(&["route", "add", "172.20.0.0/16", "via", "192.0.2.2"]);
    for (addresses, part) in [
        // a network of its own is a route, too: two of them cover all of IPv4
        ("0.0.0.1/1,128.0.0.1/1", "0.0.0.1/1"),
        ("203.0.113.1/24", "203.0.113.1/24"),
        ("2000::1/3", "2000::1/3"),
        // a resolver that many hosts use
        ("9.9.9.9/32", "9.9.9.9/32"),
        ("127.0.0.2/32", "127.0.0.2/32"),
        ("10.8.0.1/7", "10.8.0.1/7"),
        ("10.9.0.1/24,10.20.30.1/24", "10.20.0.0/16"),
        ("10.0.0.1/8", "10.20.0.0/16"),
        ("172.20.3.4/32", "172.20.0.0/16"),
    ] {
        stage.is_refused(&stage.launch(&["plain", "--address", addresses]).run(), part);
    }
    let daemon = stage.launch(&["plain", "--address", "10.9.0.1/24,fd00:9::1/64"]).spawn();
    daemon.wait_ready();
    assert_eq!(daemon.stop().status.code(), Some(0));
}

#[test]
fn a_device_of_somebody_elses_is_not_taken() {
    let stage = Stage::new();
    stage.site.ip(&["tuntap", "add", "vpn0", "mode", "tun"]);
    stage.site.ip(&["tuntap", "add", "vpn1", "mode", "tun", "user", "65534"]);
    let run = stage.launch(&["plain", "--tun", "vpn0"]).run();
    stage.is_refused(&run, "vpn0");
    let daemon = stage.launch(&["plain", "--tun", "vpn1"]).spawn();
    daemon.wait_ready();
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// Root has the capability anyway, and systemd gives it to a service: neither is refused anything.
#[test]
fn only_the_files_capability_is_bounded() {
    let stage = Stage::new();
    let own = stage.write("tun0.conf", &inline(), NOBODY, 0o600);
    let arguments = ["--config", own.as_str()];
    let is_run = |daemon: Daemon| {
        daemon.wait_for(" ready mode=");
        assert!(stage.route().contains("dev tun0"), "{}", stage.route());
        assert_eq!(daemon.stop().status.code(), Some(0));
    };
    is_run(stage.site.launch(&stage.binary, &arguments).spawn());
    let folder = Folder::new();
    let without = folder.install(Path::new(BINARY), None);
    let ambient = format!("{AS_NOBODY} --inh-caps +net_admin --ambient-caps +net_admin");
    is_run(stage.site.launch(&without, &arguments).wrap(&ambient).spawn());
}
