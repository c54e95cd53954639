//! Changes that the page asks for: the editor makes them, and the file is read again. Questions
//! about the file, which the editor answers.

use std::net::{IpAddr, Ipv4Addr};

use tracing::field::display;
use tracing::{info, warn};

use super::super::file::ConfigFile;
use super::super::state::WireGuard;
use super::page::AdminPage;
use super::pending::{ChangeKind, PendingChange};
use crate::admin::messages::{
    Answer, Change, Done, Principal, Question, Refusal, SettingText, ToAdmin, ToEditor,
};
use crate::netlink::local_addresses;
use crate::process::ChannelError;
use crate::supervisor::context::Context;

/// Maximum number of changes that the editor has not made yet.
const MAX_PENDING: usize = 16;

impl WireGuard {
    /// Passes a change to the editor.
    pub(super) fn request_change(&mut self, number: u32, from: IpAddr, by: Principal, change: Change) {
        let Some(admin) = &mut self.admin.0 else { return };
        let kind = match &change {
            Change::Account { .. } | Change::RemoveAccount(_) => ChangeKind::Account,
            Change::Enrol(_) => ChangeKind::Enrolment,
            Change::AddToken(_) | Change::RemoveToken(_) => ChangeKind::Tokens,
            _ => ChangeKind::File,
        };
        let request = ToEditor::Change { change, from, by: by.clone(), reaches_ipv6: admin.reaches_ipv6 };
        admin.request(number, (from, by), kind, &request);
    }

    /// Passes a question to the editor.
    pub(super) fn request_answer(&mut self, number: u32, question: Question) {
        let Some(policy) = self.source.file().map(ConfigFile::policy) else { return };
        let Some(admin) = &mut self.admin.0 else { return };
        // without netlink, only the addresses of the file are known to be the server's
        let own = match question {
            Question::Access { .. } => local_addresses().unwrap_or_default(),
            Question::Server => Vec::new(),
        };
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        admin.request(
            number,
            (host, Principal::Admin),
            ChangeKind::Question,
            &ToEditor::Question { question, policy, own },
        );
    }

    /// Handles a change that the editor has made, or has not.
    pub(super) fn handle_edited(&mut self, context: &mut Context, result: Result<Done, Refusal>) {
        let Some(admin) = &mut self.admin.0 else { return };
        let Some(PendingChange { number, generation, from, by, kind }) = admin.pending.pop_front() else {
            return;
        };
        let result = match (result, kind) {
            (Ok(Done { text, client, accounts, .. }), ChangeKind::Account) => {
                if let Some(accounts) = accounts {
                    admin.accounts = accounts;
                }
                log_change(from, &by, &text);
                Ok(client)
            }
            (Ok(Done { text, client, tokens, .. }), ChangeKind::Tokens) => {
                log_change(from, &by, &text);
                tokens.into_iter().for_each(|tokens| admin.set_tokens(tokens));
                Ok(client)
            }
            (Ok(Done { text, client, .. }), _) => {
                log_change(from, &by, &text);
                context.reload(self).map(|_| client).map_err(|error| {
                    Refusal::of_all(format!("the file was changed, but the tunnel cannot apply it: {error}"))
                })
            }
            (Err(refusal), ChangeKind::Enrolment) => {
                if let Some(suppressed) = admin.refusals.allow(context.now) {
                    let error = refusal.to_string();
                    warn!(%from, suppressed, error, "admin page: no device was enrolled by a link");
                }
                Err(refusal)
            }
            (Err(refusal), _) => Err(refusal),
        };
        let Some(admin) = &mut self.admin.0 else { return };
        if admin.generation == generation {
            admin.tell(&ToAdmin::Changed { number, result }, Vec::new());
        }
    }

    /// Handles an answer of the editor.
    pub(super) fn handle_answer(&mut self, result: Result<Answer, Refusal>) {
        let Some(admin) = &mut self.admin.0 else { return };
        let Some(PendingChange { number, generation, .. }) = admin.pending.pop_front() else { return };
        if admin.generation == generation {
            admin.tell(&ToAdmin::Answer { number, result }, Vec::new());
        }
    }

    pub(super) fn handle_editor_end(&mut self, context: &mut Context, error: &ChannelError) {
        let Some(admin) = &mut self.admin.0 else { return };
        warn!(%error, "the process that edits the file for the admin page ended: starting it again");
        admin.editor = None;
        admin.editor_restart.schedule(context.now);
        let clients = std::mem::take(&mut admin.token_clients);
        for PendingChange { number, generation, kind, .. } in std::mem::take(&mut admin.pending) {
            if admin.generation == generation {
                admin.refuse(
                    number,
                    &kind,
                    "the process that edits the file has ended: look whether it was changed",
                );
            }
        }
        for client in clients {
            self.respond_about_tokens(context, client, Some("the process that edits the file has ended"));
        }
    }
}

/// Logs a change, and who made it; what an enrolment by a link is, its text says.
fn log_change(from: IpAddr, by: &Principal, text: &SettingText) {
    let (by, token) = match by {
        Principal::Admin | Principal::Owner(_) => (Some(display(by)), None),
        Principal::Token(name) => (None, Some(display(name))),
        Principal::Invitation => (None, None),
    };
    info!(%from, by, token, "admin page: {}", text.as_str());
}

impl AdminPage {
    /// Sends a request to the editor, or refuses it.
    fn request(
        &mut self,
        number: u32,
        (from, by): (IpAddr, Principal),
        kind: ChangeKind,
        request: &ToEditor,
    ) {
        let result = match &mut self.editor {
            Some(_) if self.pending.len() >= MAX_PENDING => Err("too many changes at once".to_owned()),
            Some(editor) => editor.send(request, Vec::new()).map_err(|error| error.to_string()),
            None => {
                Err("the process that edits the file has ended, and starts again: try again soon".to_owned())
            }
        };
        match result {
            Ok(()) => {
                let generation = self.generation;
                self.pending.push_back(PendingChange { number, generation, from, by, kind });
            }
            Err(error) => self.refuse(number, &kind, &error),
        }
    }

    fn refuse(&mut self, number: u32, kind: &ChangeKind, reason: &str) {
        let refusal = Refusal::of_all(reason);
        let message = match kind {
            ChangeKind::Question => ToAdmin::Answer { number, result: Err(refusal) },
            ChangeKind::File | ChangeKind::Account | ChangeKind::Enrolment | ChangeKind::Tokens => {
                ToAdmin::Changed { number, result: Err(refusal) }
            }
        };
        self.tell(&message, Vec::new());
    }
}
