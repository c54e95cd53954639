//! Messages of the processes, and their ends.

use std::net::IpAddr;
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{debug, info, warn};

use super::super::state::WireGuard;
use super::state::PendingRequest;
use crate::admin::messages::{ClientText, FromEditor, InvitationRequest};
use crate::config::display_name;
use crate::config::wg_quick::Peer;
use crate::enroll::messages::{FromResponder, ToResponder};
use crate::net::timer::unix_now;
use crate::process::ChannelError;
use crate::resolver::messages::ErrorMessage;
use crate::supervisor::context::Context;
use wontun_proto::wireguard::PublicKey;

/// Number of messages read per turn.
const BUDGET: usize = 8;
/// Maximum number of requests that the editor has not answered.
const MAX_PENDING: usize = 8;
/// Minimum interval between two requests, for each of which the editor reads the file.
const INTERVAL: Duration = Duration::from_millis(20);

impl WireGuard {
    /// Starts the process that devices ask, and removes invitations that expired before.
    pub(in crate::supervisor::wireguard) fn start_invitations(&mut self, context: &mut Context) {
        if let Some(state) = &mut self.invitations.0 {
            state.start_responder(&mut context.nursery, context.lookups.stderr(), context.now);
        }
        self.remove_expired_invitations();
    }

    /// Starts the process again if that is due.
    pub(in crate::supervisor::wireguard) fn handle_invitations_timeout(&mut self, context: &mut Context) {
        if let Some(state) = &mut self.invitations.0
            && state.restart_at.is_some_and(|at| at <= context.now)
        {
            state.start_responder(&mut context.nursery, context.lookups.stderr(), context.now);
        }
    }

    /// Has expired invitations removed from the file, if there are some.
    pub(in crate::supervisor::wireguard) fn remove_expired_invitations(&mut self) {
        let now = unix_now();
        let is_expired = |peer: &Peer| peer.settings().is_expired_invitation(now);
        let has_expired = self.source.configuration().is_some_and(|file| file.peers.iter().any(is_expired));
        let Some(state) = self.invitations.0.as_mut().filter(|_| has_expired) else { return };
        let is_pending = state.pending.contains(&PendingRequest::RemoveExpired);
        if let Some(editor) = state.editor.as_mut().filter(|_| !is_pending)
            && editor.request(InvitationRequest::RemoveExpired).is_ok()
        {
            state.pending.push_back(PendingRequest::RemoveExpired);
        }
    }

    /// Handles messages of the process that devices ask.
    pub(in crate::supervisor::wireguard) fn drain_responder(
        &mut self,
        context: &mut Context,
        events: PollFlags,
    ) {
        for _ in 0..BUDGET {
            let Some(responder) = self.invitations.0.as_mut().and_then(|state| state.responder.as_mut())
            else {
                return;
            };
            let flushed = if events.contains(PollFlags::POLLOUT) { responder.flush() } else { Ok(()) };
            match flushed.and_then(|()| responder.receive()) {
                Ok(Some(message)) => self.handle_responder(context, message),
                Ok(None) => return,
                Err(error) => return self.handle_responder_end(context, &error),
            }
        }
    }

    fn handle_responder_end(&mut self, context: &Context, error: &ChannelError) {
        let Some(state) = &mut self.invitations.0 else { return };
        warn!(%error, "the process that enrols devices ended: starting it again");
        state.schedule_restart(context.now);
    }

    fn handle_responder(&mut self, context: &mut Context, message: FromResponder) {
        match message {
            FromResponder::Ready => debug!("devices with an invitation are enrolled"),
            FromResponder::NotReady(error) => {
                warn!(error = error.into_string(), "invitations are not answered");
                if let Some(state) = &mut self.invitations.0 {
                    state.schedule_restart(context.now);
                }
            }
            FromResponder::Settings { number, from } => {
                let requested = self.request(context, from, |invitation, _| {
                    (InvitationRequest::Settings(invitation), PendingRequest::Settings(number))
                });
                if let Err(error) = requested {
                    self.tell(&ToResponder::Settings { number, result: Err(error) });
                }
            }
            FromResponder::Enrol { number, from, key, preshared_key } => {
                let requested = self.request(context, from, |invitation, name| {
                    let request = InvitationRequest::Enrol { invitation, key, preshared_key };
                    (request, PendingRequest::Enrol { number, name, invitation })
                });
                if let Err(error) = requested {
                    self.tell(&ToResponder::Enrolled { number, result: Err(error) });
                }
            }
        }
    }

    /// Passes a request about the invitation with the address `from` to the editor.
    fn request(
        &mut self,
        context: &Context,
        from: IpAddr,
        request: impl FnOnce(PublicKey, String) -> (InvitationRequest, PendingRequest),
    ) -> Result<(), ErrorMessage> {
        let refused = |text: &str| Err(ErrorMessage::cut(text.to_owned()));
        let Some((invitation, name)) = self.invitation_at(from) else {
            return refused("the invitation was used, taken back, or has expired: ask for a new code");
        };
        let Some(state) = &mut self.invitations.0 else { return refused("invitations are not answered") };
        let is_early = state.requested_at.is_some_and(|at| context.now.since(at) < INTERVAL);
        if is_early || state.pending.len() >= MAX_PENDING {
            return refused("too many requests at once: try again");
        }
        state.requested_at = Some(context.now);
        let Some(editor) = &mut state.editor else {
            return refused("the process that edits the server's file has ended: restart the server");
        };
        let (request, pending) = request(invitation, name);
        match editor.request(request) {
            Ok(()) => {
                state.pending.push_back(pending);
                Ok(())
            }
            Err(error) => Err(ErrorMessage::cut(error.to_string())),
        }
    }

    /// Returns the key and the name of the invitation with this address in the tunnel.
    fn invitation_at(&self, address: IpAddr) -> Option<(PublicKey, String)> {
        let peers = &self.source.configuration()?.peers;
        let has_address =
            |peer: &&Peer| peer.tunnel_networks().iter().any(|prefix| prefix.network() == address);
        let is_open = |peer: &&Peer| {
            peer.settings().invitation.is_some() && !self.access.excluded.contains(&peer.public_key)
        };
        let peer = peers.iter().filter(is_open).find(has_address)?;
        Some((peer.public_key, display_name(peer.name.as_ref(), &peer.public_key)))
    }

    fn tell(&mut self, message: &ToResponder) {
        if let Some(state) = &mut self.invitations.0 {
            state.tell(message);
        }
    }

    /// Handles messages of the editor.
    pub(in crate::supervisor::wireguard) fn drain_invitation_editor(
        &mut self,
        context: &mut Context,
        events: PollFlags,
    ) {
        loop {
            let Some(editor) = self.invitations.0.as_mut().and_then(|state| state.editor.as_mut()) else {
                return;
            };
            let flushed = if events.contains(PollFlags::POLLOUT) { editor.flush() } else { Ok(()) };
            match flushed.and_then(|()| editor.receive()) {
                Ok(Some(FromEditor::Invitation(result))) => self.handle_edited_invitation(context, result),
                Ok(None) => return,
                Ok(Some(
                    FromEditor::Ready { .. }
                    | FromEditor::Certificate(_)
                    | FromEditor::Tokens(_)
                    | FromEditor::Accounts(_)
                    | FromEditor::NotReady(_)
                    | FromEditor::Done(_)
                    | FromEditor::Answer(_),
                )) => {}
                Err(error) => return self.handle_invitation_editor_end(&error),
            }
        }
    }

    fn handle_edited_invitation(
        &mut self,
        context: &mut Context,
        result: Result<Option<ClientText>, ErrorMessage>,
    ) {
        let pending = self.invitations.0.as_mut().and_then(|state| state.pending.pop_front());
        let Some(pending) = pending else { return };
        match (pending, result) {
            (PendingRequest::Settings(number), result) => {
                let missing = || ErrorMessage::cut("there is no file".to_owned());
                let result = result.and_then(|text| text.ok_or_else(missing));
                self.tell(&ToResponder::Settings { number, result });
            }
            (PendingRequest::Enrol { number, name, invitation }, Ok(_)) => {
                info!(peer = name, %invitation, "a device was enrolled: its own key replaces the one-time key");
                self.tell(&ToResponder::Enrolled { number, result: Ok(()) });
                self.reload_after_edit(context);
            }
            (PendingRequest::Enrol { number, name, .. }, Err(error)) => {
                warn!(peer = name, error = error.clone().into_string(), "a device was not enrolled");
                self.tell(&ToResponder::Enrolled { number, result: Err(error) });
            }
            (PendingRequest::RemoveExpired, Ok(_)) => self.reload_after_edit(context),
            (PendingRequest::RemoveExpired, Err(error)) => {
                warn!(error = error.into_string(), "cannot remove expired invitations from the file");
            }
        }
    }

    /// Reads the file again, which the editor has changed.
    fn reload_after_edit(&mut self, context: &mut Context) {
        // an error was logged
        let _ = context.reload(self);
    }

    fn handle_invitation_editor_end(&mut self, error: &ChannelError) {
        let Some(state) = &mut self.invitations.0 else { return };
        warn!(%error, "the process that edits the file for invitations ended: restart the tunnel to use them again");
        state.editor = None;
        for pending in std::mem::take(&mut state.pending) {
            let error = ErrorMessage::cut("the process that edits the server's file has ended".to_owned());
            match pending {
                PendingRequest::Settings(number) => {
                    state.tell(&ToResponder::Settings { number, result: Err(error) });
                }
                PendingRequest::Enrol { number, .. } => {
                    state.tell(&ToResponder::Enrolled { number, result: Err(error) });
                }
                PendingRequest::RemoveExpired => {}
            }
        }
    }
}
