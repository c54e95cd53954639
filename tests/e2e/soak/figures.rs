//! The measurements, and their evaluation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::datagrams::Flow;
use super::end::{End, Sample};

/// Margin before a disturbance and after its end for packets in flight, on a busy machine.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Largest growth of the resident memory, in kilobytes: an allocator does not return all that it
/// could.
const GROWTH: u64 = 512;

/// An event that has been completed.
#[derive(Debug)]
pub(super) struct AppliedEvent {
    pub(super) kind: &'static str,
    /// Description of the event, for debugging.
    pub(super) what: String,
    /// Clients that may have lost packets.
    pub(super) disturbed: Vec<usize>,
    pub(super) from: Duration,
    /// Time when everything was restored, such as a cable or a new process.
    pub(super) restored: Duration,
    /// Time when datagrams arrived again in both directions, and when bytes of the streams did.
    pub(super) datagrams: Duration,
    pub(super) streams: Duration,
}

impl AppliedEvent {
    fn covers(&self, client: usize, sent: Duration) -> bool {
        let (from, to) = (self.from.saturating_sub(UNDER_WAY), self.datagrams + UNDER_WAY);
        self.disturbed.contains(&client) && (from..=to).contains(&sent)
    }
}

/// Returns the number of lost datagrams that a disturbance explains, by kind, and the others, each
/// with a name and the preceding events.
pub(super) fn check_losses(
    flows: &[Flow],
    played: &[AppliedEvent],
    to: Duration,
) -> (BTreeMap<&'static str, usize>, Vec<String>) {
    let (mut explained, mut others) = (BTreeMap::new(), Vec::new());
    for flow in flows {
        for sent in flow.lost(&(Duration::ZERO..=to)).1 {
            match played.iter().find(|played| played.covers(flow.client, sent)) {
                Some(played) => *explained.entry(played.kind).or_default() += 1,
                None => {
                    let before = played.iter().rev().find(|played| played.from <= sent + UNDER_WAY);
                    let before = before.map_or("the start", |played| &played.what);
                    others.push(format!(
                        "{}: sent at {:.2} s, after {before}",
                        flow.name,
                        sent.as_secs_f64()
                    ));
                }
            }
        }
    }
    (explained, others)
}

/// Returns the table of events.
pub(super) fn events(played: &[AppliedEvent], lost: &BTreeMap<&'static str, usize>) -> String {
    let mut kinds: BTreeMap<&str, Vec<&AppliedEvent>> = BTreeMap::new();
    played.iter().for_each(|played| kinds.entry(played.kind).or_default().push(played));
    let mut text = format!(
        "{:30} {:>5} {:>10} {:>8} {:>10} {:>8} {:>6}\n",
        "event (times in s)", "times", "datagrams", "worst", "streams", "worst", "lost"
    );
    for (kind, played) in kinds {
        let seconds = |end: fn(&AppliedEvent) -> Duration| {
            let mut all: Vec<_> =
                played.iter().map(|played| end(played).saturating_sub(played.restored)).collect();
            all.sort();
            [all[all.len() / 2], all[all.len() - 1]].map(|time| time.as_secs_f64())
        };
        let [datagrams, worst] = seconds(|played| played.datagrams);
        let [streams, worst_stream] = seconds(|played| played.streams);
        let (times, lost) = (played.len(), lost.get(kind).copied().unwrap_or_default());
        let _ = writeln!(
            text,
            "{kind:30} {times:5} {datagrams:10.2} {worst:8.2} {streams:10.2} {worst_stream:8.2} {lost:6}"
        );
    }
    text
}

/// Resource usage of a process at first, after a warm-up, and at the end: medians of the resident
/// memory; the most descriptors until three fifths of its life, and the last number. A peer that
/// moved has no socket of its own until the next handshake, so one moment does not show the usual
/// number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    life: Duration,
    resident: [u64; 2],
    descriptors: [usize; 2],
}

impl Use {
    /// Evaluates the samples; `None` if there are too few.
    pub(super) fn of(samples: &[Sample]) -> Option<Self> {
        let (first, last) = (samples.first()?, samples.last()?);
        let fifth = samples.len() / 5;
        // the first part is the warm-up
        let [early, late] = [samples.get(fifth..2 * fifth)?, samples.get(samples.len() - fifth..)?];
        let resident = |part: &[Sample]| {
            let mut all: Vec<_> = part.iter().map(|sample| sample.resident).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        let usual = samples.get(fifth..3 * fifth)?.iter().map(|sample| sample.descriptors).max()?;
        Some(Self {
            life: last.at - first.at,
            resident: [resident(early)?, resident(late)?],
            descriptors: [usual, last.descriptors],
        })
    }

    /// Returns a description of the growth, if any.
    fn faults(&self) -> Option<String> {
        let ([resident, resident_now], [descriptors, descriptors_now]) = (self.resident, self.descriptors);
        let is_flat = resident_now <= resident + resident / 20 + GROWTH && descriptors_now <= descriptors;
        (!is_flat).then(|| format!("{self:?}"))
    }
}

/// Returns the table of processes.
pub(super) fn processes(ends: &[&End]) -> String {
    let mut text = format!(
        "{:10} {:>9} {:>7} {:>12} {:>12} {:>12} {:>10}\n",
        "process", "for (s)", "killed", "RSS kB", "at the end", "descriptors", "at the end"
    );
    for end in ends {
        let line = match Use::of(&end.samples) {
            Some(Use { life, resident: [rss, rss_now], descriptors: [open, open_now] }) => {
                let life = life.as_secs_f64();
                format!("{life:9.0} {:7} {rss:12} {rss_now:12} {open:12} {open_now:10}", end.killed)
            }
            None => format!("{:>9} {:7}", "too short", end.killed),
        };
        let _ = writeln!(text, "{:10} {line}", end.name);
    }
    text
}

/// Returns the processes whose resource usage has grown.
pub(super) fn growing(ends: &[&End]) -> Vec<String> {
    let faults = |end: &&End| Some(format!("{}: {}", end.name, Use::of(&end.samples)?.faults()?));
    ends.iter().filter_map(faults).collect()
}

#[test]
fn a_disturbance_explains_its_own_clients_losses_only() {
    let seconds = Duration::from_secs;
    let played = AppliedEvent {
        kind: "cable out and in",
        what: String::new(),
        disturbed: vec![1],
        from: seconds(10),
        restored: seconds(11),
        datagrams: seconds(12),
        streams: seconds(20),
    };
    for (client, sent, explained) in
        [(1, 9, true), (1, 13, true), (1, 8, false), (1, 14, false), (0, 11, false), (2, 11, false)]
    {
        assert_eq!(played.covers(client, seconds(sent)), explained, "client {client} at {sent} s");
    }
}

#[test]
fn what_grows_is_found() {
    let samples = |resident: fn(u64) -> u64, descriptors: fn(u64) -> usize| -> Vec<Sample> {
        let sample =
            |n| Sample { at: Duration::from_secs(n), resident: resident(n), descriptors: descriptors(n) };
        (0..50).map(sample).collect()
    };
    let is_flat = |samples: &[Sample]| Use::of(samples).unwrap().faults().is_none();
    // the memory of a warm-up, with noise
    assert!(is_flat(&samples(
        |n| if n < 10 { 1000 + 400 * n } else { 5000 + n % 3 * 100 },
        |n| if n < 5 { 20 } else { 30 }
    )));
    assert!(!is_flat(&samples(|n| 5000 + 40 * n, |_| 30)));
    assert!(!is_flat(&samples(|_| 5000, |n| if n < 48 { 30 } else { 31 })));
    assert!(!is_flat(&samples(|_| 5000, |n| if n < 30 { 30 } else { 31 })));
    assert!(!is_flat(&samples(|_| 5000, |n| 30 + n as usize / 15)));
    // a peer without a socket of its own for a while, at the beginning and at the end
    assert!(is_flat(&samples(|_| 5000, |n| if (8..25).contains(&n) || n > 47 { 29 } else { 30 })));
    assert!(Use::of(&samples(|_| 5000, |_| 30)[..4]).is_none(), "too short to tell");
}
