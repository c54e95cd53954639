//! Bodies of requests: JSON, of which every field is known. Values are texts as in the file, which
//! the editor parses, as those of the page's forms.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::super::http::{MediaType, Request, Status};
use super::super::messages::{Field, NewPeer, PeerEdit, ServerSetting, SettingText};
use super::problem::{ApiProblem, field_name};
use super::routes::Route;
use crate::config::PeerName;
use crate::config::peer_settings::PeerComment;

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Body {
    /// None.
    Empty,
    /// A new peer.
    NewPeer(Box<NewPeer>),
    /// Another name of a peer.
    Name(PeerName),
    /// A change of a peer.
    Peer(Box<PeerEdit>),
    /// Settings for all peers.
    Server(Vec<(ServerSetting, SettingText)>),
}

/// Settings by their names; `null` removes one.
type Settings = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPeerBody {
    name: String,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    sites: Vec<String>,
    #[serde(default = "full_tunnel")]
    full_tunnel: bool,
    #[serde(default)]
    settings: Settings,
}

const fn full_tunnel() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameBody {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerBody {
    #[serde(default, deserialize_with = "given")]
    addresses: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    sites: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    settings: Option<Settings>,
}

/// Deserializes a value that is there, and not `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

/// Parses the body of a request.
///
/// # Errors
/// [`ApiProblem`].
pub(in crate::admin) fn parse(route: Route, request: &Request) -> Result<Body, ApiProblem> {
    if !request.query.is_empty() {
        // above all no token: addresses are logged
        return Err(ApiProblem::new(Status::BadRequest, "the API has no parameters after a '?'"));
    }
    match route {
        Route::AddPeer => new_peer(json(request)?),
        Route::RenamePeer => {
            let NameBody { name } = json(request)?;
            peer_name(name).map(Body::Name)
        }
        Route::SetPeer => peer_edit(json(request)?),
        Route::SetSettings => server_settings(json(request)?).map(Body::Server),
        Route::RenewPeer if !request.body.is_empty() => {
            json::<EmptyBody>(request).map(|EmptyBody {}| Body::Empty)
        }
        Route::RenewPeer
        | Route::Status
        | Route::Peers
        | Route::Peer
        | Route::RemovePeer
        | Route::Settings
        | Route::Changes
        | Route::Description => Ok(Body::Empty),
    }
}

fn json<T: DeserializeOwned>(request: &Request) -> Result<T, ApiProblem> {
    if request.media_type != MediaType::Json {
        let detail = "the body is JSON, as 'Content-Type: application/json'";
        return Err(ApiProblem::new(Status::UnsupportedMediaType, detail));
    }
    let invalid =
        |error: serde_json::Error| ApiProblem::new(Status::BadRequest, format!("the body: {error}"));
    serde_json::from_slice(&request.body).map_err(invalid)
}

fn new_peer(body: NewPeerBody) -> Result<Body, ApiProblem> {
    let NewPeerBody { name, addresses, sites, full_tunnel, settings } = body;
    Ok(Body::NewPeer(Box::new(NewPeer {
        name: peer_name(name)?,
        addresses: text(Field::Address, addresses.join(","))?,
        sites: text(Field::Site, sites.join(","))?,
        full_tunnel,
        settings: peer_settings(settings)?,
    })))
}

fn peer_edit(body: PeerBody) -> Result<Body, ApiProblem> {
    let PeerBody { addresses, sites, settings } = body;
    if addresses.is_none() && sites.is_none() && settings.is_none() {
        return Err(ApiProblem::new(Status::BadRequest, "the body changes nothing"));
    }
    Ok(Body::Peer(Box::new(PeerEdit {
        addresses: text(Field::Address, addresses.unwrap_or_default().join(","))?,
        sites: sites.map(|sites| text(Field::Site, sites.join(","))).transpose()?,
        settings: peer_settings(settings.unwrap_or_default())?,
    })))
}

fn peer_name(name: String) -> Result<PeerName, ApiProblem> {
    PeerName::try_from(name).map_err(|error| ApiProblem::of_field(field_name(Field::Name), error))
}

fn peer_settings(settings: Settings) -> Result<Vec<(PeerComment, SettingText)>, ApiProblem> {
    let parsed = settings.into_iter().map(|(name, value)| {
        let key = PeerComment::ALL.into_iter().find(|key| crate::documents::words(*key, '_') == name);
        let key = key.ok_or_else(|| ApiProblem::of_field(shown(&name), "there is no such setting"))?;
        Ok((key, text(Field::Setting(key), value.unwrap_or_default())?))
    });
    parsed.collect()
}

/// Returns the name of an unknown setting, as errors show it.
fn shown(name: &str) -> String {
    format!("settings.{}", name.chars().take(40).collect::<String>())
}

fn server_settings(body: BTreeMap<String, String>) -> Result<Vec<(ServerSetting, SettingText)>, ApiProblem> {
    let parsed = body.into_iter().map(|(name, value)| {
        let mut all = ServerSetting::ALL.into_iter();
        let unknown = || ApiProblem::of_field(name.chars().take(40).collect(), "there is no such setting");
        let setting = all.find(|setting| Field::Server(*setting).name() == name).ok_or_else(unknown)?;
        Ok((setting, text(Field::Server(setting), value)?))
    });
    parsed.collect()
}

fn text(field: Field, value: String) -> Result<SettingText, ApiProblem> {
    SettingText::try_from(value).map_err(|error| ApiProblem::of_field(field_name(field), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::http::{Hosts, Parsed};

    fn parsed(route: Route, content_type: &str, body: &str) -> Result<Body, Status> {
        let text = format!(
            "POST /api/v1/peers HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        match crate::admin::http::parse(text.as_bytes(), &Hosts::default()) {
            Parsed::Request(request, _) => parse(route, &request).map_err(|problem| problem.status),
            other => panic!("{other:?}"),
        }
    }

    fn of(route: Route, body: &str) -> Result<Body, Status> {
        parsed(route, "application/json", body)
    }

    #[test]
    fn a_peer_is_read_as_the_form_has_it() {
        let body = r#"{"name": "Anna's phone", "addresses": ["10.8.0.9", "fd00::9"], "full_tunnel": false,
            "settings": {"note": "room 5", "rate_up": "20Mbit", "client_dns": null}}"#;
        let value = |value: &str| SettingText::cut(value.to_owned());
        let wanted = NewPeer {
            name: "Anna's phone".parse().unwrap(),
            addresses: value("10.8.0.9,fd00::9"),
            sites: value(""),
            full_tunnel: false,
            settings: vec![
                (PeerComment::ClientDns, value("")),
                (PeerComment::Note, value("room 5")),
                (PeerComment::RateUp, value("20Mbit")),
            ],
        };
        assert_eq!(of(Route::AddPeer, body), Ok(Body::NewPeer(Box::new(wanted))));
        let settings = vec![(PeerComment::Disabled, value("yes"))];
        let edit = PeerEdit::of_settings(settings);
        let body = r#"{"settings":{"disabled":"yes"}}"#;
        assert_eq!(of(Route::SetPeer, body), Ok(Body::Peer(Box::new(edit.clone()))));
        let body =
            r#"{"settings":{"disabled":"yes"},"addresses":["10.8.0.9"],"sites":["10.1.0.0/16","fd01::/64"]}"#;
        let sites = Some(value("10.1.0.0/16,fd01::/64"));
        let all = PeerEdit { addresses: value("10.8.0.9"), sites, ..edit };
        assert_eq!(of(Route::SetPeer, body), Ok(Body::Peer(Box::new(all))));
        let none = PeerEdit { sites: Some(value("")), ..PeerEdit::default() };
        assert_eq!(of(Route::SetPeer, r#"{"sites":[]}"#), Ok(Body::Peer(Box::new(none))));
        let settings = vec![(ServerSetting::Policy, value("isolate"))];
        assert_eq!(of(Route::SetSettings, r#"{"policy":"isolate"}"#), Ok(Body::Server(settings)));
        assert_eq!(of(Route::RenamePeer, r#"{"name":"x"}"#), Ok(Body::Name("x".parse().unwrap())));
        for empty in ["", "{}"] {
            assert_eq!(of(Route::RenewPeer, empty), Ok(Body::Empty));
        }
    }

    #[test]
    fn anything_unknown_is_refused() {
        let long = format!(r#"{{"settings":{{"note":"{}"}}}}"#, "x".repeat(2049));
        for (route, body, status) in [
            (Route::AddPeer, "", Status::BadRequest),
            (Route::AddPeer, "{}", Status::BadRequest),
            (Route::AddPeer, "[]", Status::BadRequest),
            (Route::AddPeer, r#"{"name":"x"} x"#, Status::BadRequest),
            (Route::AddPeer, r#"{"name":"x","private_key":"y"}"#, Status::BadRequest),
            (Route::AddPeer, r#"{"name":"x","name":"y"}"#, Status::BadRequest),
            (Route::AddPeer, r#"{"name":"-x"}"#, Status::Unprocessable),
            (Route::AddPeer, r#"{"name":"x","settings":{"Note":"y"}}"#, Status::Unprocessable),
            (Route::SetPeer, "{}", Status::BadRequest),
            (Route::SetPeer, r#"{"settings":{"disabled":true}}"#, Status::BadRequest),
            (Route::SetPeer, r#"{"sites":null}"#, Status::BadRequest),
            (Route::SetPeer, r#"{"addresses":"10.8.0.9"}"#, Status::BadRequest),
            (Route::SetPeer, &long, Status::Unprocessable),
            (Route::SetSettings, r#"{"subnet":"10.0.0.0/8"}"#, Status::Unprocessable),
            (Route::SetSettings, r#"{"dns":null}"#, Status::BadRequest),
            (Route::RenewPeer, r#"{"x":1}"#, Status::BadRequest),
            (Route::AddPeer, &"[".repeat(10_000), Status::BadRequest),
        ] {
            assert_eq!(of(route, body), Err(status), "{body:.60}");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let refused = parsed(Route::AddPeer, other, r#"{"name":"x"}"#);
            assert_eq!(refused, Err(Status::UnsupportedMediaType), "{other}");
        }
    }
}
