//! The API, by plain requests as curl sends them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::client::{Admin, Answer, ON_HOST, send};
use super::openapi::Description;
use crate::lab::{Host, Lab};
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

/// A program that uses the API from a host.
struct Program<'a> {
    host: &'a Host,
    address: &'a str,
    secret: String,
    description: Description,
    /// Methods and paths of the requests that were answered as wanted.
    used: RefCell<BTreeSet<(String, String)>>,
}

impl<'a> Program<'a> {
    fn new(host: &'a Host, address: &'a str, secret: &str) -> Self {
        let secret = secret.trim().to_owned();
        let description = Description::load();
        Self { host, address, secret, description, used: RefCell::default() }
    }

    /// Sends a request with this program's token, and checks that the response is as described.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        if let Some(body) = body {
            let errors = self.description.errors_in_request(method, path, body);
            assert!(errors.is_empty(), "{method} {path}: {errors:?}");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let fields = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.secret);
        let answer = self.send(method, path, &fields, &body);
        self.description.check_response(method, path, answer.status, &answer.body);
        if answer.status < 300 {
            self.used.borrow_mut().insert((method.to_owned(), path.to_owned()));
        }
        answer
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    fn send(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let host = self.address;
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}");
        send(self.host, host.parse::<SocketAddr>().unwrap(), &text)
    }
}

/// Returns a document without what changes by itself.
fn settled(mut document: Value) -> Value {
    for peer in document["peers"].as_array_mut().unwrap() {
        for field in ["received_bytes", "sent_bytes", "latest_handshake", "traffic"] {
            assert!(peer.get(field).is_some(), "{field}");
            peer[field] = Value::Null;
        }
    }
    document["dropped"] = Value::Null;
    document
}

#[test]
fn a_client_is_added_and_changed_by_a_program() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let (endpoint, host) = (lab.host(0).v4.to_string(), server.site.host());
    // before the server runs for the first time, and while it runs
    server.output(&["init", "--endpoint", &endpoint]);
    let deploy = server.output(&["admin", "token", "add", "deploy", "--scope", "peers,settings"]);
    let daemon = server.serve(&["--admin"]);
    let monitor = server.output(&["admin", "token", "add", "monitor", "--expires", "1d"]);
    let past = server.output(&["admin", "token", "add", "past", "--expires", "2020-01-01"]);
    let file = server.dir.join("tun0.admin-tokens");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let digits = deploy.trim().strip_prefix("wontun_").unwrap();
    assert!(
        digits.len() == 64 && text.contains("deploy scope=read,peers,settings ") && !text.contains(digits)
    );
    let list = server.output(&["admin", "token", "list"]);
    assert!(list.contains("monitor  read  created ") && list.contains("expired 2020-01-01"), "{list}");
    server.fails(&["admin", "token", "add", "deploy"], 1, "a token 'deploy' already");

    // the client that the API adds comes up with its file
    let [deploy, monitor, past] = [deploy, monitor, past].map(|secret| Program::new(host, ON_HOST, &secret));
    let added = json!({"name": "Anna's phone", "full_tunnel": false, "settings": {"note": "room 5"}});
    let added = deploy.call("POST", "/api/v1/peers", Some(&added));
    assert_eq!(added.status, 201, "{added:?}");
    let path = added.header("Location").unwrap().to_owned();
    assert_eq!(path, "/api/v1/peers/Anna%27s%20phone");
    let body: Value = serde_json::from_str(&added.body).unwrap();
    let (phone, _phone) = client(&lab, 1, body["file"].as_str().unwrap());
    phone.ping(SERVER_V4);
    daemon.wait_for("admin page: add 'Anna's phone' from=127.0.0.1 token=deploy");

    // the documents are those of the commands, and no secret is in them
    let by_command = |arguments: &[&str]| serde_json::from_str::<Value>(&server.output(arguments)).unwrap();
    let peers = monitor.get("/api/v1/peers");
    assert_eq!(settled(peers.clone()), settled(by_command(&["peer", "list", "--json"])));
    assert_eq!(settled(monitor.get(&path)), settled(by_command(&["peer", "show", "Anna's phone", "--json"])));
    assert_eq!(peers["peers"][0]["settings"]["note"], "room 5");
    let fields: BTreeSet<_> = peers["peers"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, monitor.description.properties("Peer"));
    let (status, shown) = (monitor.get("/api/v1/status"), by_command(&["show", "tun0", "--json"]));
    assert_eq!(settled(status["tunnels"][0].clone()), settled(shown["tunnels"][0].clone()));
    assert_eq!(status["tunnels"][0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(!peers.to_string().contains("PrivateKey"));

    // disabled and enabled again, by name and by key
    let disabled = |value: Value| json!({"settings": {"disabled": value}});
    assert_eq!(deploy.call("PATCH", &path, Some(&disabled(json!("yes")))).status, 204);
    eventually("the client is cut off", || !phone.ping_once(SERVER_V4, 56));
    assert_eq!(monitor.get(&path)["peers"][0]["state"], "disabled");
    let key = peers["peers"][0]["public_key"].as_str().unwrap().replace('/', "%2F");
    let by_key = format!("/api/v1/peers/{key}");
    assert_eq!(deploy.call("PATCH", &by_key, Some(&disabled(Value::Null))).status, 204);
    let networks = json!({"addresses": ["10.8.0.2"], "sites": ["192.168.5.0/24"]});
    assert_eq!(deploy.call("PATCH", &path, Some(&networks)).status, 204);
    assert!(server.text().contains(", 192.168.5.0/24\n"), "{}", server.text());
    assert_eq!(deploy.call("PATCH", &path, Some(&json!({"sites": []}))).status, 204);
    phone.ping(SERVER_V4);
    // what is wrong is said with its field, and nothing is changed
    let before = server.text();
    let wrong = json!({"settings": {"rate_up": "fast", "note": "kept"}});
    let refused = deploy.call("PATCH", &path, Some(&wrong));
    assert!(refused.status == 422 && refused.body.contains("\"settings.rate_up\""), "{refused:?}");
    let refused = deploy.call("POST", "/api/v1/peers", Some(&json!({"name": "Anna's phone"})));
    assert!(refused.status == 422 && refused.body.contains("\"field\":\"name\""), "{refused:?}");
    assert_eq!(deploy.call("DELETE", "/api/v1/peers/nobody", None).status, 404);
    // a token that only reads changes nothing
    for (method, path, body) in [
        ("PATCH", path.as_str(), Some(disabled(json!("yes")))),
        ("POST", "/api/v1/peers", Some(json!({"name": "x"}))),
        ("DELETE", path.as_str(), None),
        ("POST", &format!("{path}/renew"), None),
        ("PATCH", "/api/v1/settings", Some(json!({"policy": "open"}))),
    ] {
        assert_eq!(monitor.call(method, path, body.as_ref()).status, 403, "{method} {path}");
    }
    assert_eq!(server.text(), before);

    // settings for all, new keys, another name, and the end
    assert_eq!(deploy.call("PATCH", "/api/v1/settings", Some(&json!({"policy": "isolate"}))).status, 204);
    assert_eq!(monitor.get("/api/v1/settings")["policy"], "isolate");
    let renewed = deploy.call("POST", &format!("{path}/renew"), None);
    assert!(renewed.status == 200 && renewed.body.contains("PrivateKey = "), "{renewed:?}");
    eventually("the old keys are of no use", || !phone.ping_once(SERVER_V4, 56));
    let renamed = deploy.call("POST", &format!("{path}/rename"), Some(&json!({"name": "phone"})));
    assert!(renamed.status == 204 && server.text().contains("# Name = phone\n"), "{renamed:?}");
    assert_eq!(deploy.call("DELETE", "/api/v1/peers/phone", None).status, 204);
    assert!(!server.text().contains("phone"), "{}", server.text());
    let changes = monitor.get("/api/v1/changes");
    let change = &changes["changes"][0];
    assert_eq!((&change["text"], &change["token"]), (&json!("remove 'phone'"), &json!("deploy")));
    assert_eq!(monitor.get("/api/v1/openapi.json")["openapi"], "3.1.0");
    let used = deploy.used.borrow().len() + monitor.used.borrow().len();
    assert!(used >= deploy.description.operations().len(), "{used}: each operation was used");

    // expired, removed, cookies, other origins
    assert_eq!(past.call("GET", "/api/v1/peers", None).status, 401);
    server.output(&["admin", "token", "remove", "monitor"]);
    assert_eq!(monitor.call("GET", "/api/v1/peers", None).status, 401, "at once");
    assert_eq!(deploy.call("GET", "/api/v1/peers", None).status, 200);
    let mut admin = Admin::first(&server);
    let cookie = format!("Cookie: {}\r\nOrigin: http://{ON_HOST}\r\n", admin.cookie());
    assert_eq!(deploy.send("GET", "/api/v1/peers", &cookie, "").status, 401);
    assert_eq!(deploy.send("DELETE", "/api/v1/peers/x", &cookie, "").status, 401);
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: PATCH\r\n";
    let preflight = deploy.send("OPTIONS", "/api/v1/peers", preflight, "");
    assert!(preflight.status == 405 && preflight.header("Access-Control-Allow-Origin").is_none());
    // the page makes and removes tokens, too
    let page = admin.post("/tokens", &[("name", "by-page"), ("peers", "yes"), ("expires", "90d")]);
    let (_, rest) = page.body.split_once("wontun_").unwrap_or_else(|| panic!("{page:?}"));
    let secret = format!("wontun_{}", rest.get(..64).unwrap());
    let by_page = Program::new(host, ON_HOST, &secret);
    assert_eq!(by_page.call("POST", "/api/v1/peers", Some(&json!({"name": "tablet"}))).status, 201);
    let page = admin.get("/tokens").body;
    assert!(page.contains("by-page") && page.contains("127.0.0.1") && !page.contains(&secret), "{page}");
    assert_eq!(admin.post("/tokens", &[("name", "by-page")]).status, 409);
    assert_eq!(admin.post("/tokens/remove", &[("name", "by-page")]).status, 303);
    assert_eq!(by_page.call("GET", "/api/v1/peers", None).status, 401);
    assert!(daemon.stop().status.success());
    // they are there after a restart
    let daemon = server.serve(&["--admin"]);
    assert_eq!(deploy.get("/api/v1/peers")["peers"][0]["name"], "tablet");
    assert!(daemon.stop().status.success());
}

#[test]
fn wrong_tokens_are_limited_and_keep_nobody_out() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    let secret = server.output(&["admin", "token", "add", "deploy", "--scope", "peers"]);
    let deploy = Program::new(server.site.host(), ON_HOST, &secret);
    let added = deploy.call("POST", "/api/v1/peers", Some(&json!({"name": "phone", "full_tunnel": false})));
    let body: Value = serde_json::from_str(&added.body).unwrap();
    let (phone, _phone) = client(&lab, 1, body["file"].as_str().unwrap());
    phone.ping(SERVER_V4);
    let guessing = Program::new(&phone, "10.8.0.1:80", &format!("wontun_{}", "0".repeat(64)));
    let mut statuses = BTreeSet::new();
    eventually("guessing is limited", || {
        let answer = guessing.call("GET", "/api/v1/peers", None);
        statuses.insert(answer.status);
        answer.status == 429 && answer.header("Retry-After").is_some()
    });
    assert_eq!(statuses, [401, 429].into());
    daemon.wait_for("admin page: attempt to sign in refused from=10.8.0.2");
    let inside = Program::new(&phone, "10.8.0.1:80", &secret);
    assert_eq!(inside.get("/api/v1/peers")["peers"][0]["name"], "phone");
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    let digits = secret.trim().strip_prefix("wontun_").unwrap();
    let is_secret = |line: &String| line.contains(digits) || line.contains(&"0".repeat(64));
    assert!(!stopped.lines.iter().any(is_secret), "{:?}", stopped.lines);
}
