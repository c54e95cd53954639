//! The API under `/api/v1/`: the documents of `wontun … --json`, and the changes that the page
//! makes, for programs that have a token. Without input and output, and without the state of the
//! page.
//!
//! | File | Content |
//! |---|---|
//! | `routes.rs` | methods and paths, and the scope that each needs |
//! | `body.rs` | bodies of requests |
//! | `documents.rs` | bodies of responses |
//! | `problem.rs` | errors (RFC 9457) |
//!
//! `docs/src/reference/openapi.json` describes it; the tests compare both.

mod body;
mod documents;
mod problem;
mod routes;

pub(super) use self::body::{Body, parse};
pub(super) use self::documents::{changes, client, description, peer, peers, settings, tunnels};
pub(super) use self::problem::ApiProblem;
pub(super) use self::routes::{Found, Route, find, location};

use super::http::Request;

/// Handles a request as far as that is possible without a server: for the fuzzer. Returns true if
/// it is one of the API whose body is valid.
pub fn check(request: &Request) -> bool {
    match find(request.method, &request.path) {
        Found::Route(entry, peer) => {
            let body = parse(entry.route, request);
            peer.is_none_or(|peer| !peer.is_empty()) && body.is_ok()
        }
        Found::OtherMethod(allowed) => allowed.is_empty(),
        Found::None => false,
    }
}

#[cfg(test)]
#[path = "../../../tests/e2e/admin/openapi.rs"]
pub(super) mod openapi;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::messages::{Field, ServerSetting};
    use super::openapi::Description;
    use super::routes::{ROUTES, name};
    use crate::config::peer_settings::PeerComment;
    use crate::documents::words;

    #[test]
    fn each_route_is_described_and_no_other() {
        let routes = ROUTES.iter().map(|entry| {
            (name(entry.method).to_owned(), entry.path.to_owned(), entry.scope.name().to_owned())
        });
        assert_eq!(Description::load().operations(), routes.collect());
    }

    #[test]
    fn each_setting_is_described_and_no_other() {
        let description = Description::load();
        let mut settings: BTreeSet<_> = PeerComment::ALL.map(|key| words(key, '_')).into();
        assert_eq!(description.properties("PeerSettings"), settings);
        settings.remove("invitation");
        assert_eq!(description.properties("SettingsChange"), settings);
        let server = ServerSetting::ALL.map(|setting| Field::Server(setting).name().to_owned()).into();
        for schema in ["ServerSettings", "ServerChange"] {
            assert_eq!(description.properties(schema), server, "{schema}");
        }
    }
}
