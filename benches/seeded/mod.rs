//! Random bytes that are the same in each run.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wontun_proto::wireguard::Random;

/// A source of random bytes.
#[derive(Debug)]
pub(crate) struct Seeded(ChaCha20Rng);

impl Seeded {
    /// Returns the source with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }
}

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}
