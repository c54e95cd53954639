//! Descriptors that a service manager has kept from the last run of the service (FDSTORE=1 of
//! `sd_notify(3)`), and passes with LISTEN_FDS as `sd_listen_fds_with_names(3)` describes.

use std::env;
use std::os::fd::OwnedFd;

use wontun_sys::process;

const PID: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// The descriptors and their names.
#[derive(Debug, Default)]
pub(crate) struct StoredDescriptors(Vec<(String, OwnedFd)>);

impl StoredDescriptors {
    /// Takes the descriptors that the environment describes, and removes the variables. Must be
    /// called while this process has one thread.
    pub(crate) fn from_environment() -> Self {
        let value = |name| env::var(name).ok();
        let is_own = value(PID).and_then(|pid| pid.parse().ok()) == Some(std::process::id());
        let count = value(COUNT).and_then(|count| count.parse().ok()).filter(|_| is_own).unwrap_or(0);
        let names = value(NAMES).unwrap_or_default();
        process::remove_variables(&[PID, COUNT, NAMES]);
        let descriptors = process::take_passed_descriptors(count);
        let named = names.split(':').zip(descriptors);
        Self(named.filter_map(|(name, descriptor)| Some((name.to_owned(), descriptor?))).collect())
    }

    /// Returns the descriptor of that name, once.
    pub(crate) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.0.iter().position(|(each, _)| each == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// Returns the names that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.0.iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).cloned().collect()
    }
}
