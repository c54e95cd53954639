//! Hashes of passwords: Argon2id (RFC 9106) with the first set of parameters of OWASP's list that
//! fits a small server, one at a time, in memory that is given back.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Unpadded, Encoding as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use wontun_proto::wireguard::Random;

/// Minimum length of a password in characters.
pub(in crate::admin) const MIN_PASSWORD: usize = 10;
/// Maximum length in bytes, so that hashing takes no longer than usual.
const MAX_PASSWORD: usize = 1024;
/// Memory in KiB.
const MEMORY: u32 = 7168;
const PASSES: u32 = 5;
const SALT: usize = 16;
const HASH: usize = 32;
/// Capacity of the memory in blocks of a KiB, of which only [`MEMORY`] are used: above 32 MiB glibc
/// always maps memory and gives it back when it is freed, where it would keep smaller pieces.
const CAPACITY: usize = 33 * 1024;
/// Name and parameters of the hash, as the password hashing competition's strings have them.
const PREFIX: &str = "$argon2id$v=19$m=7168,t=5,p=1$";

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::admin) struct PasswordHash {
    salt: [u8; SALT],
    hash: [u8; HASH],
}

impl PasswordHash {
    /// Hashes a new password. Takes some ten milliseconds and 7 MiB.
    ///
    /// # Errors
    /// A description of a valid password.
    pub(in crate::admin) fn new(password: &str, random: &mut dyn Random) -> Result<Self, String> {
        if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
            return Err(format!("at least {MIN_PASSWORD} characters, and at most {MAX_PASSWORD} bytes"));
        }
        let mut salt = [0; SALT];
        random.fill(&mut salt);
        let hash = hash(password, &salt).ok_or("a password that can be hashed")?;
        Ok(Self { salt, hash })
    }

    /// Returns a hash that is none of any password, to compare with where there is no account: the
    /// time does not tell.
    pub(in crate::admin) fn of_nothing(random: &mut dyn Random) -> Self {
        let mut nothing = Self { salt: [0; SALT], hash: [0; HASH] };
        random.fill(&mut nothing.salt);
        random.fill(&mut nothing.hash);
        nothing
    }

    /// Returns true if this is the hash of `password`. Takes as long as [`Self::new`].
    pub(in crate::admin) fn is_of(&self, password: &str) -> bool {
        let password = if password.len() > MAX_PASSWORD { "" } else { password };
        let hash = hash(password, &self.salt).map(Zeroizing::new);
        hash.is_some_and(|hash| hash.ct_eq(&self.hash).into())
    }

    /// Parses the text of [`fmt::Display`].
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let mut parsed = Self { salt: [0; SALT], hash: [0; HASH] };
        let is_whole = Base64Unpadded::decode(salt, &mut parsed.salt).ok()?.len() == SALT
            && Base64Unpadded::decode(hash, &mut parsed.hash).ok()?.len() == HASH;
        is_whole.then_some(parsed)
    }
}

fn hash(password: &str, salt: &[u8; SALT]) -> Option<[u8; HASH]> {
    let params = Params::new(MEMORY, PASSES, 1, Some(HASH)).ok()?;
    let mut memory: Vec<Block> = Vec::with_capacity(CAPACITY);
    memory.resize(params.block_count(), Block::default());
    let mut hash = [0; HASH];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let result = argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, &mut memory[..]);
    result.ok().map(|()| hash)
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = Base64Unpadded::encode_string;
        write!(f, "{PREFIX}{}${}", encode(&self.salt), encode(&self.hash))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;

    #[test]
    fn a_password_is_recognized_also_from_text() {
        let mut random = SystemRandom::open().unwrap();
        let hash = PasswordHash::new("correct horse", &mut random).unwrap();
        assert!(hash.is_of("correct horse") && !hash.is_of("correct horsf") && !hash.is_of(""));
        assert!(!hash.is_of(&"x".repeat(MAX_PASSWORD + 1)));
        assert_ne!(hash, PasswordHash::new("correct horse", &mut random).unwrap(), "a salt of its own");
        let text = hash.to_string();
        assert_eq!(PasswordHash::parse(&text), Some(hash));
        for wrong in ["", "$argon2id$", &text[..text.len() - 1], &text.replace("t=5", "t=1")] {
            assert_eq!(PasswordHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_parameters_are_those_of_the_text() {
        let params = Params::new(MEMORY, PASSES, 1, Some(HASH)).unwrap();
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        assert_eq!(PREFIX, format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$"));
    }

    #[test]
    fn short_passwords_are_refused() {
        let mut random = SystemRandom::open().unwrap();
        assert!(PasswordHash::new("äöüäöüäöü", &mut random).unwrap_err().contains("10 characters"));
        assert!(PasswordHash::new(&"x".repeat(MAX_PASSWORD + 1), &mut random).is_err());
    }
}
