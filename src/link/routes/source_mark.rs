//! `net.ipv4.conf.all.src_valid_mark`: whether the reverse path filter of IPv4 heeds a packet's mark.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::plan::Family;
use super::rule;
use super::seen::Seen;
use super::warning::{self, RouteWarning};

const CONF: &str = "/proc/sys/net/ipv4/conf";
const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// Whether the setting has to be put back to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceMark {
    owed: bool,
}

impl SourceMark {
    pub(super) const fn new(owed: bool) -> Self {
        Self { owed }
    }

    pub(super) const fn owed(self) -> bool {
        self.owed
    }

    /// Sees that marks are heeded. Where they are already because a tunnel of ours before us set it, it is for
    /// whoever needs it last to put it back.
    pub(super) fn heed(&mut self, seen: &Seen) -> Option<RouteWarning> {
        let outcome = match fs::read_to_string(SRC_VALID_MARK) {
            Ok(text) if text.trim() != "0" => {
                self.owed |= seen.foreign_labels.iter().any(|label| label.is_owed());
                return None;
            }
            Ok(_) => fs::write(SRC_VALID_MARK, "1"),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.owed = true;
                None
            }
            Err(error) => {
                let reason = warning::described(&error);
                Some(RouteWarning::SourceValidMark { reason, strict: is_filter_strict() })
            }
        }
    }

    /// Puts the setting back, if we have to and no other tunnel needs it, one of wg-quick's included.
    pub(super) fn forget(&mut self, seen: &Seen) {
        if std::mem::take(&mut self.owed) && !rule::has_tunnel(&seen.families.of(Family::V4).foreign) {
            // best effort: what was writable may be read-only by now
            let _ = fs::write(SRC_VALID_MARK, "0");
        }
    }
}

/// Whether some device filters strictly: of the setting for all and its own, the larger is 1.
fn is_filter_strict() -> bool {
    let read = |name: &OsStr| -> Option<u32> {
        fs::read_to_string(Path::new(CONF).join(name).join("rp_filter")).ok()?.trim().parse().ok()
    };
    let all = read(OsStr::new("all")).unwrap_or(0);
    let Ok(devices) = fs::read_dir(CONF) else { return false };
    devices
        .flatten()
        .map(|device| device.file_name())
        .filter(|name| name != "all" && name != "default")
        .any(|name| read(&name).is_some_and(|own| own.max(all) == 1))
}
