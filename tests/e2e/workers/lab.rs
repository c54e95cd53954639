//! A server with two clients, each of which is received by another worker.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::tunnel::{DEVICE, SERVER_V4};
use crate::waiting::uninterrupted;
use crate::wireguard::pair::{Outer, PORT};
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

/// The inner addresses of the clients.
pub(super) const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)];

/// Ports to try for a client. The probability that all of them select the other client's worker is
/// that of a coin falling on the same side so often.
const PORTS: std::ops::Range<u16> = 52_000..52_030;

/// Number of datagrams that show which worker receives a client's.
const SAMPLES: usize = 50;

/// A thread of a process.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// CPU time so far.
    ran: Duration,
}

/// Returns the threads of a process, the main thread first.
pub(crate) fn threads(pid: Pid) -> Vec<Thread> {
    let mut tasks: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    tasks.sort_unstable();
    let threads = tasks.iter().map(|task| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{task}/{file}")).unwrap();
        // the first number is the time on a CPU, in nanoseconds
        let schedstat = read("schedstat");
        let ran = schedstat.split_whitespace().next().unwrap().parse().unwrap();
        Thread { name: read("comm").trim().to_owned(), ran: Duration::from_nanos(ran) }
    });
    threads.collect()
}

/// Returns the threads of a process that carry packets.
fn workers(pid: Pid) -> Vec<Thread> {
    let others = ["wontun-log", "handshakes"];
    threads(pid).into_iter().filter(|thread| !others.contains(&thread.name.as_str())).collect()
}

/// Returns the CPU time of each worker of a tunnel while `work` ran.
pub(super) fn ran_meanwhile(daemon: &Daemon, work: impl FnOnce()) -> Vec<Duration> {
    let pid = daemon.tunnel_pid();
    let before = workers(pid);
    work();
    let after = workers(pid);
    assert_eq!(before.len(), after.len());
    before.iter().zip(&after).map(|(before, after)| after.ran - before.ran).collect()
}

/// A WireGuard server with 10.9.0.1 and its clients.
#[derive(Debug)]
pub(super) struct Star {
    // the daemons are dropped first: dropping a site kills the remaining processes
    pub(super) server: Daemon,
    _clients: [Daemon; 2],
    pub(super) server_site: Arc<Site>,
    pub(super) client_sites: [Arc<Site>; 2],
}

impl Star {
    /// Starts a server with `workers`, and clients with two each; `args` are for all.
    pub(super) fn new(workers: &str, args: &[&str]) -> Self {
        let lab = Arc::new(Lab::new(3));
        let server_site = Arc::new(Site::new(&lab, 0));
        let client_sites = [1, 2].map(|index| Arc::new(Site::new(&lab, index)));
        let (own, keys) = (Keys::new(), [Keys::new(), Keys::new()]);
        let mut settings = Settings::new(&own, &["10.9.0.1/24"]).port(PORT);
        for (keys, address) in keys.iter().zip(CLIENTS) {
            settings = settings.peer(Peer::new(&keys.public, &[&format!("{address}/32")]));
        }
        let start = |site: &Site, settings: &Settings, workers: &str| {
            let file = site.write("tun0.conf", &settings.wg_quick());
            let args = [&["--config", file.to_str().unwrap(), "--workers", workers], args].concat();
            let daemon = site.launch(BINARY.as_ref(), &args).spawn();
            daemon.wait_for(" ready mode=");
            daemon
        };
        let server = start(&server_site, &settings, workers);
        let clients = [0, 1].map(|client: usize| {
            let address = format!("{}/24", CLIENTS[client]);
            let peer = Peer::new(&own.public, &["10.9.0.0/24"]).at(Outer::V4.endpoint(&server_site));
            let settings = Settings::new(&keys[client], &[&address]).peer(peer);
            let daemon = start(&client_sites[client], &settings, "2");
            client_sites[client].ping(SERVER_V4);
            daemon
        });
        Self { server, _clients: clients, server_site, client_sites }
    }

    /// Starts a server with two workers, one for each client: the second client tries one port
    /// after the other until that holds.
    pub(super) fn spread(args: &[&str]) -> Self {
        let star = Self::new("2", args);
        let first = star.worker_of(0);
        for port in PORTS {
            if star.worker_of(1) != first {
                return star;
            }
            star.client_sites[1].wg(&["set", DEVICE, "listen-port", &port.to_string()]);
        }
        panic!("one worker hears both clients, whatever their ports");
    }

    /// Returns a UDP socket of `client` and the socket at the server that it is connected to.
    pub(super) fn udp(&self, client: usize) -> (UdpSocket, UdpSocket) {
        let sink = self.server_site.udp((SERVER_V4, 0));
        let socket = self.client_sites[client].udp((CLIENTS[client], 0));
        socket.connect(sink.local_addr().unwrap()).unwrap();
        sink.connect(socket.local_addr().unwrap()).unwrap();
        (socket, sink)
    }

    /// Returns the index of the server's worker that receives from `client`: the one that runs when
    /// the client sends.
    fn worker_of(&self, client: usize) -> usize {
        let (socket, sink) = self.udp(client);
        let ran = ran_meanwhile(&self.server, || {
            for _ in 0..SAMPLES {
                socket.send(b"anybody there?").unwrap();
                uninterrupted(|| sink.recv(&mut [0; 32])).unwrap();
            }
        });
        let busiest = (0..ran.len()).max_by_key(|&worker| ran[worker]).unwrap();
        let others = ran.iter().sum::<Duration>() - ran[busiest];
        assert!(ran[busiest] > others * 3, "not one worker's datagrams: {ran:?}");
        busiest
    }
}
