//! Changes that the page asks for: the editor makes them, and the file is read again.

use std::net::IpAddr;

use tracing::{info, warn};

use super::super::state::WireGuard;
use super::pending::{ChangeKind, PendingChange};
use crate::admin::messages::{Change, ClientText, ToAdmin};
use crate::process::ChannelError;
use crate::resolver::messages::ErrorMessage;
use crate::supervisor::context::Context;

/// Maximum number of changes that the editor has not made yet.
const MAX_PENDING: usize = 16;

impl WireGuard {
    /// Passes a change to the editor.
    pub(super) fn request_change(&mut self, number: u32, from: IpAddr, change: Change) {
        let Some(admin) = &mut self.admin.0 else { return };
        let kind = match &change {
            Change::Account(text) => ChangeKind::Account(text.clone()),
            Change::Add { name, .. } => ChangeKind::File(format!("add '{name}'")),
            Change::Renew(key) => ChangeKind::File(format!("renew {key}")),
            Change::Remove(key) => ChangeKind::File(format!("remove {key}")),
            Change::Rename(key, name) => ChangeKind::File(format!("rename {key} to '{name}'")),
            Change::Set(key, setting, _) => ChangeKind::File(format!("set {} of {key}", setting.comment())),
        };
        let result = match &mut admin.editor {
            Some(_) if admin.pending.len() >= MAX_PENDING => Err("too many changes at once".to_owned()),
            Some(editor) => editor.change(change, admin.reaches_ipv6).map_err(|error| error.to_string()),
            None => Err("the process that edits the file has ended: restart the tunnel".to_owned()),
        };
        match result {
            Ok(()) => {
                let generation = admin.generation;
                admin.pending.push_back(PendingChange { number, generation, from, kind });
            }
            Err(error) => {
                let result = Err(ErrorMessage::cut(error));
                admin.tell(&ToAdmin::Changed { number, result }, Vec::new());
            }
        }
    }

    /// Handles a change that the editor has made, or has not.
    pub(super) fn handle_edited(
        &mut self,
        context: &mut Context,
        result: Result<Option<ClientText>, ErrorMessage>,
    ) {
        let Some(admin) = &mut self.admin.0 else { return };
        let Some(PendingChange { number, generation, from, kind }) = admin.pending.pop_front() else {
            return;
        };
        let result = match (result, kind) {
            (Ok(client), ChangeKind::Account(text)) => {
                admin.account = Some(text);
                info!(%from, "admin page: the account was changed");
                Ok(client)
            }
            (Ok(client), ChangeKind::File(change)) => {
                info!(%from, "admin page: {change}");
                context.reload(self).map(|_| client).map_err(|error| {
                    ErrorMessage::cut(format!(
                        "the file was changed, but the tunnel cannot apply it: {error}"
                    ))
                })
            }
            (Err(error), _) => Err(error),
        };
        let Some(admin) = &mut self.admin.0 else { return };
        if admin.generation == generation {
            admin.tell(&ToAdmin::Changed { number, result }, Vec::new());
        }
    }

    pub(super) fn handle_editor_end(&mut self, error: &ChannelError) {
        let Some(admin) = &mut self.admin.0 else { return };
        warn!(%error, "the process that edits the file for the admin page ended: restart the tunnel to use it again");
        admin.editor = None;
        for PendingChange { number, generation, .. } in std::mem::take(&mut admin.pending) {
            if admin.generation == generation {
                let result = Err(ErrorMessage::cut("the process that edits the file has ended".to_owned()));
                admin.tell(&ToAdmin::Changed { number, result }, Vec::new());
            }
        }
    }
}
