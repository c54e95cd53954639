//! Random objects of a tunnel's state are removed in random order, singly and several at once, for
//! a while. In the end the state is the same as before, nothing exists twice, and the state of
//! other programs is unchanged.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::older::NfTables;
use super::pieces::{Kind, Piece, flushes, pieces};
use super::snapshot::Snapshot;
use super::stage::Stage;
use crate::waiting::holds_within;
use crate::wireguard::site::Site;

/// Environment variable with the seed of the sequence, to repeat a run.
const SEED: &str = "WONTUN_FUZZ_SEED";
/// Environment variable with the duration of each test in seconds.
const SECONDS: &str = "WONTUN_FUZZ_SECONDS";
const DEFAULT_SECONDS: u64 = 8;
/// Longest time until everything is repaired: a constantly removed object is restored once a
/// second.
const CONVERGENCE: Duration = Duration::from_secs(10);

/// A pseudo-random number generator (xorshift64*).
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Chooses an item.
    fn choose<'item, T>(&mut self, items: &'item [T]) -> &'item T {
        &items[self.below(items.len())]
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name} is no number ({error}): {text}")))
}

/// Runs all removals at the same time. Some fail: their object is gone, belongs to something that
/// is gone, or is protected.
fn remove(site: &Site, removals: &[&Piece]) {
    let mut script = String::new();
    for piece in removals {
        script += &format!("{{ {}; }} 2>/dev/null &\n", piece.removal);
    }
    script += "wait";
    let status = site.command("sh").args(["-c", &script]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Does one step: removes an object, several, or everything of a kind.
fn step(site: &Site, numbers: &mut Numbers) -> Vec<String> {
    let there = pieces(site);
    let flushes = flushes();
    // there are many more parts of tables than anything else
    let of_a_kind = |numbers: &mut Numbers| {
        let kind = numbers.choose(Kind::ALL);
        let some: Vec<&Piece> = there.iter().filter(|piece| piece.kind == *kind).collect();
        if some.is_empty() { None } else { Some(*numbers.choose(&some)) }
    };
    let chosen: Vec<&Piece> = match numbers.below(10) {
        0..6 => of_a_kind(numbers).into_iter().collect(),
        6..9 => (0..2 + numbers.below(6)).filter_map(|_| of_a_kind(numbers)).collect(),
        _ => vec![numbers.choose(&flushes)],
    };
    remove(site, &chosen);
    chosen.iter().map(|piece| piece.removal.clone()).collect()
}

/// Removes objects for a while, and compares the states.
fn survives(stage: Stage) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting(SEED).unwrap_or(clock.as_nanos() as u64).max(1);
    let duration = Duration::from_secs(setting(SECONDS).unwrap_or(DEFAULT_SECONDS));
    eprintln!("{SEED}={seed} {SECONDS}={}", duration.as_secs());
    let mut numbers = Numbers(seed);
    stage.add_foreign_state();
    stage.passes();
    stage.settle();
    let before = Snapshot::of(&stage.site);
    let repairs = stage.repairs();
    let start = Instant::now();
    let mut steps = Vec::new();
    while start.elapsed() < duration {
        steps.push(step(&stage.site, &mut numbers));
        std::thread::sleep(Duration::from_millis(numbers.below(300) as u64));
    }
    let end = Instant::now();
    let mut after = Snapshot::of(&stage.site);
    let is_back = holds_within(CONVERGENCE, || {
        // a health request compares everything
        stage.health();
        after = Snapshot::of(&stage.site);
        after == before
    });
    let last = &steps[steps.len().saturating_sub(5)..];
    assert!(
        is_back,
        "seed {seed}: not as before {CONVERGENCE:?} after {} steps, the last of which are {last:#?}:\n{}",
        steps.len(),
        before.difference(&after)
    );
    eprintln!(
        "{} steps, {:.0} repairs, all back after {:?}",
        steps.len(),
        stage.repairs() - repairs,
        end.elapsed()
    );
    stage.passes();
    // objects that were restored too often wait for the next second
    let mut health = stage.health();
    let is_healthy = holds_within(CONVERGENCE, || {
        health = stage.health();
        health.code() == 0
    });
    assert!(is_healthy, "{health:?}");
    assert!(stage.repairs() > repairs, "nothing was repaired");
    assert_eq!(Snapshot::of(&stage.site).difference(&before), "");
    let stopped = stage.daemon.stop();
    assert!(stopped.status.success(), "{stopped:?}");
}

#[test]
fn a_full_tunnel_with_a_kill_switch() {
    survives(Stage::full_tunnel(NfTables::Kernel, &["--kill-switch"]));
}

#[test]
fn a_full_tunnel_where_anybody_changes_tables() {
    survives(Stage::full_tunnel(NfTables::Older, &["--kill-switch"]));
}

#[test]
fn a_server_with_address_translation() {
    survives(Stage::server(NfTables::Kernel, &[]));
}

#[test]
fn a_server_where_anybody_changes_tables() {
    survives(Stage::server(NfTables::Older, &[]));
}
