//! The supervisor's handles of the processes of the page.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant as Clock};

use nix::poll::PollFlags;
use nix::unistd::Pid;

use super::listeners::Listener;
use crate::admin::messages::{
    AccountsText, CertificateResult, FromAdmin, FromEditor, InvitationRequest, ToAdmin, ToEditor, TokensText,
};
use crate::admin::{ROLE, editor};
use crate::process::{Channel, ChannelError, Child, Nursery, NurseryError, spawn_as_own_user, stop_helper};
use crate::resolver::messages::ErrorMessage;

/// Time that the editor has to confine itself and read the account.
const READY_TIMEOUT: Duration = Duration::from_secs(3);
const UNEXPECTED: &str = "it sent something unexpected";

/// The files that the editor has read at its start.
#[derive(Debug)]
pub(in crate::supervisor::wireguard) struct EditorReady {
    /// The accounts.
    pub(super) accounts: AccountsText,
    /// The certificate, if one is needed.
    pub(super) certificate: Option<CertificateResult>,
    /// The tokens of the API.
    pub(super) tokens: Result<TokensText, ErrorMessage>,
}

/// Handle of a process. Dropping it ends the process.
#[derive(Debug)]
pub(in crate::supervisor::wireguard) struct Helper<In, Out> {
    channel: Channel<In, Out>,
    child: Pid,
}

/// `wontun-admin`.
pub(super) type Page = Helper<FromAdmin, ToAdmin>;
/// `wontun-editor`.
pub(in crate::supervisor::wireguard) type Editor = Helper<FromEditor, ToEditor>;

impl<In: serde::de::DeserializeOwned, Out: serde::Serialize> Helper<In, Out> {
    pub(in crate::supervisor::wireguard) fn new(
        Child { pid: child, socket }: Child,
    ) -> Result<Self, NurseryError> {
        Ok(Self { channel: Channel::new(socket).map_err(NurseryError::Socket)?, child })
    }

    /// Sends a message, or queues it.
    ///
    /// # Errors
    /// The process has ended, or does not read its messages.
    pub(in crate::supervisor::wireguard) fn send(
        &mut self,
        message: &Out,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        self.channel.send(message, descriptors)
    }

    /// Sends queued messages.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub(in crate::supervisor::wireguard) fn flush(&mut self) -> Result<(), ChannelError> {
        self.channel.flush()
    }

    /// Returns true if messages are queued.
    pub(in crate::supervisor::wireguard) fn is_behind(&self) -> bool {
        self.channel.is_behind()
    }

    /// Returns the next message; `None` if there is none yet.
    ///
    /// # Errors
    /// The process has ended, or sent an invalid message.
    pub(in crate::supervisor::wireguard) fn receive(&mut self) -> Result<Option<In>, ChannelError> {
        self.channel.receive().map(|received| received.map(|(message, _)| message))
    }

    /// Returns the descriptor, and the events to wait for.
    pub(in crate::supervisor::wireguard) fn source(&self) -> (BorrowedFd<'_>, PollFlags) {
        let writes = if self.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
        (self.channel.as_fd(), PollFlags::POLLIN | writes)
    }
}

impl<In, Out> Drop for Helper<In, Out> {
    fn drop(&mut self) {
        stop_helper(self.child, &self.channel);
    }
}

impl Page {
    /// Starts the process with its first message and these sockets, without waiting for it.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(super) fn start(
        nursery: &mut Nursery,
        stderr: BorrowedFd<'_>,
        start: &ToAdmin,
        listeners: &[Listener],
    ) -> Result<Self, NurseryError> {
        let mut page = Self::new(nursery.spawn(ROLE, stderr)?)?;
        let sockets = listeners.iter().map(|each| each.socket.try_clone()).collect::<Result<_, _>>();
        let failed = |source| NurseryError::ChannelFailed { role: ROLE.to_owned(), source };
        page.send(start, sockets.map_err(NurseryError::Socket)?).map_err(failed)?;
        Ok(page)
    }
}

impl Editor {
    /// Starts the process without waiting for it, by a nursery whose helpers run as this process's
    /// user, to whom the file belongs.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(in crate::supervisor::wireguard) fn start(
        nursery: &mut Nursery,
        stderr: BorrowedFd<'_>,
        start: &ToEditor,
    ) -> Result<Self, NurseryError> {
        Self::begin(nursery.spawn(editor::ROLE, stderr)?, start)
    }

    /// Starts the process without a nursery, and without waiting for it. Must be called before this
    /// process is confined.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(in crate::supervisor::wireguard) fn start_once(
        stderr: BorrowedFd<'_>,
        start: &ToEditor,
    ) -> Result<Self, NurseryError> {
        Self::begin(spawn_as_own_user(editor::ROLE, stderr)?, start)
    }

    fn begin(child: Child, start: &ToEditor) -> Result<Self, NurseryError> {
        let mut editor = Self::new(child)?;
        let failed = |source| NurseryError::ChannelFailed { role: editor::ROLE.to_owned(), source };
        editor.send(start, Vec::new()).map_err(failed)?;
        Ok(editor)
    }

    /// Waits until the process is confined, and returns what it has read.
    ///
    /// # Errors
    /// A text for the log.
    pub(in crate::supervisor::wireguard) fn wait(&mut self) -> Result<EditorReady, String> {
        let (accounts, certificate) = match self.receive_soon()? {
            FromEditor::Ready { accounts, certificate } => (accounts, certificate),
            FromEditor::NotReady(error) => return Err(error.into_string()),
            _ => return Err(UNEXPECTED.to_owned()),
        };
        // apart, since all of it may be longer than a message
        self.send(&ToEditor::ReadTokens, Vec::new()).map_err(|error| error.to_string())?;
        match self.receive_soon()? {
            FromEditor::Tokens(tokens) => Ok(EditorReady { accounts, certificate, tokens }),
            _ => Err(UNEXPECTED.to_owned()),
        }
    }

    fn receive_soon(&mut self) -> Result<FromEditor, String> {
        match self.channel.receive_until(Some(Clock::now() + READY_TIMEOUT)) {
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(format!("no message within {} s", READY_TIMEOUT.as_secs())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Requests something about the invitations.
    ///
    /// # Errors
    /// As for [`Helper::send`].
    pub(in crate::supervisor::wireguard) fn request(
        &mut self,
        request: InvitationRequest,
    ) -> Result<(), ChannelError> {
        self.send(&ToEditor::Invitation(request), Vec::new())
    }
}
