//! Keys of an ended session are nowhere in the process's memory, neither on the heap nor on any
//! thread's stack.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::Pid;

use super::noise_peer::{Key, NoisePeer, Session};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::packets;
use crate::waiting::{TIMEOUT, eventually, holds_within};
use crate::wireguard::pair::{Outer, PORT, Plan};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), PORT);
const SERVER_INNER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const PEER_INNER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Number of flows in either direction, enough for each worker to have some.
const FLOWS: u16 = 64;
/// Shortest interval between two initiations that are answered.
const BETWEEN_INITIATIONS: Duration = Duration::from_millis(25);

/// Returns the copies of either half of one of `keys` in the memory of `pid`, each by mapping and
/// address. Half a key counts: vector code keeps keys in registers of 16 bytes, and spills them so.
fn copies(pid: Pid, keys: &[Key]) -> Vec<String> {
    let halves: Vec<&[u8]> = keys.iter().flat_map(|key| key.chunks(16)).collect();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = BufReader::new(std::fs::File::open(format!("/proc/{pid}/maps")).unwrap());
    let mut found = Vec::new();
    let mut scanned = 0;
    for line in maps.lines().map(Result::unwrap) {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let name = words.nth(3).unwrap_or("anonymous");
        // the kernel's own pages, some of which cannot be read
        if !rights.starts_with('r') || name.starts_with("[v") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // a mapping may disappear while it is read
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        scanned += bytes.len();
        for half in &halves {
            let mut from = 0;
            while let Some(at) = bytes[from..].iter().position(|byte| *byte == half[0]) {
                let at = from + at;
                if bytes[at..].starts_with(half) {
                    found.push(format!("{name} {:x}", start + at as u64));
                }
                from = at + 1;
            }
        }
    }
    assert!(scanned > 1 << 20, "only {scanned} bytes of the process could be read");
    found
}

/// Returns the copies in the memory of all processes of `daemon`.
fn all_copies(daemon: &Daemon, keys: &[Key]) -> Vec<String> {
    let all = daemon.processes().all().into_iter();
    all.flat_map(|pid| copies(pid, keys).into_iter().map(move |place| format!("{pid} {place}"))).collect()
}

/// Panics with the addresses unless all copies of `session`'s keys disappear soon.
fn vanish(daemon: &Daemon, what: &str, session: &Session) {
    let mut last = Vec::new();
    let keys = [session.send, session.receive];
    let gone = holds_within(TIMEOUT / 4, || {
        last = all_copies(daemon, &keys);
        last.is_empty()
    });
    assert!(gone, "{what}: {} copies of half a key are left: {last:#?}", last.len());
}

/// Panics unless both halves of both keys of `session` are found, which validates the scan. They
/// are in the process that carries packets, and in no other.
fn are_found(daemon: &Daemon, session: &Session) {
    let tunnel = daemon.tunnel_pid();
    for key in [session.send, session.receive] {
        let found = copies(tunnel, &[key]);
        assert!(found.len() >= 2, "the scan misses the keys of a session in use: {found:?}");
        let others = daemon.processes().all().into_iter().filter(|pid| *pid != tunnel);
        let found: Vec<_> = others.flat_map(|pid| copies(pid, &[key])).collect();
        assert!(found.is_empty(), "another process has keys of a session: {found:?}");
    }
}

/// A daemon with four workers, with the test as its peer.
struct Target {
    peer: NoisePeer,
    daemon: Daemon,
    plan: Plan,
    lab: Arc<Lab>,
}

impl Target {
    /// Starts the daemon. With `knows_peer` it has the peer's endpoint and initiates the handshake.
    fn new(knows_peer: bool) -> Self {
        let lab = Arc::new(Lab::new(2));
        let mut plan = Plan::new(&lab, Outer::V4);
        let address = SocketAddr::from((lab.client().v4, 40_000));
        let peer = NoisePeer::new(
            lab.client().udp(address),
            &plan.client_keys,
            &plan.server_keys.public,
            SERVER.into(),
        );
        if knows_peer {
            plan.server.peers[0].endpoint = Some(address.to_string());
            plan.server.peers[0].keepalive = Some(25);
        }
        let file = plan.server_site.write("wg0.conf", &plan.server.wg_quick());
        let args = ["--config", file.to_str().unwrap(), "--workers", "4", "--log-level", "debug"];
        let daemon = plan.server_site.launch(crate::mounts::BINARY.as_ref(), &args).spawn();
        daemon.wait_for(" ready mode=");
        Self { peer, daemon, plan, lab }
    }

    /// Makes every worker decrypt and encrypt packets of `session`.
    fn use_session(&self, session: &mut Session) {
        let inner = self.plan.server_site.udp((SERVER_INNER, 0));
        let port = inner.local_addr().unwrap().port();
        for flow in 0..FLOWS {
            let socket = self.lab.client().udp((self.lab.client().v4, 0));
            let text = flow.to_be_bytes();
            let to = SocketAddrV4::new(SERVER_INNER, port);
            let packet = packets::udp4(SocketAddrV4::new(PEER_INNER, 1000 + flow), to, &text);
            self.peer.send_packet_from(&socket, session, &packet);
            let mut buffer = [0; 64];
            let length = inner.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], text);
        }
        // the peer's own socket is the last source seen
        self.peer.send_packet(session, &[]);
        eventually("the daemon answers to the peer's socket", || {
            let shown = self.plan.server_site.wg(&["show", "wg0", "endpoints"]);
            shown.trim().ends_with(&self.peer.socket.local_addr().unwrap().to_string())
        });
        for flow in 0..FLOWS {
            let out = self.plan.server_site.udp((SERVER_INNER, 0));
            out.send_to(&flow.to_be_bytes(), (PEER_INNER, 2000 + flow)).unwrap();
            self.peer.receive_packet(session);
        }
    }

    fn remove_peer(&self) {
        self.plan.server_site.wg(&["set", "wg0", "peer", &self.plan.client_keys.public, "remove"]);
    }
}

#[test]
fn keys_of_a_removed_peer_are_gone_that_began_the_handshake() {
    let mut target = Target::new(false);
    let mut session = target.peer.shake_hands();
    target.use_session(&mut session);
    are_found(&target.daemon, &session);
    target.remove_peer();
    vanish(&target.daemon, "after the peer's removal", &session);
}

#[test]
fn keys_of_a_removed_peer_are_gone_that_answered_the_handshake() {
    let mut target = Target::new(true);
    let mut session = target.peer.answer();
    target.use_session(&mut session);
    are_found(&target.daemon, &session);
    target.remove_peer();
    vanish(&target.daemon, "after the peer's removal", &session);
}

/// The previous session stays for packets in flight; the one before that is gone.
#[test]
fn keys_of_replaced_sessions_are_gone() {
    let mut target = Target::new(false);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut session = target.peer.shake_hands();
        target.use_session(&mut session);
        are_found(&target.daemon, &session);
        sessions.push(session);
        sleep(BETWEEN_INITIATIONS);
    }
    let [first, second, _, current] = &sessions[..] else { unreachable!() };
    vanish(&target.daemon, "after three more handshakes", first);
    vanish(&target.daemon, "after two more handshakes", second);
    are_found(&target.daemon, current);
    target.remove_peer();
    sessions.iter().for_each(|session| vanish(&target.daemon, "after the peer's removal", session));
}

/// An initiation is answered and never confirmed: the keys of that session are erased with the next
/// one.
#[test]
fn keys_of_a_session_that_was_never_used_are_gone() {
    let mut target = Target::new(false);
    let unused = target.peer.shake_hands_without_confirmation();
    are_found(&target.daemon, &unused);
    sleep(BETWEEN_INITIATIONS);
    let session = target.peer.shake_hands();
    vanish(&target.daemon, "after the next handshake", &unused);
    are_found(&target.daemon, &session);
}
