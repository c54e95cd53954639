//! The tun device belongs to the tunnel: no process without a capability gets a queue of it at any
//! time, although everybody may open `/dev/net/tun`.

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::{Daemon, Launch};
use crate::lab::{Host, Lab};
use crate::mounts::{BINARY, Folder, OPEN_TUN_NODE};
use crate::tunnel::{CLIENT_V4, DEVICE, Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{TIMEOUT, eventually, finish, succeed};
use crate::wireguard::settings::Keys;
use crate::wireguard::site::Site;

const UNPRIVILEGED: &str =
    "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all --bounding-set -all --no-new-privs";
/// Flows of the host, each of which the kernel assigns to one of the device's queues.
const FLOWS: u16 = 400;

/// Returns a wrapper under which each ioctl takes 50 ms longer, and the thread that sets the owner
/// cannot be started for the first `devices` new devices: this extends the time in which such a
/// device has no owner. Helpers, which have threads too, are not affected.
fn slow_ioctls(devices: u32) -> String {
    let threads = if devices > 0 {
        format!("-e inject=clone3:error=EAGAIN:when=1..{devices}")
    } else {
        "-f".to_owned()
    };
    format!(
        "strace -D -qq -e signal=none -e trace=ioctl,clone3 -e inject=ioctl:delay_exit=50000 {threads} \
         -o /dev/null --"
    )
}

/// Number of new devices that are made before giving up.
const ATTEMPTS: u32 = 64;

/// The attackers' program.
struct Attacker {
    folder: Folder,
    program: PathBuf,
}

impl Attacker {
    fn new() -> Self {
        let folder = Folder::new();
        let source = folder.write("tun_attacker.c", include_str!("tun_attacker.c"));
        let program = folder.path().join("tun_attacker");
        succeed(Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(&source));
        Self { folder, program }
    }

    /// Starts one on `host`, where everybody may open the node.
    fn start(&self, host: &Host, args: &[&str]) -> Daemon {
        assert!(self.program.starts_with(self.folder.path()));
        Launch::new(host, args).binary(&self.program).prepare(OPEN_TUN_NODE).wrap(UNPRIVILEGED).spawn()
    }

    /// Starts attempts to attach to `device`.
    fn join(&self, host: &Host, device: &str) -> Daemon {
        let attacker = self.start(host, &["join", device]);
        attacker.wait_for("trying");
        attacker
    }

    /// Attaches to `device` as root.
    fn join_as_root(&self, host: &Host, device: &str) -> Daemon {
        let launch = Launch::new(host, &["join", device]).binary(&self.program).prepare(OPEN_TUN_NODE);
        let attacker = launch.spawn();
        attacker.wait_for("attached");
        attacker
    }

    /// Attaches to new devices, `times` times, and does `deed`.
    fn watch(&self, host: &Host, deed: &str, times: &str) -> Daemon {
        let attacker = self.start(host, &["watch", deed, times]);
        attacker.wait_for("watching");
        attacker
    }
}

/// Returns the words of `ip -d link show` about the device.
fn described(host: &Host, device: &str) -> String {
    host.ip(&["-d", "-o", "link", "show", "dev", device])
}

/// Panics unless the device is root's, is deleted with its holder, and has only `queues` queues.
fn is_ours(host: &Host, device: &str, queues: usize) {
    let shown = described(host, device);
    assert!(shown.contains(" persist off user root"), "{shown}");
    if queues > 1 {
        assert!(shown.contains(&format!("numqueues {queues} numdisabled 0")), "{shown}");
    }
}

/// Sends flows from the server's host into the tunnel.
fn send_flows(tunnel: &Tunnel) {
    for _ in 0..FLOWS {
        let flow = tunnel.server_site.udp((SERVER_V4, 0));
        flow.send_to(b"in plain text", SocketAddr::from((CLIENT_V4, 9))).unwrap();
    }
}

fn tun_devices(host: &Host) -> Vec<String> {
    let shown = host.ip(&["-o", "link", "show", "type", "tun"]);
    shown.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

fn another_user_gets_no_packet(mode: Mode, args: &str, queues: usize) {
    let (lab, attacker) = (Arc::new(Lab::new(2)), Attacker::new());
    // before, during and after the start
    let early = attacker.join(lab.server(), DEVICE);
    let tunnel = Plan::new(mode).args(args).start_on(&lab);
    tunnel.client_site.ping(SERVER_V4);
    let late = attacker.join(lab.server(), DEVICE);
    for attacker in [&early, &late] {
        eventually("the attacker has its answer", || {
            attacker.count("refused") + attacker.count("attached") > 0
        });
    }
    send_flows(&tunnel);
    tunnel.client_site.ping(SERVER_V4);
    let read = early.count("read") + late.count("read");
    assert_eq!(read, 0, "{mode:?} {args}: another user's process read {read} of {FLOWS} packets");
    assert_eq!(early.count("attached") + late.count("attached"), 0, "{mode:?} {args}");
    is_ours(lab.server(), DEVICE, queues);
    assert!(tunnel.server.stop().status.success());
    assert_eq!(tun_devices(lab.server()), [""; 0], "the device goes with its holder");
    assert_eq!(early.count("attached") + late.count("attached"), 0, "{mode:?} {args}");
}

#[test]
fn no_other_user_gets_a_packet_of_a_device_of_many_queues() {
    another_user_gets_no_packet(Mode::Plain, "--offload auto --workers 2", 4);
    another_user_gets_no_packet(Mode::WireGuard, "--offload auto --workers 3", 6);
    another_user_gets_no_packet(Mode::WireGuard, "--offload auto --workers 1", 2);
}

#[test]
fn no_other_user_gets_a_packet_of_a_device_of_one_queue() {
    another_user_gets_no_packet(Mode::Plain, "--offload off --workers 2", 1);
}

/// Runs the program as wg-quick(8) starts it.
fn launch<'site>(site: &'site Site, wrapper: &str, args: &[&str]) -> Launch<'site> {
    let args = [&["-f", DEVICE, "--offload", "auto", "--workers", "2"], args].concat();
    site.launch(BINARY.as_ref(), &args).wrap(wrapper)
}

/// Checks an attacker that learns of each new device from the kernel and has attached before the
/// device had an owner.
fn an_attacker_was_first(deed: &str) {
    let (lab, attacker) = (Arc::new(Lab::new(1)), Attacker::new());
    let site = Site::new(&lab, 0);
    let first = attacker.watch(lab.server(), deed, "1");
    let tunnel = launch(&site, &slow_ioctls(1), &[]).spawn();
    tunnel.wait_for(" ready mode=");
    first.wait_for("attached");
    assert_eq!(tun_devices(lab.server()), ["tun0:"], "{deed}: of the device that it was in nothing is left");
    is_ours(lab.server(), DEVICE, 4);
    let again = first.count("again");
    lab.server().ip(&["link", "set", DEVICE, "up"]);
    let late = attacker.join(lab.server(), DEVICE);
    late.wait_for("refused");
    assert_eq!(first.count("again"), again, "{deed}: it came back");
    is_ours(lab.server(), DEVICE, 4);
    drop(tunnel);
    eventually("the device goes with its holder", || tun_devices(lab.server()).is_empty());
}

#[test]
fn an_attacker_that_stays_is_left_behind() {
    an_attacker_was_first("stay");
}

#[test]
fn an_attacker_that_hides_is_left_behind() {
    an_attacker_was_first("detach");
}

#[test]
fn an_attacker_that_makes_it_stay_is_left_behind() {
    an_attacker_was_first("persist");
}

#[test]
fn an_attacker_that_is_always_first_keeps_the_tunnel_down_and_is_told_of() {
    let (lab, attacker) = (Arc::new(Lab::new(1)), Attacker::new());
    let site = Site::new(&lab, 0);
    let first = attacker.watch(lab.server(), "stay", "1000");
    // 50 ms for each ioctl: 10 s on a machine with nothing else to do
    let run = launch(&site, &slow_ioctls(ATTEMPTS), &[]).run_within(Duration::from_secs(90));
    assert_eq!(run.code(), 69, "{run:?}");
    for word in ["tun0", "another process attaches", "fuser", "chmod 0600 /dev/net/tun"] {
        assert!(run.stderr.contains(word), "{word}: {run:?}");
    }
    assert!(first.count("attached") > 1);
    assert_eq!(tun_devices(lab.server()), [""; 0]);
}

/// A persistent device that its creator opened to everybody, or gave to another user: nobody gets a
/// queue of it once the tunnel starts.
#[test]
fn a_persistent_device_is_taken_over_and_closed_to_others() {
    let attacker = Attacker::new();
    for (given, workers, queues) in [
        (&["multi_queue"][..], "2", 4),
        (&["multi_queue", "user", "65534"], "1", 2),
        (&["multi_queue", "user", "65534", "group", "65534"], "2", 4),
        (&["group", "65534"], "2", 1),
    ] {
        let lab = Arc::new(Lab::new(2));
        lab.server().ip(&[&["tuntap", "add", DEVICE, "mode", "tun"], given].concat());
        let plan = Plan::new(Mode::WireGuard).args("--offload auto").args("--workers").args(workers);
        let tunnel = plan.start_on(&lab);
        let late = attacker.join(lab.server(), DEVICE);
        late.wait_for("refused");
        send_flows(&tunnel);
        tunnel.client_site.ping(SERVER_V4);
        assert_eq!(late.count("attached"), 0, "{given:?}");
        tunnel.server.wait_for("was accessible to other users");
        let shown = described(lab.server(), DEVICE);
        assert!(shown.contains(" persist on user root"), "{shown}");
        assert_eq!(shown.contains(" group root"), given.contains(&"group"), "{shown}");
        if queues > 1 {
            assert!(shown.contains(&format!("numqueues {queues} numdisabled 0")), "{shown}");
        }
        assert!(tunnel.server.stop().status.success());
        assert!(late.lines().iter().all(|line| !line.contains("attached")), "nor afterwards");
    }
}

#[test]
fn a_persistent_device_that_others_hold_is_refused() {
    let (lab, attacker) = (Arc::new(Lab::new(1)), Attacker::new());
    let site = Site::new(&lab, 0);
    for deed in ["stay", "detach"] {
        // before the tunnel
        let before = attacker.watch(lab.server(), deed, "1");
        lab.server().ip(&["tuntap", "add", DEVICE, "mode", "tun", "multi_queue"]);
        before.wait_for("attached");
        let run = launch(&site, "", &[]).run();
        assert_eq!(run.code(), 69, "{run:?}");
        assert!(run.stderr.contains("tun0 is in use by another process"), "{run:?}");
        drop(before);
        // in the moment before the device is owned; the kernel announces it if the device is up
        lab.server().ip(&["link", "set", DEVICE, "up"]);
        let meanwhile = attacker.watch(lab.server(), deed, "1");
        let run = launch(&site, &slow_ioctls(0), &[]).run();
        assert_eq!(run.code(), 69, "{run:?}");
        assert!(run.stderr.contains("tun0 is in use by another process"), "{run:?}");
        meanwhile.wait_for("attached");
        assert_eq!(meanwhile.count("attached"), 1);
        lab.server().ip(&["tuntap", "del", DEVICE, "mode", "tun", "multi_queue"]);
    }
}

#[test]
fn a_device_that_was_moved_keeps_its_owner() {
    let (lab, attacker) = (Arc::new(Lab::new(2)), Attacker::new());
    let site = Site::new(&lab, 0);
    let _tunnel = launch(&site, "", &[]).spawn();
    let early = attacker.join(lab.client(), DEVICE);
    eventually("the device is there", || tun_devices(lab.server()) == ["tun0:"]);
    lab.server().ip(&["link", "set", DEVICE, "netns", lab.client().name()]);
    early.wait_for("refused");
    let late = attacker.join(lab.client(), DEVICE);
    late.wait_for("refused");
    assert_eq!(early.count("attached") + late.count("attached"), 0);
    is_ours(lab.client(), DEVICE, 4);
}

/// If the user namespace has no root, the process's own user owns the device.
#[test]
fn in_a_user_namespace_without_root_its_own_user_owns_it() {
    let (lab, folder) = (Lab::new(1), Folder::new());
    let copy = folder.install(BINARY.as_ref(), None);
    let file = folder.write("tun0.conf", &format!("[Interface]\nPrivateKey = {}\n", Keys::new().private));
    chown(&file, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let inside = format!(
        "{} --config {} --offload auto --workers 2 2>&1 & \
         for i in $(seq 100); do ip -d -o link show {DEVICE} 2>&1 | grep ' persist off user ' && break; sleep 0.1; done; \
         kill $!; wait $!",
        copy.display(),
        file.display()
    );
    // user 61234 of the namespace is the host's 65534
    let script = format!(
        "{OPEN_TUN_NODE} exec {UNPRIVILEGED} unshare --user --map-user=61234 --map-group=61234 --keep-caps --net \
         sh -c \"$1\""
    );
    let mut command = lab.server().command("sh");
    let run = finish(command.args(["-ec", &script, "sh", &inside]), TIMEOUT);
    assert!(run.stdout.contains(" persist off user 61234"), "{run:?}");
}

/// Root may attach, and gets a share of the packets: this cannot be prevented, only reported.
#[test]
fn another_process_that_holds_a_queue_is_told_by_the_health() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--workers", "2"]);
    let health = || Launch::new(lab.server(), &["health", DEVICE]).run();
    assert_eq!(health().code(), 0);
    let attacker = Attacker::new().join_as_root(lab.server(), DEVICE);
    eventually("the health tells", || {
        let run = health();
        run.code() == 1 && run.stderr.contains("another process has attached to the device")
    });
    attacker.signal(nix::sys::signal::Signal::SIGKILL);
    attacker.wait_exit();
    eventually("and does not any more", || health().code() == 0);
    drop(server);
}
