//! Applies changes to a running interface, from wg(8) or the file. Sessions of other peers
//! continue.

use std::io;
use std::num::NonZeroU32;

use tracing::{info, warn};

use super::state::WireGuard;
use crate::messages::ToTunnel;
use crate::supervisor::context::Context;
use crate::supervisor::sockets::SocketsError;
use crate::uapi::Changes;

/// Number of spare sockets of each family that the tunnel process gets at the start.
pub(super) const SPARE_SOCKETS: u8 = 4;

/// Reason why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// The sockets for the new port could not be opened; the current ones are kept.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The mark of the sockets could not be set, or their descriptors could not be passed.
    #[error("the sockets cannot be changed: {0}")]
    System(#[source] io::Error),
    /// The kill switch could not be adapted to the new port, or switched.
    #[error("the kill switch cannot be changed: {0}")]
    KillSwitch(#[source] io::Error),
}

impl WireGuard {
    /// Applies `changes`, all of them or none. Returns the number with which the tunnel process
    /// acknowledges its part.
    ///
    /// # Errors
    /// The change cannot be made, and nothing was changed.
    pub(super) fn change(&mut self, context: &mut Context, mut changes: Changes) -> Result<u32, ChangeError> {
        let was_engaged = self.firewall.is_kill_switch_engaged();
        if let Some(is_engaged) = changes.kill_switch {
            self.firewall.set_kill_switch(is_engaged).map_err(ChangeError::KillSwitch)?;
        }
        let switches = changes.kill_switch.is_some();
        if let Err(error) = self.apply(context, &changes) {
            if switches && let Err(error) = self.firewall.set_kill_switch(was_engaged) {
                warn!(%error, "cannot restore the previous state of the kill switch");
            }
            return Err(error);
        }
        self.enforce_rules(&mut changes);
        // before the tunnel process sends anything to a new endpoint
        self.update_routes(context);
        self.update_nat();
        let number = self.send_changes(context, changes);
        self.watch_paths(context);
        Ok(number)
    }

    /// Applies the supervisor's part of `changes`, except for routes and NAT, without sending them
    /// to the tunnel process.
    ///
    /// # Errors
    /// As for [`Self::change`].
    pub(super) fn apply(&mut self, context: &mut Context, changes: &Changes) -> Result<(), ChangeError> {
        // steps that can fail come first, and are undone on failure
        let mark_before = self.fwmark;
        if let Some(mark) = changes.fwmark {
            self.set_fwmark(context, NonZeroU32::new(mark)).map_err(ChangeError::System)?;
        }
        if let Some(port) = changes.listen_port.filter(|port| *port != self.sockets.port())
            && let Err(error) = self.listen(context, port)
        {
            self.set_fwmark(context, mark_before).map_err(ChangeError::System)?;
            return Err(error);
        }
        self.peers.apply(changes);
        for peer in changes.peers.iter().filter(|peer| peer.endpoint.is_some()) {
            context.paths.remove(&Some(peer.public_key));
        }
        self.forget_state(changes);
        self.names.mark_outdated(context.now);
        Ok(())
    }

    /// Sends the tunnel process its part of `changes`.
    #[allow(clippy::unused_self, reason = "the mirror and the process change together")]
    pub(super) fn send_changes(&self, context: &mut Context, changes: Changes) -> u32 {
        let changes = Changes { listen_port: None, fwmark: None, kill_switch: None, ..changes };
        context.tunnel.change(changes)
    }

    /// Changes the port; 0 for any free one.
    pub(super) fn listen(&mut self, context: &mut Context, port: u16) -> Result<(), ChangeError> {
        let mut sockets = self.sockets.reopen(port)?;
        sockets.set_mark(self.mark).map_err(ChangeError::System)?;
        let messages = sockets.messages().map_err(ChangeError::System)?;
        self.allow_tunnel(self.mark, sockets.port()).map_err(ChangeError::KillSwitch)?;
        context.tunnel.send_all(messages);
        self.sockets = sockets;
        info!(port = self.sockets.port(), "changed the listen port");
        Ok(())
    }

    /// Sets the requested mark. If the routes need a mark, they decide ([`Self::update_routes`]).
    fn set_fwmark(&mut self, context: &mut Context, mark: Option<NonZeroU32>) -> io::Result<()> {
        if self.routes.is_none() {
            self.set_mark(context, mark)?;
        }
        self.fwmark = mark;
        Ok(())
    }

    /// Sets the mark of the sockets; without one, the kill switch's is used.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn set_mark(&mut self, context: &mut Context, mark: Option<NonZeroU32>) -> io::Result<()> {
        let mark = self.firewall.mark(mark);
        if self.mark != mark {
            self.allow_tunnel(mark, self.sockets.port())?;
            self.sockets.set_mark(mark)?;
            self.mark = mark;
            context.paths.forget();
            context.tunnel.send(&ToTunnel::Mark(mark.map_or(0, NonZeroU32::get)));
            if self.is_running {
                self.send_spare_sockets(context, SPARE_SOCKETS, SPARE_SOCKETS);
            }
        }
        Ok(())
    }

    /// Sends spare sockets. If none can be created, peers use the base sockets.
    pub(super) fn send_spare_sockets(&self, context: &mut Context, ipv4: u8, ipv6: u8) {
        match self.sockets.spare(ipv4, ipv6) {
            Ok((message, descriptors)) => {
                context.tunnel.answer(&message, descriptors);
            }
            Err(error) => warn!(%error, "cannot create connected sockets for peers"),
        }
    }
}
