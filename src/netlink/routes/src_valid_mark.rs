//! `net.ipv4.conf.all.src_valid_mark`, by which IPv4's reverse path filter considers packet marks.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::observed::ObservedRouting;
use super::plan::IpFamily;
use super::rule;
use super::warning::RouteWarning;
use crate::netlink::request_error;

const CONF: &str = "/proc/sys/net/ipv4/conf";
const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// The setting, and whether it has to be restored to 0.
#[derive(Debug, Default)]
pub(super) struct SrcValidMark {
    needs_restore: bool,
    /// Open since its first use: it still refers to this network namespace, and stays writable if
    /// /proc does not.
    file: Option<File>,
}

impl SrcValidMark {
    pub(super) fn new(needs_restore: bool) -> Self {
        Self { needs_restore, file: None }
    }

    pub(super) const fn needs_restore(&self) -> bool {
        self.needs_restore
    }

    /// Returns true if the setting is on now.
    pub(super) fn is_on() -> bool {
        File::open(SRC_VALID_MARK).is_ok_and(|file| is_on(&file))
    }

    /// Turns the setting on. If another tunnel of wontun has turned it on before, the last tunnel
    /// that needs it restores it. Returns true if the setting had been on before and was turned off
    /// by another program.
    ///
    /// # Errors
    /// The setting is off and cannot be turned on.
    pub(super) fn turn_on(&mut self, observed: &ObservedRouting) -> Result<bool, RouteWarning> {
        let was_on = self.file.is_some();
        let opened = match self.file.take() {
            Some(file) => Ok(file),
            None => File::options().read(true).write(true).open(SRC_VALID_MARK),
        };
        let outcome = match opened {
            Ok(file) if is_on(&file) => {
                self.needs_restore |= observed.foreign_markers.iter().any(|marker| marker.needs_restore());
                self.file = Some(file);
                return Ok(false);
            }
            // read-only in most containers
            Err(_) if Self::is_on() => return Ok(false),
            Ok(file) => file.write_at(b"1", 0).map(|_| file),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(file) => {
                (self.needs_restore, self.file) = (true, Some(file));
                Ok(was_on)
            }
            Err(error) => {
                let reason = request_error::describe_io(&error);
                Err(RouteWarning::SourceValidMark { reason, strict: is_filter_strict() })
            }
        }
    }

    /// Restores the setting, if wontun has changed it and no other tunnel needs it, including
    /// wg-quick's.
    pub(super) fn restore(&mut self, observed: &ObservedRouting) {
        let file = self.file.take();
        if !std::mem::take(&mut self.needs_restore)
            || rule::has_tunnel(&observed.families.of(IpFamily::V4).foreign)
        {
            return;
        }
        let file = file.map_or_else(|| File::options().write(true).open(SRC_VALID_MARK), Ok);
        // best effort: this process may lack the permission that a killed run had
        let _ = file.and_then(|file| file.write_at(b"0", 0));
    }
}

fn is_on(file: &File) -> bool {
    let mut text = [0; 8];
    file.read_at(&mut text, 0).is_ok_and(|length| length > 0) && text.first() != Some(&b'0')
}

/// Returns true if a device filters strictly: the larger of the setting for all and its own is 1.
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
