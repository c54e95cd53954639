//! Invitations in the server's file: requests of the process that devices ask, and of the page.

use std::time::SystemTime;

use super::super::messages::{
    ClientText, Done, Field, FieldError, InvitationRequest, LinkEnrolment, NewPeer, Refusal, SettingText,
};
use super::Editor;
use super::changes::{check, done, options_of, reach, text_of};
use super::fields::refusal;
use crate::config::peer_settings::Expiry;
use crate::net::timer::unix_now;
use crate::server::ServerError;
use crate::server::peers::{self, AddError, EnrolledByLink, Invited};

impl Editor {
    /// Adds an invitation. Returns the token of its link.
    ///
    /// # Errors
    /// [`Refusal`]; the file is unchanged.
    pub(super) fn invite(
        &mut self,
        wanted: NewPeer,
        valid: &SettingText,
        reaches_ipv6: bool,
    ) -> Result<Done, Refusal> {
        let of_valid = |text: &str| Refusal::new(vec![FieldError::new(Some(Field::Valid), text)]);
        let end = Expiry::parse_from(valid.as_str().trim(), SystemTime::now());
        let end = end.map_err(|expected| of_valid(&format!("expected {expected}")))?;
        let now = unix_now();
        if end.since_epoch() <= now {
            return Err(of_valid("this time is over"));
        }
        let wanted = options_of(wanted)?;
        let (writer, before) = self.folder.lock().map_err(Refusal::of_all)?;
        let file = peers::without_expired_invitations(&before, now).map_err(Refusal::of_all)?;
        check(&file, &wanted)?;
        let (text, settings) = (format!("invite '{}' until {end}", wanted.name), wanted.settings.clone());
        let invited = peers::invite(&file, wanted, end, reach(reaches_ipv6), &mut self.random);
        let Invited { file, code, .. } = invited.map_err(|error| refusal(&error, &settings))?;
        let token = text_of(code.secret.to_token().as_bytes())?;
        writer.replace(file.text()).map_err(Refusal::of_all)?;
        Ok(Done { client: Some(token), ..done(text) })
    }

    /// Enrols a device by a link. Returns its file without the private key, and true unless the
    /// device was enrolled before.
    ///
    /// # Errors
    /// [`Refusal`], with an error of [`Field::Token`] if there is no such invitation any more.
    pub(super) fn enrol_by_link(&self, enrolment: &LinkEnrolment) -> Result<(Done, bool), Refusal> {
        let LinkEnrolment { token, key, preshared_key } = enrolment;
        let (writer, before) = self.folder.lock().map_err(Refusal::of_all)?;
        let enrolled = peers::enrol_by_link(&before, token, *key, preshared_key, unix_now());
        let EnrolledByLink { file, name, client } = enrolled.map_err(|error| match &error {
            AddError::Server(none @ ServerError::NoInvitation) => {
                Refusal::new(vec![FieldError::new(Some(Field::Token), none)])
            }
            _ => Refusal::of_all(&error),
        })?;
        let client = Some(text_of(&client.to_text())?);
        let is_new = file.text() != before.text();
        let text = if is_new {
            writer.replace(file.text()).map_err(Refusal::of_all)?;
            format!("enrol a device as '{name}' by its link: its own key replaces the one-time key")
        } else {
            format!("send the settings of '{name}' to its device again")
        };
        Ok((Done { client, ..done(text) }, is_new))
    }

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
