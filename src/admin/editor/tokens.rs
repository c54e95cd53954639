//! Changes of the API's tokens.

use std::time::SystemTime;

use jiff::Timestamp;

use super::super::messages::{Done, NewToken, Refusal, TokensText};
use super::super::tokens::ApiToken;
use super::Editor;
use super::changes::done;
use crate::config::TokenName;
use crate::config::peer_settings::Expiry;
use crate::resolver::messages::ErrorMessage;

impl Editor {
    /// Returns the tokens in their file.
    pub(super) fn read_tokens(&self) -> Result<TokensText, ErrorMessage> {
        self.tokens.read().map(|tokens| tokens.to_text()).map_err(ErrorMessage::cut)
    }

    pub(super) fn add_token(&self, wanted: NewToken) -> Result<Done, Refusal> {
        let NewToken { name, scopes, expires, hash } = wanted;
        let text = format!("add the token '{name}' with scope {scopes}");
        let now = SystemTime::now();
        let expires = Some(expires.as_str().trim()).filter(|end| !end.is_empty());
        let expires = expires.map(|end| Expiry::parse_from(end, now)).transpose();
        let expires = expires.map_err(|expected| Refusal::of_all(format!("its end: expected {expected}")))?;
        let created = Timestamp::try_from(now).unwrap_or_default();
        let created = created.round(jiff::Unit::Second).unwrap_or(created);
        let token = ApiToken { name, scopes, created, expires, hash };
        let tokens = self.tokens.change(|tokens| tokens.add(token)).map_err(Refusal::of_all)?;
        Ok(Done { tokens: Some(tokens.to_text()), ..done(text) })
    }

    pub(super) fn remove_token(&self, name: &TokenName) -> Result<Done, Refusal> {
        let tokens = self.tokens.change(|tokens| tokens.remove(name)).map_err(Refusal::of_all)?;
        Ok(Done { tokens: Some(tokens.to_text()), ..done(format!("remove the token '{name}'")) })
    }
}
