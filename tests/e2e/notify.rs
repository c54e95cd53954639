//! Messages to the service manager: a socket of the test's own simulates systemd.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::{Daemon, Launch};
use crate::descriptors::open_descriptors;
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::processes::{TUNNEL, thread_named};
use crate::streams::Connection;
use crate::waiting::{TIMEOUT, eventually, exit_within, holds_within, uninterrupted};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};

/// Time without a message after which a tunnel counts as silent.
const SILENCE: Duration = Duration::from_secs(3);

/// A simulated service manager with its socket.
struct ServiceManager {
    socket: UnixDatagram,
    address: String,
    _folder: Folder,
}

impl ServiceManager {
    /// Binds a path, as systemd does.
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::with(socket, path.to_str().unwrap().to_owned(), folder)
    }

    /// Binds an abstract name, which belongs to the network namespace.
    fn abstract_on(host: &Host) -> Self {
        let name = format!("wontun-e2e-{}", host.name());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = host.inside(|| UnixDatagram::bind_addr(&address).unwrap());
        Self::with(socket, format!("@{name}"), Folder::new())
    }

    fn with(socket: UnixDatagram, address: String, folder: Folder) -> Self {
        // systemd trusts the kernel's credentials, and only those of the main process
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        Self { socket, address, _folder: folder }
    }

    /// Returns the next message within `limit`, and its sender.
    fn try_receive(&self, limit: Duration) -> Option<(String, Pid)> {
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let receive = || {
            let mut bytes = [0; 4096];
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let mut control = nix::cmsg_space!(UnixCredentials);
            let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
            let received = recvmsg::<()>(socket, &mut slices, Some(&mut control), flags)?;
            let sender = received.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::ScmCredentials(credentials) => Some(Pid::from_raw(credentials.pid())),
                _ => None,
            });
            let length = received.bytes;
            Ok((String::from_utf8(bytes[..length].to_vec()).unwrap(), sender.unwrap()))
        };
        uninterrupted(receive).ok()
    }

    fn receive(&self) -> String {
        self.try_receive(TIMEOUT).expect("the service manager receives nothing").0
    }

    /// Returns the next message that is not a ping.
    fn receive_other(&self) -> String {
        loop {
            let message = self.receive();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    /// Waits for a message that contains `part`, and discards earlier ones.
    fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let message = self.receive();
            if message.contains(part) {
                return message;
            }
            assert!(Instant::now() < deadline, "no {part}, but {message}");
        }
    }

    /// Returns true if no message comes for `time`, within `limit`. Earlier messages are discarded.
    fn stops_sending(&self, time: Duration, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.try_receive(time).is_some() {
            if Instant::now() > deadline {
                return false;
            }
        }
        true
    }

    /// Returns the longest time between two of the next `count` pings.
    fn longest_gap(&self, count: usize) -> Duration {
        self.wait_for("WATCHDOG=1");
        let gaps = (0..count).map(|_| {
            let before = Instant::now();
            self.wait_for("WATCHDOG=1");
            before.elapsed()
        });
        gaps.max().unwrap()
    }
}

/// Makes `launch` a service of `manager`.
fn service<'host>(launch: Launch<'host>, manager: &ServiceManager) -> Launch<'host> {
    launch.env("NOTIFY_SOCKET", &manager.address)
}

/// Makes `launch` a service with WatchdogSec=, whose time applies to the process that systemd
/// started.
fn watched<'host>(launch: Launch<'host>, manager: &ServiceManager, time: Duration) -> Launch<'host> {
    service(launch, manager)
        .prepare("export WATCHDOG_PID=$$;")
        .env("WATCHDOG_USEC", &time.as_micros().to_string())
}

#[test]
fn ready_is_said_once_the_tunnel_is_there_and_stopping_at_its_end() {
    let lab = Lab::new(1);
    for manager in [ServiceManager::new(), ServiceManager::abstract_on(lab.server())] {
        let daemon = service(Launch::plain(lab.server(), &[]), &manager).spawn();
        let (first, sender) = manager.try_receive(TIMEOUT).unwrap();
        assert_eq!(first, "READY=1\nSTATUS=waiting for a client");
        assert_eq!(sender, daemon.pid(), "NotifyAccess=main");
        assert!(lab.server().ip(&["-4", "address", "show", "dev", "tun0", "up"]).contains("10.8.0.1/24"));
        assert_eq!(Launch::new(lab.server(), &["health"]).run().code(), 0);
        // without a watchdog and without events there is no message, and so no wake-up to be
        // observed
        assert!(manager.try_receive(SILENCE).is_none());
        assert_eq!(daemon.stop().status.code(), Some(0));
        assert_eq!(manager.receive(), "STOPPING=1\nSTATUS=stopping");
        assert!(manager.try_receive(Duration::ZERO).is_none());
    }
}

#[test]
fn what_does_not_start_is_never_ready() {
    let lab = Lab::new(1);
    let manager = ServiceManager::new();
    let _taken = lab.server().udp((lab.server().v4, 19988));
    let run = service(Launch::plain(lab.server(), &[]), &manager).run();
    assert_eq!(run.code(), 69, "{run:?}");
    assert!(manager.try_receive(Duration::ZERO).is_none());
}

#[test]
fn a_manager_that_is_not_there_costs_a_warning() {
    let lab = Lab::new(2);
    for (address, part) in [("/nowhere/notify", "/nowhere/notify"), ("vsock:2:1", "expected the path")] {
        let daemon = Launch::plain(lab.server(), &[]).env("NOTIFY_SOCKET", address).spawn();
        daemon.wait_ready();
        assert!(daemon.wait_for("WARN the service manager is not notified").contains(part));
        let _client = Daemon::client(lab.client(), lab.server(), &[]);
        lab.client().ping(INNER_SERVER);
    }
    // a manager that exits
    let manager = ServiceManager::new();
    let daemon = service(Launch::plain(lab.server(), &[]), &manager).spawn();
    manager.wait_for("READY=1");
    drop(manager);
    // a process that another test is about to start may have the socket for a moment
    eventually("the tunnel notices", || {
        daemon.signal(Signal::SIGHUP);
        daemon.count("no longer receives notifications") > 0
    });
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// None of the supervisor's helpers can send for it.
#[test]
fn no_helper_has_the_socket() {
    let lab = Lab::new(1);
    let manager = ServiceManager::new();
    let daemon = service(Launch::new(lab.server(), &["--peer", "name.invalid"]), &manager).spawn();
    manager.wait_for("READY=1");
    let processes = daemon.processes();
    let sockets = |pid: Pid| {
        // a descriptor may be closed meanwhile
        let links = open_descriptors(pid).into_iter();
        let links = links.filter_map(|number| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok());
        links.filter(|link| link.to_str().unwrap().starts_with("socket:")).collect::<Vec<PathBuf>>()
    };
    for child in [processes.resolver.expect("a resolver"), processes.nursery.expect("a nursery")] {
        // while it looks up a name it has a socket for that as well
        eventually("it has one socket, to talk to the supervisor", || sockets(child).len() == 1);
        for own in sockets(child) {
            assert!(!sockets(daemon.pid()).contains(&own), "the supervisor has {own:?} too");
        }
    }
    // in the kernel's list of unix sockets, only the service manager's is a datagram socket
    let list = lab.server().inside(|| std::fs::read_to_string("/proc/thread-self/net/unix")).unwrap();
    let datagrams: Vec<String> = list
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(4) == Some(&"0002")).then(|| format!("socket:[{}]", words[6]))
        })
        .collect();
    let of_datagrams = |pid: Pid| {
        let sockets = sockets(pid).into_iter();
        sockets.filter(|link| datagrams.contains(&link.to_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(of_datagrams(daemon.pid()).len(), 1, "{list}");
    assert_eq!(of_datagrams(processes.tunnel), [""; 0].map(PathBuf::from));
}

/// Starts a server from a file, as a service, and a client of it.
fn wireguard(manager: &ServiceManager) -> (Plan, Node, Node) {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &plan.server.wg_quick());
    let launch = site.launch(Path::new(crate::mounts::BINARY), &["--config", file.to_str().unwrap()]);
    let daemon = service(launch, manager).spawn();
    let implementation = Implementation::ConfigFile;
    let server = Node { daemon, site: Arc::clone(site), implementation, name: "wg0".to_owned() };
    let client = Node::start(&plan.client_site, Implementation::Wontun, &plan.client);
    (plan, server, client)
}

#[test]
fn a_reload_is_told_with_its_time_and_what_came_of_it() {
    let manager = ServiceManager::new();
    let (plan, server, _client) = wireguard(&manager);
    assert_eq!(manager.receive(), "READY=1\nSTATUS=0 of 1 peers connected, no handshake yet");
    let micros = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros();
    let reload = |text: &str| {
        server.site.write("wg0.conf", text);
        let before = micros();
        server.daemon.signal(Signal::SIGHUP);
        let reloading = manager.wait_for("RELOADING=1");
        let told = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
        assert!((before..=micros()).contains(&told), "not the time of this reload: {told}");
        let ready = manager.receive();
        ready.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("no READY=1: {ready}")).to_owned()
    };
    let good = plan.server.wg_quick();
    let said = reload(&good.replace("[Peer]", "[Pear]"));
    assert!(said.starts_with("reload failed: ") && said.contains("wg0.conf"), "{said}");
    assert!(said.ends_with("; 0 of 1 peers connected, no handshake yet") && !said.contains('\n'), "{said}");
    let said = reload(&good);
    assert_eq!(said, "0 of 1 peers connected, no handshake yet");
    let two = format!("{good}\n[Peer]\nPublicKey = {}\n", crate::wireguard::settings::Keys::new().public);
    assert_eq!(reload(&two), "0 of 2 peers connected, no handshake yet");
}

#[test]
fn the_status_follows_the_peers_and_the_device() {
    let manager = ServiceManager::new();
    let (_plan, _server, client) = wireguard(&manager);
    manager.wait_for("READY=1");
    client.ping(SERVER_V4);
    let said = manager.receive();
    assert_eq!(said, "STATUS=1 of 1 peers connected, last handshake less than a minute ago");
}

#[test]
fn the_status_follows_a_device_that_others_set_up_and_down() {
    let lab = Lab::new(1);
    let manager = ServiceManager::new();
    let _daemon = service(Launch::plain(lab.server(), &["--no-configure"]), &manager).spawn();
    assert_eq!(manager.receive(), "READY=1\nSTATUS=tun0 is down; waiting for a client");
    lab.server().ip(&["link", "set", "tun0", "up"]);
    assert_eq!(manager.receive(), "STATUS=waiting for a client");
}

/// Pings are sent at half of the watchdog's interval, whether the tunnel is busy or idle.
#[test]
fn the_watchdog_hears_an_idle_tunnel_and_a_busy_one() {
    let _heavy = crate::lab::heavy();
    let lab = Lab::new(2);
    let manager = ServiceManager::new();
    let time = Duration::from_secs(4);
    let server = watched(Launch::plain(lab.server(), &["--workers", "2"]), &manager, time).spawn();
    assert!(manager.receive().starts_with("READY=1\n"));
    assert_eq!(manager.receive(), "WATCHDOG=1", "the first at once");
    let gap = manager.longest_gap(3);
    assert!(gap < time && gap > time / 4, "idle: {gap:?}");
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connection = Connection::open(lab.server(), (INNER_SERVER, 80), lab.client());
        let ended = &ended;
        let stream = scope
            .spawn(move || connection.exchange_while(|_| !ended.load(std::sync::atomic::Ordering::Relaxed)));
        let end = crate::waiting::SetAtEnd(ended);
        let gap = manager.longest_gap(3);
        assert!(gap < time, "busy: {gap:?}");
        drop(end);
        let (up, down) = stream.join().unwrap();
        assert!(up > 1_000_000 && down > 1_000_000, "there was no load: {up}, {down}");
    });
    assert!(server.stop().status.success());
}

/// strace simulates a stuck worker: it delays one thread whenever that waits for events. It does
/// the same for the supervisor.
#[test]
fn a_worker_that_is_stuck_silences_the_watchdog() {
    let lab = Lab::new(1);
    for stuck in ["worker-1", TUNNEL, "wontun"] {
        let manager = ServiceManager::new();
        let time = Duration::from_secs(1);
        let server = watched(Launch::plain(lab.server(), &["--workers", "3"]), &manager, time).spawn();
        manager.wait_for("READY=1");
        manager.longest_gap(3);
        let pid = if stuck == "wontun" { server.pid() } else { server.tunnel_pid() };
        let task = thread_named(pid, stuck);
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "trace=epoll_wait,epoll_pwait,poll,ppoll"]);
        // far longer than the test waits
        strace.args(["-e", "inject=epoll_wait,epoll_pwait,poll,ppoll:delay_enter=600000000"]);
        strace.arg("-p").arg(task.file_name().unwrap());
        let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(manager.stops_sending(3 * time, TIMEOUT), "{stuck} is stuck, and the pings go on");
        // the released thread continues
        kill(Pid::from_raw(strace.id() as i32), Signal::SIGKILL).unwrap();
        assert!(exit_within(&mut strace, TIMEOUT).is_some());
        assert_eq!(manager.receive(), "WATCHDOG=1", "{stuck}");
        manager.longest_gap(2);
        assert!(server.stop().status.success());
    }
}

/// A stopped process, as one that hangs in the kernel: neither of the two may answer for the other.
#[test]
fn a_process_that_is_stopped_silences_the_watchdog() {
    let lab = Lab::new(1);
    let manager = ServiceManager::new();
    let time = Duration::from_secs(1);
    let server = watched(Launch::plain(lab.server(), &["--workers", "2"]), &manager, time).spawn();
    manager.wait_for("READY=1");
    for stopped in [server.tunnel_pid(), server.pid()] {
        manager.longest_gap(2);
        kill(stopped, Signal::SIGSTOP).unwrap();
        assert!(manager.stops_sending(3 * time, TIMEOUT), "{stopped} is stopped, and the pings go on");
        kill(stopped, Signal::SIGCONT).unwrap();
        assert_eq!(manager.receive(), "WATCHDOG=1");
    }
    assert!(server.stop().status.success());
}

#[test]
fn a_watchdog_for_another_process_gets_no_pings() {
    let lab = Lab::new(1);
    let manager = ServiceManager::new();
    let launch = service(Launch::plain(lab.server(), &[]), &manager);
    let _server = launch.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1").spawn();
    manager.wait_for("READY=1");
    assert!(manager.try_receive(SILENCE).is_none());
}

/// systemd may be busy for a while: the tunnel continues, and pending state is sent once there is
/// space.
#[test]
fn a_manager_that_does_not_listen_disturbs_nothing() {
    let lab = Lab::new(2);
    let manager = ServiceManager::new();
    let server = watched(Launch::plain(lab.server(), &[]), &manager, Duration::from_millis(10)).spawn();
    server.wait_ready();
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    // by now pings have filled the queue, whatever its length
    std::thread::sleep(SILENCE);
    lab.client().ping(INNER_SERVER);
    server.signal(Signal::SIGHUP);
    server.wait_for("SIGHUP: plain mode has no configuration file");
    lab.server().ping(INNER_CLIENT);
    assert_eq!(manager.receive_other(), "READY=1\nSTATUS=waiting for a client");
    assert!(manager.receive_other().starts_with("RELOADING=1\n"));
    assert_eq!(manager.receive_other(), "READY=1\nSTATUS=a client is connected");
    assert!(holds_within(TIMEOUT, || manager.receive() == "WATCHDOG=1"));
    drop(client);
    let stopped = server.stop();
    assert!(stopped.status.success() && stopped.elapsed < Duration::from_secs(2), "{stopped:?}");
}
