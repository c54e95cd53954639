//! A compromised tunnel process sends to the supervisor: bytes that are not a message end the
//! tunnel cleanly, and any number of messages has no effect beyond those that the messages define.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{SysconfVar, sysconf};
use wontun::messages::{Address, FromTunnel, PeerReport, Status};
use wontun::process::{MAX_MESSAGE, encode};
use wontun::traffic::Traffic;
use wontun_proto::wireguard::{PublicKey, Transfer};

use super::host_state::{host_state, kill_switch_table, settles};
use super::inject::{Outcome, TakenOver};
use crate::daemon::{Daemon, Stopped};
use crate::descriptors::open_descriptors;
use crate::lab::{Lab, heavy};
use crate::processes::{comm, cpu_ticks, is_gone};
use crate::streams::Pattern;
use crate::waiting::{TIMEOUT, eventually, holds_within};
use crate::wireguard::kill_switch::{launch, start};
use crate::wireguard::pair::{CLIENT_V4, Outer, Plan};
use crate::wireguard::site::Site;

/// The tunnel process's end of its channel to the supervisor.
const CHANNEL: u64 = 3;
/// Network of the addresses that the flood reports as peers'.
const NET: &str = "198.51.100.";
/// Maximum time from the supervisor's end to that of the others; 100 ms on a machine that is not
/// busy.
const END: Duration = Duration::from_secs(1);
/// Duration of a flood.
const FLOOD: Duration = Duration::from_secs(3);

/// Makes the process send `bytes` to the supervisor.
fn send(process: &mut TakenOver, bytes: &[u8]) -> Outcome {
    let address = process.put(bytes);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    process.call(libc::SYS_sendto, &[CHANNEL, address, bytes.len() as u64, flags as u64])
}

fn bytes_of(message: &FromTunnel) -> Vec<u8> {
    encode(message).unwrap().to_vec()
}

/// A running client with a kill switch, and its server.
struct Stage {
    plan: Plan,
    _server: Daemon,
}

impl Stage {
    fn new() -> Self {
        let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
        plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        let server = start(&plan.server_site, &plan.server, &[]);
        Self { plan, _server: server }
    }

    fn site(&self) -> &Site {
        &self.plan.client_site
    }

    fn start(&self) -> Daemon {
        let daemon = launch(self.site(), &self.plan.client, &["--kill-switch", "--workers", "2"]);
        daemon.wait_for(" ready mode=");
        self.site().ping([10, 9, 0, 1]);
        daemon
    }

    /// Returns the host's state without the kill switch, which stays when a tunnel fails.
    fn state(&self) -> String {
        settles(self.site());
        self.site().shell(
            "ip -d link; ip address; ip -4 rule; ip -6 rule; ip -4 route show table all
             ip -6 route show table all; nft list tables | grep -v wontun-lock-wg0 || true
             grep -rs . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward |
                 grep -v stable_secret | sort",
        )
    }

    /// Returns the whole state without the parts that a peer's address may change, which a message
    /// reports.
    fn state_without_endpoints(&self) -> String {
        let state = host_state(self.site());
        state.lines().filter(|line| !line.contains(NET)).collect::<Vec<_>>().join("\n")
    }

    fn table(&self) -> String {
        kill_switch_table(self.site())
    }
}

/// Panics unless the tunnel ended by itself with an error about a message, and everything but the
/// kill switch is gone.
fn ended_in_order(stage: &Stage, what: &str, stopped: &Stopped, table: &str) {
    assert!(stopped.status.code().is_some_and(|code| code != 0), "{what}: {stopped:?}");
    let is_error = |line: &&String| line.contains(" ERROR ") || line.starts_with("wontun: ");
    let errors: Vec<_> = stopped.lines.iter().filter(is_error).collect();
    assert!(errors.iter().any(|line| line.contains("message")), "{what}: {:#?}", stopped.lines);
    assert!(!stopped.lines.iter().any(|line| line.contains("panicked")), "{what}: {:#?}", stopped.lines);
    // the nursery ends the tunnel process once the supervisor is gone
    assert!(holds_within(END, || !stage.site().has_device("wg0")), "{what}: the device is left");
    // the table is the same as before, but no longer accepts the tunnel's own datagrams
    let shut: Vec<_> = table.lines().filter(|line| !line.trim().starts_with("meta mark ")).collect();
    assert_eq!(shut.len() + 1, table.lines().count(), "{what}: {table}");
    assert_eq!(stage.table(), shut.join("\n"), "{what}: the kill switch");
    assert!(!stage.site().socket("wg0").exists(), "{what}: the socket is left");
}

/// Returns each kind of bytes that are not a message.
fn no_messages() -> Vec<(&'static str, Vec<u8>)> {
    let probe = bytes_of(&FromTunnel::Probe(77));
    let with = |place: usize, byte: u8| {
        let mut bytes = probe.clone();
        bytes[place] ^= byte;
        bytes
    };
    let mut random = Pattern::new(16);
    let mut noise = vec![0; 1400];
    random.fill(&mut noise);
    let mut message_of = probe[..2].to_vec();
    message_of.extend(11_u32.to_le_bytes());
    // an unknown message, and a number without an end
    message_of.extend([0xff; 11]);
    vec![
        ("one byte", vec![1]),
        ("a header alone", probe[..6].to_vec()),
        ("a cut header", probe[..5].to_vec()),
        ("a cut message", probe[..probe.len() - 1].to_vec()),
        ("a message and a byte more", [&probe[..], &[0]].concat()),
        ("two messages in one", [&probe[..], &probe[..]].concat()),
        ("another version", with(0, 1)),
        ("another length", with(2, 1)),
        ("a length beyond all", with(5, 0x80)),
        ("a message that does not exist", message_of),
        ("noise", noise),
        ("zeros", vec![0; 64]),
    ]
}

#[test]
fn bytes_that_are_no_message_end_the_tunnel_in_order() {
    let stage = Stage::new();
    let before = stage.state();
    for (what, bytes) in no_messages() {
        let daemon = stage.start();
        let (processes, table) = (daemon.processes(), stage.table());
        let mut process = TakenOver::new(processes.tunnel);
        let sent = send(&mut process, &bytes);
        assert_eq!(sent, Outcome::Done(bytes.len() as i64), "{what}");
        process.release();
        let stopped = daemon.wait_exit();
        ended_in_order(&stage, what, &stopped, &table);
        for pid in processes.all() {
            assert!(holds_within(END, || is_gone(pid)), "{what}: {pid} is left");
        }
        assert_eq!(stage.state(), before, "{what}");
    }
}

/// Longer than any message: the kernel refuses it, or the supervisor ends the tunnel.
#[test]
fn a_message_that_is_too_long_is_no_message() {
    let stage = Stage::new();
    let daemon = stage.start();
    let table = stage.table();
    let tunnel = daemon.tunnel_pid();
    let mut process = TakenOver::new(tunnel);
    // from the lowest address of its code, which is long enough
    let maps = std::fs::read_to_string(format!("/proc/{tunnel}/maps")).unwrap();
    let longest = maps.lines().filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        line.split(' ').nth(1)?.starts_with("r-x").then_some((to - from, from))
    });
    let (length, address) = longest.max().unwrap();
    assert!(length > 2 * MAX_MESSAGE as u64);
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    let sent = process.call(libc::SYS_sendto, &[CHANNEL, address, MAX_MESSAGE as u64 + 1, flags]);
    process.release();
    if sent == Outcome::Done(MAX_MESSAGE as i64 + 1) {
        ended_in_order(&stage, "a long message", &daemon.wait_exit(), &table);
    } else {
        assert!(matches!(sent, Outcome::Failed(_) | Outcome::Forbidden), "{sent:?}");
        stage.site().ping([10, 9, 0, 1]);
    }
}

/// Descriptors may come with a message: the supervisor accepts none, and keeps none.
#[test]
fn descriptors_that_come_with_a_message_are_not_kept() {
    const COUNT: usize = 100;
    let stage = Stage::new();
    let mut daemon = stage.start();
    let (supervisor, tunnel) = (daemon.pid(), daemon.tunnel_pid());
    let table = stage.table();
    let before = open_descriptors(supervisor).len();
    let mut process = TakenOver::new(tunnel);
    let bytes = bytes_of(&FromTunnel::Probe(1));
    let mut sent = 0;
    for _ in 0..COUNT {
        let payload = process.put(&bytes);
        let vector = process.put(&[payload.to_ne_bytes(), (bytes.len() as u64).to_ne_bytes()].concat());
        // SCM_RIGHTS with standard error four times: 16 bytes of header, 16 of numbers
        let mut control = 32_u64.to_ne_bytes().to_vec();
        control.extend(libc::SOL_SOCKET.to_ne_bytes());
        control.extend(libc::SCM_RIGHTS.to_ne_bytes());
        control.extend([2_i32.to_ne_bytes(); 4].concat());
        let control = process.put(&control);
        let header = [0, 0, vector, 1, control, 32, 0].map(u64::to_ne_bytes).concat();
        let header = process.put(&header);
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
        match process.call(libc::SYS_sendmsg, &[CHANNEL, header, flags]) {
            Outcome::Done(_) => sent += 1,
            // the queue is full, or the supervisor has closed the channel
            Outcome::Failed(Errno::EAGAIN | Errno::EPIPE | Errno::ECONNRESET) => break,
            Outcome::Forbidden => break,
            outcome => panic!("{outcome:?}"),
        }
    }
    process.release();
    eprintln!("{sent} messages with descriptors were sent");
    if holds_within(TIMEOUT / 10, || !daemon.is_running()) {
        ended_in_order(&stage, "descriptors", &daemon.wait_exit(), &table);
    } else {
        let now = || open_descriptors(supervisor).len();
        eventually("the supervisor keeps no descriptor", || now() <= before + 2);
        stage.site().ping([10, 9, 0, 1]);
    }
}

/// Returns messages of every kind of request.
fn requests(peer: PublicKey, number: u32) -> Vec<Vec<u8>> {
    let address = IpAddr::from(Ipv4Addr::from(0xc633_6400 + number % 250));
    let unknown_peer = PublicKey::from_bytes([number as u8; 32]);
    let endpoint = |peer, is_confirmed| FromTunnel::Endpoint { peer, address, is_confirmed };
    let status = Status::WireGuard { connected: u32::MAX, peers: 0, handshake: Some(Duration::MAX) };
    let messages = [
        endpoint(peer, false),
        endpoint(peer, true),
        endpoint(unknown_peer, true),
        FromTunnel::State {
            sent: Some([0xff; 12]),
            peers: vec![PeerReport {
                public_key: peer,
                remote: Some(Address::from(SocketAddr::new(address, 1))),
                local: Some(address),
                handshake_age: Some(Duration::MAX),
                latest: Some([0xff; 12]),
                traffic: Traffic {
                    total: Transfer {
                        received: u64::MAX,
                        sent: u64::MAX,
                        packets_received: u64::MAX,
                        packets_sent: u64::MAX,
                    },
                    ..Traffic::NONE
                },
            }],
        },
        FromTunnel::LookUp(Some(peer)),
        FromTunnel::LookUp(Some(unknown_peer)),
        FromTunnel::LookUp(None),
        FromTunnel::NeedSockets { ipv4: u8::MAX, ipv6: u8::MAX },
        FromTunnel::CheckCandidate(address),
        FromTunnel::OuterFamily { is_ipv4: number.is_multiple_of(2) },
        FromTunnel::Alive { probe: u64::from(number), status },
        FromTunnel::Probe(u64::from(number)),
        FromTunnel::CountDenied(u64::from(number)),
        FromTunnel::Changed(number),
        FromTunnel::Answered(number),
        FromTunnel::Ready,
    ];
    messages.iter().map(bytes_of).collect()
}

/// Sends as many messages as it can for [`FLOOD`]. Returns the number that the supervisor took.
fn flood(process: &mut TakenOver, supervisor: nix::unistd::Pid, messages: &[Vec<u8>]) -> usize {
    let (start, mut taken) = (Instant::now(), 0);
    let mut most_open = 0;
    while start.elapsed() < FLOOD {
        for message in messages {
            match send(process, message) {
                Outcome::Done(_) => taken += 1,
                Outcome::Failed(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
                // the supervisor has closed the channel
                Outcome::Failed(Errno::EPIPE | Errno::ECONNRESET) | Outcome::Killed => return taken,
                outcome => panic!("after {taken} messages: {outcome:?}"),
            }
        }
        if !is_gone(supervisor) {
            most_open = most_open.max(open_descriptors(supervisor).len());
        }
        assert!(most_open < 256, "the supervisor has {most_open} descriptors after {taken} messages");
    }
    taken
}

/// A flood of messages of each kind: the supervisor uses little time for it, opens few sockets, and
/// changes nothing of the host, whether it continues or ends the tunnel.
#[test]
fn a_flood_of_messages_costs_little_and_changes_nothing() {
    let _alone = heavy();
    let ticks = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
    let stage = Stage::new();
    let peer: PublicKey = stage.plan.server_keys.public.parse().unwrap();
    let kinds = requests(peer, 0).len();
    for kind in 0..kinds {
        let mut daemon = stage.start();
        let (supervisor, tunnel) = (daemon.pid(), daemon.tunnel_pid());
        let (before, table) = (stage.state_without_endpoints(), stage.table());
        let (memory, cpu) = (crate::wireguard::memory::resident_of_one(supervisor), cpu_ticks(supervisor));
        let messages: Vec<_> = (0..250).map(|number| requests(peer, number).swap_remove(kind)).collect();
        let mut process = TakenOver::new(tunnel);
        let start = Instant::now();
        let taken = flood(&mut process, supervisor, &messages);
        let elapsed = start.elapsed().as_secs_f64();
        let is_left = daemon.is_running();
        let cpu = if is_left { (cpu_ticks(supervisor) - cpu) as f64 / ticks } else { 0.0 };
        eprintln!("kind {kind}: {taken} messages in {elapsed:.1} s, {cpu:.2} s of CPU, goes on: {is_left}");
        // a flood cannot take a core away from the tunnel
        assert!(cpu <= elapsed / 2.0, "kind {kind}: {cpu} s of CPU in {elapsed} s for {taken} messages");
        if is_left {
            let grown = crate::wireguard::memory::resident_of_one(supervisor).saturating_sub(memory);
            assert!(grown < 8 * 1024, "kind {kind}: {grown} kB more for {taken} messages");
            assert_eq!(stage.state_without_endpoints(), before, "kind {kind}");
        }
        process.release();
        // the tunnel process now receives the answers: it continues, or the tunnel ends cleanly
        let works =
            holds_within(TIMEOUT, || !daemon.is_running() || stage.site().ping_once([10, 9, 0, 1], 56));
        assert!(works, "kind {kind}: neither works nor ends");
        if daemon.is_running() {
            assert_eq!(stage.state_without_endpoints(), before, "kind {kind}");
            assert_eq!(daemon.stop().status.code(), Some(0), "kind {kind}");
        } else {
            ended_in_order(&stage, &format!("kind {kind}"), &daemon.wait_exit(), &table);
            stage.site().shell("nft delete table inet wontun-lock-wg0");
        }
    }
}

/// The log cannot be flooded either.
#[test]
fn messages_that_are_refused_are_told_of_seldom() {
    let stage = Stage::new();
    let mut daemon = stage.start();
    let peer: PublicKey = stage.plan.server_keys.public.parse().unwrap();
    let tunnel = daemon.tunnel_pid();
    let lines = daemon.lines().len();
    let mut process = TakenOver::new(tunnel);
    let messages: Vec<_> = (0..250).map(|number| requests(peer, number).swap_remove(0)).collect();
    let taken = flood(&mut process, daemon.pid(), &messages);
    process.release();
    let more = daemon.lines().len() - lines;
    assert!(more < 100, "{more} lines for {taken} messages: {:#?}", daemon.lines());
    if daemon.is_running() {
        stage.plan.server_site.ping(CLIENT_V4.parse::<IpAddr>().unwrap());
        assert_eq!(comm(tunnel), crate::processes::TUNNEL);
    }
}
