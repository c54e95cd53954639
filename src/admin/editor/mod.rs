//! `wontun-editor`: the process that changes the server's file for the admin page.

mod account_file;
mod certificate_file;
mod change_log;
mod changes;
mod fields;
mod invitations;
mod questions;
mod tokens;
mod tokens_file;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub(super) use self::account_file::AccountFile;
use self::certificate_file::CertificateFile;
use self::change_log::ChangeLog;
pub(crate) use self::tokens_file::TokensFile;
use super::messages::{AccountsText, CertificateResult, FromEditor, ToEditor};
use crate::config::TunNameError;
use crate::net::random::SystemRandom;
use crate::process::{self, Channel, ChannelError, format_error_chain};
use crate::resolver::messages::ErrorMessage;
use crate::sandbox::Sandbox;
use crate::server::Folder;

/// Role of the helper.
pub(crate) const ROLE: &str = "editor";

/// The process's end of the channel.
type HelperChannel = Channel<ToEditor, FromEditor>;

/// The files.
#[derive(Debug)]
struct Editor {
    folder: Folder,
    account: AccountFile,
    log: ChangeLog,
    tokens: TokensFile,
    certificate: Option<CertificateFile>,
    random: SystemRandom,
}

/// Main function of the process: makes the changes that are requested on `socket` until its other
/// end is closed. Returns the exit code.
pub fn main(socket: OwnedFd) -> u8 {
    // the files belong to the user that wontun was started as
    let prepared = process::prepare_helper(ROLE).map_err(|error| format_error_chain(&error));
    let Ok(mut channel) = HelperChannel::new(socket) else { return 1 };
    let start = match channel.receive_until(None) {
        Ok(Some((start @ ToEditor::Start { .. }, _))) => start,
        // its parent has ended
        Err(ChannelError::Closed) => return 0,
        _ => return 1,
    };
    let opened = prepared.and_then(|()| Editor::open(start));
    let (answer, editor) = match opened {
        Ok((editor, accounts)) => {
            let certificate = editor.read_certificate();
            (FromEditor::Ready { accounts, certificate }, Some(editor))
        }
        Err(text) => (FromEditor::NotReady(ErrorMessage::cut(text)), None),
    };
    if channel.send_blocking(&answer, Vec::new()).is_err() {
        return 1;
    }
    editor.map_or(1, |mut editor| editor.serve(&mut channel))
}

impl Editor {
    /// Confines the process, and reads the accounts.
    fn open(start: ToEditor) -> Result<(Self, AccountsText), String> {
        let ToEditor::Start { folder: path, tunnel, key_files, certificate, is_sandboxed } = start else {
            return Err("the supervisor sent an unexpected message".to_owned());
        };
        let path = PathBuf::from(path);
        let key_files: Vec<_> = key_files.into_iter().map(PathBuf::from).collect();
        let tunnel = tunnel.parse().map_err(|error: TunNameError| error.to_string())?;
        let account = AccountFile::new(&path, &tunnel);
        let log = ChangeLog::new(&path, &tunnel);
        let tokens = TokensFile::new(&path, &tunnel);
        let certificate = certificate.map(|source| CertificateFile::new(source, &path, &tunnel));
        let folder = Folder::new(path, tunnel);
        let random = SystemRandom::open().map_err(|error| error.to_string())?;
        if is_sandboxed {
            let folders = certificate.iter().flat_map(CertificateFile::folders);
            let read: Vec<_> = key_files.into_iter().chain(folders).collect();
            Sandbox::for_editor(&folder.file(), &read)
                .and_then(|sandbox| sandbox.engage())
                .map_err(|error| format_error_chain(&error))?;
        }
        let text = account.read()?;
        Ok((Self { folder, account, certificate, log, tokens, random }, text))
    }

    fn read_certificate(&self) -> Option<CertificateResult> {
        self.certificate.as_ref().map(|file| file.read().map_err(ErrorMessage::cut))
    }

    /// Makes changes and answers questions until the other end is closed. Returns the exit code.
    fn serve(&mut self, channel: &mut HelperChannel) -> u8 {
        loop {
            let result = match channel.receive_until(None) {
                Ok(Some((ToEditor::Change { change, from, by, reaches_ipv6 }, _))) => {
                    FromEditor::Done(self.make(change, from, &by, reaches_ipv6))
                }
                Ok(Some((ToEditor::Question { question, policy, own }, _))) => {
                    FromEditor::Answer(self.answer(question, policy, own))
                }
                Ok(Some((ToEditor::Invitation(request), _))) => {
                    FromEditor::Invitation(self.handle_invitation(request).map_err(ErrorMessage::cut))
                }
                Ok(Some((ToEditor::ReadCertificate, _))) => {
                    let Some(certificate) = self.read_certificate() else { continue };
                    FromEditor::Certificate(certificate)
                }
                Ok(Some((ToEditor::ReadTokens, _))) => FromEditor::Tokens(self.read_tokens()),
                Ok(Some((ToEditor::ReadAccounts, _))) => {
                    FromEditor::Accounts(self.account.read().map_err(ErrorMessage::cut))
                }
                Ok(None) => continue,
                Err(ChannelError::Closed) => return 0,
                Ok(Some((ToEditor::Start { .. }, _))) | Err(_) => return 1,
            };
            if channel.send_blocking(&result, Vec::new()).is_err() {
                return 1;
            }
        }
    }
}
