//! Options for the time of a peer's access.

use std::str::FromStr;
use std::time::SystemTime;

use clap::Args;

use crate::config::peer_settings::{Expiry, PeerSettings};

/// The time of a peer's access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct AccessOptions {
    /// End of the client's access: a date, which is its last day in UTC, a time, a duration such as
    /// 30d, 12h or 2w, or 'never'
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<ExpiresOption>,
}

impl AccessOptions {
    /// Changes what is given; everything else stays as it is.
    pub(crate) fn apply(&self, settings: &mut PeerSettings) {
        if let Some(ExpiresOption(expires)) = self.expires {
            settings.expires = expires;
        }
    }
}

/// The value of `--expires`: a time, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiresOption(pub Option<Expiry>);

impl FromStr for ExpiresOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self(None));
        }
        let expiry = Expiry::parse_from(text, SystemTime::now());
        expiry.map(|expiry| Self(Some(expiry))).map_err(|expected| format!("expected {expected}, or 'never'"))
    }
}
