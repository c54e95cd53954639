//! Requests of an owner of peers, who sees and changes their own peers, and nothing else.

use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use super::access::{Permission, permission};
use super::route::Route;
use super::state::App;
use super::tests::{Browser, ORIGIN, answer, at, form, signed_in};
use crate::admin::http::Method;
use crate::admin::messages::{
    Change, ClientText, Event, FromAdmin, PeerInFile, Principal, Refusal, SettingText,
};
use crate::admin::sign_in::Accounts;
use crate::admin::snapshot::id as peer_id;
use crate::admin::snapshot::tests::{in_file, status};
use crate::config::peer_settings::PeerComment;

const PASSWORD: &str = "anna's horse";
/// Peer of the owner, of nobody, of another owner, and one that does not exist.
const OWN: u8 = 1;
const OTHERS: [u8; 3] = [2, 3, 9];

fn anna() -> Principal {
    Principal::Owner("anna".parse().unwrap())
}

fn id(number: u8) -> String {
    peer_id(&in_file(number, "x").key)
}

fn peers() -> Vec<PeerInFile> {
    let mut peers = vec![in_file(OWN, "phone"), in_file(2, "laptop"), in_file(3, "tablet")];
    for (peer, owner) in peers.iter_mut().zip(["anna", "", "ben"]) {
        let mut set = |key, value: &str| peer.settings.push((key, SettingText::cut(value.to_owned())));
        if !owner.is_empty() {
            set(PeerComment::Owner, owner);
        }
        set(PeerComment::Note, "a secret note");
        set(PeerComment::Deny, "server:22/tcp");
    }
    peers
}

/// Answers as a supervisor whose editor makes all changes.
fn supervisor(app: &mut App, message: FromAdmin) {
    match message {
        FromAdmin::Show => {
            app.handle_peers(peers());
            let mut status = status(OWN, 995, 5);
            status.problems.push("a problem of the host".to_owned());
            app.handle_status(Some(status), Duration::from_secs(1000), at(1));
        }
        FromAdmin::Change { number, change: Change::Renew(_), .. } => {
            let client = ClientText::try_from("[Interface]\nPrivateKey = new\n".to_owned()).unwrap();
            app.handle_changed(number, Ok(Some(client)), at(1));
        }
        other => answer(app, other),
    }
}

/// Returns a page, the administrator's browser, and that of an owner who has set a password.
fn with_owner() -> (App, Browser, Browser) {
    let (mut app, admin) = signed_in();
    let mut owner = Browser::default();
    let link = app.make_link(anna(), at(0)).to_hex();
    assert!(owner.post(&mut app, "/link", &[("link", &link)]).contains("Location: /account\r\n"));
    // nothing else before there is a password
    for path in ["/", "/account", "/events", &format!("/peers/{}", id(OWN))] {
        assert!(owner.get(&mut app, path).contains("Location: /password\r\n"), "{path}");
    }
    let page = owner.get(&mut app, "/password");
    let token = page.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let set = owner.post(&mut app, "/account/password", &[("token", &token), ("password", PASSWORD)]);
    assert!(set.contains("Location: /\r\n"), "{set}");
    while app.poll_message().is_some() {}
    (app, admin, owner)
}

/// Sends a request of a signed-in browser; returns the response and the changes that it caused.
fn send(app: &mut App, browser: &mut Browser, method: Method, path: &str) -> (String, Vec<FromAdmin>) {
    let mut changes = Vec::new();
    let token = browser.token(app);
    let text = match method {
        Method::Get => format!("GET {path} HTTP/1.1\r\n\r\n"),
        Method::Head => format!("HEAD {path} HTTP/1.1\r\n\r\n"),
        Method::Patch | Method::Delete => panic!("of the API alone"),
        Method::Post => {
            let fields = [
                ("token", token.as_str()),
                ("name", "x"),
                ("owner", "ben"),
                ("target", "server"),
                ("Allow", "any"),
                ("policy", "open"),
                ("current", "wrong password"),
                ("password", "another password"),
            ];
            form(path, ORIGIN, &fields)
        }
    };
    let response = browser.send(app, &text, |app, message| {
        if !matches!(message, FromAdmin::Show | FromAdmin::Event { .. }) {
            changes.push(message.clone());
        }
        supervisor(app, message);
    });
    // those that no response waited for
    while let Some(message) = app.poll_message() {
        if !matches!(message, FromAdmin::Show | FromAdmin::Event { .. }) {
            changes.push(message);
        }
    }
    (response, changes)
}

/// The answer that an owner gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The response, with this status.
    Made(&'static str),
    /// The response to a route that does not exist.
    NoPage,
    /// The response to a peer that does not exist.
    NoPeer,
    /// Live updates.
    Stream,
}

/// Every route, and the answer that an owner gets.
fn routes() -> Vec<(Method, String, Expected)> {
    use Expected::{Made, NoPage, NoPeer, Stream};
    let mut routes = vec![
        (Method::Get, "/".to_owned(), Made("200")),
        (Method::Get, "/new".to_owned(), NoPage),
        (Method::Get, "/server".to_owned(), NoPage),
        (Method::Get, "/owners".to_owned(), NoPage),
        (Method::Get, "/tokens".to_owned(), NoPage),
        (Method::Get, "/account".to_owned(), Made("200")),
        (Method::Get, "/sign-in".to_owned(), Made("303")),
        (Method::Get, "/password".to_owned(), Made("303")),
        (Method::Get, "/events".to_owned(), Stream),
        (Method::Get, format!("/peers/{}", id(OWN)), Made("200")),
        (Method::Post, "/new".to_owned(), NoPage),
        (Method::Post, "/server".to_owned(), NoPage),
        (Method::Post, "/new/invitation".to_owned(), NoPage),
        (Method::Post, "/tokens".to_owned(), NoPage),
        (Method::Post, "/tokens/remove".to_owned(), NoPage),
        (Method::Post, "/owners/link".to_owned(), NoPage),
        (Method::Post, "/owners/remove".to_owned(), NoPage),
        // with a wrong password and without a code
        (Method::Post, "/account/password".to_owned(), Made("403")),
        (Method::Post, "/account/app-new".to_owned(), Made("303")),
        (Method::Post, "/account/app-on".to_owned(), Made("403")),
        (Method::Post, "/account/app-off".to_owned(), Made("403")),
        (Method::Post, format!("/peers/{}/renew", id(OWN)), Made("200")),
    ];
    for number in [OWN, OTHERS[0], OTHERS[1], OTHERS[2]] {
        for action in ["remove", "test", "rename", "disable", "enable", "set"] {
            routes.push((Method::Post, format!("/peers/{}/{action}", id(number)), NoPage));
        }
        if number != OWN {
            routes.push((Method::Get, format!("/peers/{}", id(number)), NoPeer));
            routes.push((Method::Post, format!("/peers/{}/renew", id(number)), NoPeer));
        }
    }
    routes.push((Method::Post, "/sign-out".to_owned(), Made("303")));
    routes
}

#[test]
fn an_owner_gets_nothing_but_their_own_peers_by_any_route() {
    let (mut app, _, mut owner) = with_owner();
    let text_of = |problem: &str| format!("role=\"alert\">{problem}</p>");
    let (no_page, no_peer) = (text_of("There is no such page."), text_of("There is no such peer any more."));
    let mut no_peers = HashSet::new();
    for (method, path, expected) in routes() {
        if expected == Expected::Stream {
            assert_eq!(owner.get(&mut app, &path), "");
            continue;
        }
        let (response, changes) = send(&mut app, &mut owner, method, &path);
        let status = response.split(' ').nth(1).unwrap();
        match expected {
            Expected::Made(code) => assert_eq!(status, code, "{path}: {response}"),
            Expected::NoPage => assert!(status == "404" && response.contains(&no_page), "{path}: {response}"),
            Expected::NoPeer => {
                assert!(status == "404" && response.contains(&no_peer), "{path}: {response}");
                no_peers.insert(response.clone());
            }
            Expected::Stream => {}
        }
        match &changes[..] {
            [] => assert!(!path.ends_with("/renew") || expected == Expected::NoPeer, "{path}"),
            [FromAdmin::Change { by, change: Change::Renew(key), .. }] => {
                assert!(*by == anna() && peer_id(key) == id(OWN) && path.ends_with("/renew"), "{path}");
            }
            other => panic!("{path}: {other:?}"),
        }
        for secret in [
            "laptop",
            "tablet",
            &id(2),
            &id(3),
            "secret note",
            "server:22",
            "problem of the host",
            "ben",
            "/tokens",
        ] {
            assert!(!response.contains(secret), "{path}: {secret}: {response}");
        }
    }
    assert_eq!(no_peers.len(), 1, "a peer of somebody else is told from one that does not exist");
    let after = owner.get(&mut app, "/");
    assert!(after.contains("Location: /sign-in"), "signed out: {after}");
}

/// A route that is not in the table above fails here, or does not compile.
#[test]
fn the_table_has_every_route() {
    let table = routes();
    let mut found: HashSet<Discriminant<Route>> = HashSet::new();
    for (method, path, expected) in &table {
        let route = Route::of(*method, path).unwrap_or_else(|| panic!("{path}"));
        let permission = permission(&anna(), &route);
        let is_denied = *expected == Expected::NoPage;
        assert_eq!(permission == Permission::Denied, is_denied, "{path}");
        assert_eq!(super::access::permission(&Principal::Admin, &route), Permission::Granted);
        let head = Route::of(Method::Head, path);
        assert!(*method == Method::Post || head.as_ref() == Some(&route), "{path}");
        found.insert(discriminant(&route));
        // a new variant needs a line here, and one in the table
        match route {
            Route::List
            | Route::NewPeer
            | Route::Server
            | Route::Account
            | Route::SignIn
            | Route::Events
            | Route::Peer(_)
            | Route::Tokens
            | Route::AddToken
            | Route::RemoveToken
            | Route::Owners
            | Route::MakeLink
            | Route::RemoveAccount
            | Route::SignOut
            | Route::SetPassword
            | Route::SetApp(_)
            | Route::Add
            | Route::Invite
            | Route::SetServer
            | Route::PeerAction(..) => {}
        }
    }
    assert_eq!(found.len(), 20);
    // every path and action of the parser is in the table
    for line in include_str!("route.rs").lines().filter(|line| line.contains("=>")) {
        for literal in line.split('"').skip(1).step_by(2) {
            let is_listed = table.iter().any(|(_, path, _)| {
                path == literal || path.rsplit_once('/').is_some_and(|(_, action)| action == literal)
            });
            assert!(is_listed || literal == "/peers/", "{literal} is not in the table");
        }
    }
}

#[test]
fn an_owner_sees_live_updates_of_their_own_peers_only() {
    let (mut app, _, mut owner) = with_owner();
    for query in ["", &format!("?peer={}", id(2)), "?find=laptop"] {
        assert_eq!(owner.get(&mut app, &format!("/events{query}")), "");
    }
    let last = owner.next;
    while let Some(message) = app.poll_message() {
        supervisor(&mut app, message);
    }
    let events = app.poll_events(at(1), |id| id + 3 > last);
    let events: Vec<_> = events.iter().map(|(_, event)| String::from_utf8(event.clone()).unwrap()).collect();
    assert_eq!(events.len(), 3);
    assert!(events[0].contains(&id(OWN)) && events[0].matches("\"id\"").count() == 1, "{events:?}");
    assert!(events[1..].iter().all(|event| event.contains("\"rows\":[]")), "{events:?}");
}

#[test]
fn removing_the_account_ends_everything_of_it_at_once() {
    let (mut app, mut admin, mut owner) = with_owner();
    let later = app.make_link(anna(), at(1)).to_hex();
    assert_eq!(owner.get(&mut app, "/events"), "");
    let stream = owner.next;
    let token = admin.token(&mut app);
    let fields = [("token", token.as_str()), ("owner", "anna")];
    // a request that waits meanwhile is not answered with anything of the owner's
    let waiting = form(&format!("/peers/{}/renew", id(OWN)), ORIGIN, &[("token", &owner.token(&mut app))]);
    let mut changes = 0;
    let response = owner.send(&mut app, &waiting, |app, message| {
        if message == FromAdmin::Show {
            let page = admin.send(app, &form("/owners/remove", ORIGIN, &fields), answer);
            assert!(page.contains("Location: /owners\r\n"), "{page}");
        }
        changes += usize::from(matches!(message, FromAdmin::Change { change: Change::Renew(_), .. }));
        supervisor(app, message);
    });
    assert!(response.starts_with("HTTP/1.1 403") && changes == 0, "{response}");
    assert!(owner.get(&mut app, "/").contains("Location: /sign-in"));
    let events = app.poll_events(at(2), |id| id == stream);
    assert!(events.iter().all(|(_, event)| event.starts_with(b"event: end")) && events.len() == 1);
    assert!(owner.post(&mut app, "/link", &[("link", &later)]).starts_with("HTTP/1.1 403"));
    let page = owner.post(&mut app, "/sign-in", &[("name", "anna"), ("password", PASSWORD)]);
    assert!(page.starts_with("HTTP/1.1 403"), "{page}");
    assert!(admin.get(&mut app, "/").starts_with("HTTP/1.1 200"), "the administrator's session goes on");
}

#[test]
fn accounts_that_a_command_changed_lose_their_sessions_and_others_do_not() {
    let (mut app, mut admin, mut owner) = with_owner();
    let mut accounts = app.accounts.clone();
    app.handle_accounts(accounts.clone());
    assert!(owner.get(&mut app, "/account").starts_with("HTTP/1.1 200"));
    assert!(accounts.remove(&"anna".parse().unwrap()));
    app.handle_accounts(accounts);
    assert!(owner.get(&mut app, "/account").contains("Location: /sign-in"));
    assert!(admin.get(&mut app, "/account").starts_with("HTTP/1.1 200"));
    app.handle_accounts(Accounts::default());
    assert!(admin.get(&mut app, "/account").contains("Location: /sign-in"));
}

#[test]
fn each_signs_in_with_their_own_password() {
    let (mut app, _, mut owner) = with_owner();
    let mut other = Browser { seconds: 10, ..Browser::default() };
    assert!(other.get(&mut app, "/sign-in").contains("name=\"name\""));
    let wrong = [
        ("", PASSWORD),
        ("admin", PASSWORD),
        ("anna", "correct horse"),
        ("ben", PASSWORD),
        ("a b", PASSWORD),
    ];
    let mut pages = HashSet::new();
    for (name, password) in wrong {
        let page = other.post(&mut app, "/sign-in", &[("name", name), ("password", password)]);
        assert!(page.starts_with("HTTP/1.1 403"), "{name}: {page}");
        pages.insert(page);
        other.seconds += 100;
    }
    assert_eq!(pages.len(), 1, "the page tells who has an account");
    let page = other.post(&mut app, "/sign-in", &[("name", " Anna "), ("password", PASSWORD)]);
    assert!(page.contains("Location: /\r\n"), "{page}");
    let by = std::iter::from_fn(|| app.poll_message()).find_map(|message| match message {
        FromAdmin::Event { event: Event::SignedIn(by), .. } => Some(by),
        _ => None,
    });
    assert_eq!(by, Some(anna()));
    // a new password ends the person's other sessions
    let token = other.token(&mut app);
    let fields = [("token", token.as_str()), ("current", PASSWORD), ("password", "a new password")];
    let page = other.post(&mut app, "/account/password", &fields);
    assert!(page.contains("Location: /\r\n"), "{page}");
    assert!(owner.get(&mut app, "/account").contains("Location: /sign-in"));
    assert!(other.get(&mut app, "/account").starts_with("HTTP/1.1 200"));
}

#[test]
fn new_keys_are_limited_and_reasons_name_nobody() {
    let (mut app, _, mut owner) = with_owner();
    let path = format!("/peers/{}/renew", id(OWN));
    let token = owner.token(&mut app);
    let refused =
        owner.send(&mut app, &form(&path, ORIGIN, &[("token", &token)]), |app, message| match message {
            FromAdmin::Change { number, .. } => {
                app.handle_changed(number, Err(Refusal::of_all("there are laptop, tablet")), at(1));
            }
            other => supervisor(app, other),
        });
    assert!(refused.starts_with("HTTP/1.1 409") && !refused.contains("laptop"), "{refused}");
    for _ in 0..9 {
        let (page, _) = send(&mut app, &mut owner, Method::Post, &path);
        assert!(page.contains("PrivateKey = new") && page.contains("no-store"), "{page}");
    }
    let (page, changes) = send(&mut app, &mut owner, Method::Post, &path);
    assert!(page.starts_with("HTTP/1.1 429") && changes.is_empty(), "{page}");
}

#[test]
fn the_administrator_makes_links_and_sees_who_has_an_account() {
    let (mut app, mut admin, _) = with_owner();
    let page = admin.send(&mut app, "GET /owners HTTP/1.1\r\n\r\n", supervisor);
    let (anna, ben) = page.split_once("<h2>ben</h2>").unwrap();
    assert!(anna.contains("<h2>anna</h2>") && anna.contains("/owners/remove"), "{page}");
    assert!(ben.contains("/owners/link") && !ben.contains("/owners/remove"), "{page}");
    let token = admin.token(&mut app);
    let page = admin.post(&mut app, "/owners/link", &[("token", &token), ("owner", "Ben")]);
    let (_, link) = page.split_once("http://10.8.0.1/link#").unwrap();
    assert!(page.contains("http://127.0.0.1:51821/link#") && page.contains("no-store"), "{page}");
    let mut ben = Browser::default();
    assert!(ben.post(&mut app, "/link", &[("link", &link[..64])]).contains("Location: /account\r\n"));
    assert!(ben.get(&mut app, "/").contains("Location: /password\r\n"));
    let page = admin.post(&mut app, "/owners/link", &[("token", &token), ("owner", "a b")]);
    assert!(page.starts_with("HTTP/1.1 404"), "{page}");
}
