//! The system's randomness.

use ring::rand::SecureRandom;
use zeroize::Zeroize;

use crate::tunnel::wireguard::Random;

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system gives no random bytes: expected getrandom(2) or /dev/urandom to work; a sandbox may forbid them"
)]
pub struct NoRandomness;

/// Bytes from getrandom(2), one call each time. Nothing is kept in this process, so nothing is there that a fork
/// would repeat or a core dump show; a call costs well under a microsecond, next to a handshake's hundred.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The system's generator, tried once. After the boot's first seconds, for which this waits, it does not fail
    /// any more.
    ///
    /// # Errors
    /// The system has none, or a sandbox forbids it.
    pub fn open() -> Result<Self, NoRandomness> {
        let random = Self(ring::rand::SystemRandom::new());
        let mut trial = [0; 32];
        let result = random.0.fill(&mut trial);
        trial.zeroize();
        result.map(|()| random).map_err(|_| NoRandomness)
    }
}

impl Random for SystemRandom {
    /// Ends the process if the generator, which worked before, fails: with bytes that are not random every promise of
    /// the protocol would be broken, and there is no way to go on without any.
    fn fill(&mut self, out: &mut [u8]) {
        if self.0.fill(out).is_err() {
            tracing::error!("{NoRandomness}");
            eprintln!("wontun: {NoRandomness}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_fill_the_whole() {
        let mut random = SystemRandom::open().unwrap();
        let mut draws = vec![[0_u8; 32]; 100];
        draws.iter_mut().for_each(|draw| random.fill(draw));
        draws.sort_unstable();
        draws.dedup();
        assert_eq!(draws.len(), 100);
        for place in 0..32 {
            assert!(draws.iter().any(|draw| draw[place] != 0), "byte {place} is never set");
        }
        random.fill(&mut []);
    }
}
