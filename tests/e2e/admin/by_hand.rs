//! Pictures for the manual, and what 1,000 peers and a first paint take: scripts/admin-page.sh runs
//! these.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::axe;
use super::client::{Admin, ON_HOST, PASSWORD, first_sign_in};
use super::web_driver::Browser;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

/// Time that the page takes in the browser, in milliseconds since the click: until the response
/// began, until it was there, until something was painted, until all was loaded.
const TIMES: &str = "
    const page = performance.getEntriesByType('navigation')[0];
    const paint = performance.getEntriesByName('first-contentful-paint')[0];
    return [page.responseStart, page.responseEnd, paint ? paint.startTime : -1, page.loadEventEnd];";

fn url(path: &str) -> String {
    format!("http://{ON_HOST}{path}")
}

/// Prints the times of a page, the median of five loads.
fn measure(browser: &Browser<'_>, name: &str, path: &str) {
    let mut all = Vec::new();
    for _ in 0..5 {
        browser.open(&url(path));
        std::thread::sleep(Duration::from_millis(300));
        let times = browser.run(TIMES, &[]);
        all.push(times.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect::<Vec<_>>());
    }
    let median = |index: usize| {
        let mut times: Vec<_> = all.iter().map(|times| times[index]).collect();
        times.sort_by(f64::total_cmp);
        times[2]
    };
    eprintln!(
        "{name}: response begins after {:.0} ms, ends {:.0}, first paint {:.0}, loaded {:.0}",
        median(0),
        median(1),
        median(2),
        median(3)
    );
}

#[test]
#[ignore = "scripts/admin-page.sh: measures"]
fn a_thousand_peers_in_the_browser() {
    let lab = Arc::new(Lab::new(1));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", "vpn.example.com", "--admin"]);
    let browser = Browser::new(&server.site);
    browser.resize(1100, 760);
    first_sign_in(&browser, &server);
    measure(&browser, "an empty list", "/");
    let names = (0..1000).map(|number| format!("device {number},room {}\n", number % 40));
    let list = server.site.write("list.csv", &format!("name,note\n{}", names.collect::<String>()));
    // more than one network of a byte has
    let text = server.text().replace("10.8.0.1/24", "10.8.0.1/16");
    std::fs::write(server.file(), text).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    server.output(&[
        "peer",
        "add",
        "--from",
        list.to_str().unwrap(),
        "--out",
        server.site.path().join("files").to_str().unwrap(),
    ]);
    browser.open(&url("/"));
    browser.wait_for_text("h1", "1000");
    measure(&browser, "1,000 peers, the first page", "/");
    measure(&browser, "1,000 peers, found", "/?find=room+7");
    measure(
        &browser,
        "1,000 peers, one of them",
        browser.run("return document.querySelector('tbody a').getAttribute('href')", &[]).as_str().unwrap(),
    );
    measure(&browser, "1,000 peers, the server", "/server");
    for name in ["wontun-admin", "wontun-editor"] {
        let pid = crate::processes::helper(daemon.pid(), name);
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let lines = rollup.lines().filter(|line| line.starts_with("Pss") || line.starts_with("Private"));
        eprintln!("{name}: {}", lines.collect::<Vec<_>>().join(", ").replace("  ", ""));
    }
    assert!(daemon.stop().status.success());
}

#[test]
#[ignore = "scripts/admin-page.sh: pictures, which somebody looks at"]
fn pictures() {
    let Ok(folder) = std::env::var("E2E_PICTURES").map(PathBuf::from) else {
        panic!("E2E_PICTURES says where the pictures are to be");
    };
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let own = lab.host(0).v4.to_string();
    let daemon = server.serve(&["--endpoint", &own, &format!("--admin={own}:8443")]);
    let add = |name: &str, options: &[&str]| server.output(&[&["peer", "add", name], options].concat());
    let phone = add("Anna's phone", &["--note", "Pixel, since March", "--quota", "100GB/month"]);
    let laptop = add("Anna's laptop", &["--allow", "internet, dns, server", "--deny", "lan"]);
    add("Living room TV", &["--note", "everything through the tunnel", "--full-tunnel"]);
    add("NAS", &["--allow-from", "Anna's phone, Anna's laptop", "--forward", "8443/tcp=443"]);
    add("Guest", &["--expires", "2d", "--rate-down", "20Mbit", "--rate-up", "5Mbit"]);
    add("Kids' tablet", &["--quota", "2GB/day", "--over", "1Mbit"]);
    add("Old printer", &[]);
    server.output(&["peer", "disable", "Old printer"]);
    for (name, owner) in [("Anna's phone", "anna"), ("Anna's laptop", "anna"), ("Kids' tablet", "ben")] {
        server.output(&["peer", "set", name, "--owner", owner]);
    }
    server.output(&["admin", "token", "add", "grafana"]);
    server.output(&["admin", "token", "add", "deploy", "--scope", "peers", "--expires", "2099-12-31"]);
    let (phone, _phone) = client(&lab, 1, &phone);
    let (laptop, _laptop) = client(&lab, 2, &laptop);
    let browser = Browser::new(&server.site);
    first_sign_in(&browser, &server);
    // traffic that rises and falls
    let began = Instant::now();
    let mut number = 0_u32;
    let wave = |phase: u32| 1 + (f64::from(phase) / 4.0).sin().mul_add(20.0, 20.0) as u32;
    browser.resize(1100, 760);
    browser.open(&url("/"));
    while began.elapsed() < Duration::from_secs(25) {
        for (host, phase) in [(&phone, number), (&laptop, number * 2 + 9)] {
            for _ in 0..wave(phase) {
                host.ping_once(Ipv4Addr::new(10, 8, 0, 1), 1000);
            }
        }
        number += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    let keep = |name: &str, is_dark: bool, (width, height)| {
        browser.resize(width, height);
        browser.emulate(is_dark, width);
        std::thread::sleep(Duration::from_millis(300));
        axe::check(&browser);
        std::fs::write(folder.join(format!("{name}.webp")), browser.webp()).unwrap();
        browser.emulate(false, 0);
    };
    let (desktop, narrow) = ((1100, 690), (390, 844));
    keep("list-desktop-light", false, desktop);
    keep("list-desktop-dark", true, desktop);
    keep("list-phone-light", false, narrow);
    keep("list-phone-dark", true, narrow);
    let path = "return [...document.querySelectorAll('tbody a')].find((a) => a.textContent == arguments[0]).getAttribute('href')";
    let path = browser.run(path, &["Anna's laptop"]).as_str().unwrap().to_owned();
    browser.open(&url(&path));
    browser.find("#target").type_in("192.168.1.20:443");
    browser.find("form[action$='/test'] button").click();
    browser.wait_for_text(".verdict", "Denied");
    // the forms, and not the traffic above them
    browser.resize(1100, 1500);
    browser.run("document.querySelector('.cards').scrollIntoView()", &[]);
    keep("peer-desktop-dark", true, (1100, 1500));
    keep("peer-phone-light", false, narrow);
    browser.open(&url("/server"));
    browser.find("#endpoint").type_in("vpn.example.com");
    browser.find("form[action='/server'] button").click();
    eventually("it is saved", || browser.text("main").contains("set endpoint of the server"));
    keep("server-desktop-light", false, (1100, 1300));
    keep("server-phone-dark", true, narrow);
    Admin::by_link(&server, &server.output(&["admin", "link", "--owner", "anna"]), PASSWORD);
    browser.open(&url("/owners"));
    keep("owners-desktop-light", false, (1100, 630));
    keep("owners-phone-dark", true, narrow);
    browser.open(&url("/tokens"));
    keep("tokens-desktop-light", false, (1100, 1050));
    keep("tokens-phone-light", false, narrow);
    browser.open(&url("/new"));
    browser.find("#name").type_in("Ben's phone");
    keep("new-phone-light", false, narrow);
    browser.find("main form.card > button").click();
    eventually("its code is there", || browser.text("h1") == "Ben's phone");
    keep("added-phone-light", false, narrow);
    keep("added-desktop-dark", true, desktop);
    // a link, and what the person who opens it sees
    let at = |path: &str| format!("https://{own}:8443{path}");
    let links = server.output(&["admin", "link"]);
    browser.open(links.lines().find(|link| link.contains("https://")).unwrap());
    browser.wait_for_path("/account");
    browser.open(&at("/new"));
    browser.find("#name").type_in("Clara's phone");
    browser.find("button[formaction]").click();
    browser.find("#copy");
    keep("invited-desktop-light", false, (1100, 760));
    let link = browser.run("return document.getElementById('file').value", &[]);
    browser.open(link.as_str().unwrap());
    browser.find("#begin button");
    keep("invitation-phone-light", false, narrow);
    browser.find("#begin button").click();
    browser.wait_for_text("main", "nowhere else");
    keep("enrolled-phone-dark", true, narrow);
    for path in ["/account", "/new"] {
        browser.open(&url(path));
        axe::check(&browser);
    }
    assert!(daemon.stop().status.success());
}
