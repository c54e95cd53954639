//! Invitations by a link over TLS: by plain requests, and in a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use wontun::net::random::SystemRandom;
use wontun_proto::wireguard::{PresharedKey, PrivateKey};

use super::axe;
use super::browser::scanned;
use super::client::{Admin, Answer, ON_HOST, PASSWORD, form, send};
use super::tls::send_tls;
use super::web_driver::Browser;
use crate::lab::Lab;
use crate::setup::server::{Server, client, value};
use crate::waiting::eventually;
use crate::wireguard::site::Site;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const PORT: u16 = 8443;
/// Lengths of texts whose QR codes differ in their size, blocks or patterns.
const LENGTHS: [usize; 10] = [1, 17, 18, 154, 230, 321, 400, 1060, 1700, 2953];

/// The keys of a device.
struct Keys {
    private: PrivateKey,
    shared: PresharedKey,
}

impl Keys {
    fn new() -> Self {
        let mut random = SystemRandom::open().unwrap();
        Self { private: PrivateKey::generate(&mut random), shared: PresharedKey::generate(&mut random) }
    }

    /// Returns the request of a browser with these keys.
    fn request(&self, host: &str, token: &str) -> String {
        let (key, shared) = (self.private.public_key().to_string(), self.shared.to_base64());
        let fields = [("link", token), ("key", &*key), ("preshared", &*shared)];
        form("/invite", host, &format!("https://{host}"), "", &fields)
    }
}

#[test]
fn a_link_enrols_one_device_which_may_ask_again() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let own = lab.host(0).v4;
    let address = SocketAddr::new(own.into(), PORT);
    let daemon = server.serve(&["--endpoint", &own.to_string(), &format!("--admin={address}")]);
    let certificate = CertificateDer::from_pem_file(server.dir.join("tun0.admin-cert")).unwrap();
    let (host, name): (String, &'static str) = (address.to_string(), own.to_string().leak());
    let ask = |text: &str| send_tls(lab.host(1), address, name, &certificate, text).unwrap();

    for wrong in ["http://vpn.example.com", "https://", "https://vpn.example.com/page", "https://a@b"] {
        let refused = server.run(&["peer", "invite", "phone", "--link", wrong]);
        assert!(refused.code() == 2 && refused.stderr.contains("by HTTPS"), "{refused:?}");
    }
    let invite = |name: &str, valid: &str| -> String {
        let url = format!("https://{address}/");
        let link = server.output(&["peer", "invite", name, "--link", &url, "--valid", valid]);
        let token = link.trim_end().strip_prefix(&format!("https://{address}/invite#"));
        token.unwrap_or_else(|| panic!("{link}")).to_owned()
    };
    let token = invite("phone", "2h");
    assert!(server.output(&["peer", "list"]).contains("invited") && !server.text().contains(&token));

    // of another page, by plain HTTP, and with other tokens
    let keys = Keys::new();
    let right = keys.request(&host, &token);
    assert_eq!(ask(&right.replace("Origin: https", "Origin: http")).status, 403);
    let plain = right.replace(&host, ON_HOST).replace("Origin: https", "Origin: http");
    assert_eq!(send(server.site.host(), ON_HOST.parse().unwrap(), &plain).status, 403);
    let same = |answer: Answer, other: &Answer| {
        assert_eq!((answer.status, answer.body.as_str()), (other.status, other.body.as_str()), "{answer:?}");
    };
    let unknown = ask(&keys.request(&host, &"A".repeat(43)));
    assert_eq!(unknown.status, 403);
    same(ask(&keys.request(&host, "x")), &unknown);
    assert!(server.text().contains("# Invitation = "));

    // once, and again for the same device
    let answer = ask(&right);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("Cache-Control") == Some("no-store"), "{answer:?}");
    daemon.wait_for("admin page: enrol a device as 'phone' by its link");
    let file = answer.body.clone();
    assert!(file.contains("\n# PrivateKey = ") && !server.text().contains("# Invitation = "), "{file}");
    same(ask(&right), &answer);
    same(ask(&Keys::new().request(&host, &token)), &unknown);
    let with_key: String = file
        .lines()
        .map(|line| match line.strip_prefix("# PrivateKey = ") {
            Some(_) => format!("PrivateKey = {}\n", *keys.private.to_base64()),
            None => format!("{line}\n"),
        })
        .collect();
    let (phone, _phone) = client(&lab, 2, &with_key);
    phone.ping(SERVER_V4);

    // expired, disabled, taken back: as if there had been none
    let (expired, disabled, removed) = (invite("late", "1s"), invite("off", "1h"), invite("gone", "1h"));
    server.output(&["peer", "disable", "off"]);
    server.output(&["peer", "remove", "gone"]);
    eventually("it expires", || {
        let list = server.output(&["peer", "list"]);
        list.lines().all(|line| !line.contains("late") || line.contains("expired"))
    });
    for token in [&expired, &disabled, &removed] {
        let mut last = None;
        eventually("attempts are allowed again, and refused", || {
            let answer = ask(&Keys::new().request(&host, token));
            let is_limited = answer.status == 429;
            last = Some(answer);
            !is_limited
        });
        same(last.unwrap(), &unknown);
    }
    // its page shows the state, and the log of changes has no secret
    let page = Admin::first(&server).get("/server").body;
    assert!(
        page.contains("enrol a device as &#39;phone&#39;") || page.contains("enrol a device as 'phone'"),
        "{page}"
    );
    daemon.wait_for("no device was enrolled by a link");
    let changes = std::fs::read_to_string(server.dir.join("tun0.changes")).unwrap();
    for secret in [&token, &expired, &disabled, &*keys.shared.to_base64(), &*keys.private.to_base64()] {
        assert!(daemon.count(secret) == 0 && !changes.contains(secret), "{changes}");
    }
    // many attempts
    eventually("guessing is limited, and logged now and then", || {
        let is_limited = ask(&Keys::new().request(&host, &"A".repeat(43))).status == 429;
        is_limited && daemon.count("too many attempts to use a link") > 0
    });
    assert!(phone.ping_once(SERVER_V4, 56) && daemon.stop().status.success());
}

/// Returns the percent-encoded form of a key in base64.
fn encoded(key: &str) -> String {
    key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// Returns what a reader sees in a code, given as lines of 0 and 1.
fn read(lines: &str) -> String {
    let rows: Vec<&[u8]> = lines.lines().map(str::as_bytes).collect();
    let (quiet, scale) = (4, 3);
    let side = (rows.len() + 2 * quiet) * scale;
    let is_dark = |x: usize, y: usize| {
        let at = |place: usize| (place / scale).checked_sub(quiet);
        let row = at(y).and_then(|y| rows.get(y));
        row.zip(at(x)).and_then(|(row, x)| row.get(x)) == Some(&b'1')
    };
    let mut picture =
        rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if is_dark(x, y) { 0 } else { 255 });
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1, "codes in a picture of {side} x {side}");
    grids[0].decode().unwrap().1
}

#[test]
fn a_device_makes_its_key_in_the_browser() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let own = lab.host(0).v4.to_string();
    let daemon = server.serve(&["--endpoint", &own, &format!("--admin={own}:{PORT}")]);
    let admin = Browser::new(&server.site);
    admin.resize(1100, 760);

    // not by plain HTTP, which the button says
    let links = server.output(&["admin", "link"]);
    admin.open(links.lines().find(|link| link.contains(ON_HOST)).unwrap());
    admin.wait_for_path("/password");
    admin.find("input[name=password]").type_in(PASSWORD);
    admin.find("main button").click();
    admin.wait_for_path("/");
    admin.open(&format!("http://{ON_HOST}/new"));
    admin.wait_for_text("main fieldset:last-of-type", "by HTTPS only");
    assert_eq!(admin.run("return document.querySelector('button[disabled]') !== null", &[]), true);
    let links = server.output(&["admin", "link"]);
    admin.open(links.lines().find(|link| link.contains("https://")).unwrap());
    admin.wait_for_path("/account");
    admin.open(&format!("https://{own}:{PORT}/new"));
    admin.find("input[name=name]").type_in("Anna's phone");
    admin.find("input[value=vpn]").click();
    admin.find("#valid").type_in("soon");
    admin.find("button[formaction]").click();
    admin.wait_for_text("#valid-error", "30d");
    admin.find("#valid").type_in("2h");
    axe::check(&admin);
    admin.find("button[formaction]").click();
    admin.find("#copy");
    let link = admin.run("return document.getElementById('file').value", &[]);
    let link = link.as_str().unwrap().to_owned();
    assert_eq!(scanned(&admin.find(".qr").picture()), link);
    axe::check(&admin);
    let token = link.strip_prefix(&format!("https://{own}:{PORT}/invite#")).unwrap();
    assert!(server.text().contains("# Invitation = ") && !server.text().contains(token));
    admin.find("p.bar a.button").click();
    admin.wait_for_text("[data-value=state]", "invited");

    // in the browser of somebody else
    let elsewhere = Site::new(&lab, 1);
    let browser = Browser::with_log(&elsewhere);
    browser.resize(1100, 900);
    browser.open(&link);
    browser.find("#begin button");
    assert_eq!(browser.url(), format!("https://{own}:{PORT}/invite"), "the token is not in the address");
    axe::check(&browser);
    assert!(server.text().contains("# Invitation = "), "opening a link does not use it");
    browser.find("#begin button").click();
    browser.wait_for_text("main", "nowhere else");
    let file = browser.run("return document.getElementById('file').value", &[]);
    let file = file.as_str().unwrap().to_owned();
    assert_eq!(scanned(&browser.find("#code").picture()), file);
    axe::check(&browser);
    let (phone, _phone) = client(&lab, 2, &file);
    phone.ping(SERVER_V4);
    admin.wait_for_text("tbody", "Anna's phone");
    assert!(!server.text().contains("# Invitation = "));

    // the private key is in no request, and the token in no address
    let key: PrivateKey = value(&file, "PrivateKey").parse().unwrap();
    assert_eq!(key.public_key().to_string(), server.key_of("Anna's phone"));
    let secret = key.to_base64();
    assert!(file.contains(&*secret) && !server.text().contains(&*secret));
    let requests = browser.requests();
    let posts: Vec<_> = requests.iter().filter(|request| request["method"] == "POST").collect();
    assert!(posts.len() == 1 && posts[0]["url"].as_str().unwrap().ends_with("/invite"), "{posts:?}");
    let body = posts[0]["postData"].as_str().unwrap();
    assert!(body.contains(&encoded(&key.public_key().to_string())) && body.contains(token), "{body}");
    for request in &requests {
        let text = request.to_string();
        assert!(!text.contains(&*secret) && !text.contains(&encoded(&secret)), "{text}");
        let (url, headers) = (request["url"].as_str().unwrap(), request["headers"].to_string());
        assert!(!url.contains(token) && !headers.contains(token), "{text}");
    }

    // used: by somebody else, who then has neither a key nor a file
    browser.open("about:blank");
    browser.open(&link);
    browser.find("#begin button").click();
    browser.wait_for_text("main", "Ask for another");
    axe::check(&browser);
    browser.open("about:blank");
    browser.open(&format!("https://{own}:{PORT}/invite"));
    browser.wait_for_text("main", "as you got it");

    // codes of all kinds of sizes
    let script = "return qrCode(new TextEncoder().encode(arguments[0])).map((row) => row.map(Number).join('')).join('\\n')";
    for length in LENGTHS {
        let text: String = ('!'..='~').cycle().take(length).collect();
        let code = browser.run(script, &[&text]);
        assert_eq!(read(code.as_str().unwrap()), text, "{length} bytes");
    }
    assert_eq!(browser.run("return qrCode(new Uint8Array(2954))", &[]), serde_json::Value::Null);

    // a browser that cannot make the key
    browser.run("crypto.subtle.generateKey = () => Promise.reject(new Error()); location.hash = 'x'", &[]);
    browser.find("#begin button").click();
    browser.wait_for_text("main", "newer");
    assert!(daemon.stop().status.success());
}
