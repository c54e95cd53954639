//! Changes to a running interface, whether wg(8) or the file wants them. Sessions of peers that are
//! not concerned continue.

use std::io;
use std::num::NonZeroU32;

use tracing::{info, warn};

use super::state::WireGuard;
use crate::control::uapi::Changes;
use crate::messages::ToTunnel;
use crate::supervisor::context::Context;
use crate::supervisor::sockets::SocketsError;

/// Spare sockets of each family that the tunnel process has at the start.
pub(super) const SPARE_SOCKETS: u8 = 4;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// There are no sockets on the port that is wanted; those in use stay.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The sockets do not take the mark, or cannot be handed over.
    #[error("the sockets cannot be changed: {0}")]
    System(#[source] io::Error),
    /// The kill switch does not let the new port through, or is not switched.
    #[error("the kill switch cannot be changed: {0}")]
    KillSwitch(#[source] io::Error),
}

impl WireGuard {
    /// Applies `changes`, all of them or none. Returns the number with which the tunnel process
    /// acknowledges its part.
    ///
    /// # Errors
    /// The change cannot be made, and nothing was changed.
    pub(super) fn change(&mut self, context: &mut Context, changes: Changes) -> Result<u32, ChangeError> {
        let was_locked = self.firewall.is_locked();
        if let Some(is_engaged) = changes.kill_switch {
            self.firewall.set_kill_switch(is_engaged).map_err(ChangeError::KillSwitch)?;
        }
        let switches = changes.kill_switch.is_some();
        if let Err(error) = self.apply(context, &changes) {
            if switches && let Err(error) = self.firewall.set_kill_switch(was_locked) {
                warn!(%error, "the kill switch is not as it was before");
            }
            return Err(error);
        }
        // before the tunnel process sends anything to a new endpoint
        self.update_routes(context);
        self.follow_networks();
        Ok(self.send_changes(context, changes))
    }

    /// Applies the supervisor's part of `changes`; routes and address translation are still to be
    /// set, and the tunnel process is still to be told.
    ///
    /// # Errors
    /// As for [`Self::change`].
    pub(super) fn apply(&mut self, context: &mut Context, changes: &Changes) -> Result<(), ChangeError> {
        // what can fail comes first, and takes back what was done until then
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
        Ok(())
    }

    /// Has the tunnel process apply its part of `changes`.
    #[allow(clippy::unused_self, reason = "the mirror and the process change together")]
    pub(super) fn send_changes(&self, context: &mut Context, changes: Changes) -> u32 {
        let changes = Changes { listen_port: None, fwmark: None, kill_switch: None, ..changes };
        context.tunnel.change(changes)
    }

    /// Moves to another port; 0 for any that is free.
    fn listen(&mut self, context: &mut Context, port: u16) -> Result<(), ChangeError> {
        let mut sockets = self.sockets.reopen(port)?;
        sockets.set_mark(self.mark).map_err(ChangeError::System)?;
        let messages = sockets.messages().map_err(ChangeError::System)?;
        self.let_through(self.mark, sockets.port()).map_err(ChangeError::KillSwitch)?;
        context.tunnel.send_all(messages);
        self.sockets = sockets;
        info!(port = self.sockets.port(), "listening on another port");
        Ok(())
    }

    /// Sets the mark that was asked for. Where the routes need one they have the last word
    /// ([`Self::update_routes`]).
    fn set_fwmark(&mut self, context: &mut Context, mark: Option<NonZeroU32>) -> io::Result<()> {
        if self.routes.is_none() {
            self.set_mark(context, mark)?;
        }
        self.fwmark = mark;
        Ok(())
    }

    /// Sets the mark of the sockets, or the kill switch's where none is wanted.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set_mark(&mut self, context: &mut Context, mark: Option<NonZeroU32>) -> io::Result<()> {
        let mark = self.firewall.mark(mark);
        if self.mark != mark {
            self.let_through(mark, self.sockets.port())?;
            self.sockets.set_mark(mark)?;
            self.mark = mark;
            context.tunnel.send(&ToTunnel::Mark(mark.map_or(0, NonZeroU32::get)));
            if self.is_running {
                self.send_spare_sockets(context, SPARE_SOCKETS, SPARE_SOCKETS);
            }
        }
        Ok(())
    }

    /// Sends spare sockets. Where there are none to be had, the base sockets do.
    pub(super) fn send_spare_sockets(&self, context: &mut Context, ipv4: u8, ipv6: u8) {
        match self.sockets.spare(ipv4, ipv6) {
            Ok((message, descriptors)) => {
                context.tunnel.answer(&message, descriptors);
            }
            Err(error) => warn!(%error, "peers get no sockets of their own"),
        }
    }
}
