//! wg(8)'s socket in the loop: who connects, what it asks, and the sign to end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use tracing::{debug, warn};

use super::WireGuard;
use super::change::ChangeError;
use crate::control::uapi::{
    MAX_CONNECTIONS, Poll, Report, Request, UapiListener, UapiStream, failure, success,
};
use crate::device::core::{Core, Stop};
use crate::device::{BUDGET, DeviceError, Progress, SocketsError, Token};
use crate::time::Instant;

/// How soon those are looked at again who could not be taken for lack of descriptors: no edge tells when there are some.
const RETRY: Duration = Duration::from_secs(1);

/// The socket, where there is one, and its connections.
#[derive(Debug, Default)]
pub(super) struct Uapi {
    listener: Option<UapiListener>,
    /// By number, which is counted up: the first is the oldest.
    clients: BTreeMap<u32, UapiStream>,
    next: u32,
    /// When to look at those who wait to be taken.
    retry_at: Option<Instant>,
}

impl Uapi {
    pub(super) fn new(listener: Option<UapiListener>) -> Self {
        Self { listener, ..Self::default() }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Has the listener looked at again, if that is due.
    pub(super) fn handle_timeout(&mut self, core: &mut Core) {
        if self.retry_at.is_some_and(|at| core.now >= at) {
            self.retry_at = None;
            core.post_to(0, Token::Uapi);
        }
    }

    /// Where its file is.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        Some(self.listener.as_ref()?.path().parent()?.to_owned())
    }

    /// # Errors
    /// The system's.
    pub(super) fn register(&self, core: &Core) -> Result<(), DeviceError> {
        let Some(listener) = &self.listener else { return Ok(()) };
        core.register(0, listener, Token::Uapi)?;
        if let Some(watch) = listener.watch() {
            core.register(0, watch, Token::UapiWatch)?;
        }
        Ok(())
    }
}

impl WireGuard {
    pub(super) fn drain_uapi_listener(&mut self, core: &mut Core) -> Result<Progress, DeviceError> {
        for _ in 0..BUDGET {
            let Some(listener) = &self.uapi.listener else { return Ok(Progress::Drained) };
            let client = match listener.accept() {
                Ok(Some(client)) => client,
                Ok(None) => return Ok(Progress::Drained),
                Err(error) => {
                    // out of descriptors
                    self.uapi.retry_at = Some(core.now + RETRY);
                    debug!(%error, "a connection to the socket for wg(8) is not taken yet");
                    return Ok(Progress::Drained);
                }
            };
            if self.uapi.clients.len() >= MAX_CONNECTIONS {
                self.uapi.clients.pop_first();
            }
            let number = self.uapi.next;
            self.uapi.next = number.wrapping_add(1);
            core.register_both(&client, Token::UapiClient(number))?;
            self.uapi.clients.insert(number, client);
        }
        Ok(Progress::More)
    }

    /// Whether the socket is still there; without it nobody could speak to us, and so userspace implementations are told
    /// to end.
    pub(super) fn drain_uapi_watch(&mut self, core: &mut Core) -> Progress {
        let Some(listener) = &mut self.uapi.listener else { return Progress::Drained };
        match listener.handle_watch() {
            Ok(true) => {}
            Ok(false) => core.stop = Some(Stop::SocketRemoved),
            Err(error) => warn!(%error, "whether the socket for wg(8) is removed is not known any more"),
        }
        Progress::Drained
    }

    pub(super) fn drain_uapi_client(
        &mut self,
        core: &mut Core,
        number: u32,
    ) -> Result<Progress, DeviceError> {
        // taken out, so that a request can change all else
        let Some(mut client) = self.uapi.clients.remove(&number) else { return Ok(Progress::Drained) };
        let progress = match client.poll_request() {
            Ok(Poll::Blocked) => Progress::Drained,
            Ok(Poll::Again) => Progress::More,
            Ok(Poll::Request(request)) => {
                let answer = match request {
                    Request::Get => self.answer(core, Report::Get),
                    Request::Status => self.answer(core, Report::Status),
                    Request::Set(changes) => match self.change(core, &changes)? {
                        Ok(()) => success(),
                        Err(error) => {
                            warn!(%error, "a change by wg(8) cannot be made, nothing was changed");
                            failure(errno(&error))
                        }
                    },
                };
                match client.respond(answer) {
                    Ok(()) => Progress::More,
                    Err(_) => return Ok(Progress::Drained),
                }
            }
            Ok(Poll::Refused(error)) => {
                warn!(%error, "a request to the socket for wg(8) is not understood, nothing was changed");
                Progress::More
            }
            // whoever it was has gone
            Ok(Poll::Closed) | Err(_) => return Ok(Progress::Drained),
        };
        self.uapi.clients.insert(number, client);
        Ok(progress)
    }
}

/// As wireguard-go answers: negative.
fn errno(error: &ChangeError) -> i32 {
    let errno = match error {
        ChangeError::Sockets(SocketsError::PortInUse(_)) => Errno::EADDRINUSE,
        ChangeError::Sockets(SocketsError::PortPrivileged(_)) => Errno::EACCES,
        ChangeError::KillSwitch(error) if error.kind() == io::ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ChangeError::Sockets(_) | ChangeError::Mark(_) | ChangeError::KillSwitch(_) => Errno::EIO,
    };
    -(errno as i32)
}
