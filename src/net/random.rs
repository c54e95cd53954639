//! The system's random number generator.

use ring::rand::SecureRandom;
use zeroize::Zeroize;

use wontun_proto::wireguard::Random;

/// The error for a system that returns no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system returns no random bytes: getrandom(2) and /dev/urandom fail; a sandbox may forbid them")]
pub struct RandomError;

/// Random bytes from getrandom(2), one call each time. Nothing is buffered in this process, so a
/// fork cannot repeat bytes and a core dump cannot reveal them; a call takes well under a
/// microsecond, compared with a handshake's hundred.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// Opens the system's generator and tests it once. It waits through the first seconds after
    /// boot; after that the generator does not fail.
    ///
    /// # Errors
    /// The system has no generator, or a sandbox forbids it.
    pub fn open() -> Result<Self, RandomError> {
        let random = Self(ring::rand::SystemRandom::new());
        let mut trial = [0; 32];
        let result = random.0.fill(&mut trial);
        trial.zeroize();
        result.map(|()| random).map_err(|_| RandomError)
    }
}

impl Random for SystemRandom {
    /// Aborts the process if the generator, which worked before, fails: with predictable bytes
    /// every guarantee of the protocol would be void, and the protocol cannot continue without
    /// random bytes.
    fn fill(&mut self, out: &mut [u8]) {
        if self.0.fill(out).is_err() {
            tracing::error!("{RandomError}");
            eprintln!("wontun: {RandomError}");
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
