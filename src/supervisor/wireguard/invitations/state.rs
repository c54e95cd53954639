//! State of the invitations.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::warn;

use super::super::admin::{Editor, Helper, editor_start};
use super::super::file::ConfigFile;
use super::sockets;
use crate::config::TunName;
use crate::enroll::ROLE;
use crate::enroll::messages::{FromResponder, ToResponder};
use crate::process::{Nursery, NurseryError};
use crate::supervisor::mode::EventSource;
use crate::supervisor::start::Starting;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Delay before the process is restarted; doubled each time, up to [`MAX_RESTART_DELAY`].
const RESTART_DELAY: Duration = Duration::from_millis(500);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(60);

/// `wontun-enroll`.
pub(super) type Responder = Helper<FromResponder, ToResponder>;

/// The invitations, if they are answered.
#[derive(Debug, Default)]
pub(in crate::supervisor::wireguard) struct Invitations(pub(super) Option<Box<State>>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) is_sandboxed: bool,
    sockets: Vec<OwnedFd>,
    pub(super) responder: Option<Responder>,
    pub(super) editor: Option<Editor>,
    /// Time of the next start of the responder.
    pub(super) restart_at: Option<Instant>,
    delay: Duration,
    /// Requests that the editor has not answered, in their order.
    pub(super) pending: VecDeque<PendingRequest>,
    /// Time of the last request of the responder.
    pub(super) requested_at: Option<Instant>,
}

/// A request that the editor has not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PendingRequest {
    /// For the file of a device.
    Settings(u32),
    /// For an enrolment: its number, and the name and the key of the invitation.
    Enrol { number: u32, name: String, invitation: PublicKey },
    /// To remove what has expired.
    RemoveExpired,
}

impl Invitations {
    /// Opens the sockets and starts the editor, if invitations are to be answered. Must be called
    /// when the device is there, and before this process is confined.
    pub(in crate::supervisor::wireguard) fn open(
        tunnel: &TunName,
        file: Option<&ConfigFile>,
        starting: &Starting,
    ) -> Self {
        let Some(file) = file.filter(|file| file.options.invitations) else { return Self::default() };
        let is_sandboxed = starting.is_sandboxed();
        let start_editor = || {
            let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = std::path::absolute(folder.unwrap_or(std::path::Path::new(".")));
            let folder = folder.map_err(|error| error.to_string())?;
            let name = TunName::of_file(&file.path).unwrap_or_else(|_| tunnel.clone());
            let start = editor_start(&folder, &name, &file.key_files, None, is_sandboxed);
            let editor = Editor::start_once(starting.stderr(), &start);
            let mut editor = editor.map_err(|error| error.to_string())?;
            editor.wait().map(|_| editor)
        };
        let opened = sockets::open(tunnel, &file.configuration.interface.addresses);
        let opened = opened.and_then(|sockets| match sockets.is_empty() {
            true => Err(io::Error::other("the server has no address in the tunnel")),
            false => Ok(sockets),
        });
        match opened.map_err(|error| error.to_string()).and_then(|sockets| Ok((sockets, start_editor()?))) {
            Ok((sockets, editor)) => Self(Some(Box::new(State {
                is_sandboxed,
                sockets,
                responder: None,
                editor: Some(editor),
                restart_at: None,
                delay: RESTART_DELAY,
                pending: VecDeque::new(),
                requested_at: None,
            }))),
            Err(error) => {
                warn!(
                    error,
                    port = crate::config::peer_settings::RESPONDER_PORT,
                    "invitations are not answered, and have no access: the UDP port of the tunnel's addresses must be free, \
                     the kernel 5.7 or later, and the configuration's folder writable"
                );
                Self::default()
            }
        }
    }

    /// Returns true if invitations are answered.
    pub(in crate::supervisor::wireguard) const fn is_answered(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the descriptors to wait for.
    pub(in crate::supervisor::wireguard) fn descriptors(
        &self,
    ) -> impl Iterator<Item = (EventSource, BorrowedFd<'_>, PollFlags)> {
        let responder = self.0.as_ref().and_then(|state| state.responder.as_ref()).map(Helper::source);
        let editor = self.0.as_ref().and_then(|state| state.editor.as_ref()).map(Helper::source);
        let responder = responder.map(|(fd, flags)| (EventSource::Responder, fd, flags));
        responder.into_iter().chain(editor.map(|(fd, flags)| (EventSource::InvitationEditor, fd, flags)))
    }

    /// Returns the time at which `WireGuard::handle_invitations_timeout` must be called.
    pub(in crate::supervisor::wireguard) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref()?.restart_at
    }
}

impl State {
    /// Starts the process that devices ask.
    pub(super) fn start_responder(&mut self, nursery: &mut Nursery, stderr: BorrowedFd<'_>, now: Instant) {
        match self.try_start(nursery, stderr) {
            Ok(responder) => (self.responder, self.restart_at) = (Some(responder), None),
            Err(error) => {
                warn!(%error, "cannot start the process that enrols devices; trying again later");
                self.schedule_restart(now);
            }
        }
    }

    fn try_start(&self, nursery: &mut Nursery, stderr: BorrowedFd<'_>) -> Result<Responder, NurseryError> {
        let mut responder = Responder::new(nursery.spawn(ROLE, stderr)?)?;
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
        let start = ToResponder::Start { is_sandboxed: self.is_sandboxed };
        let failed = |source| NurseryError::ChannelFailed { role: ROLE.to_owned(), source };
        responder.send(&start, sockets.map_err(NurseryError::Socket)?).map_err(failed)?;
        Ok(responder)
    }

    pub(super) fn schedule_restart(&mut self, now: Instant) {
        self.responder = None;
        self.restart_at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_RESTART_DELAY);
    }

    /// Sends a message to the process, if it runs.
    pub(super) fn tell(&mut self, message: &ToResponder) {
        if let Some(responder) = &mut self.responder {
            // its end is reported when its channel is read
            let _ = responder.send(message, Vec::new());
        }
    }
}
