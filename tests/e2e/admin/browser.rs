//! The page in Chromium: from an empty server to a client that is connected, through the page only.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::axe;
use super::client::{Admin, ON_HOST, PASSWORD, first_sign_in};
use super::png::Picture;
use super::web_driver::Browser;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// A name that is a script for a page that does not escape it.
const NAME: &str = "<img src=x onerror=alert(1)>\"'&";

/// Returns the content of the QR code in a picture.
pub(super) fn scanned(png: &[u8]) -> String {
    let Picture { width, height, red } = Picture::read(png);
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| red[y * width + x]);
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1, "codes in a picture of {width} x {height}");
    grids[0].decode().unwrap().1
}

#[test]
fn from_an_empty_server_to_a_phone_through_the_page_only() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let own = lab.host(0).v4.to_string();
    let daemon = server.serve(&["--endpoint", &own, &format!("--admin={own}:8443")]);
    let browser = Browser::new(&server.site);
    browser.resize(1100, 760);
    first_sign_in(&browser, &server);

    // a client, by its QR code
    browser.find("a.button").click();
    browser.find("input[name=name]").type_in(NAME);
    browser.find("input[value=vpn]").click();
    browser.find("main form.card button").click();
    let file = scanned(&browser.find(".qr").picture());
    assert_eq!(
        browser.run("return document.getElementById('file').value", &[]).as_str(),
        Some(file.as_str())
    );
    axe::check(&browser);
    let (phone, _phone) = client(&lab, 1, &file);
    phone.ping(SERVER_V4);

    // seen on an open page, without a click: its state, and its traffic
    browser.find("p.bar a.button").click();
    browser.wait_for_path("/");
    browser.wait_for_text("[data-value=state]", "active");
    let mut pings = phone
        .command("ping")
        .args(["-i", "0.05", "-s", "1000", "10.8.0.1"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let has_line = "return document.querySelector('path.received').getAttribute('d').split('L').length > 3";
    eventually("the graph moves", || browser.run(has_line, &[]) == true);
    axe::check(&browser);
    browser.resize(390, 844);
    let is_narrow = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.run(is_narrow, &[]), true, "the page is wider than a phone");
    browser.resize(1100, 760);
    pings.kill().unwrap();
    pings.wait().unwrap();

    // names and notes are text
    browser.find("tbody a").click();
    browser.find("#Note").type_in(NAME);
    browser.find("form:has(#Note) button").click();
    eventually("the note is kept", || server.text().contains(&format!("# Note = {NAME}\n")));
    browser.wait_for_text("h1", NAME);
    assert!(!browser.has_dialog());
    let images = browser.run("return document.images.length", &[]);
    assert_eq!(images, 0, "a name has become an element");

    // a network behind it, taken back
    let site = |networks: &str| {
        browser.find("#site").type_in(networks);
        browser.find("form:has(#site) button").click();
    };
    site("0.0.0.0/0");
    browser.wait_for_text("#site-error", "default route");
    site("192.168.5.0/24");
    browser.wait_for_text("dl", "192.168.5.0/24");
    assert!(server.text().contains(", 192.168.5.0/24\n"), "{}", server.text());
    site("");
    eventually("the network is gone", || !browser.text("dl").contains("192.168.5.0"));
    phone.ping(SERVER_V4);
    assert!(!server.text().contains("192.168.5.0"), "{}", server.text());

    // so is everything that is typed into the other fields: kept, and refused at its field
    let fill = "document.querySelectorAll('form[action$=\"/set\"] input[type=text], form[action$=\"/set\"] input:not([type])')
        .forEach((field) => { if (field.id != 'Note') field.value = arguments[0]; })";
    // the answer looks like the one before
    let submit = |selector: &str| {
        browser.run("document.body.dataset.before = ''", &[]);
        browser.find(selector).click();
        let script = "return document.body !== null && !('before' in document.body.dataset)";
        eventually("the answer", || browser.run(script, &[]) == true);
    };
    for field in ["#Forward", "#RateUp", "#ClientRoutes"] {
        browser.run(fill, &[NAME]);
        browser.find(field).type_in(NAME);
        submit(&format!("form:has({field}) button"));
        browser.wait_for_text(".error", "expected");
        let kept = browser.run("return document.querySelector(arguments[0]).value", &[field]);
        let focused = browser.run("return '#' + document.activeElement.id", &[]);
        assert_eq!((kept.as_str(), focused.as_str()), (Some(NAME), Some(field)), "{}", browser.text("main"));
        assert!(!browser.has_dialog());
    }
    // it names a peer
    browser.find("#target").type_in(NAME);
    browser.find("form:has(#target) button").click();
    browser.wait_for_text(".verdict", "10.8.0.2");
    assert!(!browser.has_dialog());
    axe::check(&browser);
    browser.open(&format!("http://{ON_HOST}/server"));
    for field in ["#endpoint", "#dns"] {
        browser.find(field).type_in(NAME);
        browser.find(&format!("form:has({field}) button")).click();
        browser.find(&format!("{field}-error"));
        assert!(!browser.has_dialog());
    }
    browser.wait_for_text("main", &format!("set Note of '{NAME}'"));
    assert_eq!(browser.run("return document.images.length", &[]), 0, "a value has become an element");
    axe::check(&browser);
    browser.open(&format!("http://{ON_HOST}/"));
    browser.find("tbody a").click();

    // a token of the API, and the list of them
    let at_peer = browser.url();
    browser.open(&format!("http://{ON_HOST}/tokens"));
    browser.find("input[name=name]").type_in("grafana");
    axe::check(&browser);
    browser.find("form[action='/tokens'] button").click();
    browser.find("#file");
    axe::check(&browser);
    browser.open(&format!("http://{ON_HOST}/tokens"));
    browser.wait_for_text("main", "grafana");
    axe::check(&browser);
    browser.open(&at_peer);

    // disabled
    browser.find("form[action$='/disable'] button").click();
    browser.wait_for_text("[data-value=state]", "disabled");
    eventually("the client is cut off", || !phone.ping_once(SERVER_V4, 56));

    // a form of another site changes nothing
    let before = server.text();
    let foreign = format!(
        "data:text/html,<form method=post action=http://{ON_HOST}/new><input name=name value=x><button>"
    );
    browser.open(&foreign);
    browser.find("button").click();
    browser.wait_for_path("/new");
    browser.wait_for_text("main", "sent by another page");
    assert_eq!(server.text(), before);

    // an open page ends with its session: here by a new password, set elsewhere
    browser.open(&format!("http://{ON_HOST}/"));
    let new = [("current", PASSWORD), ("password", "another horse battery")];
    assert_eq!(Admin::sign_in(&server).post("/account/password", &new).status, 303);
    browser.wait_for_path("/sign-in");
    axe::check(&browser);

    // signed out; a wrong password, and too many of them
    browser.find("input[name=password]").type_in("another horse battery");
    browser.find("main form button").click();
    browser.wait_for_path("/");
    browser.find("header form button").click();
    browser.wait_for_path("/sign-in");
    browser.open(&format!("http://{ON_HOST}/account"));
    browser.wait_for_path("/sign-in");
    // one more is allowed after a time, which a slow browser takes
    for attempt in 0..20 {
        browser.find("input[name=password]").type_in("wrong horse battery");
        submit("main form button");
        let answer = browser.text("[role=alert]");
        if answer.contains("Too many attempts") {
            assert!(attempt >= 5, "{attempt}");
            break;
        }
        assert!(answer.contains("is wrong") && attempt < 19, "{attempt}: {answer}");
    }
    daemon.wait_for("attempt to sign in refused");
    // over TLS: a secure context, which has WebCrypto, and a session of its own
    let link = server.output(&["admin", "link"]);
    browser.open(link.lines().find(|link| link.contains("https://")).unwrap());
    browser.wait_for_path("/account");
    assert_eq!(browser.run("return isSecureContext && !!crypto.subtle && !document.cookie", &[]), true);
    browser.open(&format!("https://{own}:8443/"));
    browser.wait_for_text("tbody", "disabled");
    browser.find("header form button").click();
    browser.wait_for_path("/sign-in");
    browser.open(&format!("https://{own}:8443/account"));
    browser.wait_for_path("/sign-in");
    // the page has neither secrets in addresses nor errors of its policy
    assert!(!browser.url().contains('#') && daemon.stop().status.success());
}
