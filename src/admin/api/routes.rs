//! The routes of the API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::http::Method;
use crate::config::ApiScope;

/// Placeholder of a peer's name or key in a path.
const PEER: &str = "{peer}";
/// Characters that are encoded in a path (RFC 3986 section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Route {
    /// The tunnel, as `wontun show --json` prints it.
    Status,
    /// The peers, as `wontun peer list --json` prints them.
    Peers,
    AddPeer,
    /// A peer, as `wontun peer show --json` prints it.
    Peer,
    SetPeer,
    RemovePeer,
    RenewPeer,
    RenamePeer,
    Settings,
    SetSettings,
    Changes,
    /// The OpenAPI file.
    Description,
}

/// A route.
#[derive(Debug)]
pub(in crate::admin) struct Entry {
    pub(in crate::admin) method: Method,
    pub(in crate::admin) path: &'static str,
    pub(in crate::admin) scope: ApiScope,
    pub(in crate::admin) route: Route,
}

/// The route of a request.
#[derive(Debug)]
pub(in crate::admin) enum Found {
    /// The route, and the peer in its path.
    Route(&'static Entry, Option<String>),
    /// The methods that the path has instead.
    OtherMethod(String),
    /// There is no such path.
    None,
}

const fn entry(method: Method, path: &'static str, scope: ApiScope, route: Route) -> Entry {
    Entry { method, path, scope, route }
}

/// All routes.
pub(super) const ROUTES: [Entry; 12] = [
    entry(Method::Get, "/api/v1/status", ApiScope::Read, Route::Status),
    entry(Method::Get, "/api/v1/peers", ApiScope::Read, Route::Peers),
    entry(Method::Post, "/api/v1/peers", ApiScope::Peers, Route::AddPeer),
    entry(Method::Get, "/api/v1/peers/{peer}", ApiScope::Read, Route::Peer),
    entry(Method::Patch, "/api/v1/peers/{peer}", ApiScope::Peers, Route::SetPeer),
    entry(Method::Delete, "/api/v1/peers/{peer}", ApiScope::Peers, Route::RemovePeer),
    entry(Method::Post, "/api/v1/peers/{peer}/renew", ApiScope::Peers, Route::RenewPeer),
    entry(Method::Post, "/api/v1/peers/{peer}/rename", ApiScope::Peers, Route::RenamePeer),
    entry(Method::Get, "/api/v1/settings", ApiScope::Read, Route::Settings),
    entry(Method::Patch, "/api/v1/settings", ApiScope::Settings, Route::SetSettings),
    entry(Method::Get, "/api/v1/changes", ApiScope::Read, Route::Changes),
    entry(Method::Get, "/api/v1/openapi.json", ApiScope::Read, Route::Description),
];

/// Returns the route of a request; HEAD has that of GET.
pub(in crate::admin) fn find(method: Method, path: &str) -> Found {
    static TABLE: [Entry; 12] = ROUTES;
    let method = if method == Method::Head { Method::Get } else { method };
    let mut allowed = Vec::new();
    for entry in &TABLE {
        let Some(peer) = matches(entry.path, path) else { continue };
        if entry.method == method {
            return Found::Route(entry, peer);
        }
        allowed.push(name(entry.method));
    }
    if allowed.is_empty() { Found::None } else { Found::OtherMethod(allowed.join(", ")) }
}

/// Returns the peer in a path, if it is one of `template`.
fn matches(template: &str, path: &str) -> Option<Option<String>> {
    let mut peer = None;
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(peer),
            (Some(PEER), Some(text)) => {
                let decoded = percent_decode_str(text).decode_utf8().ok()?;
                peer = Some(decoded.into_owned()).filter(|name| !name.is_empty());
                peer.as_ref()?;
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

/// Returns the path of the peer with this name.
pub(in crate::admin) fn location(name: &str) -> String {
    format!("/api/v1/peers/{}", utf8_percent_encode(name, ENCODED))
}

pub(super) const fn name(method: Method) -> &'static str {
    match method {
        Method::Get | Method::Head => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(method, path) {
            Found::Route(entry, peer) => format!("{:?} {}", entry.route, peer.unwrap_or_default()),
            Found::OtherMethod(allowed) => allowed,
            Found::None => "none".to_owned(),
        }
    }

    #[test]
    fn paths_are_found_and_names_decoded() {
        for (method, path, expected) in [
            (Method::Get, "/api/v1/peers", "Peers "),
            (Method::Head, "/api/v1/status", "Status "),
            (Method::Patch, "/api/v1/peers/Anna's%20%3Cphone%3E", "SetPeer Anna's <phone>"),
            (Method::Post, "/api/v1/peers/a%2Fb+c=/renew", "RenewPeer a/b+c="),
            (Method::Delete, "/api/v1/peers", "GET, POST"),
            (Method::Post, "/api/v1/peers/a", "GET, PATCH, DELETE"),
            (Method::Get, "/api/v1/peers/", "none"),
            (Method::Get, "/api/v1/peers/a/b", "none"),
            (Method::Get, "/api/v1/peers/%ff", "none"),
            (Method::Get, "/api/v1/", "none"),
            (Method::Get, "/api", "none"),
            (Method::Get, "/api/v2/peers", "none"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
        assert_eq!(found(Method::Get, &location("Anna's <ü/1>?")), "Peer Anna's <ü/1>?");
    }
}
