//! Owners of peers: each sees and renews their own devices, and nothing else.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::axe;
use super::browser::scanned;
use super::client::{Admin, ON_HOST, PASSWORD as ADMIN_PASSWORD};
use super::web_driver::Browser;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const PASSWORD: &str = "anna's correct horse";

/// Returns the page with every key as it was, but the given one.
fn without(page: &str, key: &str) -> String {
    page.replace(key.trim_start_matches("/peers/"), "KEY")
}

#[test]
fn an_owner_sees_and_renews_their_own_devices_only() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    // the same fact by commands and by the page
    let file = server.output(&["peer", "add", "phone", "--owner", "Anna", "--note", "a secret"]);
    assert!(server.text().contains("# Owner = anna\n# Note = a secret\n"), "{}", server.text());
    server.output(&["peer", "add", "laptop"]);
    server.output(&["peer", "add", "tablet"]);
    server.fails(&["peer", "set", "laptop", "--owner", "admin"], 2, "such as anna");
    let mut admin = Admin::first(&server);
    let (phone, laptop, tablet) = (admin.path_of("phone"), admin.path_of("laptop"), admin.path_of("tablet"));
    assert_eq!(admin.post(&format!("{tablet}/set"), &[("Owner", "benjamin")]).status, 303);
    assert!(server.text().contains("# Owner = benjamin\n"), "{}", server.text());
    let refused = admin.post(&format!("{tablet}/set"), &[("Owner", "b n")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"Owner-error\""), "{refused:?}");
    let account = server.dir.join("tun0.admin");
    let before = std::fs::read_to_string(&account).unwrap();

    // an account by a link, which leaves the administrator's as it is
    server.fails(&["admin", "link", "--owner", "clara"], 1, "no client belongs to 'clara'");
    let links = server.output(&["admin", "link", "--owner", "anna"]);
    let mut anna = Admin::by_link(&server, &links, PASSWORD);
    let after = std::fs::read_to_string(&account).unwrap();
    let password = before.lines().find(|line| line.starts_with("password")).unwrap();
    assert!(after.contains(password) && after.contains("\n[anna]\npassword = $argon2id$"), "{after}");
    daemon.wait_for("by=anna");

    // one of three devices, without what is the administrator's
    for path in ["/", phone.as_str()] {
        let page = anna.get(path).body;
        assert!(page.contains("phone"), "{page}");
        for secret in ["laptop", "tablet", "a secret", "benjamin", "href=\"/server\"", "/set\"", "/remove\""]
        {
            assert!(!page.contains(secret), "{path}: {secret}: {page}");
        }
    }
    // what belongs to others does not exist, and is not told from what does not
    let unknown = format!("/peers/{}", "07".repeat(32));
    let text = server.text();
    for own in [&laptop, &tablet] {
        let (other, none) = (anna.get(own), anna.get(&unknown));
        assert_eq!((other.status, none.status), (404, 404));
        assert_eq!(without(&other.body, own), without(&none.body, &unknown));
        let renew = |anna: &mut Admin<'_>, path: &str| anna.post(&format!("{path}/renew"), &[]);
        let (other, none) = (renew(&mut anna, own), renew(&mut anna, &unknown));
        assert_eq!((other.status, none.status), (404, 404));
        assert_eq!(without(&other.body, own), without(&none.body, &unknown));
    }
    for path in [&phone, &laptop, &unknown] {
        for action in ["remove", "test", "rename", "disable", "enable", "set"] {
            let fields = [("name", "x"), ("target", "server"), ("Owner", "anna"), ("Allow", "any")];
            assert_eq!(anna.post(&format!("{path}/{action}"), &fields).status, 404, "{path} {action}");
        }
    }
    let forms = [("name", "x"), ("owner", "benjamin"), ("policy", "open"), ("routes", "all")];
    for path in ["/new", "/server", "/owners/link", "/owners/remove"] {
        assert_eq!(anna.post(path, &forms).status, 404, "{path}");
    }
    for path in ["/new", "/server", "/owners"] {
        assert_eq!(anna.get(path).status, 404, "{path}");
    }
    assert_eq!(server.text(), text);

    // new keys, shown once, and who has made them
    let (device, running) = client(&lab, 1, &file);
    device.ping(SERVER_V4);
    let renewed = anna.renew(&phone);
    eventually("the old keys are of no use", || !device.ping_once(SERVER_V4, 56));
    assert!(running.stop().status.success());
    let (device, _running) = client(&lab, 1, &renewed);
    device.ping(SERVER_V4);
    daemon.wait_for("admin page: renew 'phone'");
    let changes = std::fs::read_to_string(server.dir.join("tun0.changes")).unwrap();
    assert!(changes.contains(" 127.0.0.1 by=anna renew 'phone'\n"), "{changes}");
    assert!(admin.get("/server").body.contains("<td>anna, this host (127.0.0.1)</td>"));
    // the page has the new key
    eventually("it is listed", || anna.get("/").body.contains("data-state=\"active\""));

    // the file says whose a device is, at any time
    server.output(&["peer", "set", "phone", "--owner", ""]);
    eventually("it is not hers", || !anna.get("/").body.contains("phone"));
    server.output(&["peer", "set", "laptop", "--owner", "anna"]);
    eventually("another one is", || anna.get("/").body.contains("laptop"));

    // after a restart both sign in again
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--admin"]);
    assert_eq!(daemon.count("has no password yet"), 0);
    let mut admin = Admin::sign_in(&server);
    let mut anna = Admin::sign_in_as(&server, "Anna", PASSWORD);
    assert!(anna.get("/").body.contains("laptop") && admin.get("/owners").body.contains("<h2>anna</h2>"));

    // without the account, the session ends at once
    server.output(&["admin", "remove", "anna"]);
    eventually("she is signed out", || anna.get("/").header("Location") == Some("/sign-in"));
    assert!(!std::fs::read_to_string(&account).unwrap().contains("[anna]"));
    assert_eq!(admin.get("/").status, 200);
    server.fails(&["admin", "remove", "anna"], 1, "'anna' has none");
    assert!(server.text().contains("# Owner = anna\n"));
    assert!(daemon.stop().status.success());
}

#[test]
fn an_owner_renews_a_device_in_the_browser_until_the_account_is_removed() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    server.output(&["peer", "add", "phone", "--owner", "anna"]);
    server.output(&["peer", "add", "laptop"]);
    let mut admin = Admin::first(&server);
    let laptop = admin.path_of("laptop");
    let browser = Browser::new(&server.site);
    browser.resize(1100, 760);
    // the administrator makes the link
    browser.open(&format!("http://{ON_HOST}/sign-in"));
    browser.find("input[name=password]").type_in(ADMIN_PASSWORD);
    browser.find("main form button").click();
    browser.wait_for_path("/");
    browser.open(&format!("http://{ON_HOST}/owners"));
    axe::check(&browser);
    browser.find("form[action='/owners/link'] button").click();
    browser.wait_for_text("h1", "anna");
    axe::check(&browser);
    let page = browser.text("main");
    let (_, link) = page.split_once(&format!("http://{ON_HOST}/link#")).unwrap_or_else(|| panic!("{page}"));
    let link = format!("http://{ON_HOST}/link#{}", &link[..64]);
    browser.find("header form button").click();
    browser.wait_for_path("/sign-in");
    browser.open(&link);
    browser.wait_for_path("/password");
    browser.find("input[name=password]").type_in(PASSWORD);
    browser.find("main button").click();
    browser.wait_for_path("/");
    browser.wait_for_text("tbody", "phone");
    assert!(!browser.text("body").contains("laptop"), "{}", browser.text("body"));
    axe::check(&browser);

    // crafted requests
    let crafted = format!(
        "const done = arguments[0];
         const token = document.querySelector('input[name=token]').value;
         fetch('{laptop}/renew', {{ method: 'POST', body: new URLSearchParams({{ token }}) }})
           .then((response) => done(response.status));"
    );
    let before = server.text();
    assert_eq!(browser.run_async(&crafted), 404);
    assert_eq!(server.text(), before);

    // a new file, by its QR code
    browser.find("tbody a").click();
    browser.wait_for_text("h1", "phone");
    axe::check(&browser);
    browser.find("summary").click();
    browser.find("form[action$='/renew'] button").click();
    browser.wait_for_text("main", "private key");
    let file = scanned(&browser.find(".qr").picture());
    let (device, _running) = client(&lab, 1, &file);
    device.ping(SERVER_V4);
    browser.open(&format!("http://{ON_HOST}/"));
    browser.wait_for_text("[data-value=state]", "active");

    // the open page ends with the account
    assert_eq!(admin.post("/owners/remove", &[("owner", "anna")]).status, 303);
    browser.wait_for_path("/sign-in");
    browser.open(&format!("http://{ON_HOST}/account"));
    browser.wait_for_path("/sign-in");
    assert!(daemon.stop().status.success());
}
