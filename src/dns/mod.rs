//! Applies the name servers of `DNS =` to this host, in a separate process.
//!
//! The `dns` process is started by the supervisor while that has its privileges, as the user that
//! wontun was started as: /etc/resolv.conf and the system bus belong to root. It drops every
//! capability, opens what its back end needs, confines itself to that, and reports it. The
//! supervisor sends it the settings ([`messages::ToDns`]) and logs what it reports
//! ([`messages::FromDns`]). A failure is a warning with a remedy, never the end of the tunnel.
//!
//! | File | Content |
//! |---|---|
//! | `mod.rs` | the interface of back ends ([`Backend`]) and the choice of one ([`select`]) |
//! | `settings.rs` | what is applied ([`DnsSettings`]) |
//! | `messages.rs` | messages between the supervisor and the process |
//! | `process.rs` | the process: start, event loop |
//! | `handle.rs` | the supervisor's handle of the process |
//! | `resolv_conf/` | back end for a plain /etc/resolv.conf |
//! | `resolved/` | back end for systemd-resolved |
//!
//! # A back end
//!
//! All of a back end runs in the `dns` process, in this order:
//!
//! 1. [`select`] calls its `open`: as the user that wontun was started as (root, usually), without
//!    capabilities, with `no_new_privs`, not confined yet, with an empty environment, and with one
//!    thread. `open` may connect to the system bus, and may block for a second or two: the
//!    supervisor does not wait for it, except for at most [`handle::READY_TIMEOUT`] until the
//!    settings are applied at the start.
//! 2. [`Backend::sandbox`] gives the seccomp filter and the Landlock rules, which are engaged. A
//!    back end has a [`SandboxRole`](crate::sandbox::SandboxRole) and a list of calls of its own.
//! 3. [`Backend::apply`], again whenever the settings change (reload, renamed device). If the name
//!    servers disappear from the file, [`Backend::revert`].
//! 4. [`Backend::check`] whenever one of [`Backend::descriptors`] is readable, or
//!    [`Backend::deadline`] has passed: compares the host's state with the applied settings and
//!    restores them, with a rate limit ([`RepairLimit`](crate::repair_limit::RepairLimit)).
//! 5. [`Backend::revert`] at the end of the tunnel, before the device disappears. After a kill of
//!    the supervisor nothing is reverted: the process ends at once, so that queries for names fail
//!    rather than leak. The next start, or `wontun unlock`, cleans up.

#![allow(dead_code, reason = "the supervisor starts the process in the next change")]

mod error;
pub(crate) mod handle;
pub mod messages;
mod process;
mod settings;

use std::os::fd::BorrowedFd;

pub(crate) use error::DnsError;
pub use process::main;
pub use settings::{DnsSettings, Domain};

use crate::config::{ApplyDns, TunName};
use crate::sandbox::{Sandbox, SandboxError};
use wontun_proto::time::Instant;

/// Role of the helper.
const ROLE: &str = "dns";

/// A way to apply settings to the host.
pub(crate) trait Backend {
    /// Returns its name for log lines, such as `systemd-resolved`.
    fn name(&self) -> &'static str;

    /// Returns the sandbox in which it works from now on.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    fn sandbox(&self) -> Result<Sandbox, SandboxError>;

    /// Applies `settings` instead of those applied before, and returns warnings, one line each,
    /// about parts that cannot be applied.
    ///
    /// # Errors
    /// Nothing is applied; the error names the remedy. The call is not repeated.
    fn apply(&mut self, settings: &DnsSettings) -> Result<Vec<String>, DnsError>;

    /// Removes what was applied, and restores what was there before. Returns warnings. Does nothing
    /// if nothing was applied.
    ///
    /// # Errors
    /// The state of the host stays; the error names the remedy.
    fn revert(&mut self) -> Result<Vec<String>, DnsError>;

    /// Returns the descriptors that become readable when the host's state may have changed.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Returns the time at which [`Self::check`] must be called without such an event.
    fn deadline(&mut self) -> Option<Instant>;

    /// Reads the events of the descriptors, compares the host's state with the settings, and
    /// restores them if that is due.
    fn check(&mut self, now: Instant) -> Vec<DnsEvent>;
}

/// An event for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsEvent {
    /// Another program had changed the host's state, and it was restored: a description, with
    /// advice on how to make that program leave it alone.
    Restored(String),
    /// The settings are not in effect any more, and cannot be restored: the reason and the remedy.
    Lost(String),
}

/// Opens the back end that `method` asks for. `tunnel` is the name that the tunnel was started
/// with.
///
/// With [`ApplyDns::Auto`]: systemd-resolved if /etc/resolv.conf points to it and it answers, else
/// /etc/resolv.conf.
///
/// # Errors
/// [`DnsError`], with the remedy.
fn select(method: ApplyDns, tunnel: &TunName) -> Result<Box<dyn Backend>, DnsError> {
    let _ = (method, tunnel);
    Err(DnsError::Unavailable)
}
