//! A relay in front of a server with two addresses, each with its own path: datagrams are delayed
//! by a set time in each direction, or dropped. For kernels without netem.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pair::PORT;
use crate::lab::Host;

/// Delay of datagrams to the server and back; `None` drops them.
pub(super) type Delays = [Option<Duration>; 2];

/// Timeout of the reads, so that the threads end.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Relay {
    paths: Vec<Arc<Path>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Path {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    delays: Delays,
    client: Option<SocketAddr>,
    /// Datagrams from the client, with their times of arrival.
    seen: Vec<(Instant, Vec<u8>)>,
}

impl Path {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Relay {
    /// Accepts datagrams at the addresses of `host`, IPv6 and IPv4, for the server at `server`.
    pub(super) fn new(host: &Host, server: SocketAddr, [v6, v4]: [Delays; 2]) -> Self {
        let mut relay = Self { paths: Vec::new(), ended: Arc::default(), threads: Vec::new() };
        for (address, delays) in
            [(SocketAddr::from((host.v6, PORT)), v6), (SocketAddr::from((host.v4, PORT)), v4)]
        {
            let state = Mutex::new(State { delays, client: None, seen: Vec::new() });
            let path = Arc::new(Path { address, state });
            let outer = Arc::new(host.udp(address));
            let inner = Arc::new(host.udp((host.v4, 0)));
            inner.connect(server).unwrap();
            for direction in [0, 1] {
                let (from, to) = if direction == 0 { (&outer, &inner) } else { (&inner, &outer) };
                let (queue, due) = mpsc::channel();
                let (path, ended) = (Arc::clone(&path), Arc::clone(&relay.ended));
                let (from, to) = (Arc::clone(from), Arc::clone(to));
                let sender = Arc::clone(&path);
                relay.threads.push(thread::spawn(move || take(&from, &path, direction, &queue, &ended)));
                relay.threads.push(thread::spawn(move || send(&to, &sender, direction, &due)));
            }
            relay.paths.push(path);
        }
        relay
    }

    /// Returns the addresses, IPv6 and IPv4.
    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        [0, 1].map(|path| self.paths[path].address)
    }

    /// Sets the delays of datagrams over IPv6 (0) or IPv4 (1).
    pub(super) fn set(&self, path: usize, delays: Delays) {
        self.paths[path].state().delays = delays;
    }

    /// Returns the initiations that came over that path, with their times of arrival.
    pub(super) fn initiations(&self, path: usize) -> Vec<(Instant, Vec<u8>)> {
        let mut seen = self.paths[path].state().seen.clone();
        seen.retain(|(_, datagram)| datagram.first() == Some(&1));
        seen
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Reads datagrams until the relay ends, and queues each with the time at which it is due.
fn take(
    from: &UdpSocket,
    path: &Path,
    direction: usize,
    queue: &mpsc::Sender<(Instant, Vec<u8>)>,
    ended: &AtomicBool,
) {
    from.set_read_timeout(Some(TICK)).unwrap();
    let mut buffer = [0; 2048];
    while !ended.load(Ordering::Relaxed) {
        let (len, source) = match from.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) =>
            {
                continue;
            }
            Err(error) => panic!("the relay cannot read: {error}"),
        };
        let (now, datagram) = (Instant::now(), buffer[..len].to_vec());
        let mut state = path.state();
        if direction == 0 {
            state.client = Some(source);
            state.seen.push((now, datagram.clone()));
        }
        if let Some(delay) = state.delays[direction] {
            queue.send((now + delay, datagram)).ok();
        }
    }
}

/// Sends each datagram when it is due; ends when the queue is closed.
fn send(to: &UdpSocket, path: &Path, direction: usize, queue: &mpsc::Receiver<(Instant, Vec<u8>)>) {
    for (due, datagram) in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let client = path.state().client;
        // a send error is a loss
        match (direction, client) {
            (0, _) => drop(to.send(&datagram)),
            (_, Some(client)) => drop(to.send_to(&datagram, client)),
            (_, None) => {}
        }
    }
}
