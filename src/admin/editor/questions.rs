//! Questions about the server's file.

use std::net::IpAddr;

use super::super::messages::{Answer, Field, FieldError, Question, Refusal, ServerSetting, SettingText};
use super::Editor;
use crate::config::PeerPolicy;
use crate::config::peer_settings::Target;
use crate::resolver::messages::ErrorMessage;
use crate::server::access::{self, AccessError, AccessQuery, Verdict};
use crate::server::{ServerError, ServerFile};
use wontun_proto::wireguard::PublicKey;

impl Editor {
    /// Answers a question on a server with `policy` in force, on a host with the addresses `own`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) fn answer(
        &self,
        question: Question,
        policy: PeerPolicy,
        own: Vec<IpAddr>,
    ) -> Result<Answer, Refusal> {
        match question {
            Question::Access { key, target, from } => self.evaluate(&key, target.as_str(), from, policy, own),
            Question::Server => {
                let file = self.folder.read().map_err(Refusal::of_all)?;
                let value = |setting| Ok((setting, SettingText::cut(value(&file, setting)?)));
                let settings: Result<_, ServerError> = ServerSetting::ALL.into_iter().map(value).collect();
                let changes = self.log.latest().map_err(Refusal::of_all)?;
                Ok(Answer::Server { settings: settings.map_err(Refusal::of_all)?, changes })
            }
        }
    }

    fn evaluate(
        &self,
        key: &PublicKey,
        target: &str,
        from: bool,
        policy: PeerPolicy,
        own: Vec<IpAddr>,
    ) -> Result<Answer, Refusal> {
        let of_target = |error: String| Refusal::new(vec![FieldError::new(Some(Field::Target), error)]);
        let target: Target =
            target.trim().parse().map_err(|expected| of_target(format!("expected {expected}")))?;
        let file = self.folder.read().map_err(Refusal::of_all)?;
        let number = file.find(&key.to_string()).map_err(Refusal::of_all)?;
        let query = AccessQuery { target, from, policy: Some(policy) };
        match access::evaluate(&file, number, &query, own) {
            Ok(Verdict { is_allowed, text }) => {
                Ok(Answer::Access { is_allowed, text: ErrorMessage::cut(text) })
            }
            Err(AccessError::Server(error)) => Err(Refusal::of_all(error)),
            Err(error) => Err(of_target(error.to_string())),
        }
    }
}

/// Returns the value of a setting in the file; empty if it is not there.
///
/// # Errors
/// The value is invalid.
pub(super) fn value(file: &ServerFile, setting: ServerSetting) -> Result<String, ServerError> {
    let text = match setting {
        ServerSetting::Endpoint => file.endpoint()?.map(|endpoint| endpoint.to_string()),
        ServerSetting::Dns => file.dns()?.map(|dns| dns.to_string()),
        ServerSetting::Domain => file.zone()?.map(|zone| zone.to_string()),
        ServerSetting::Policy => file.policy()?.map(|policy| policy.to_string()),
    };
    Ok(text.unwrap_or_default())
}
