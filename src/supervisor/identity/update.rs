//! Follows the device: reads its location, and updates everything that depends on its name and
//! index.

use std::time::Duration;

use nix::unistd::geteuid;
use tracing::{debug, info, warn};

use crate::config::TunName;
use crate::control::health::HealthListener;
use crate::messages::ToTunnel;
use crate::netlink::{LinkError, LinkState};
use crate::supervisor::context::Context;
use crate::supervisor::link_watch::PendingLinkEvents;
use crate::supervisor::mode::Mode;

/// Delay before the rename is tried again: another tunnel may be about to release the name.
const RETRY: Duration = Duration::from_millis(100);
/// Number of attempts before the failure is logged.
const ATTEMPTS_BEFORE_WARNING: u32 = 10;
/// Delay between later attempts, and the maximum number of attempts.
const SLOW_RETRY: Duration = Duration::from_secs(10);
const MAX_ATTEMPTS: u32 = 16;

impl Context {
    /// Reads the state of the device, even if it comes back from another network namespace.
    ///
    /// # Errors
    /// It is not in this network namespace, or netlink fails.
    pub(in crate::supervisor) fn read_link(
        &mut self,
        events: &PendingLinkEvents,
    ) -> Result<LinkState, LinkError> {
        if let Some(index_in_other_netns) = events.moved {
            self.link.identity.index_in_other_netns = index_in_other_netns;
        }
        let link = &mut self.link.link;
        // the index may belong to another device by now
        let state = if self.link.is_in_other_netns || events.moved.is_some() {
            link.find_moved(self.link.identity.index_in_other_netns)?
        } else {
            link.state()?
        };
        Ok(state)
    }

    /// Handles a device that is no longer in this network namespace: deleted, which reading the tun
    /// reports, or moved to another one, where it still works.
    pub(in crate::supervisor) fn handle_netns_left(
        &mut self,
        mode: &mut impl Mode,
        events: &PendingLinkEvents,
    ) {
        // the kernel reports the move after the device is gone
        let reports_move = events.moved.is_some() && !self.link.identity.reported_move;
        if std::mem::replace(&mut self.link.is_in_other_netns, true) && !reports_move {
            return;
        }
        debug!(tun = %self.name, "the device is no longer in this network namespace");
        self.tunnel.set_link(self.link.message());
        mode.handle_netns_move(self);
        if reports_move {
            self.link.identity.reported_move = true;
            let consequence = if mode.blocks() {
                "; until it returns, networks routed into it are unreachable from here, so that their packets \
                 do not leave unencrypted (stop the tunnel to end that; set Table = off for a tunnel that is to \
                  be moved)"
            } else {
                ""
            };
            let tun = &self.name;
            warn!(
                %tun,
                "{tun} was moved to another network namespace: it carries packets there, with the addresses and \
                 routes that are configured there{consequence}"
            );
        }
    }

    /// Handles a device that is back in this network namespace: restores what the kernel has
    /// removed from it. Returns its state afterwards.
    pub(in crate::supervisor) fn handle_netns_return(
        &mut self,
        mode: &mut impl Mode,
        state: LinkState,
    ) -> LinkState {
        let index = self.link.link.index();
        if std::mem::replace(&mut self.link.index, index) != index {
            self.link.monitor.set_index(index);
            self.tunnel.send(&ToTunnel::DeviceRenamed { tun: self.name.clone(), index });
            // an error is reported by the next attempt
            let _ = mode.handle_renamed(self);
        }
        let tun = &self.name;
        self.link.identity.reported_move = false;
        info!(%tun, "{tun} is back in this network namespace");
        if !self.link.is_managed {
            return state;
        }
        let mtu = self.link.wanted_mtu.unwrap_or(self.link.mtu);
        let link = &mut self.link.link;
        let restored = if state.mtu == mtu { Ok(()) } else { link.set_mtu(mtu) };
        let restored = restored.and_then(|()| link.restore()).and_then(|configured| {
            link.set_up()?;
            Ok((configured, link.state()?))
        });
        match restored {
            Ok((configured, state)) => {
                self.link.warn_ipv6_disabled(&configured);
                state
            }
            Err(error) => {
                warn!(%error, "cannot restore the device's settings after its move");
                state
            }
        }
    }

    /// Returns a warning about networks that are unreachable while the device is in another network
    /// namespace.
    pub(in crate::supervisor) fn unreachable_warning(&self, mode: &impl Mode) -> Option<String> {
        let tun = &self.name;
        mode.blocks().then(|| {
            format!(
                "{tun} is in another network namespace, and networks routed into it are unreachable from here: \
                 move it back, or stop the tunnel"
            )
        })
    }

    /// Adopts the current name of the device.
    pub(in crate::supervisor) fn adopt_name(&mut self, mode: &mut impl Mode) {
        let name = self.link.link.name();
        if name == self.name.as_str() {
            return;
        }
        let Ok(name) = name.parse::<TunName>() else {
            if let Some(suppressed) = self.link.log_limit.allow(self.now) {
                warn!(tun = %self.name, suppressed, "the device was renamed to an invalid name: choose another");
            }
            return;
        };
        let old = std::mem::replace(&mut self.name, name);
        let identity = &mut self.link.identity;
        (identity.due, identity.failed) = (Some(self.now), 0);
        self.handle_rename_timeout(mode);
        let tun = &self.name;
        info!(
            %tun,
            %old,
            "{old} was renamed to {tun}: health, control socket, routes and rules use the new name"
        );
        self.tunnel.send(&ToTunnel::DeviceRenamed { tun: tun.clone(), index: self.link.index });
    }

    /// Updates what does not have the device's current name yet, if that is due.
    pub(in crate::supervisor) fn handle_rename_timeout(&mut self, mode: &mut impl Mode) {
        if self.link.identity.due.is_none_or(|due| due > self.now) {
            return;
        }
        let missing = mode.handle_renamed(self).and(self.rename_health());
        let identity = &mut self.link.identity;
        let Err(missing) = missing else {
            (identity.due, identity.failed) = (None, 0);
            return;
        };
        identity.failed += 1;
        let pause = if identity.failed < ATTEMPTS_BEFORE_WARNING { RETRY } else { SLOW_RETRY };
        identity.due = (identity.failed < MAX_ATTEMPTS).then(|| self.now + pause);
        if identity.failed == ATTEMPTS_BEFORE_WARNING {
            warn!(tun = %self.name, "not everything uses the device's new name yet; a reload (SIGHUP) retries: \
             {missing}");
        }
    }

    /// Renames the health socket of the tunnel process to the device's current name.
    fn rename_health(&mut self) -> Result<(), String> {
        if self.link.identity.health.as_ref() == Some(&self.name) {
            return Ok(());
        }
        let listener = HealthListener::open(&self.name)
            .map_err(|error| format!("another process holds the health socket's name ({error})"))?;
        let health = ToTunnel::Health { user: geteuid().as_raw() };
        let socket = listener.into_fd();
        // a copy of the old one would keep answering by the old name
        if self.hand_over.health.is_some() {
            self.hand_over.health = socket.try_clone().ok();
        }
        self.tunnel.send_with(&health, vec![socket]);
        self.link.identity.health = Some(self.name.clone());
        Ok(())
    }
}
