mod api;
mod invitations;

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::admin::http::{ConnectionId, Hosts, Parsed, Reply, Request, parse};
use crate::admin::messages::{
    Answer, Change, ChangeRecord, ClientText, Event, Field, FieldError, FromAdmin, PeerEdit, Principal,
    Question, Refusal, ServerSetting, SettingText,
};
use crate::admin::pages;
use crate::admin::sign_in::{Accounts, TotpSecret};
use crate::admin::snapshot::id as peer_id;
use crate::admin::snapshot::tests::{in_file, status};
use crate::config::peer_settings::PeerComment;
use crate::net::random::SystemRandom;
use crate::net::timer::thread_time;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::time::Instant;

pub(super) const ORIGIN: &str = "http://localhost:8080";
const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 2));

pub(super) fn at(seconds: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(seconds))
}

pub(super) fn app() -> App {
    let urls = vec!["http://10.8.0.1".to_owned(), "http://127.0.0.1:51821".to_owned()];
    App::new("tun0".to_owned(), urls, Accounts::default(), SystemRandom::open().unwrap(), at(0))
}

fn parsed(text: &str) -> Request {
    match parse(text.as_bytes(), &Hosts::default()) {
        Parsed::Request(request, _) => *request,
        other => panic!("{text}: {other:?}"),
    }
}

/// A browser.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) cookie: Option<String>,
    pub(super) seconds: u64,
    pub(super) next: ConnectionId,
}

impl Browser {
    /// Sends a request; returns the response as text. What the page asks the supervisor for is
    /// answered by `supervisor`.
    pub(super) fn send(
        &mut self,
        app: &mut App,
        request: &str,
        mut supervisor: impl FnMut(&mut App, FromAdmin),
    ) -> String {
        let cookie = self.cookie.as_ref().map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        let request = parsed(&request.replacen("\r\n", &format!("\r\nHost: localhost:8080\r\n{cookie}"), 1));
        self.next += 1;
        let response = match app.handle(&request, self.next, FROM, at(self.seconds)) {
            Reply::Now(response) => Some(response),
            Reply::Later => loop {
                while let Some(message) = app.poll_message() {
                    supervisor(app, message);
                }
                let (id, response) = app.poll_response().expect("an answer");
                if id == self.next {
                    break Some(response);
                }
            },
            Reply::Stream => None,
        };
        let Some(response) = response else { return String::new() };
        let bytes = response.to_bytes(false, true, request.is_secure);
        let text = std::str::from_utf8(&bytes).unwrap().to_owned();
        if let Some((_, rest)) = text.split_once("Set-Cookie: ") {
            self.cookie = rest.split(';').next().filter(|cookie| !cookie.ends_with('=')).map(str::to_owned);
        }
        text
    }

    pub(super) fn get(&mut self, app: &mut App, path: &str) -> String {
        self.send(app, &format!("GET {path} HTTP/1.1\r\n\r\n"), answer)
    }

    pub(super) fn post(&mut self, app: &mut App, path: &str, fields: &[(&str, &str)]) -> String {
        self.send(app, &form(path, ORIGIN, fields), answer)
    }

    /// Returns the token of this browser's forms.
    pub(super) fn token(&mut self, app: &mut App) -> String {
        let page = self.get(app, "/account");
        let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

pub(super) fn form(path: &str, origin: &str, fields: &[(&str, &str)]) -> String {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    format!(
        "POST {path} HTTP/1.1\r\nOrigin: {origin}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers as a supervisor with two peers.
pub(super) fn answer(app: &mut App, message: FromAdmin) {
    match message {
        FromAdmin::Show => {
            app.handle_peers(vec![in_file(1, "phone"), in_file(2, "laptop")]);
            app.handle_status(Some(status(1, 995, 5)), Duration::from_secs(1000), at(1));
        }
        FromAdmin::Question { number, .. } => {
            let text = SettingText::cut("add 'x'".to_owned());
            let changes =
                vec![ChangeRecord { at: 1, from: [10, 8, 0, 1].into(), by: Principal::Admin, text }];
            let settings = vec![(ServerSetting::Endpoint, SettingText::cut("192.0.2.1:51820".to_owned()))];
            app.handle_answer(number, Ok(Answer::Server { settings, changes }), at(1));
        }
        FromAdmin::Change { number, change, .. } => {
            let client = matches!(change, Change::Add { .. } | Change::Renew(_))
                .then(|| ClientText::try_from("[Interface]\nPrivateKey = x\n".to_owned()).unwrap());
            app.handle_changed(number, Ok(client), at(1));
        }
        _ => {}
    }
}

/// Returns a page with the password "correct horse", and a browser that is signed in.
pub(super) fn signed_in() -> (App, Browser) {
    let mut app = app();
    let mut browser = Browser::default();
    let link = app.make_link(Principal::Admin, at(0)).to_hex();
    assert!(browser.post(&mut app, "/link", &[("link", &link)]).starts_with("HTTP/1.1 303"));
    let page = browser.get(&mut app, "/password");
    let token = page.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let set =
        browser.post(&mut app, "/account/password", &[("token", &token), ("password", "correct horse")]);
    assert!(set.contains("Location: /\r\n"), "{set}");
    (app, browser)
}

#[test]
fn nothing_is_shown_without_a_session() {
    let mut app = app();
    let mut browser = Browser::default();
    for path in ["/", "/new", "/account", "/peers/00", "/none", "/password"] {
        assert!(browser.get(&mut app, path).contains("Location: /sign-in"), "{path}");
    }
    assert!(browser.get(&mut app, "/sign-in").contains("wontun admin link"));
    assert!(browser.get(&mut app, "/events").starts_with("HTTP/1.1 403"));
    assert!(browser.get(&mut app, "/style.css").contains("text/css"));
    for path in ["/new", "/peers/00/remove", "/account/password", "/sign-out"] {
        let page = browser.post(&mut app, path, &[("name", "x")]);
        assert!(page.starts_with("HTTP/1.1 403") && app.poll_message().is_none(), "{path} {page}");
    }
}

#[test]
fn a_link_works_once_and_not_for_long() {
    let mut app = app();
    let mut browser = Browser::default();
    for link in ["", "x", &"0".repeat(64)] {
        assert!(browser.post(&mut app, "/link", &[("link", link)]).starts_with("HTTP/1.1 403"), "{link}");
    }
    let first = app.make_link(Principal::Admin, at(0)).to_hex();
    let second = app.make_link(Principal::Admin, at(0)).to_hex();
    assert!(browser.post(&mut app, "/link", &[("link", &first)]).starts_with("HTTP/1.1 403"), "replaced");
    browser.seconds = 100;
    assert!(browser.post(&mut app, "/link", &[("link", &second)]).contains("Set-Cookie: wontun-tun0="));
    // nothing else before there is a password
    assert!(browser.get(&mut app, "/").contains("Location: /password"));
    let mut other = Browser { seconds: 200, ..Browser::default() };
    assert!(other.post(&mut app, "/link", &[("link", &second)]).starts_with("HTTP/1.1 403"), "used");
    let late = app.make_link(Principal::Admin, at(300)).to_hex();
    other.seconds = 300 + 15 * 60;
    assert!(other.post(&mut app, "/link", &[("link", &late)]).starts_with("HTTP/1.1 403"), "too late");
}

#[test]
fn the_password_signs_in_and_others_wait_longer() {
    let (mut app, mut first) = signed_in();
    let mut browser = Browser { seconds: 10, ..Browser::default() };
    let page = browser.post(&mut app, "/sign-in", &[("password", "correct horse")]);
    assert!(page.contains("Location: /\r\n") && browser.get(&mut app, "/").contains("phone"), "{page}");
    let token = browser.token(&mut app);
    assert!(browser.post(&mut app, "/sign-out", &[("token", &token)]).contains("Max-Age=0"));
    assert!(browser.get(&mut app, "/").contains("Location: /sign-in"));
    for _ in 0..5 {
        let page = browser.post(&mut app, "/sign-in", &[("password", "wrong horse")]);
        assert!(page.starts_with("HTTP/1.1 403") && page.contains("is wrong"), "{page}");
    }
    let page = browser.post(&mut app, "/sign-in", &[("password", "correct horse")]);
    assert!(page.starts_with("HTTP/1.1 429") && page.contains("in 1 s"), "{page}");
    browser.seconds = 12;
    assert!(browser.post(&mut app, "/sign-in", &[("password", "correct horse")]).contains("Location: /\r\n"));
    // a new password needs the old one, and ends the other sessions
    let token = browser.token(&mut app);
    let fields = [("token", token.as_str()), ("current", "wrong"), ("password", "another horse")];
    assert!(browser.post(&mut app, "/account/password", &fields).starts_with("HTTP/1.1 403"));
    let fields = [("token", token.as_str()), ("current", "correct horse"), ("password", "short")];
    assert!(browser.post(&mut app, "/account/password", &fields).starts_with("HTTP/1.1 409"));
    let fields = [("token", token.as_str()), ("current", "correct horse"), ("password", "another horse")];
    assert!(browser.post(&mut app, "/account/password", &fields).contains("Location: /\r\n"));
    assert!(browser.get(&mut app, "/").contains("phone"));
    assert!(first.get(&mut app, "/").contains("Location: /sign-in"));
}

#[test]
fn an_authenticator_app_is_asked_for_once_it_is_confirmed() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    browser.post(&mut app, "/account/app-new", &[("token", &token)]);
    let secret = app.offered[&Principal::Admin].clone();
    assert!(browser.get(&mut app, "/account").contains(secret.to_base32().as_str()));
    let step = TotpSecret::step_at(crate::net::timer::unix_now());
    let first = secret.password(step);
    let wrong = if first.as_str() == "000000" { "000001" } else { "000000" };
    let fields = |code| [("token", token.clone()), ("code", code)];
    let refused: Vec<_> = fields(wrong.to_owned()).into_iter().collect();
    let refused: Vec<_> = refused.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(browser.post(&mut app, "/account/app-on", &refused).starts_with("HTTP/1.1 403"));
    let accepted = [("token", token.as_str()), ("code", first.as_str())];
    assert!(browser.post(&mut app, "/account/app-on", &accepted).contains("Location: /account"));
    let mut other = Browser::default();
    let without = other.post(&mut app, "/sign-in", &[("password", "correct horse")]);
    assert!(without.starts_with("HTTP/1.1 403"), "{without}");
    let again = other.post(&mut app, "/sign-in", &[("password", "correct horse"), ("code", &first)]);
    assert!(again.starts_with("HTTP/1.1 403"), "a code is used once: {again}");
    let next = secret.password(step + 1);
    let page = other.post(&mut app, "/sign-in", &[("password", "correct horse"), ("code", &next)]);
    assert!(page.contains("Location: /\r\n"), "{page}");
}

#[test]
fn forms_of_other_pages_change_nothing() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    let path = format!("/peers/{}/remove", "01".repeat(32));
    for (origin, token, is_done) in [
        ("http://evil.example", token.as_str(), false),
        ("null", token.as_str(), false),
        (ORIGIN, "", false),
        (ORIGIN, &"0".repeat(64), false),
        (ORIGIN, token.as_str(), true),
    ] {
        let mut changes = 0;
        let page = browser.send(&mut app, &form(&path, origin, &[("token", token)]), |app, message| {
            changes += usize::from(matches!(message, FromAdmin::Change { change: Change::Remove(_), .. }));
            answer(app, message);
        });
        let status = if is_done { "HTTP/1.1 303" } else { "HTTP/1.1 403" };
        assert!((changes == 1) == is_done && page.starts_with(status), "{origin} {token} {page}");
    }
    // not by a link, and not by another kind of form
    assert!(browser.get(&mut app, &path).starts_with("HTTP/1.1 404"));
    let text =
        form(&path, ORIGIN, &[("token", &token)]).replace("application/x-www-form-urlencoded", "text/plain");
    assert!(browser.send(&mut app, &text, answer).starts_with("HTTP/1.1 403"));
}

#[test]
fn names_and_notes_are_text() {
    let (mut app, mut browser) = signed_in();
    let evil = "\"><script>alert(1)</script>'&";
    let mut peer = in_file(1, evil);
    let all = PeerComment::ALL.map(|key| (key, SettingText::cut(format!("{evil} {key}"))));
    peer.settings.extend(all);
    peer.networks.push(evil.to_owned());
    peer.sites.push(evil.to_owned());
    let show = |app: &mut App, message| {
        if let FromAdmin::Show = message {
            app.handle_peers(vec![peer.clone()]);
            let mut status = status(1, 995, 5);
            status.problems.push(evil.to_owned());
            evil.clone_into(&mut status.version);
            app.handle_status(Some(status), Duration::from_secs(1000), at(50));
        } else if let FromAdmin::Question { number, question: Question::Server } = message {
            let text = SettingText::cut(evil.to_owned());
            let settings = ServerSetting::ALL.map(|setting| (setting, text.clone())).to_vec();
            let changes = vec![ChangeRecord { at: 1, from: FROM, by: Principal::Admin, text }];
            app.handle_answer(number, Ok(Answer::Server { settings, changes }), at(50));
        } else if let FromAdmin::Question { number, .. } = message {
            let verdict = Answer::Access { is_allowed: true, text: ErrorMessage::cut(evil.to_owned()) };
            app.handle_answer(number, Ok(verdict), at(50));
        } else if let FromAdmin::Change { number, .. } = message {
            let fields = [Field::Name, Field::Address, Field::Site, Field::Target];
            let settings = PeerComment::ALL.map(Field::Setting).into_iter().chain(fields);
            let server = ServerSetting::ALL.map(Field::Server);
            let errors = settings.chain(server).map(|field| FieldError::new(Some(field), evil));
            app.handle_changed(number, Err(Refusal::new(errors.collect())), at(50));
        } else {
            answer(app, message);
        }
    };
    browser.seconds = 50;
    let key = peer_id(&in_file(1, "x").key);
    let token = browser.token(&mut app);
    let mut pages = vec![
        browser.send(&mut app, "GET / HTTP/1.1\r\n\r\n", show),
        browser.send(&mut app, &format!("GET /peers/{key} HTTP/1.1\r\n\r\n"), show),
    ];
    pages.push(browser.post(&mut app, "/new", &[("token", &token), ("name", evil)]));
    pages.push(browser.post(&mut app, "/new", &[("token", &token), ("name", &format!(" {evil}\u{202e}"))]));
    pages.push(browser.get(&mut app, &format!("/peers/{evil}")));
    // every field, as it was typed and with an error about it
    let names = PeerComment::ALL.map(PeerComment::name);
    let server = ServerSetting::ALL.map(|setting| Field::Server(setting).name());
    let mut fields = vec![("token", token.as_str()), ("name", "x"), ("address", evil), ("site", evil)];
    fields.extend([("target", evil), ("direction", evil), ("routes", evil)]);
    fields.extend(names.into_iter().chain(server).map(|name| (name, evil)));
    for (path, count) in [
        ("/new".to_owned(), 32),
        ("/server".to_owned(), 5),
        (format!("/peers/{key}/set"), 24),
        (format!("/peers/{key}/test"), 2),
        (format!("/peers/{key}/rename"), 15),
    ] {
        let page = browser.send(&mut app, &form(&path, ORIGIN, &fields), show);
        let shown = page.matches("&quot;&gt;&lt;script&gt;").count();
        assert!(shown >= count, "{path}: {shown} {page}");
        pages.push(page);
    }
    pages.push(browser.send(
        &mut app,
        &format!("GET /?find={} HTTP/1.1\r\n\r\n", "%22%3E%3Cscript%3Ealert(1)"),
        show,
    ));
    pages.push(browser.send(&mut app, "GET /server HTTP/1.1\r\n\r\n", show));
    for page in pages {
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(page.matches("<script").count() == 1 && !page.contains(" style="), "{page}");
    }
}

#[test]
fn a_new_peer_is_shown_with_its_code_once() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    let page = browser.post(&mut app, "/new", &[("token", &token), ("name", "tablet"), ("routes", "vpn")]);
    assert!(page.contains("<svg") && page.contains("PrivateKey = x") && page.contains("no-store"), "{page}");
    assert!(!browser.get(&mut app, "/").contains("PrivateKey"));
    let failed =
        browser.send(&mut app, &form("/new", ORIGIN, &[("token", &token), ("name", "x")]), |app, message| {
            if let FromAdmin::Change { number, .. } = message {
                app.handle_changed(number, Err(Refusal::of_all("no <b>space</b>")), at(1));
            }
        });
    assert!(failed.starts_with("HTTP/1.1 409") && failed.contains("no &lt;b&gt;space"), "{failed}");
}

#[test]
fn what_was_typed_is_kept_and_its_error_is_at_its_field() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    let refuse = |field: Field| {
        move |app: &mut App, message| match message {
            FromAdmin::Change { number, .. } => {
                let errors = vec![FieldError::new(Some(field), "found 'x', expected y")];
                app.handle_changed(number, Err(Refusal::new(errors)), at(1));
            }
            other => answer(app, other),
        }
    };
    let has = |page: &str, parts: &[&str]| {
        for part in parts {
            assert!(page.contains(part), "{part}: {page}");
        }
    };
    let fields =
        [("token", &*token), ("name", "tablet"), ("routes", "vpn"), ("Allow", "x"), ("Quota", "1GB/day")];
    let quota = Field::Setting(PeerComment::Allow);
    let page = browser.send(&mut app, &form("/new", ORIGIN, &fields), refuse(quota));
    has(&page, &["HTTP/1.1 409", "value=\"tablet\"", "value=\"vpn\" checked", "value=\"1GB/day\""]);
    has(&page, &["id=\"Allow\" name=\"Allow\" value=\"x\"", "aria-describedby=\"Allow-error Allow-help\""]);
    has(&page, &["<p class=\"error\" id=\"Allow-error\">found &#39;x&#39;".replace("&#39;", "'").as_str()]);
    assert_eq!(page.matches("<details open>").count(), 2, "rules and limits: {page}");
    // a name that cannot be one does not leave the process
    let fields = [("token", &*token), ("name", "\u{7}"), ("Note", "kept")];
    let page = browser.send(&mut app, &form("/new", ORIGIN, &fields), |_, message| panic!("{message:?}"));
    has(&page, &["id=\"name-error\"", "value=\"kept\""]);
    let path = format!("/peers/{}", peer_id(&in_file(1, "x").key));
    let fields = [("token", &*token), ("RateUp", "fast"), ("Quota", "1GB/day")];
    let rate = Field::Setting(PeerComment::RateUp);
    let page = browser.send(&mut app, &form(&format!("{path}/set"), ORIGIN, &fields), refuse(rate));
    has(&page, &["HTTP/1.1 409", "value=\"fast\"", "value=\"1GB/day\"", "id=\"RateUp-error\"", "phone"]);
    let text = "x".repeat(3000);
    let fields = [("token", &*token), ("Allow", &*text)];
    let page = browser.send(&mut app, &form(&format!("{path}/set"), ORIGIN, &fields), answer);
    has(&page, &["too long", &text]);
}

#[test]
fn addresses_and_networks_of_a_peer_are_changed_on_its_page() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    let mut peer = in_file(1, "nas");
    peer.networks.extend(["fd00::1/128".to_owned(), "192.168.5.0/24".to_owned()]);
    peer.sites.push("192.168.5.0/24".to_owned());
    let path = format!("/peers/{}", peer_id(&peer.key));
    let mut changes = Vec::new();
    let mut show = |app: &mut App, message| match message {
        FromAdmin::Show => {
            app.handle_peers(vec![peer.clone()]);
            app.handle_status(None, Duration::from_secs(1000), at(50));
        }
        FromAdmin::Change { number, change, .. } => {
            changes.push(change);
            let error = FieldError::new(Some(Field::Site), "it is the default route");
            app.handle_changed(number, Err(Refusal::new(vec![error])), at(50));
        }
        other => answer(app, other),
    };
    browser.seconds = 50;
    let page = browser.send(&mut app, &format!("GET {path} HTTP/1.1\r\n\r\n"), &mut show);
    assert!(page.contains("name=\"address\" value=\"10.8.0.1, fd00::1\""), "{page}");
    assert!(page.contains("name=\"site\" value=\"192.168.5.0/24\""), "{page}");
    let set = format!("{path}/set");
    let fields = [("token", &*token), ("address", "10.8.0.9, fd00::1"), ("site", "0.0.0.0/0")];
    let page = browser.send(&mut app, &form(&set, ORIGIN, &fields), &mut show);
    assert!(page.starts_with("HTTP/1.1 409") && page.contains("id=\"site-error\""), "{page}");
    assert!(page.contains("value=\"10.8.0.9, fd00::1\"") && page.contains("value=\"0.0.0.0/0\""), "{page}");
    // without networks; and a form without these fields leaves them
    for fields in
        [&[("token", &*token), ("address", ""), ("site", "")][..], &[("token", &*token), ("Note", "x")]]
    {
        browser.send(&mut app, &form(&set, ORIGIN, fields), &mut show);
    }
    let text = |text: &str| SettingText::cut(text.to_owned());
    let note = vec![(PeerComment::Note, text("x"))];
    let edits = [
        PeerEdit {
            addresses: text("10.8.0.9, fd00::1"),
            sites: Some(text("0.0.0.0/0")),
            ..PeerEdit::default()
        },
        PeerEdit { sites: Some(text("")), ..PeerEdit::default() },
        PeerEdit::of_settings(note),
    ];
    assert_eq!(changes, edits.map(|edit| Change::Set(peer.key, Box::new(edit))));
    // with more networks than the page knows, it changes none
    peer.more_networks = 3;
    browser.seconds = 60;
    let page = browser.send(&mut app, &format!("GET {path} HTTP/1.1\r\n\r\n"), |app, message| {
        if matches!(message, FromAdmin::Show) {
            app.handle_peers(vec![peer.clone()]);
            app.handle_status(None, Duration::from_secs(1000), at(60));
        }
    });
    assert!(page.contains(" … (+3)") && !page.contains("name=\"site\""), "{page}");
}

#[test]
fn a_connection_is_tested_and_the_server_described() {
    let (mut app, mut browser) = signed_in();
    let token = browser.token(&mut app);
    let path = format!("/peers/{}/test", peer_id(&in_file(1, "x").key));
    let fields = [("token", &*token), ("target", "192.0.2.7:443"), ("direction", "from")];
    let page = browser.send(&mut app, &form(&path, ORIGIN, &fields), |app, message| match message {
        FromAdmin::Question { number, question: Question::Access { target, from, .. } } => {
            assert!(target.as_str() == "192.0.2.7:443" && from);
            let text = ErrorMessage::cut("denied: by Allow".to_owned());
            app.handle_answer(number, Ok(Answer::Access { is_allowed: false, text }), at(1));
        }
        other => answer(app, other),
    });
    assert!(page.contains("Denied") && page.contains("denied: by Allow"), "{page}");
    assert!(page.contains("value=\"192.0.2.7:443\"") && page.contains("value=\"from\" checked"), "{page}");
    let page = browser.get(&mut app, "/server");
    for part in
        ["<td>phone (10.8.0.1)</td>", "<td>1970-01-01 00:00</td>", "add &#39;x&#39;", "Yesterday", "no_route"]
    {
        let part = part.replace("&#39;", "'");
        assert!(page.contains(&part), "{part}: {page}");
    }
    // without the editor, the rest is shown
    let page = browser.send(&mut app, "GET /server HTTP/1.1\r\n\r\n", |app, message| match message {
        FromAdmin::Question { number, .. } => {
            app.handle_answer(number, Err(Refusal::of_all("it has ended")), at(1));
        }
        other => answer(app, other),
    });
    assert!(page.contains("it has ended") && page.contains("Yesterday"), "{page}");
}

#[test]
fn a_thousand_peers_are_listed_at_once() {
    let (mut app, mut browser) = signed_in();
    browser.seconds = 100;
    let start = thread_time().unwrap();
    let page = browser.send(&mut app, "GET / HTTP/1.1\r\n\r\n", |app, _| {
        let mut peer = in_file(1, "a name of usual length");
        for number in 0..1000_u16 {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            peer.key = wontun_proto::wireguard::PublicKey::from_bytes(key);
            app.handle_peers(vec![peer.clone()]);
        }
        app.handle_status(None, Duration::from_secs(1000), at(100));
    });
    // the thread's own: other tests may have the processor meanwhile
    let time = thread_time().unwrap().since(start);
    let all = page.len() + pages::STYLE.len() + pages::SCRIPT.len() + pages::ICON.len();
    eprintln!("1,000 peers: {} bytes, {all} with all files, in {time:?} of CPU time", page.len());
    assert!(page.matches("<tr").count() == 51 && time < Duration::from_millis(200), "{time:?}");
    assert!(page.contains("Page 1 of 20") && page.contains("href=\"/?page=2\""), "{page}");
    assert!(all <= 60_000, "{all} bytes");
    let page = browser.get(&mut app, "/?page=20&find=usual");
    assert!(
        page.contains("Page 20 of 20") && page.contains("data-live=\"?page=20&amp;find=usual\""),
        "{page}"
    );
}

#[test]
fn open_pages_get_what_changes_until_their_session_ends() {
    let (mut app, mut browser) = signed_in();
    browser.seconds = 1;
    assert_eq!(browser.get(&mut app, "/events"), "");
    let stream = browser.next;
    let events = |app: &mut App, received, seconds| {
        assert!(matches!(app.poll_message(), Some(FromAdmin::Show)));
        app.handle_peers(vec![in_file(1, "phone"), in_file(2, "laptop")]);
        app.handle_status(Some(status(1, 995, received)), Duration::from_secs(1000), at(seconds));
        let events = app.poll_events(at(seconds), |id| id == stream);
        events.iter().map(|(_, event)| String::from_utf8(event.clone()).unwrap()).collect::<String>()
    };
    assert_eq!(events(&mut app, 5, 1).matches("\"id\"").count(), 2, "all at first");
    assert_eq!(app.deadline(), Some(at(2)));
    app.handle_timeout(at(2));
    let event = events(&mut app, 6, 2);
    assert!(event.matches("\"id\"").count() == 1 && event.contains("\"received\":6"), "{event}");
    // half an hour without a click
    app.handle_timeout(at(1802));
    assert!(events(&mut app, 7, 1802).starts_with("event: end\n"));
    assert_eq!(app.deadline(), None);
}

#[test]
fn what_nobody_waits_for_is_not_asked_for() {
    let mut app = app();
    app.handle_timeout(at(1000));
    assert!(app.poll_message().is_none() && app.deadline().is_none());
    app.handle_peers(vec![in_file(1, "x")]);
    app.handle_status(None, Duration::ZERO, at(1000));
    assert!(app.snapshot.is_none());
    app.handle_changed(7, Ok(None), at(1000));
    assert!(app.poll_response().is_none());
}
