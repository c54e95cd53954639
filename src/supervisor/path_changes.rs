//! Compares the paths to the peers when something has changed, and tells the tunnel process.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::{debug, warn};

use super::context::Context;
use super::mode::Mode;
use super::path_watch::{PathChange, PathTarget};
use crate::messages::ToTunnel;
use crate::net::timer;
use crate::netlink::{Link, LinkError, Path};

/// Returns a function that looks up paths of datagrams with `mark`.
fn look_up(
    link: &mut Link,
    mark: Option<NonZeroU32>,
) -> impl FnMut(IpAddr, Option<IpAddr>) -> Result<Option<Path>, LinkError> {
    move |destination, source| link.path(destination, source, mark)
}

impl Context {
    /// Schedules a comparison, which discards the notifications of changes.
    pub(super) fn handle_path_events(&mut self) {
        self.paths.schedule(self.now);
    }

    /// Compares the paths to all peers with those before, if that is due.
    pub(super) fn compare_paths(&mut self, mode: &mut impl Mode) {
        if !self.paths.take_due(self.now) {
            return;
        }
        // what was reported until now is in the comparison
        if let Err(error) = self.paths.discard_events() {
            self.warn_paths(&error);
        }
        let compared = self.paths.compare(&mut look_up(&mut self.link.link, mode.mark()));
        let took = timer::now().map_or(Duration::ZERO, |end| end.since(self.now));
        self.paths.record_comparison(self.now, took);
        match compared {
            Ok(changes) => {
                changes.iter().for_each(|change| self.report_path(*change));
                mode.handle_paths_compared(self, &changes);
            }
            Err(error) => self.warn_paths(&error),
        }
    }

    /// Looks up the paths to peers that are new or have other addresses.
    pub(super) fn complete_paths(&mut self, mark: Option<NonZeroU32>) {
        let completed = self.paths.complete(&mut look_up(&mut self.link.link, mark));
        if let Err(error) = completed {
            self.warn_paths(&error);
        }
    }

    /// Handles a report of the tunnel process that a handshake was completed with a peer at
    /// `remote`, with datagrams from `local`.
    pub(super) fn confirm_path(
        &mut self,
        mark: Option<NonZeroU32>,
        target: PathTarget,
        remote: IpAddr,
        local: Option<IpAddr>,
    ) {
        let mut look_up = look_up(&mut self.link.link, mark);
        let confirmed = self.paths.confirm(target, remote, local, &mut look_up);
        drop(look_up);
        match confirmed {
            Ok(change) => change.into_iter().for_each(|change| self.report_path(change)),
            Err(error) => self.warn_paths(&error),
        }
    }

    /// Tells the tunnel process that a path has changed.
    pub(super) fn report_path(&mut self, change: PathChange) {
        let PathChange { target, is_reachable } = change;
        debug!(?change, "a path has changed");
        self.tunnel.send(&ToTunnel::PathChanged { peer: target, is_reachable });
    }

    fn warn_paths(&mut self, error: &dyn std::error::Error) {
        if let Some(suppressed) = self.paths.log_limit.allow(self.now) {
            warn!(%error, suppressed, "cannot look up the routes to the peers");
        }
    }
}
