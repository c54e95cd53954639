//! The page in Chromium: from an empty server to a client that is connected, through the page only.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::client::{ON_HOST, PASSWORD};
use super::png::Picture;
use super::web_driver::Browser;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// A name that is a script for a page that does not escape it.
const NAME: &str = "<img src=x onerror=alert(1)>\"'&";

/// Returns the content of the QR code in a picture.
fn scanned(png: &[u8]) -> String {
    let Picture { width, height, red } = Picture::read(png);
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| red[y * width + x]);
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1, "codes in a picture of {width} x {height}");
    grids[0].decode().unwrap().1
}

/// Keeps a picture for the documentation, if E2E_PICTURES says where.
fn keep(browser: &Browser<'_>, name: &str) {
    let picture = browser.picture();
    if let Ok(folder) = std::env::var("E2E_PICTURES") {
        std::fs::write(std::path::Path::new(&folder).join(name), picture).unwrap();
    }
}

#[test]
fn from_an_empty_server_to_a_phone_through_the_page_only() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    let browser = Browser::new(&server.site);
    browser.resize(1100, 760);
    let link = server.output(&["admin", "link"]);
    browser.open(link.lines().find(|link| link.contains(ON_HOST)).unwrap());

    // the link's token does not stay in the address, and leads to the first password
    browser.wait_for_path("/password");
    browser.find("input[name=password]").type_in(PASSWORD);
    browser.find("main button").click();
    browser.wait_for_path("/");

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
    keep(&browser, "added.png");
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
    keep(&browser, "desktop.png");
    browser.resize(390, 844);
    let is_narrow = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.run(is_narrow, &[]), true, "the page is wider than a phone");
    keep(&browser, "phone.png");
    browser.resize(1100, 760);
    pings.kill().unwrap();
    pings.wait().unwrap();

    // names and notes are text
    browser.find("tbody a").click();
    browser.find("form[action$='/note'] input[name=value]").type_in(NAME);
    browser.find("form[action$='/note'] button").click();
    browser.wait_for_text("h1", NAME);
    assert!(!browser.has_dialog() && server.text().contains(&format!("# Note = {NAME}\n")));
    let images = browser.run("return document.images.length", &[]);
    assert_eq!(images, 0, "a name has become an element");

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

    // signed out; a wrong password, and too many of them
    browser.open(&format!("http://{ON_HOST}/"));
    browser.find("header form button").click();
    browser.wait_for_path("/sign-in");
    browser.open(&format!("http://{ON_HOST}/account"));
    browser.wait_for_path("/sign-in");
    for attempt in 0..6 {
        browser.find("input[name=password]").type_in("wrong horse battery");
        browser.find("main form button").click();
        let expected = if attempt < 5 { "is wrong" } else { "Too many attempts" };
        browser.wait_for_text("[role=alert]", expected);
    }
    daemon.wait_for("attempt to sign in refused");
    // the page has neither secrets in addresses nor errors of its policy
    assert!(!browser.url().contains('#') && daemon.stop().status.success());
}
