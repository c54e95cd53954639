//! Applies the name servers of `DNS =` to this host, in a separate process.
//!
//! The `dns` process is started by the supervisor while that has its privileges, as the user that
//! wontun was started as: /etc/resolv.conf belongs to root. For systemd-resolved it opens the
//! connections to the system bus, and becomes the user of helper processes. It drops every
//! capability, opens what its back end needs, confines itself to that, and reports it. The
//! supervisor sends it the settings ([`messages::ToDns`]) and logs what it reports
//! ([`messages::FromDns`]). A failure is a warning with a remedy, never the end of the tunnel.
//!
//! | File | Content |
//! |---|---|
//! | `backend.rs` | the interface of back ends (`Backend`) |
//! | `select.rs` | the choice of one |
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
//! 1. `select` calls its `open`: as the user that wontun was started as (root, usually), or the
//!    user of helpers if the back end is systemd-resolved; without capabilities, with
//!    `no_new_privs`, not confined yet, with an empty environment, and with one thread. `open` may
//!    block for a second or two: the supervisor does not wait for it, except for at most
//!    `handle::READY_TIMEOUT` until the settings are applied at the start.
//! 2. `Backend::sandbox` gives the seccomp filter and the Landlock rules, which are engaged. A
//!    back end has a `SandboxRole` and a list of calls of its own.
//! 3. `Backend::apply`, again whenever the settings change (reload, renamed device). If the name
//!    servers disappear from the file, `Backend::revert`.
//! 4. `Backend::check` whenever one of `Backend::descriptors` is readable, or
//!    `Backend::deadline` has passed: compares the host's state with the applied settings and
//!    restores them, with a rate limit (`RepairLimit`).
//! 5. `Backend::revert` at the end of the tunnel, before the device disappears. After a kill of
//!    the supervisor nothing is reverted: the process ends at once, so that queries for names fail
//!    rather than leak. The next start, or `wontun unlock`, cleans up.

mod backend;
mod error;
pub(crate) mod handle;
pub mod messages;
mod process;
pub(crate) mod resolv_conf;
mod resolved;
mod select;
mod settings;

pub(crate) use backend::{Backend, DnsEvent};
pub(crate) use error::DnsError;
pub use process::main;
pub use settings::{DnsSettings, Domain};

/// Role of the helper.
const ROLE: &str = "dns";
