//! The name of a network device.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::exit::{self, ExitCode};
use serde::{Deserialize, Serialize};

/// Maximum length of a name in bytes: IFNAMSIZ without the terminating zero.
const MAX_LENGTH: usize = 15;

/// A valid device name that the kernel takes literally. The kernel would expand `%d`, and `tun-tap`
/// would truncate a longer name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TunName(String);

/// Error of parsing a [`TunName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a device name: expected 1 to 15 bytes without '/', ':', '%' or white space, and not '.' or '..'"
)]
pub struct TunNameError(String);

/// The name of a file is not a valid device name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: the device name is that of the file: {source}; rename the file, or give another name with --tun", .file.display())]
pub struct FileNameError {
    file: PathBuf,
    source: TunNameError,
}

impl ExitCode for FileNameError {
    fn exit_code(&self) -> u8 {
        exit::CONFIG
    }
}

impl Default for TunName {
    /// Returns the default name, `tun0`.
    fn default() -> Self {
        Self("tun0".to_owned())
    }
}

impl TunName {
    /// Returns the device name for the configuration `file`, as wg-quick derives it: the name of
    /// the file without `.conf`.
    ///
    /// # Errors
    /// `FileNameError` if that is not a valid device name.
    pub fn of_file(file: &Path) -> Result<Self, FileNameError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".conf").unwrap_or(&name);
        name.parse().map_err(|source| FileNameError { file: file.to_owned(), source })
    }

    /// Returns a temporary name, made of the lower 48 bits of `number`, for a device that is
    /// renamed later.
    pub(crate) fn temporary(number: u64) -> Self {
        Self(format!("wt-{:012x}", number & 0xffff_ffff_ffff))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<TunName> for String {
    fn from(name: TunName) -> Self {
        name.0
    }
}

impl TryFrom<String> for TunName {
    type Error = TunNameError;

    fn try_from(text: String) -> Result<Self, TunNameError> {
        text.parse()
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
    fn a_file_names_its_device() {
        let of_file = |path: &str| TunName::of_file(Path::new(path));
        assert_eq!(of_file("/etc/wontun/wg-home.conf").unwrap().as_str(), "wg-home");
        assert_eq!(of_file("wg.0").unwrap().as_str(), "wg.0");
        for path in ["/etc/.conf", "/", "a-name-of-more-than-15.conf"] {
            let error = of_file(path).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("--tun"), "{error}");
        }
    }

    #[test]
    fn a_temporary_name_is_one() {
        for number in [0, 7, u64::MAX] {
            let name = TunName::temporary(number);
            assert_eq!(name.as_str().parse(), Ok(name.clone()));
            assert_eq!(name.as_str().len(), MAX_LENGTH);
        }
    }

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
