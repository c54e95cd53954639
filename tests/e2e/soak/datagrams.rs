//! Numbered datagrams through the tunnel, in one direction, at a steady rate, with the time of
//! sending and the arrival of each.

use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Interval between two datagrams.
const PACE: Duration = Duration::from_millis(20);
/// Bytes of each: the number, and as much payload as speech has.
const LEN: usize = 200;
/// Interval at which the receiver checks for the end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Datagram {
    /// Time since the start of the soak, as all times here.
    sent: Duration,
    arrived: Option<Duration>,
}

/// One direction of one client.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    /// The client's index.
    pub(super) client: usize,
    began: Instant,
    datagrams: Mutex<Vec<Datagram>>,
}

impl Flow {
    pub(super) fn new(name: String, client: usize, began: Instant) -> Self {
        Self { name, client, began, datagrams: Mutex::default() }
    }

    fn datagrams(&self) -> MutexGuard<'_, Vec<Datagram>> {
        self.datagrams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until `stop` is set. A missing route is part of the test.
    pub(super) fn send(&self, socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool) {
        let mut datagram = [0x5a; LEN];
        while !stop.load(Ordering::Relaxed) {
            let number = {
                let mut datagrams = self.datagrams();
                datagrams.push(Datagram { sent: self.began.elapsed(), arrived: None });
                datagrams.len() - 1
            };
            datagram[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let _ = socket.send_to(&datagram, to);
            thread::sleep(PACE);
        }
    }

    /// Receives until `stop` is set. None may arrive twice, and none that was not sent.
    pub(super) fn receive(&self, socket: &UdpSocket, stop: &AtomicBool) {
        let mut datagram = [0; 2 * LEN];
        socket.set_read_timeout(Some(LOOK)).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let Ok(len) = socket.recv(&mut datagram) else { continue };
            let (number, rest) = datagram[..len].split_first_chunk().unwrap();
            let number = u64::from_be_bytes(*number) as usize;
            assert!(
                rest.len() == LEN - 8 && rest.iter().all(|byte| *byte == 0x5a),
                "{}: {rest:?}",
                self.name
            );
            let now = self.began.elapsed();
            let mut datagrams = self.datagrams();
            let seen =
                datagrams.get_mut(number).unwrap_or_else(|| panic!("{}: {number} was not sent", self.name));
            assert!(seen.arrived.is_none(), "{}: datagram {number} came twice", self.name);
            seen.arrived = Some(now);
        }
    }

    /// Returns the arrival time of the first datagram sent at `since` or later.
    pub(super) fn again(&self, since: Duration) -> Option<Duration> {
        let datagrams = self.datagrams();
        let late = datagrams.iter().rev().take_while(|datagram| datagram.sent >= since);
        late.filter_map(|datagram| datagram.arrived).min()
    }

    /// Returns the number of datagrams sent in that time, and the sending times of the lost ones.
    pub(super) fn lost(&self, within: &RangeInclusive<Duration>) -> (usize, Vec<Duration>) {
        let datagrams = self.datagrams();
        let sent = datagrams.iter().filter(|datagram| within.contains(&datagram.sent));
        let lost = sent.clone().filter(|datagram| datagram.arrived.is_none()).map(|datagram| datagram.sent);
        (sent.count(), lost.collect())
    }
}
