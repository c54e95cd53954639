//! One-time passwords by the time (RFC 6238), of six digits for 30 seconds each, as authenticator
//! apps make them.

use std::fmt;
use std::time::Duration;

use ring::hmac;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

use wontun_proto::wireguard::Random;

/// Length of a secret in bytes, as RFC 4226 recommends.
const LENGTH: usize = 20;
/// Duration of a password in seconds.
const STEP: u64 = 30;
const DIGITS: u32 = 6;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The secret that the app shares.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::admin) struct TotpSecret([u8; LENGTH]);

impl TotpSecret {
    /// Draws a secret.
    pub(in crate::admin) fn random(random: &mut dyn Random) -> Self {
        let mut secret = [0; LENGTH];
        random.fill(&mut secret);
        Self(secret)
    }

    /// Returns the step of a password that is valid at `now`, a time since 1970, or was or will be
    /// within one step: clocks differ. A step up to `last` was used already.
    pub(in crate::admin) fn step_of(&self, password: &str, now: Duration, last: u64) -> Option<u64> {
        let current = Self::step_at(now);
        let typed: Zeroizing<String> =
            Zeroizing::new(password.chars().filter(char::is_ascii_digit).collect());
        let mut found = None;
        for step in current.saturating_sub(1)..=current.saturating_add(1) {
            let is_same: bool = self.password(step).as_bytes().ct_eq(typed.as_bytes()).into();
            if is_same && step > last {
                found = Some(step);
            }
        }
        found
    }

    /// Returns the step at `now`, a time since 1970.
    pub(in crate::admin) const fn step_at(now: Duration) -> u64 {
        now.as_secs() / STEP
    }

    /// Returns the password of a step (RFC 4226 section 5.3).
    pub(in crate::admin) fn password(&self, step: u64) -> Zeroizing<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
        let four = tag.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
        let number = (u32::from_be_bytes(four) & 0x7fff_ffff) % 10_u32.pow(DIGITS);
        Zeroizing::new(format!("{number:06}"))
    }

    /// Returns the secret in Base32, as people type it.
    pub(in crate::admin) fn to_base32(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH * 8 / 5));
        for five in self.0.chunks_exact(5) {
            let bits = five.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            for place in (0..8).rev() {
                let index = usize::try_from(bits >> (5 * place) & 31).unwrap_or_default();
                text.push(char::from(BASE32.get(index).copied().unwrap_or_default()));
            }
        }
        text
    }

    /// Parses Base32.
    pub(in crate::admin) fn parse(text: &str) -> Option<Self> {
        let mut secret = Self([0; LENGTH]);
        if text.len() != LENGTH * 8 / 5 {
            return None;
        }
        for (five, eight) in secret.0.chunks_exact_mut(5).zip(text.as_bytes().chunks_exact(8)) {
            let mut bits = 0_u64;
            for letter in eight {
                let index = BASE32.iter().position(|each| each == letter)?;
                bits = bits << 5 | u64::try_from(index).ok()?;
            }
            five.copy_from_slice(bits.to_be_bytes().get(3..)?);
        }
        Some(secret)
    }
}

impl Drop for TotpSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 6238, appendix B, of which an app shows the last six digits.
    #[test]
    fn passwords_are_those_of_the_standard() {
        let secret = TotpSecret(*b"12345678901234567890");
        for (time, password) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(secret.password(time / STEP).as_str(), &password[2..], "{time}");
            let now = Duration::from_secs(time);
            assert_eq!(secret.step_of(&password[2..], now, 0), Some(time / STEP));
            assert_eq!(secret.step_of(&password[2..], now, time / STEP), None, "used already");
            assert_eq!(secret.step_of(&password[2..], now + Duration::from_secs(61), 0), None, "too late");
        }
    }

    #[test]
    fn a_secret_is_read_back() {
        let secret = TotpSecret(*b"12345678901234567890");
        let text = secret.to_base32();
        assert_eq!(text.as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(TotpSecret::parse(&text), Some(secret));
        assert_eq!(TotpSecret::parse(&text.replace('G', "1")), None);
        assert_eq!(TotpSecret::parse(&text[1..]), None);
    }
}
