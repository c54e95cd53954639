//! The name of a network device, as the kernel takes it.

use std::fmt;
use std::str::FromStr;

/// Bytes that a name may have: IFNAMSIZ less the closing zero.
const MAX_LENGTH: usize = 15;

/// A device name that means just that device: the kernel would expand `%d` and `tun-tap` would cut a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunName(String);

/// Why a text is no [`TunName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no device name: expected 1 to 15 bytes without '/', ':', '%' or white space, and not '.' or '..'"
)]
pub struct TunNameError(String);

impl TunName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TunName {
    type Err = TunNameError;

    fn from_str(text: &str) -> Result<Self, TunNameError> {
        let forbidden = |c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace() || c.is_control();
        let fits = (1..=MAX_LENGTH).contains(&text.len());
        if fits && text != "." && text != ".." && !text.contains(forbidden) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TunNameError(text.escape_debug().to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_takes_literally() {
        for name in ["tun0", "a", "wg-home.1", "fifteen-bytes-1"] {
            assert_eq!(name.parse::<TunName>().unwrap().as_str(), name);
        }
        for name in
            ["", "sixteen-bytes-12", "tun%d", "a/b", "a b", "a\tb", ".", "..", "a:b", "a\u{a0}b", "a\nb"]
        {
            let error = name.parse::<TunName>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
