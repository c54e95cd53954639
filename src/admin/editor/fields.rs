//! Fields of forms: their values, and the fields that errors belong to.

use std::fmt::Display;
use std::str::FromStr;
use std::time::SystemTime;

use super::super::messages::{Field, FieldError, Refusal, ServerSetting, SettingText};
use crate::config::peer_settings::{Destination, PeerComment, PeerSettings, Target};
use crate::server::peers::{AddError, NewPeerError};
use crate::server::{InitOptions, ServerError};

/// Sets settings as they were entered. Returns what is wrong with them.
pub(super) fn entered(settings: &mut PeerSettings, values: &[(PeerComment, SettingText)]) -> Vec<FieldError> {
    let now = SystemTime::now();
    let mut errors = Vec::new();
    for (key, text) in values {
        if *key == PeerComment::Invitation {
            let text = "an invitation is made by 'wontun peer invite'";
            errors.push(FieldError::new(Some(Field::Setting(*key)), text));
        } else if let Err(error) = settings.enter(*key, text.as_str(), now) {
            let text = format!("found {}, expected {}", error.found, error.expected);
            errors.push(FieldError::new(Some(Field::Setting(*key)), text));
        }
    }
    errors
}

/// Returns the items of a list that is separated by commas, or `none`. Adds what is wrong with
/// them to `errors`.
pub(super) fn listed<T: FromStr<Err: Display>>(
    field: Field,
    text: &SettingText,
    errors: &mut Vec<FieldError>,
) -> Vec<T> {
    let text = text.as_str().trim();
    let text = if text.eq_ignore_ascii_case("none") { "" } else { text };
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let parsed: Result<Vec<T>, _> = items.map(str::parse).collect();
    parsed.unwrap_or_else(|error| {
        errors.push(FieldError::new(Some(field), error));
        Vec::new()
    })
}

/// Returns the options that change the server's file; an empty value changes nothing.
pub(super) fn server_options(values: &[(ServerSetting, SettingText)]) -> Result<InitOptions, Refusal> {
    let mut options = InitOptions::default();
    let mut errors = Vec::new();
    for (setting, text) in values {
        let field = Field::Server(*setting);
        let text = text.as_str().trim();
        if text.is_empty() {
            continue;
        }
        match setting {
            ServerSetting::Endpoint => options.endpoint = parsed(field, text, &mut errors),
            ServerSetting::Dns => options.dns = parsed(field, text, &mut errors),
            ServerSetting::Domain => options.domain = parsed(field, text, &mut errors),
            ServerSetting::Policy => options.policy = parsed(field, text, &mut errors),
        }
    }
    if errors.is_empty() { Ok(options) } else { Err(Refusal::new(errors)) }
}

fn parsed<T: FromStr<Err: Display>>(field: Field, text: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    text.parse().map_err(|error| errors.push(FieldError::new(Some(field), error))).ok()
}

/// Returns the reasons why a peer with these settings is not added or changed, each with its field.
pub(super) fn refusal(error: &AddError, settings: &PeerSettings) -> Refusal {
    Refusal::new(match error {
        AddError::Server(error) => vec![FieldError::new(field_in_file(error, settings), error)],
        AddError::Peers(errors) => {
            errors.iter().map(|(_, error)| FieldError::new(field_of(error), error)).collect()
        }
    })
}

const fn field_of(error: &NewPeerError) -> Option<Field> {
    Some(match error {
        NewPeerError::NameTaken(_) => Field::Name,
        NewPeerError::SubnetFull(_)
        | NewPeerError::AddressOutside { .. }
        | NewPeerError::AddressReserved(_)
        | NewPeerError::AddressTaken { .. }
        | NewPeerError::SameFamily(..) => Field::Address,
        NewPeerError::SiteDefaultRoute(_)
        | NewPeerError::SiteUnusable(_)
        | NewPeerError::SiteInVpn { .. }
        | NewPeerError::SiteTaken { .. } => Field::Site,
        NewPeerError::RouteToSite { .. } => Field::Setting(PeerComment::ClientRoutes),
        NewPeerError::ForwardTaken { .. } => Field::Setting(PeerComment::Forward),
        NewPeerError::Mtu(_) => Field::Setting(PeerComment::ClientMtu),
        NewPeerError::KeyTaken(_) | NewPeerError::ServerKey => return None,
    })
}

/// Returns the field that an error of the file is about.
fn field_in_file(error: &ServerError, settings: &PeerSettings) -> Option<Field> {
    match error {
        ServerError::NameTaken(_) => Some(Field::Name),
        ServerError::InvitationAddress(_) => Some(Field::Address),
        ServerError::SameForward { .. } | ServerError::ForwardOfTunnel(_) => {
            Some(Field::Setting(PeerComment::Forward))
        }
        ServerError::UnknownPeer { wanted, .. } => {
            let names = |targets: &[Target]| {
                targets.iter().any(|target| match &target.destination {
                    Destination::Peer(name) => name.as_str() == wanted,
                    _ => false,
                })
            };
            let key = match settings {
                PeerSettings { allow: Some(allow), .. } if names(allow) => PeerComment::Allow,
                PeerSettings { deny, .. } if names(deny) => PeerComment::Deny,
                PeerSettings { allow_from: Some(from), .. } if names(from) => PeerComment::AllowFrom,
                _ => return None,
            };
            Some(Field::Setting(key))
        }
        _ => None,
    }
}
