//! Hand-over by way of a service manager's store, which a socket of the test's own simulates.

use std::fmt::Write as _;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::flow::{Flow, RATE};
use super::nothing_lost::check_nonces;
use super::write;
use crate::daemon::Daemon;
use crate::lab::{Lab, heavy};
use crate::mounts::{BINARY, Folder};
use crate::waiting::{TIMEOUT, eventually, uninterrupted};
use crate::wireguard::capture::Capture;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, Outer, Pair, Plan, SERVER_V4};
use crate::wireguard::site::Site;

/// Lowest number of the descriptors that a new process is to inherit.
const ABOVE: i32 = 200;
/// Largest number of descriptors of a message.
const MOST: usize = 64;
/// Environment variables with the socket and the script of [`starter`].
const STARTERS: &str = "E2E_STARTERS";
const SCRIPT: &str = "E2E_SCRIPT";

/// A simulated service manager with a store.
struct Manager {
    socket: UnixDatagram,
    address: String,
    stored: Vec<(String, OwnedFd)>,
    /// Each [`starter`] connects to it.
    starters: UnixListener,
    folder: Folder,
}

/// Receives a message with descriptors.
fn receive(socket: impl AsFd) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = uninterrupted(|| {
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC);
        Ok(received.map(|received| received.bytes)?)
    })?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    Ok((String::from_utf8_lossy(&bytes[..length]).into_owned(), descriptors))
}

/// Not a test: the process that [`Manager::start`] starts, which becomes the service.
#[test]
#[ignore = "a helper of the tests below"]
fn starter() {
    let Ok(starters) = std::env::var(STARTERS) else { return };
    let (_, descriptors) = receive(UnixStream::connect(starters).unwrap()).unwrap();
    // the copies have no CLOEXEC
    let copies = descriptors.iter().map(|descriptor| fcntl(descriptor, FcntlArg::F_DUPFD(ABOVE)).unwrap());
    let copies = copies.map(|copy| copy.to_string());
    panic!("{}", Command::new("bash").arg(std::env::var_os(SCRIPT).unwrap()).args(copies).exec());
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let starters = UnixListener::bind(folder.path().join("starters")).unwrap();
        starters.set_nonblocking(true).unwrap();
        Self { socket, address: path.to_str().unwrap().to_owned(), stored: Vec::new(), starters, folder }
    }

    /// Handles messages until one contains `part`.
    fn handle_until(&mut self, part: &str) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < deadline, "no {part}");
            let Ok((message, descriptors)) = receive(&self.socket) else { continue };
            let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
            match (message.lines().next().unwrap(), name) {
                ("FDSTORE=1", Some(name)) => {
                    assert!(message.contains("FDPOLL=0"), "{message}");
                    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
                    self.stored.push((name, descriptor));
                }
                ("FDSTOREREMOVE=1", Some(name)) => self.stored.retain(|(stored, _)| *stored != name),
                _ => {}
            }
            if message.contains(part) {
                return;
            }
        }
    }

    /// Starts the service on `site` with what is stored. The descriptors go by way of a
    /// [`starter`]: without CLOEXEC, they would stay open in programs that other tests start
    /// meanwhile.
    fn start(&self, site: &Arc<Site>) -> Daemon {
        let mut script = String::new();
        for place in 1..=self.stored.len() {
            writeln!(script, "exec {}<&${{{place}}}", place + 2).unwrap();
        }
        script += "for copy; do exec {copy}<&-; done\n";
        if !self.stored.is_empty() {
            let names: Vec<_> = self.stored.iter().map(|(name, _)| name.as_str()).collect();
            let (count, names) = (names.len(), names.join(":"));
            writeln!(script, "export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}").unwrap();
        }
        let file = site.path().join("wg0.conf");
        writeln!(script, "exec {BINARY} --config {} --log-level debug", file.display()).unwrap();
        let script = site.write("start.sh", &script);
        let starter = ["--ignored", "--exact", "--nocapture", "hand_over::store::starter"];
        let starters = self.folder.path().join("starters");
        let daemon = site
            .launch(&std::env::current_exe().unwrap(), &starter)
            .env(STARTERS, starters.to_str().unwrap())
            .env(SCRIPT, script.to_str().unwrap())
            .env("NOTIFY_SOCKET", &self.address)
            .spawn();
        let mut connected = None;
        eventually("the starter connects", || {
            connected = self.starters.accept().ok();
            connected.is_some()
        });
        let (connection, _) = connected.unwrap();
        let descriptors: Vec<_> = self.stored.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        sendmsg(&connection, &[IoSlice::new(b"start")], &mut control, SendFlags::NOSIGNAL).unwrap();
        daemon
    }

    /// Stops the service as systemd does in a restart: by the unit's `ExecStop=`, then by SIGTERM
    /// to all processes.
    fn stop(&mut self, daemon: Daemon) {
        let tunnel = daemon.tunnel_pid();
        daemon.signal(Signal::SIGUSR2);
        daemon.signal(Signal::SIGTERM);
        // it may have ended
        let _ = kill(tunnel, Signal::SIGTERM);
        self.handle_until("BARRIER=1");
        let stopped = daemon.wait_exit();
        assert_eq!(stopped.status.code(), Some(0), "{:#?}", stopped.lines);
        let is_passed = stopped.lines.iter().any(|line| line.contains("was passed to the service manager"));
        assert!(is_passed, "{:#?}", stopped.lines);
    }
}

/// Starts a server as a service, and a client of it.
fn service(manager: &mut Manager) -> Pair {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let site = Arc::clone(&plan.server_site);
    let daemon = manager.start(&site);
    manager.handle_until("READY=1");
    let server = Node { daemon, site, implementation: Implementation::ConfigFile, name: "wg0".to_owned() };
    let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    Pair { server, client, plan }
}

#[test]
fn restarts_by_a_service_manager_lose_no_datagram_and_use_no_nonce_twice() {
    let _guard = heavy();
    let mut manager = Manager::new();
    let mut pair = service(&mut manager);
    let (server, client) = (Arc::clone(&pair.plan.server_site), Arc::clone(&pair.plan.client_site));
    for site in [&server, &client] {
        site.ip(&["link", "set", "eth0", "gso_max_segs", "1"]);
    }
    let capture = Capture::start(&client);
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 7777);
    // to the client fewer: 500 wait in the device's queue, and a busy machine takes seconds
    let flows = [
        Flow::start(&client, &server, at(SERVER_V4)),
        Flow::with_rate(RATE / 10, &server, &client, at(CLIENT_V4)),
    ];
    let mut paused = Vec::new();
    for _ in 0..5 {
        let Node { daemon, site, implementation, name } = pair.server;
        let start = Instant::now();
        manager.stop(daemon);
        assert!(manager.stored.iter().any(|(name, _)| name == "wontun-sessions"));
        let daemon = manager.start(&site);
        manager.handle_until("BARRIER=1");
        assert!(manager.stored.is_empty(), "{:?}", manager.stored);
        daemon.wait_for("took the tunnel over, with the sessions");
        paused.push(start.elapsed());
        manager.handle_until("READY=1");
        pair.server = Node { daemon, site, implementation, name };
    }
    let tallies = flows.map(Flow::stop);
    let (messages, initiations) = check_nonces(&capture.stop());
    eprintln!(
        "{tallies:?}; paused for less than {paused:?}; {messages} data messages, {initiations} initiations"
    );
    assert!(tallies.iter().all(|tally| (tally.lost, tally.repeated) == (0, 0)), "{tallies:?}");
    assert_eq!(initiations, 0, "the sessions continue");
    // a stop that is no part of a restart leaves nothing
    assert_eq!(pair.server.daemon.stop().status.code(), Some(0));
    assert!(!server.has_device("wg0") && server.shell("nft list tables").is_empty());
}

#[test]
fn a_damaged_store_is_left_out() {
    let mut manager = Manager::new();
    let pair = service(&mut manager);
    let Node { daemon, site, .. } = pair.server;
    manager.stop(daemon);
    // the sessions are another file, as that of another version would be
    for (name, descriptor) in &mut manager.stored {
        if name == "wontun-sessions" {
            *descriptor = std::fs::File::open("/dev/null").unwrap().into();
        }
    }
    let daemon = manager.start(&site);
    manager.handle_until("READY=1");
    daemon.wait_for("without the sessions of its peers");
    pair.client.ping(SERVER_V4);
    // the description is
    manager.stop(daemon);
    manager.stored.retain(|(name, _)| name != "wontun-queue-0");
    let daemon = manager.start(&site);
    daemon.wait_for("descriptors are missing");
    // the device is not free while the store keeps a part of it
    manager.stored.clear();
    drop(daemon);
    let daemon = manager.start(&site);
    daemon.wait_for(" ready mode=");
    pair.client.ping(SERVER_V4);
}
