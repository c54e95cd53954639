//! Bytes with keys in them.

use std::fmt::{self, Write};

use zeroize::Zeroizing;

/// A text that grows and leaves no copy of itself behind: what `Vec` gives back to the allocator when it grows is
/// overwritten first.
#[derive(Default)]
pub struct SecretText(Zeroizing<Vec<u8>>);

impl SecretText {
    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity()).max(256)));
            larger.extend_from_slice(&self.0);
            // the old one is overwritten as it goes
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    /// Makes it empty and overwrites what was there.
    pub fn clear(&mut self) {
        use zeroize::Zeroize as _;
        self.0.zeroize();
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, overwritten when dropped.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl Write for SecretText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes)", self.0.len())
    }
}
