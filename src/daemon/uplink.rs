//! The links by which this host sends, of which one can be slower than packets are encrypted.
//!
//! A socket accepts megabytes, which then wait in front of the link, and a ping behind them: a
//! tunnel has no window by which TCP notices. The kernel counts them in the socket, so a worker
//! measures the rate at which they leave, and if they wait too long, it tells the senders of bulk
//! traffic to slow down, as a router does by CoDel. On a fast link nothing waits.

use std::time::Duration;

use super::token::SocketId;
use crate::net::send_batch::MAX_MESSAGE;
use wontun_proto::codel::Codel;
use wontun_proto::time::Instant;

/// Delay above which senders are told to slow down, unless fewer bytes than these wait: on a very
/// slow link a few packets take longer.
const TARGET: Duration = Duration::from_millis(10);
const TARGET_BYTES: u64 = 48 << 10;
/// Bytes in a socket for several peers that may wait for one that does not answer address
/// resolution (`neigh/default/unres_qlen_bytes`): no sign of a slow link.
const UNRESOLVED: u64 = 208 << 10;
/// Bytes in a socket up to which its link counts as fast: half a message.
const STANDING: u64 = 32 << 10;
/// Bytes sent between two looks at a socket in which fewer wait.
const SPARSE: u64 = 128 << 10;
/// The same, if as many wait.
const DENSE: u64 = 16 << 10;
/// Time over which a rate is measured, and the bytes that must leave within it: the kernel counts a
/// message until all of it has left.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MIN_BYTES: u64 = 3 * MAX_MESSAGE as u64;
/// Time after which fewer bytes are enough.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Number of sockets that a worker observes: eight peers have one of their own, and the others one
/// of each address family.
const SOCKETS: usize = 10;

/// The sockets by which a worker sends bulk traffic.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    sockets: [Option<(SocketId, Uplink)>; SOCKETS],
    next: usize,
}

impl Uplinks {
    /// Records a large packet, or packets, of `bytes` that are to be sent by a socket, which is for
    /// several peers if it `is_shared`; `look` returns its state. Returns true if their sender must
    /// be told to slow down.
    pub(super) fn handle_packet(
        &mut self,
        socket: SocketId,
        is_shared: bool,
        bytes: usize,
        now: Instant,
        look: impl FnOnce() -> Option<SocketQueue>,
    ) -> bool {
        let exempt = if is_shared { UNRESOLVED } else { 0 };
        let look = || look().map(|it| SocketQueue { waiting: it.waiting.saturating_sub(exempt), ..it });
        let known = self.sockets.iter().position(|entry| entry.as_ref().is_some_and(|(id, _)| *id == socket));
        let place = known.unwrap_or_else(|| {
            let place = self.next;
            self.next = (place + 1) % SOCKETS;
            place
        });
        let Some(entry) = self.sockets.get_mut(place) else { return false };
        let uplink = match entry {
            Some((id, uplink)) if *id == socket => uplink,
            _ => &mut entry.insert((socket, Uplink::default())).1,
        };
        uplink.handle_packet(bytes, now, look)
    }
}

/// Bytes that a socket has accepted, from all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SocketQueue {
    /// Bytes in all.
    pub(super) sent: u64,
    /// Bytes of them that have not left.
    pub(super) waiting: u64,
}

impl SocketQueue {
    const fn left(self) -> u64 {
        self.sent.saturating_sub(self.waiting)
    }
}

/// The queue in front of a link, as one socket shows it.
#[derive(Debug, Default)]
struct Uplink {
    /// Bytes recorded since the last look, and the state at that.
    since_look: u64,
    seen: SocketQueue,
    /// Time since which bytes wait without a break, and the bytes that had left by then.
    since: Option<(Instant, u64)>,
    /// Bytes that leave in a second; 0 until it is known.
    rate: u64,
    codel: Codel,
}

impl Uplink {
    fn handle_packet(
        &mut self,
        bytes: usize,
        now: Instant,
        look: impl FnOnce() -> Option<SocketQueue>,
    ) -> bool {
        let is_standing = self.seen.waiting >= STANDING;
        self.since_look += u64::try_from(bytes).unwrap_or_default();
        if self.since_look < if is_standing { DENSE } else { SPARSE } {
            return false;
        }
        let Some(queue) = look() else { return false };
        self.since_look = 0;
        // if all has left that waited, the link may have had nothing to do since
        let is_busy = is_standing && queue.left().saturating_sub(self.seen.left()) < self.seen.waiting;
        self.seen = queue;
        if queue.waiting < STANDING {
            self.since = None;
            return self.codel.handle_packet(None, TARGET, now);
        }
        match self.since.filter(|_| is_busy) {
            None => self.since = Some((now, queue.left())),
            Some((since, before)) => {
                let (elapsed, bytes) = (now.since(since), queue.left().saturating_sub(before));
                if elapsed >= MAX_INTERVAL || (elapsed >= MIN_INTERVAL && bytes >= MIN_BYTES) {
                    self.rate = per_second(bytes, elapsed);
                    self.since = Some((now, queue.left()));
                }
            }
        }
        let time = |bytes: u64| Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate.max(1));
        let delay = (self.rate > 0).then(|| time(queue.waiting));
        self.codel.handle_packet(delay, TARGET.max(time(TARGET_BYTES)), now)
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes per millisecond of a link of 20 Mbit/s.
    const SLOW: u64 = 2500;
    const PACKET: usize = 10_000;

    /// A link and a sender, in milliseconds.
    #[derive(Default)]
    struct Simulation {
        uplink: Uplink,
        now: u64,
        queue: SocketQueue,
        looks: u64,
        signals: u64,
    }

    impl Simulation {
        /// Sends packets of 10,000 bytes for a time, `of` of them every so many milliseconds, to a
        /// link of a rate, which others use for `others` bytes every millisecond.
        fn run(&mut self, millis: u64, (of, every): (u64, u64), rate: u64, others: u64) {
            for _ in 0..millis {
                self.now += 1;
                self.queue.sent += others;
                self.queue.waiting += others;
                for _ in 0..if self.now.is_multiple_of(every) { of } else { 0 } {
                    let now = Instant::from_boot(Duration::from_millis(self.now));
                    let (looks, queue) = (&mut self.looks, self.queue);
                    let look = || {
                        *looks += 1;
                        Some(queue)
                    };
                    self.signals += u64::from(self.uplink.handle_packet(PACKET, now, look));
                    self.queue.sent += 10_000;
                    self.queue.waiting += 10_000;
                }
                self.queue.waiting = self.queue.waiting.saturating_sub(rate);
            }
        }

        fn fill(&mut self, bytes: u64) {
            self.queue.sent += bytes - self.queue.waiting;
            self.queue.waiting = bytes;
        }
    }

    #[test]
    fn a_slow_link_signals_until_its_queue_is_short() {
        let mut it = Simulation::default();
        it.fill(1 << 20);
        // as much as the link takes, which leaves the queue as it is
        it.run(80, (1, 4), SLOW, 0);
        assert_eq!(it.signals, 0, "the rate is not known yet");
        it.run(1000, (1, 4), SLOW, 0);
        assert!((5..40).contains(&it.signals), "{}", it.signals);
        assert!((2400..2600).contains(&(it.uplink.rate / 1000)), "{}", it.uplink.rate);
        it.queue.waiting = 0;
        it.run(200, (1, 4), SLOW, 0);
        let before = it.signals;
        it.run(1000, (1, 4), SLOW, 0);
        assert_eq!(it.signals, before);
    }

    #[test]
    fn a_small_part_of_the_traffic_has_the_delay_of_all() {
        for (waiting, is_signalled) in [(200_000, false), (600_000, true)] {
            let mut it = Simulation::default();
            it.fill(waiting);
            // 200 Mbit/s, a fifth of it
            it.run(3000, (1, 2), 25_000, 20_000);
            assert!((24_000..26_000).contains(&(it.uplink.rate / 1000)), "{}", it.uplink.rate);
            assert_eq!(it.signals > 0, is_signalled, "{waiting}: {}", it.signals);
        }
    }

    #[test]
    fn a_fast_link_costs_a_look_now_and_then() {
        let mut it = Simulation::default();
        for _ in 0..50_000 {
            let look = || {
                it.looks += 1;
                Some(SocketQueue::default())
            };
            assert!(!it.uplink.handle_packet(PACKET, Instant::default(), look));
        }
        assert!((3000..4000).contains(&it.looks), "{}", it.looks);
        // a queue of a millisecond
        it.fill(500_000);
        it.run(1000, (50, 1), 500_000, 0);
        assert_eq!(it.signals, 0);
        assert!((480..520).contains(&(it.uplink.rate / 1_000_000)), "{}", it.uplink.rate);
    }

    #[test]
    fn what_waits_for_a_neighbour_says_nothing() {
        for (is_shared, is_signalled) in [(true, false), (false, true)] {
            let mut uplinks = Uplinks::default();
            let mut sent = 200_000;
            // a flow that nothing holds up
            let signals = (0..2000).filter(|millis| {
                if millis % 10 != 0 {
                    return false;
                }
                let now = Instant::from_boot(Duration::from_millis(*millis));
                let queue = SocketQueue { sent, waiting: 200_000 };
                sent += 10_000;
                uplinks.handle_packet(SocketId(1), is_shared, PACKET, now, || Some(queue))
            });
            assert_eq!(signals.count() > 0, is_signalled);
        }
    }

    #[test]
    fn sockets_are_told_apart() {
        let mut uplinks = Uplinks::default();
        let mut looks = 0;
        for round in 0..40 {
            for id in 0..10 {
                let look = || {
                    looks += 1;
                    Some(SocketQueue::default())
                };
                let now = Instant::from_boot(Duration::from_millis(round));
                uplinks.handle_packet(SocketId(id), false, PACKET, now, look);
            }
        }
        assert_eq!(looks, 10 * 2);
    }
}
