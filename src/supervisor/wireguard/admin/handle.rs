//! Messages of the page's processes, and their ends.

use nix::poll::PollFlags;
use tracing::{info, warn};

use super::super::state::WireGuard;
use super::processes::Page;
use crate::admin::messages::{Event, FromAdmin, FromEditor, Principal, ToAdmin, ToEditor, TokensText};
use crate::config::OwnerName;
use crate::process::ChannelError;
use crate::resolver::messages::ErrorMessage;
use crate::supervisor::context::Context;

/// Number of messages of a process read per turn.
const BUDGET: usize = 16;

impl WireGuard {
    /// Handles messages of the page's process.
    pub(in crate::supervisor::wireguard) fn drain_admin(&mut self, context: &mut Context, events: PollFlags) {
        if events.contains(PollFlags::POLLOUT)
            && let Some(Err(error)) =
                self.admin.0.as_mut().and_then(|admin| admin.page.as_mut()).map(Page::flush)
        {
            return self.handle_page_end(context, &error);
        }
        for _ in 0..BUDGET {
            let Some(page) = self.admin.0.as_mut().and_then(|admin| admin.page.as_mut()) else { return };
            match page.receive() {
                Ok(Some(message)) => self.handle_admin(context, message),
                Ok(None) => return,
                Err(error) => return self.handle_page_end(context, &error),
            }
        }
    }

    fn handle_page_end(&mut self, context: &mut Context, error: &ChannelError) {
        let Some(admin) = &mut self.admin.0 else { return };
        admin.page = None;
        admin.page_restart.schedule(context.now);
        warn!(%error, "the process of the admin page ended: starting it again; sign in again then");
        let clients = std::mem::take(&mut admin.link_clients);
        for client in clients {
            self.respond_with_links(context, client, None);
        }
    }

    fn handle_admin(&mut self, context: &mut Context, message: FromAdmin) {
        let Some(admin) = &mut self.admin.0 else { return };
        match message {
            FromAdmin::Ready => {}
            FromAdmin::NotReady(error) => {
                warn!(error = error.into_string(), "the admin page is not served");
                admin.page = None;
            }
            FromAdmin::Show => {
                admin.is_show_due = true;
                self.show_peers(context);
            }
            FromAdmin::Change { number, from, by, change } => self.request_change(number, from, by, change),
            FromAdmin::Question { number, question } => self.request_answer(number, question),
            FromAdmin::Link(token) => {
                if let Some(client) = admin.link_clients.pop_front() {
                    let links = admin.links(&token);
                    let fingerprint =
                        admin.certificate.as_ref().map(|(_, fingerprint)| fingerprint.to_string());
                    self.respond_with_links(context, client, Some((&links, fingerprint.as_deref())));
                }
            }
            FromAdmin::Event { from, event } => match event {
                Event::SignedIn(by) => info!(%from, %by, "admin page: signed in"),
                Event::UsedLink(by) => info!(%from, %by, "admin page: signed in by a link"),
                Event::MadeLink(owner) => info!(%from, "admin page: made a link for {owner}"),
                Event::Refused | Event::TooMany => {
                    if let Some(suppressed) = admin.refusals.allow(context.now) {
                        warn!(%from, suppressed, "admin page: attempt to sign in refused");
                    }
                }
                Event::TooManyLinks => {
                    if let Some(suppressed) = admin.refusals.allow(context.now) {
                        warn!(%from, suppressed, "admin page: too many attempts to use a link of an invitation");
                    }
                }
            },
        }
    }

    /// Requests a link for a client of the control socket, of an owner of peers or else of the
    /// administrator. Returns false if the page is not served.
    pub(in crate::supervisor::wireguard) fn request_link(
        &mut self,
        client: u32,
        owner: Option<OwnerName>,
    ) -> bool {
        let Some(admin) = &mut self.admin.0 else { return false };
        let principal = owner.map_or(Principal::Admin, Principal::Owner);
        if admin.tell(&ToAdmin::MakeLink(principal), Vec::new()).is_none() {
            return false;
        }
        admin.link_clients.push_back(client);
        true
    }

    /// Has the tokens of the API read again for a client of the control socket. Returns false if
    /// the page is not served.
    pub(in crate::supervisor::wireguard) fn request_tokens(&mut self, client: u32) -> bool {
        let Some(admin) = &mut self.admin.0 else { return false };
        let sent = admin.editor.as_mut().map(|editor| editor.send(&ToEditor::ReadTokens, Vec::new()));
        if !matches!(sent, Some(Ok(()))) {
            return false;
        }
        admin.token_clients.push_back(client);
        true
    }

    fn handle_tokens(&mut self, context: &mut Context, result: Result<TokensText, ErrorMessage>) {
        let Some(admin) = &mut self.admin.0 else { return };
        let Some(client) = admin.token_clients.pop_front() else { return };
        let error = match result {
            Ok(tokens) => {
                admin.set_tokens(tokens);
                None
            }
            Err(error) => Some(error.into_string()),
        };
        self.respond_about_tokens(context, client, error.as_deref());
    }

    /// Handles messages of the editor.
    pub(in crate::supervisor::wireguard) fn drain_editor(
        &mut self,
        context: &mut Context,
        events: PollFlags,
    ) {
        loop {
            let Some(editor) = self.admin.0.as_mut().and_then(|admin| admin.editor.as_mut()) else { return };
            let flushed = if events.contains(PollFlags::POLLOUT) { editor.flush() } else { Ok(()) };
            match flushed.and_then(|()| editor.receive()) {
                Ok(Some(FromEditor::Done(result))) => self.handle_edited(context, result),
                Ok(Some(FromEditor::Answer(result))) => self.handle_answer(result),
                Ok(None) => return,
                Ok(Some(FromEditor::Certificate(result))) => {
                    if let Some(admin) = &mut self.admin.0 {
                        admin.handle_certificate(result);
                    }
                }
                Ok(Some(FromEditor::Tokens(result))) => self.handle_tokens(context, result),
                Ok(Some(FromEditor::Accounts(result))) => {
                    if let Some(admin) = &mut self.admin.0 {
                        admin.handle_accounts(result);
                    }
                }
                Ok(Some(FromEditor::Ready { .. } | FromEditor::Invitation(_))) => {}
                Ok(Some(FromEditor::NotReady(error))) => {
                    warn!(error = error.into_string(), "the process that edits the file did not start");
                }
                Err(error) => return self.handle_editor_end(context, &error),
            }
        }
    }

    /// Starts the processes again, and answers with the peers, if these are due.
    pub(in crate::supervisor::wireguard) fn handle_admin_timeout(&mut self, context: &mut Context) {
        if let Some(admin) = &mut self.admin.0 {
            if admin.page_restart.is_due(context.now) {
                admin.start_page(context);
            }
            if admin.editor_restart.is_due(context.now) {
                admin.start_editor(context);
            }
        }
        self.show_peers(context);
    }
}
