//! Counters of packets carried, and dropped by reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use wontun_packet::DropReason;

/// Packets and bytes carried in one direction; bytes are those of the inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes, without the outer headers.
    pub bytes: u64,
}

/// Counters of one worker, which only that worker increments and any thread may read. They are not
/// read atomically together: a reader may see a packet whose bytes are not counted yet.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    tx: AtomicFlow,
    rx: AtomicFlow,
    drops: [AtomicU64; DropReason::ALL.len()],
}

#[derive(Debug, Default)]
struct AtomicFlow {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl AtomicFlow {
    fn count(&self, packets: usize, bytes: usize) {
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_to(&self, flow: &mut Flow) {
        flow.packets += self.packets.load(Ordering::Relaxed);
        flow.bytes += self.bytes.load(Ordering::Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        let drops = [const { AtomicU64::new(0) }; DropReason::ALL.len()];
        Self { tx: AtomicFlow::default(), rx: AtomicFlow::default(), drops }
    }
}

impl Counters {
    /// Counts packets from the TUN device to the network, and their bytes. A packet that cannot be
    /// sent after all is counted as a drop as well.
    pub fn count_tx(&self, packets: usize, bytes: usize) {
        self.tx.count(packets, bytes);
    }

    /// Counts packets from the network to the TUN device, and their bytes.
    pub fn count_rx(&self, packets: usize, bytes: usize) {
        self.rx.count(packets, bytes);
    }

    /// Counts `packets` drops for `reason`.
    pub fn count_drops(&self, reason: DropReason, packets: usize) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.fetch_add(packets as u64, Ordering::Relaxed);
        }
    }
}

/// Sum of the counters of one tunnel.
#[derive(Clone, Debug)]
pub struct Totals {
    /// From the TUN device to the network.
    pub tx: Flow,
    /// From the network to the TUN device.
    pub rx: Flow,
    drops: [u64; DropReason::ALL.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self { tx: Flow::default(), rx: Flow::default(), drops: [0; DropReason::ALL.len()] }
    }
}

impl Totals {
    /// Adds the counters of one worker.
    pub fn add(&mut self, counters: &Counters) {
        counters.tx.add_to(&mut self.tx);
        counters.rx.add_to(&mut self.rx);
        for (total, count) in self.drops.iter_mut().zip(&counters.drops) {
            *total += count.load(Ordering::Relaxed);
        }
    }

    /// Replaces the count of `reason` with one that is kept elsewhere.
    pub fn set_drops(&mut self, reason: DropReason, total: u64) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = total;
        }
    }

    /// Returns the number of packets dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// Returns a value that displays as `stranger=3 malformed=1`, or `none`.
    pub const fn drop_summary(&self) -> impl fmt::Display + '_ {
        DropSummary(self)
    }
}

struct DropSummary<'a>(&'a Totals);

impl fmt::Display for DropSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for reason in DropReason::ALL {
            let count = self.0.drops(reason);
            if count > 0 {
                write!(f, "{separator}{}={count}", reason.name())?;
                separator = " ";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let (counters, mut totals) = (Counters::default(), Totals::default());
            counters.count_drops(reason, 1);
            totals.add(&counters);
            assert_eq!(totals.drop_summary().to_string(), format!("{}=1", reason.name()));
        }
    }

    #[test]
    fn the_summary_names_only_what_happened() {
        let workers = [Counters::default(), Counters::default()];
        let total = || {
            let mut totals = Totals::default();
            workers.iter().for_each(|counters| totals.add(counters));
            totals
        };
        assert_eq!(total().drop_summary().to_string(), "none");
        workers[0].count_drops(DropReason::Malformed, 1);
        workers[1].count_drops(DropReason::UnknownSource, 1);
        workers[0].count_drops(DropReason::UnknownSource, 1);
        workers[0].count_tx(2, 300);
        workers[1].count_tx(1, 4);
        assert_eq!(total().drop_summary().to_string(), "stranger=2 malformed=1");
        assert_eq!(total().tx, Flow { packets: 3, bytes: 304 });
    }
}
