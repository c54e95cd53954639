//! Randomness of the engine. The caller supplies it, so that a test can repeat a run.

use std::time::Duration;

/// A cryptographically secure source of random bytes. The device's uses the kernel; that of tests
/// is seeded.
pub trait Random {
    /// Overwrites `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// Returns an array of random bytes.
pub(super) fn bytes<const N: usize>(random: &mut dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// Returns a random `u32`.
pub(super) fn number(random: &mut dyn Random) -> u32 {
    u32::from_le_bytes(bytes(random))
}

/// Returns a random time from 0 to `max`, in steps of a microsecond.
pub(super) fn jitter(random: &mut dyn Random, max: Duration) -> Duration {
    let steps = u64::try_from(max.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_micros(u64::from_le_bytes(bytes(random)) % steps)
}

/// The generator for tests.
#[cfg(test)]
pub(super) struct Seeded(rand_chacha::ChaCha20Rng);

#[cfg(test)]
impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self(rand_chacha::ChaCha20Rng::seed_from_u64(seed))
    }
}

#[cfg(test)]
impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        use rand_chacha::rand_core::Rng;
        self.0.fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_covers_its_range_and_stays_in_it() {
        let mut random = Seeded::new(1);
        let max = Duration::from_millis(333);
        let drawn: Vec<_> = (0..10_000).map(|_| jitter(&mut random, max)).collect();
        assert!(drawn.iter().all(|time| *time <= max));
        assert!(*drawn.iter().min().unwrap() < max / 100);
        assert!(*drawn.iter().max().unwrap() > max * 99 / 100);
    }
}
