//! Small packets do not wait behind bulk traffic, neither in the device nor in the receiver's
//! socket; and they do not overtake packets of their own flow.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce, sockopt::UdpGsoSegment};
use nix::unistd::Pid;

use crate::tunnel::{CLIENT_V4, Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{eventually, uninterrupted};

/// Number of super-packets that wait, and of the datagrams in each.
const TRAINS: usize = 16;
const DATAGRAMS: usize = 40;
const SIZE: usize = 1300;
/// Number of super-packets after which a server receives the peer's small messages separately.
const LASTING: usize = 72;

/// Two flows from the client to the server.
struct Flows {
    tunnel: Tunnel,
    sink: UdpSocket,
    bulk: UdpSocket,
    voice: UdpSocket,
}

impl Flows {
    /// Starts a tunnel with both flows, in which each end has sent already: so the kernel knows
    /// their queues.
    fn start(mode: Mode) -> Self {
        let tunnel = Plan::new(mode).mtu(1420).args("--workers 1 --offload auto").start();
        tunnel.client_site.ping(SERVER_V4);
        let sink = tunnel.server_site.udp(SocketAddr::new(SERVER_V4.into(), 0));
        setsockopt(&sink, RcvBufForce, &16_000_000).unwrap();
        let sender = || {
            let socket: UdpSocket = tunnel.client_site.udp(SocketAddr::new(CLIENT_V4.into(), 0));
            socket.connect(sink.local_addr().unwrap()).unwrap();
            socket
        };
        let (bulk, voice) = (sender(), sender());
        for socket in [&sink, &bulk, &voice] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        setsockopt(&bulk, UdpGsoSegment, &i32::try_from(SIZE).unwrap()).unwrap();
        let flows = Self { tunnel, sink, bulk, voice };
        flows.send_trains(1);
        flows.send_voice();
        flows.before_the_small_one(1);
        for socket in [&flows.bulk, &flows.voice] {
            flows.sink.send_to(b"answer", socket.local_addr().unwrap()).unwrap();
            assert_eq!(uninterrupted(|| socket.recv(&mut [0; 100])).unwrap(), 6);
        }
        flows
    }

    fn send_trains(&self, count: usize) {
        for _ in 0..count {
            self.bulk.send(&[1; SIZE * DATAGRAMS]).unwrap();
        }
    }

    fn send_voice(&self) {
        self.voice.send(&[2; 160]).unwrap();
    }

    /// Returns the length and first byte of the next datagram.
    fn receive(&self) -> (usize, u8) {
        let mut buffer = [0; 2000];
        let length = uninterrupted(|| self.sink.recv(&mut buffer)).unwrap();
        (length, buffer[0])
    }

    /// Receives so many super-packets and a small packet, and returns the number of datagrams
    /// before that.
    fn before_the_small_one(&self, trains: usize) -> usize {
        let received: Vec<_> = (0..=trains * DATAGRAMS).map(|_| self.receive()).collect();
        let is_small = |datagram: &(usize, u8)| datagram.0 == 160;
        assert_eq!(received.iter().filter(|datagram| is_small(datagram)).count(), 1);
        received.iter().position(is_small).unwrap()
    }

    /// Returns the number of packets that the client's tunnel has taken from the device.
    fn sent(&self) -> u64 {
        self.tunnel.client.summary().tx_packets
    }

    /// Runs `work` while the server's tunnel stands still, until all of it waits in its sockets.
    fn while_the_server_waits(&self, packets: usize, work: impl FnOnce()) {
        let (process, before) = (self.tunnel.server.tunnel_pid(), self.sent());
        stop(process);
        work();
        let expected = before + u64::try_from(packets).unwrap();
        eventually("the client has sent everything", || self.sent() >= expected);
        kill(process, Signal::SIGCONT).unwrap();
    }
}

/// Stops a process, and waits until all of its threads stand still.
fn stop(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    eventually("the process is stopped", || {
        std::fs::read_dir(format!("/proc/{process}/task")).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        })
    });
}

#[test]
fn a_small_packet_does_not_wait_in_the_device() {
    for mode in Mode::BOTH {
        let flows = Flows::start(mode);
        let process = flows.tunnel.client.tunnel_pid();
        stop(process);
        flows.send_trains(TRAINS);
        flows.send_voice();
        kill(process, Signal::SIGCONT).unwrap();
        let before = flows.before_the_small_one(TRAINS);
        assert!(before <= 2 * DATAGRAMS, "{mode:?}: {before}");
    }
}

#[test]
fn a_small_packet_does_not_wait_in_the_receivers_socket() {
    let flows = Flows::start(Mode::WireGuard);
    let before = |trains| {
        flows.while_the_server_waits(trains * DATAGRAMS + 1, || {
            flows.send_trains(trains);
            flows.send_voice();
        });
        flows.before_the_small_one(trains)
    };
    // the peer may get its own socket late, and loses it for this
    before(LASTING);
    before(LASTING);
    // two turns of two messages each: by then it is known that bulk traffic waits, unless the
    // process is interrupted in the first
    let before: Vec<_> = (0..3).map(|_| before(TRAINS)).collect();
    assert!(before.iter().any(|before| *before <= 4 * DATAGRAMS), "{before:?}");
}

#[test]
fn a_small_packet_keeps_its_place_in_its_own_flow() {
    let flows = Flows::start(Mode::WireGuard);
    for trains in [LASTING, TRAINS, TRAINS] {
        for after in [0, 1, 3] {
            flows.while_the_server_waits((trains + after) * DATAGRAMS + 1, || {
                flows.send_trains(trains);
                // alone, so that it is a message of its own
                std::thread::sleep(Duration::from_millis(20));
                flows.bulk.send(&[2; 160]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                flows.send_trains(after);
            });
            let before = flows.before_the_small_one(trains + after);
            assert_eq!(before, trains * DATAGRAMS, "{trains}, {after}");
        }
    }
}
