//! A server with two clients, each of which another worker hears.

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

/// Ports that a client is tried on. That all of them go to the worker of the other client is as
/// likely as that a coin falls on the same side so often.
const PORTS: std::ops::Range<u16> = 52_000..52_030;

/// Datagrams that show which worker hears a client.
const SAMPLES: usize = 50;

/// A thread of a process.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// Time that it ran so far.
    ran: Duration,
}

/// The threads of a process, the first one first.
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

/// Those of its threads that carry packets.
fn workers(pid: Pid) -> Vec<Thread> {
    threads(pid).into_iter().filter(|thread| thread.name != "wontun-log").collect()
}

/// How long each worker of a tunnel ran while `work` was done.
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
    // the daemons first: the sites' ends kill whoever is left
    pub(super) server: Daemon,
    _clients: [Daemon; 2],
    pub(super) server_site: Arc<Site>,
    pub(super) client_sites: [Arc<Site>; 2],
}

impl Star {
    /// The server has `workers`, the clients two each; `args` are for all.
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

    /// With two workers, one for each client: the second client takes one port after the other
    /// until it is so.
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

    /// A UDP socket of `client`'s that is connected to one at the server, and that one.
    pub(super) fn udp(&self, client: usize) -> (UdpSocket, UdpSocket) {
        let sink = self.server_site.udp((SERVER_V4, 0));
        let socket = self.client_sites[client].udp((CLIENTS[client], 0));
        socket.connect(sink.local_addr().unwrap()).unwrap();
        sink.connect(socket.local_addr().unwrap()).unwrap();
        (socket, sink)
    }

    /// The server's worker that hears `client`: the one that works when the client sends.
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
