//! Opens the connections to the bus, while the `dns` process has the privileges of the start.
//!
//! The bus takes the user that connects for that of the connection for good. dbus-daemon refuses
//! users that passwd(5) does not have, as the one that helper processes run as.

use std::os::fd::OwnedFd;

use nix::unistd::geteuid;

use super::connection::connect_and_greet;
use super::error::ResolvedError;
use super::setter::Setter;
use crate::privileges::{UserIds, UserSpec};

/// A user without rights that every system has.
const OBSERVER: &str = "nobody";

/// Connections to the bus.
#[derive(Debug)]
pub(in crate::dns) struct Connections {
    /// The connection that is read: of `nobody` if this process is root's, else of its own user,
    /// which polkit allows to set name servers.
    pub(super) observer: OwnedFd,
    /// The process with root's connection.
    pub(super) setter: Option<Setter>,
}

impl Connections {
    /// Opens them. Must be called while this process has one thread and its privileges.
    ///
    /// # Errors
    /// [`ResolvedError`].
    pub(in crate::dns) fn open(is_sandboxed: bool) -> Result<Self, ResolvedError> {
        if !geteuid().is_root() {
            return Ok(Self { observer: connect_and_greet()?, setter: None });
        }
        let failed = |error: &dyn std::error::Error| ResolvedError::Open(error.to_string());
        let observer = UserIds::look_up(&UserSpec::Name(OBSERVER.to_owned()))
            .and_then(|user| user.act_as(connect_and_greet))
            .map_err(|error| failed(&error))??;
        let setter = Setter::start(is_sandboxed).map_err(|error| failed(&error))?;
        Ok(Self { observer, setter: Some(setter) })
    }
}
