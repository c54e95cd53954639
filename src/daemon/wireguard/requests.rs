//! Answers requests of wg(8) and `wontun show`, which the supervisor passes on.

use std::os::fd::{AsFd as _, OwnedFd};

use super::responses::{ResponseWriter, WriteProgress};
use super::tunnel::WireGuard;
use crate::daemon::budget::Progress;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::token::Token;
use crate::messages::FromTunnel;
use crate::uapi::ResponseFormat;

impl WireGuard {
    /// Starts writing the answer to a client's request.
    pub(super) fn handle_request(
        &mut self,
        core: &mut Core,
        client: u32,
        report: ResponseFormat,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DaemonError> {
        let Ok([connection]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err(DaemonError::UnexpectedMessage);
        };
        let mut writer = ResponseWriter::new(connection, self.answer(core, report));
        match writer.write() {
            WriteProgress::All => core.send(&FromTunnel::Answered(client)),
            WriteProgress::Some | WriteProgress::Blocked => {
                if let Some(before) = self.responses.0.remove(&client) {
                    core.unregister(before.connection.as_fd());
                }
                core.register_writable(writer.connection.as_fd(), Token::UapiClient(client))?;
                self.responses.0.insert(client, writer);
            }
        }
        Ok(())
    }

    /// Continues writing an answer when the client's socket has room.
    pub(super) fn drain_response(&mut self, core: &mut Core, client: u32) -> Progress {
        let Some(writer) = self.responses.0.get_mut(&client) else { return Progress::Drained };
        match writer.write() {
            WriteProgress::Blocked => Progress::Drained,
            WriteProgress::Some => Progress::More,
            WriteProgress::All => {
                if let Some(writer) = self.responses.0.remove(&client) {
                    // closing it is not sufficient, since the supervisor has it open too
                    core.unregister(writer.connection.as_fd());
                }
                core.send(&FromTunnel::Answered(client));
                Progress::Drained
            }
        }
    }
}
