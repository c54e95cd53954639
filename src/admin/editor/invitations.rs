//! Requests about the invitations in the server's file.

use super::super::messages::{ClientText, InvitationRequest};
use super::Editor;
use crate::net::timer::unix_now;
use crate::server::peers;

impl Editor {
    /// Handles a request. Returns the file of a device, if that was requested.
    ///
    /// # Errors
    /// A text for the device; the file is unchanged.
    pub(super) fn handle_invitation(
        &mut self,
        request: InvitationRequest,
    ) -> Result<Option<ClientText>, String> {
        let now = unix_now();
        match request {
            InvitationRequest::Settings(invitation) => {
                let file = self.folder.read().map_err(|error| error.to_string())?;
                let client = peers::invited_client(&file, &invitation, now);
                let text = client.map_err(|error| error.to_string())?.to_text();
                let text = String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?;
                ClientText::try_from(text).map(Some).map_err(str::to_owned)
            }
            InvitationRequest::Enrol { invitation, key, preshared_key } => {
                let (writer, file) = self.folder.lock().map_err(|error| error.to_string())?;
                let enrolled = peers::enrol(&file, &invitation, key, &preshared_key, now);
                let enrolled = enrolled.map_err(|error| error.to_string())?;
                writer.replace(enrolled.text()).map(|()| None).map_err(|error| error.to_string())
            }
            InvitationRequest::RemoveExpired => {
                let (writer, before) = self.folder.lock().map_err(|error| error.to_string())?;
                let file = peers::without_expired_invitations(&before, now);
                let file = file.map_err(|error| error.to_string())?;
                if file.text() == before.text() {
                    return Ok(None);
                }
                writer.replace(file.text()).map(|()| None).map_err(|error| error.to_string())
            }
        }
    }
}
