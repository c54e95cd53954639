//! A steady flow of numbered datagrams.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use crate::lab::Host;
use crate::waiting::{eventually, uninterrupted};

/// Datagrams per second.
pub(super) const RATE: u32 = 1000;
/// Time for the last datagrams to arrive.
const LAST: Duration = Duration::from_secs(2);

/// Longest delay that the sender makes up for: all at once would not fit the device's queue of 500.
const MADE_UP: Duration = Duration::from_millis(50);

/// A flow in one direction.
#[derive(Debug)]
pub(super) struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Vec<u64>>,
}

/// Datagrams of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
}

impl Flow {
    /// Sends [`RATE`] datagrams per second from `from` to `address`, which is on `to`, until
    /// [`Self::stop`].
    pub(super) fn start(from: &Host, to: &Host, address: SocketAddr) -> Self {
        Self::with_rate(RATE, from, to, address)
    }

    /// As [`Self::start`], with another rate.
    pub(super) fn with_rate(rate: u32, from: &Host, to: &Host, address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let target = to.udp(address);
        target.set_read_timeout(Some(LAST)).unwrap();
        // what has waited arrives at once, and the usual buffer holds some 250 datagrams
        setsockopt(&target, RcvBufForce, &(4 << 20)).unwrap();
        let source = from
            .udp(SocketAddr::new(if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() }, 0));
        let to = target.local_addr().unwrap();
        let (ends, receives) = (Arc::clone(&stop), Arc::clone(&stop));
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let sender = thread::spawn(move || send(&source, to, rate, &ends, &count));
        let receiver = thread::spawn(move || receive(&target, &receives));
        Self { stop, sent, sender, receiver }
    }

    /// Waits until so many more datagrams have been sent.
    pub(super) fn wait_for(&self, more: u64) {
        let target = self.sent.load(Ordering::Relaxed) + more;
        eventually("the flow goes on", || self.sent.load(Ordering::Relaxed) >= target);
    }

    /// Ends the flow.
    pub(super) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        let received = self.receiver.join().unwrap();
        let different = received.iter().collect::<BTreeSet<_>>().len() as u64;
        Tally { sent, lost: sent - different, repeated: received.len() as u64 - different }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, rate: u32, stop: &AtomicBool, count: &AtomicU64) -> u64 {
    let (mut start, mut sent) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        // one that the kernel refuses counts as lost
        let _ = socket.send_to(&sent.to_be_bytes(), to);
        sent += 1;
        count.store(sent, Ordering::Relaxed);
        let due = start + Duration::from_secs(1) * u32::try_from(sent).unwrap() / rate;
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        if late > MADE_UP {
            start += late;
        }
        thread::sleep(due.saturating_duration_since(now));
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<u64> {
    let (mut received, mut bytes) = (Vec::new(), [0; 64]);
    loop {
        match uninterrupted(|| socket.recv(&mut bytes)) {
            Ok(8) => received.push(u64::from_be_bytes(*bytes.first_chunk().unwrap())),
            Ok(_) => {}
            Err(_) if stop.load(Ordering::Relaxed) => return received,
            Err(_) => {}
        }
    }
}
