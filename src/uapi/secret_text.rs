//! A byte buffer for secrets.

use std::fmt::{self, Write};

use zeroize::Zeroizing;

/// A growing buffer that leaves no copy of its contents: memory returned to the allocator when it
/// grows is overwritten first.
#[derive(Default)]
pub(crate) struct SecretText(Zeroizing<Vec<u8>>);

impl SecretText {
    /// Appends `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity()).max(256)));
            larger.extend_from_slice(&self.0);
            // the old buffer is overwritten when dropped
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    /// Returns the contents.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the contents, which are overwritten when dropped.
    pub(crate) fn into_inner(self) -> Zeroizing<Vec<u8>> {
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
