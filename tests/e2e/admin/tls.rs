//! The page outside of the tunnel: over TLS, and behind a proxy.

use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{Answer, PASSWORD, accepts, form, parse, send, token_of};
use crate::lab::{Host, Lab};
use crate::processes::helper;
use crate::setup::server::Server;
use crate::waiting::{TIMEOUT, eventually};

const NAME: &str = "vpn.example.com";

/// Sends `text` over TLS to a server with this certificate, and returns the response; `None` if it
/// has another one.
pub(super) fn send_tls(
    host: &Host,
    address: SocketAddr,
    name: &'static str,
    certificate: &CertificateDer<'_>,
    text: &str,
) -> Option<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let socket = host.connect(address);
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    stream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    Some(parse(&all))
}

fn get(path: &str, host: &str, cookie: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n")
}

/// Writes a certificate for [`NAME`] and its key to two files.
fn write_certificate(folder: &std::path::Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = Base64::encode_string(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    fs::write(folder.join("cert.pem"), pem("CERTIFICATE", certificate.der())).unwrap();
    fs::write(folder.join("key.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    certificate.der().clone()
}

#[test]
fn the_page_is_reached_from_outside_over_tls_or_through_a_proxy_only() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let (outside, proxy) = (lab.host(1), lab.host(2));
    let (own, port) = (lab.host(0).v4, 8443);
    let address = SocketAddr::new(own.into(), port);
    let at = format!("--admin={address}");
    let daemon = server.serve(&["--endpoint", &own.to_string(), &at, "--admin-name", NAME]);
    daemon.wait_for(&format!("serving the admin page at https://{address}/"));

    // self-signed, with its fingerprint in the log and at the link
    let file = server.dir.join("tun0.admin-cert");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let certificate = CertificateDer::from_pem_file(&file).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let hash: Vec<_> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    daemon.wait_for(&hash.join(":"));
    let links = server.run(&["admin", "link"]);
    assert!(links.stderr.contains(&hash.join(":")), "{links:?}");
    let link = format!("https://{NAME}:{port}/link#");
    let token = links.stdout.lines().find_map(|line| line.strip_prefix(&link)).unwrap();

    // for the name and the address; the cookie is kept to HTTPS, and so is the browser
    let host = format!("{NAME}:{port}");
    let ask = |text: &str| send_tls(outside, address, NAME, &certificate, text).unwrap();
    let first = ask(&get("/sign-in", &host, ""));
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.header("Strict-Transport-Security").is_some(), "{first:?}");
    let by_address: &'static str = own.to_string().leak();
    let text = get("/sign-in", &address.to_string(), "");
    assert_eq!(send_tls(outside, address, by_address, &certificate, &text).unwrap().status, 200);
    let post = |path: &str, cookie: &str, fields: &[(&str, &str)]| {
        ask(&form(path, &host, &format!("https://{host}"), cookie, fields))
    };
    let signed_in = post("/link", "", &[("link", token)]);
    let cookie = signed_in.header("Set-Cookie").unwrap();
    assert!(cookie.starts_with("__Host-wontun-tun0=") && cookie.ends_with("; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let page = ask(&get("/password", &host, cookie));
    let fields = [("token", token_of(&page.body)), ("password", PASSWORD)];
    let set = post("/account/password", cookie, &fields);
    let cookie = set.header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(ask(&get("/", &host, &cookie)).status, 200);
    // not by the name that the cookie has inside, and not by another page or name
    assert_eq!(ask(&get("/", &host, cookie.trim_start_matches("__Host-"))).status, 303);
    let foreign = form("/sign-out", &host, &format!("http://{host}"), &cookie, &[]);
    assert_eq!(ask(&foreign).status, 403);
    assert_eq!(ask(&get("/", "evil.example", &cookie)).status, 421);
    let mut plain = outside.connect(address);
    plain.write_all(get("/sign-in", &host, "").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "without TLS: {answer:?}");

    // many that do not even begin the handshake
    let silent: Vec<_> = (0..60).map(|_| outside.connect(address)).collect();
    let page = helper(daemon.pid(), "wontun-admin");
    let open = || fs::read_dir(format!("/proc/{page}/fd")).unwrap().count();
    eventually("most of them are closed", || open() < 40);
    assert_eq!(ask(&get("/", &host, &cookie)).status, 200);
    drop(silent);
    assert!(daemon.stop().status.success());

    // a given certificate, which is replaced
    let folder = server.site.path().join("certificate");
    fs::create_dir(&folder).unwrap();
    let given = write_certificate(&folder);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name).display().to_string());
    let daemon = server.serve(&[&at, "--admin-name", NAME, "--admin-cert", &cert, "--admin-key", &key]);
    let served = |der| send_tls(outside, address, NAME, der, &get("/sign-in", &host, "")).is_some();
    assert!(served(&given) && !served(&certificate));
    let next = write_certificate(&folder);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("the admin page has another certificate");
    eventually("it is used", || served(&next));
    fs::write(&key, "").unwrap();
    daemon.signal(Signal::SIGHUP);
    let line = daemon.wait_for("the previous one is used");
    assert!(line.contains("the file of the key has none") && served(&next), "{line}");
    assert!(daemon.stop().status.success());

    // a proxy, which alone is served, and believed
    let address = SocketAddr::new(own.into(), 8080);
    let (at, proxy_address) = (format!("--admin={address}"), proxy.v4.to_string());
    let daemon = server.serve(&[&at, "--admin-name", NAME, "--admin-proxy", &proxy_address]);
    assert!(server.output(&["admin", "link"]).contains(&format!("https://{NAME}/link#")));
    let mut refused = outside.connect(address);
    let _ = refused.write_all(get("/sign-in", NAME, "").as_bytes());
    assert!(refused.read(&mut [0; 1]).map_or(true, |length| length == 0), "another host is served");
    let sign_in = |from: &str, password: &str| {
        let text = form("/sign-in", NAME, &format!("https://{NAME}"), "", &[("password", password)]);
        send(
            proxy,
            address,
            &text.replacen("\r\n", &format!("\r\nX-Forwarded-For: 127.0.0.1, {from}\r\n"), 1),
        )
    };
    eventually("guessing is limited", || sign_in("203.0.113.7", "guess").status == 429);
    daemon.wait_for("from=203.0.113.7");
    let other = sign_in("203.0.113.8", PASSWORD);
    assert!(other.header("Set-Cookie").unwrap().starts_with("__Host-"), "{other:?}");
    daemon.wait_for("signed in from=203.0.113.8");
    let any = IpAddr::from([0, 0, 0, 0]);
    assert!(accepts(server.site.host(), SocketAddr::new(any, 51821)), "`ssh -L` works, too");
    assert!(daemon.stop().status.success());
}
