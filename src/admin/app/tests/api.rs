//! The API: tokens and their scopes, and responses as the OpenAPI file describes them.

use super::*;
use crate::admin::api::openapi::Description;
use crate::admin::sign_in::Token;
use crate::admin::tokens::tests::add;
use crate::admin::tokens::{ApiTokens, secret_text};

/// A server with tokens of all scopes.
struct Api {
    app: App,
    tokens: ApiTokens,
    description: Description,
    seconds: u64,
    next: ConnectionId,
}

/// A response.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Api {
    fn new() -> Self {
        Self {
            app: app(),
            tokens: ApiTokens::default(),
            description: Description::load(),
            seconds: 0,
            next: 0,
        }
    }

    fn token(&mut self, name: &str, scopes: &str, expires: Option<&str>) -> Token {
        let secret = add(&mut self.tokens, name, scopes, expires);
        self.app.set_tokens(&self.tokens.to_text());
        secret
    }

    /// Sends a request with further fields of the head, and checks the response.
    fn send(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
        mut supervisor: impl FnMut(&mut App, FromAdmin),
    ) -> Answered {
        let length = body.len();
        let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
        let request = parsed(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n{fields}{length}\r\n{body}"
        ));
        self.next += 1;
        let response = match self.app.handle(&request, self.next, FROM, at(self.seconds)) {
            Reply::Now(response) => response,
            Reply::Later => {
                while let Some(message) = self.app.poll_message() {
                    supervisor(&mut self.app, message);
                }
                let (id, response) = self.app.poll_response().expect("an answer");
                assert_eq!(id, self.next);
                response
            }
            Reply::Stream => panic!("{path}: a stream"),
        };
        let bytes = response.to_bytes(false, true, false);
        let (head, body) = std::str::from_utf8(&bytes).unwrap().split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: format!("{head}\r\n"), body: body.to_owned() }
    }

    fn call(&mut self, secret: &Token, method: &str, path: &str, body: &str) -> Answered {
        let fields = format!("{}Content-Type: application/json\r\n", bearer(secret));
        self.send(method, path, &fields, body, answer)
    }
}

fn bearer(secret: &Token) -> String {
    format!("Authorization: Bearer {}\r\n", *secret_text(secret))
}

/// Requests of all routes, with the scopes that they need and the statuses of their responses.
const REQUESTS: [(&str, &str, &str, &str, u16); 12] = [
    ("GET", "/api/v1/status", "", "read", 200),
    ("GET", "/api/v1/peers", "", "read", 200),
    ("POST", "/api/v1/peers", r#"{"name": "x"}"#, "peers", 201),
    ("GET", "/api/v1/peers/phone", "", "read", 200),
    ("PATCH", "/api/v1/peers/phone", r#"{"settings": {"disabled": "yes"}}"#, "peers", 204),
    ("DELETE", "/api/v1/peers/phone", "", "peers", 204),
    ("POST", "/api/v1/peers/phone/renew", "", "peers", 200),
    ("POST", "/api/v1/peers/phone/rename", r#"{"name": "y"}"#, "peers", 204),
    ("GET", "/api/v1/settings", "", "read", 200),
    ("PATCH", "/api/v1/settings", r#"{"policy": "isolate"}"#, "settings", 204),
    ("GET", "/api/v1/changes", "", "read", 200),
    ("GET", "/api/v1/openapi.json", "", "read", 200),
];

#[test]
fn each_route_needs_its_scope_and_answers_as_described() {
    let mut api = Api::new();
    let tokens = ["read", "read,peers", "read,settings", "read,peers,settings"];
    let tokens: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(n, scopes)| (*scopes, api.token(&n.to_string(), scopes, None)))
        .collect();
    for (method, path, body, scope, status) in REQUESTS {
        for (scopes, secret) in &tokens {
            let is_allowed = scopes.split(',').any(|each| each == scope);
            let answered = api.call(secret, method, path, body);
            let expected = if is_allowed { status } else { 403 };
            assert_eq!(answered.status, expected, "{method} {path} {scopes}: {answered:?}");
            api.description.check_response(method, path, answered.status, &answered.body);
            let challenge = format!("error=\"insufficient_scope\", scope=\"{scope}\"\r\n");
            assert_eq!(answered.head.contains(&challenge), !is_allowed, "{answered:?}");
            assert!(is_allowed || api.app.poll_message().is_none(), "{method} {path} {scopes}");
        }
        // without a token, by a cookie, and by a token in another place
        let (_, secret) = &tokens[3];
        let text = secret_text(secret);
        let query = format!("{path}?access_token={}", *text);
        for (path, fields) in [
            (path, String::new()),
            (path, format!("Cookie: wontun-tun0={}\r\n", *secret.to_hex())),
            (path, format!("X-Token: {}\r\n", *text)),
            (&query, String::new()),
        ] {
            let answered = api.send(method, path, &fields, "", answer);
            assert_eq!(answered.status, 401, "{method} {path}: {answered:?}");
            assert!(answered.head.contains("WWW-Authenticate: Bearer realm=\"wontun\"\r\n"), "{answered:?}");
            assert!(api.app.poll_message().is_none(), "{method} {path}");
        }
    }
}

#[test]
fn a_session_is_of_no_use_to_the_api() {
    let (app, browser) = signed_in();
    let cookie = format!("Cookie: {}\r\nOrigin: {ORIGIN}\r\n", browser.cookie.unwrap());
    let mut api = Api { app, ..Api::new() };
    for (method, path, body, ..) in REQUESTS {
        let fields = format!("{cookie}Content-Type: application/json\r\n");
        assert_eq!(api.send(method, path, &fields, body, answer).status, 401, "{method} {path}");
    }
}

#[test]
fn wrong_tokens_count_as_attempts_and_right_ones_are_accepted_meanwhile() {
    let mut api = Api::new();
    let right = api.token("right", "read", None);
    let past = api.token("past", "read", Some("2020-01-01"));
    let removed = api.token("removed", "read", None);
    assert_eq!(api.call(&removed, "GET", "/api/v1/peers", "").status, 200);
    api.tokens.remove(&"removed".parse().unwrap()).unwrap();
    api.app.set_tokens(&api.tokens.to_text());
    let mut statuses = Vec::new();
    for secret in [&past, &removed, &past, &removed, &past, &removed, &past] {
        let answered = api.call(secret, "GET", "/api/v1/peers", "");
        api.description.check_response("GET", "/api/v1/peers", answered.status, &answered.body);
        let is_limited = answered.head.contains("Retry-After: 1\r\n");
        assert_eq!(answered.head.contains("error=\"invalid_token\""), !is_limited, "{answered:?}");
        statuses.push(answered.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    let events: Vec<_> = std::iter::from_fn(|| api.app.poll_message()).collect();
    assert_eq!(events.len(), 7, "{events:?}");
    assert!(!format!("{events:?}").contains(right.to_hex().as_str()));
    assert_eq!(api.call(&right, "GET", "/api/v1/peers", "").status, 200);
    // the same limit holds for passwords
    let refused = Browser::default().post(&mut api.app, "/sign-in", &[("password", "correct horse")]);
    assert!(refused.starts_with("HTTP/1.1 403") || refused.starts_with("HTTP/1.1 429"), "{refused}");
    for malformed in ["Basic YTpi", "Bearer", "Bearer x", "bearer ", ""] {
        api.seconds += 4000;
        let fields = format!("Authorization: {malformed}\r\n");
        assert_eq!(api.send("GET", "/api/v1/peers", &fields, "", answer).status, 401, "{malformed}");
    }
}

#[test]
fn a_change_says_which_token_made_it_and_what_is_wrong_with_it() {
    let mut api = Api::new();
    let secret = api.token("deploy", "read,peers", None);
    let key = in_file(2, "laptop").key.to_string().replace('/', "%2F");
    let path = format!("/api/v1/peers/{key}");
    let fields = format!("{}Content-Type: application/json\r\n", bearer(&secret));
    let body = r#"{"settings": {"rate_up": "fast"}}"#;
    let mut seen = Vec::new();
    let answered = api.send("PATCH", &path, &fields, body, |app, message| match message {
        FromAdmin::Change { number, by, change, .. } => {
            seen.push((by, change));
            let field = Some(Field::Setting(PeerComment::RateUp));
            let refusal = Refusal::new(vec![FieldError::new(field, "expected a rate")]);
            app.handle_changed(number, Err(refusal), at(1));
        }
        other => answer(app, other),
    });
    assert_eq!(answered.status, 422, "{answered:?}");
    assert!(answered.body.contains(r#"{"field":"settings.rate_up","message":"expected a rate"}"#));
    api.description.check_response("PATCH", &path, 422, &answered.body);
    let edit = PeerEdit::of_settings(vec![(PeerComment::RateUp, value("fast"))]);
    let change = Change::Set(in_file(2, "laptop").key, Box::new(edit));
    assert_eq!(seen, [(Principal::Token("deploy".parse().unwrap()), change)]);
    // no such peer, path, method, body, parameter
    for (method, path, body, status) in [
        ("PATCH", "/api/v1/peers/nobody", body, 404),
        ("DELETE", "/api/v1/peers/nobody", "", 404),
        ("GET", "/api/v1/peers/Phone", "", 404),
        ("GET", "/api/v1/nothing", "", 404),
        ("DELETE", "/api/v1/peers", "", 405),
        ("POST", "/api/v1/peers", "{", 400),
        ("GET", "/api/v1/peers?page=2", "", 400),
    ] {
        let answered = api.call(&secret, method, path, body);
        assert_eq!(answered.status, status, "{method} {path}: {answered:?}");
        assert!(answered.head.contains("Content-Type: application/problem+json"), "{answered:?}");
    }
    let answered = api.call(&secret, "DELETE", "/api/v1/peers", "");
    assert!(answered.head.contains("\r\nAllow: GET, POST\r\n"), "{answered:?}");
    // a form of another page is none
    let form = format!("{}Content-Type: text/plain\r\n", bearer(&secret));
    assert_eq!(api.send("POST", "/api/v1/peers", &form, r#"{"name":"x"}"#, answer).status, 415);
}

#[test]
fn peers_of_one_name_are_told_apart_by_their_keys() {
    let mut api = Api::new();
    let secret = api.token("read", "read", None);
    let mut show = |path: &str| {
        let fields = bearer(&secret);
        api.send("GET", path, &fields, "", |app, message| {
            if matches!(message, FromAdmin::Show) {
                app.handle_peers(vec![in_file(1, "phone"), in_file(2, "phone")]);
                app.handle_status(None, Duration::from_secs(1000), at(1));
            }
        })
    };
    assert_eq!(show("/api/v1/peers/phone").status, 409);
    let key = in_file(2, "phone").key.to_string().replace('/', "%2F").replace('+', "%2B");
    let answered = show(&format!("/api/v1/peers/{key}"));
    let peers: serde_json::Value = serde_json::from_str(&answered.body).unwrap();
    let peer = &peers["peers"][0];
    assert_eq!((&peer["running"], &peer["state"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(peer["allowed_ips"][0], "10.8.0.2/32");
    assert_eq!(show("/api/v1/status").status, 503, "the tunnel does not answer");
}

fn value(text: &str) -> SettingText {
    SettingText::cut(text.to_owned())
}
