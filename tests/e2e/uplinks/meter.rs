//! Measures outages: one host sends a datagram through the tunnel every few milliseconds, the other
//! returns it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::Host;
use crate::waiting::holds_within;

/// Time between two datagrams.
const INTERVAL: Duration = Duration::from_millis(5);
/// Longest outage that is measured.
const PATIENCE: Duration = Duration::from_secs(40);

/// A datagram: when it was sent, and when it was returned.
#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Instant,
    returned: Option<Instant>,
}

/// A running measurement.
#[derive(Debug)]
pub(super) struct Meter {
    probes: Arc<Mutex<Vec<Probe>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// An outage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    /// Time from the beginning of the change to the next datagram that is sent after its end and
    /// returned.
    pub(super) took: Duration,
    /// Number of datagrams that were sent meanwhile and not returned.
    pub(super) lost: usize,
}

/// Longest outage where the new network works.
pub(super) const LIMIT: Duration = Duration::from_secs(1);
/// Part of it that a busy machine may take to run the commands and these threads.
const BUSY: Duration = Duration::from_secs(4);

impl Outage {
    /// Panics unless no more datagrams are lost than are sent in a second.
    pub(super) fn assert_short(self) {
        let lost = INTERVAL * u32::try_from(self.lost).unwrap();
        assert!(lost <= LIMIT && self.took <= LIMIT + BUSY, "{self:?}");
    }
}

impl Meter {
    /// Sends datagrams from `asker` to `answerer`, by their inner addresses.
    pub(super) fn start(asker: (&Host, IpAddr), answerer: (&Host, IpAddr)) -> Self {
        let mirror = answerer.0.udp((answerer.1, 7));
        let source = asker.0.udp((asker.1, 0));
        let to = SocketAddr::new(answerer.1, 7);
        for socket in [&mirror, &source] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        }
        let (probes, stop) = (Arc::<Mutex<Vec<Probe>>>::default(), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        let run = |work: Box<dyn Fn() + Send>| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            })
        };
        threads.push(run(Box::new(move || {
            let mut buffer = [0; 8];
            if let Ok((length, from)) = mirror.recv_from(&mut buffer) {
                let _ = mirror.send_to(&buffer[..length], from);
            }
        })));
        let receiver: UdpSocket = source.try_clone().unwrap();
        let noted = Arc::clone(&probes);
        threads.push(run(Box::new(move || {
            let mut buffer = [0; 8];
            if receiver.recv(&mut buffer).is_ok_and(|length| length == 8) {
                let number = u64::from_be_bytes(buffer) as usize;
                noted.lock().unwrap()[number].returned.get_or_insert_with(Instant::now);
            }
        })));
        let noted = Arc::clone(&probes);
        threads.push(run(Box::new(move || {
            let number = {
                let mut probes = noted.lock().unwrap();
                probes.push(Probe { sent: Instant::now(), returned: None });
                probes.len() - 1
            };
            // an error is a loss
            let _ = source.send_to(&(number as u64).to_be_bytes(), to);
            thread::sleep(INTERVAL);
        })));
        let meter = Self { probes, stop, threads };
        assert!(meter.is_returned_after(Instant::now(), PATIENCE), "nothing is returned before the change");
        meter
    }

    fn is_returned_after(&self, at: Instant, limit: Duration) -> bool {
        holds_within(limit, || self.first_after(at).is_some())
    }

    fn first_after(&self, at: Instant) -> Option<Probe> {
        let probes = self.probes.lock().unwrap();
        probes
            .iter()
            .rev()
            .take_while(|probe| probe.sent > at)
            .filter(|probe| probe.returned.is_some())
            .last()
            .copied()
    }

    /// Makes a change, and returns the outage that it causes, which is printed.
    pub(super) fn outage(&self, what: &str, change: impl FnOnce()) -> Outage {
        let begun = Instant::now();
        change();
        let changed = Instant::now();
        assert!(
            self.is_returned_after(changed, PATIENCE),
            "{what}: nothing is returned {PATIENCE:?} after the change"
        );
        let first = self.first_after(changed).unwrap();
        let probes = self.probes.lock().unwrap();
        let lost = probes.iter().filter(|probe| probe.returned.is_none());
        let lost = lost.filter(|probe| probe.sent >= begun && probe.sent < first.sent).count();
        let outage = Outage { took: first.returned.unwrap() - begun, lost };
        eprintln!("figure: {what}: answered again after {:?}, {} datagrams lost", outage.took, outage.lost);
        outage
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
