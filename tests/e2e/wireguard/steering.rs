//! The server's socket in which a datagram waits: handshake messages have their own socket, and
//! data is distinguished by its receiver index. The server is stopped meanwhile, so that the
//! datagrams are still queued for inspection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{Outer, PORT, Plan};
use super::probe::{DATA, INITIATION, Probe, RESPONSE};
use super::settings::{Keys, Peer};
use crate::bare::Spoofer;
use crate::lab::{Host, Lab, heavy};
use crate::mounts::BINARY;
use crate::waiting::eventually;

/// Number of peers that have their own sockets.
const CONNECTED: u8 = 8;
/// More initiations than the receive buffer of a socket holds.
const FLOOD: u32 = 30_000;

/// A server with [`CONNECTED`] peers and one more, all of them driven by hand.
struct Testbed {
    lab: Arc<Lab>,
    node: Node,
    server_public: String,
    peers: Vec<Probe>,
}

impl Testbed {
    fn new(workers: &str) -> Self {
        let lab = Arc::new(Lab::new(2));
        let mut plan = Plan::new(&lab, Outer::V4);
        plan.server.peers.clear();
        let keys: Vec<_> = (0..=CONNECTED).map(|_| Keys::new()).collect();
        let inner = |number: u8| Ipv4Addr::new(10, 9, 0, 2 + number);
        for (number, keys) in (0..).zip(&keys) {
            plan.server.peers.push(Peer::new(&keys.public, &[&format!("{}/32", inner(number))]));
        }
        let file = plan.server_site.write("wg0.conf", &plan.server.wg_quick());
        let args = ["--config", file.to_str().unwrap(), "--workers", workers];
        let daemon = plan.server_site.launch(BINARY.as_ref(), &args).spawn();
        daemon.wait_for(" ready mode=");
        let (site, implementation) = (Arc::clone(&plan.server_site), Implementation::ConfigFile);
        let node = Node { daemon, site, implementation, name: "wg0".to_owned() };
        let server_public = plan.server_keys.public.clone();
        let peers = (0..).zip(&keys).map(|(number, keys)| {
            let socket = lab.client().udp((lab.client().v4, 40_000 + u16::from(number)));
            let server = (lab.server().v4, PORT).into();
            let mut peer = Probe::new(socket, keys, &server_public, server, inner(number));
            peer.shake_hands();
            peer.ping(1);
            peer
        });
        let peers = peers.collect();
        let bed = Self { lab, node, server_public, peers };
        eventually("the first peers have sockets of their own", || {
            bed.sockets("udp", PORT).iter().filter(|socket| socket.is_connected).count()
                == usize::from(CONNECTED)
        });
        bed
    }

    fn signal(&self, signal: Signal) {
        kill(self.node.daemon.tunnel_pid(), signal).unwrap();
    }

    /// Stops all threads of the process that carries the server's packets.
    fn stop(&self) {
        let pid = self.node.daemon.tunnel_pid();
        self.signal(Signal::SIGSTOP);
        eventually("the server is stopped", || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            tasks.into_iter().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
            })
        });
    }

    fn sockets(&self, family: &str, port: u16) -> Vec<SocketQueue> {
        SocketQueue::in_sockets(self.lab.server(), family, port)
    }

    /// Returns the only socket with queued data after `message` was sent to `to` from many sources,
    /// which a hash would spread.
    fn receiving_socket(&self, to: SocketAddr, message: &[u8]) -> u64 {
        let family = if to.is_ipv4() { "udp" } else { "udp6" };
        let full = || {
            let sockets = self.sockets(family, to.port()).into_iter();
            sockets.filter(|socket| socket.bytes > 0).collect::<Vec<_>>()
        };
        eventually("the server has read everything", || full().is_empty());
        self.stop();
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        for _ in 0..16 {
            let socket: UdpSocket = self.lab.client().udp((any, 0));
            socket.send_to(message, to).unwrap();
        }
        eventually("it has arrived", || !full().is_empty());
        let full = full();
        self.signal(Signal::SIGCONT);
        assert_eq!(full.len(), 1, "{message:?} waits in {full:?}");
        full[0].inode
    }

    /// Checks that all messages wait in the expected sockets.
    fn check(&self, to: SocketAddr, workers: u32) {
        let place = self.receiving_socket(to, &[INITIATION; 148]);
        for other in [&[RESPONSE; 92][..], &[3; 64], &[0; 32], &[0xff; 1400], &[DATA; 7], &[DATA], &[]] {
            assert_eq!(self.receiving_socket(to, other), place, "{other:?}");
        }
        let mut seen = vec![place];
        for worker in 0..workers {
            let mut message = [0; 32];
            message[0] = DATA;
            let mut own = None;
            for round in [0_u32, 1, 0x0098_9680] {
                message[4..8].copy_from_slice(&(round * workers + worker).to_be_bytes());
                let place = self.receiving_socket(to, &message);
                assert_eq!(*own.get_or_insert(place), place, "one worker's data goes to two");
            }
            assert!(!seen.contains(&own.unwrap()), "two workers, or none, have the same socket");
            seen.extend(own);
        }
    }
}

/// The bytes queued in each of the server's sockets.
#[derive(Debug)]
struct SocketQueue {
    inode: u64,
    bytes: u64,
    is_connected: bool,
}

impl SocketQueue {
    fn in_sockets(host: &Host, family: &str, port: u16) -> Vec<Self> {
        let file = format!("/proc/thread-self/net/{family}");
        let table = host.inside(|| std::fs::read_to_string(file)).unwrap();
        let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = lines.filter(|words| words[1].ends_with(&format!(":{port:04X}")));
        let sockets = ours.map(|words| Self {
            inode: words[9].parse().unwrap(),
            bytes: u64::from_str_radix(words[4].split_once(':').unwrap().1, 16).unwrap(),
            is_connected: !words[2].ends_with(":0000"),
        });
        sockets.collect()
    }
}

#[test]
fn handshakes_and_data_wait_apart() {
    for workers in [1, 2, 3] {
        let bed = Testbed::new(&workers.to_string());
        let addresses: [IpAddr; 2] = [bed.lab.server().v4.into(), bed.lab.server().v6.into()];
        for address in addresses {
            bed.check((address, PORT).into(), workers);
        }
        // the connected sockets are closed, and others are opened
        for peer in &bed.node.peers() {
            bed.node.set(&["peer", &peer.public, "endpoint", "192.0.2.2:9"]);
        }
        eventually("no peer has a socket of its own", || {
            !bed.sockets("udp", PORT).iter().any(|socket| socket.is_connected)
        });
        bed.check((addresses[0], PORT).into(), workers);
        for port in [PORT + 1, PORT] {
            bed.node.set(&["listen-port", &port.to_string()]);
            for address in addresses {
                bed.check((address, port).into(), workers);
            }
        }
    }
}

/// Initiations from unknown sources fill their own socket: datagrams of a peer without a connected
/// socket still find space.
#[test]
fn a_flood_of_handshakes_takes_no_room_of_data() {
    let _guard = heavy();
    let mut bed = Testbed::new("1");
    bed.lab.server().ip(&["route", "add", "198.18.0.0/15", "via", "192.0.2.2"]);
    let server = SocketAddrV4::new(bed.lab.server().v4, PORT);
    let strangers: Vec<_> = (0..64)
        .map(|_| {
            let socket = bed.lab.client().udp((Ipv4Addr::UNSPECIFIED, 0));
            let inner = Ipv4Addr::new(10, 9, 0, 99);
            Probe::new(socket, &Keys::new(), &bed.server_public, server.into(), inner).initiation()
        })
        .collect();
    let spoofer = Spoofer::new(bed.lab.client());
    for peer in [0, usize::from(CONNECTED)] {
        bed.stop();
        for (number, initiation) in (0..FLOOD).zip(strangers.iter().cycle()) {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
            spoofer.send(SocketAddrV4::new(source, 40_000), server, initiation);
        }
        let request = bed.peers[peer].echo_request(2);
        bed.peers[peer].send(&request);
        bed.signal(Signal::SIGCONT);
        bed.peers[peer].expect_echo(2);
    }
}
