//! The option of the state file.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// Location of the file that keeps the state of peers over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateFileOption {
    /// Beside the configuration file, or else in a folder for state that can be written.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// In this file.
    File(PathBuf),
}

impl FromStr for StateFileOption {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "off" => Self::Off,
            path => Self::File(path.into()),
        })
    }
}
