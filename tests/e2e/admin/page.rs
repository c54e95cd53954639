//! The page and its processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::client::{Admin, ON_HOST, accepts, form, send};
use crate::lab::Lab;
use crate::process::{has_no_capability, thread_states};
use crate::processes::{HELPER_ID, helper};
use crate::setup::server::{Server, client};
use crate::waiting::eventually;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const IN_TUNNEL: &str = "10.8.0.1:80";

#[test]
fn a_client_is_added_by_the_page_and_only_its_users_reach_the_page() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    for (option, code, part) in
        [("--admin=vpn.example.com", 2, "ssh -L"), ("--admin-name=vpn.example.com", 78, "without --admin")]
    {
        let refused = server.launch(&[option, "--endpoint", "192.0.2.1"]).run();
        assert!(refused.code() == code && refused.stderr.contains(part), "{refused:?}");
    }
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    daemon.wait_for("serving the admin page at http://10.8.0.1/");
    daemon.wait_for("has no password yet");
    let mut admin = Admin::first(&server);
    let account = server.dir.join("tun0.admin");
    assert_eq!(std::fs::metadata(&account).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&account).unwrap().contains("$argon2id$v=19$"));

    // a client that is added works, and reaches the page through the tunnel
    let file = admin.add("phone");
    let (phone, _phone) = client(&lab, 1, &file);
    phone.ping(SERVER_V4);
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let inside: SocketAddr = IN_TUNNEL.parse().unwrap();
    let answer = send(&phone, inside, &get("10.8.0.1"));
    assert_eq!((answer.status, answer.header("Location")), (303, Some("/sign-in")), "{answer:?}");
    assert!(answer.header("Content-Security-Policy").unwrap().contains("default-src 'none'"), "{answer:?}");
    // DNS rebinding, and forms of other sites
    assert_eq!(send(&phone, inside, &get("evil.example")).status, 421);
    let foreign = form("/sign-in", "10.8.0.1", "http://evil.example", "", &[("password", "x")]);
    assert_eq!(send(&phone, inside, &foreign).status, 403);
    // a host of the network does not reach it
    let stranger = lab.host(2);
    stranger.ip(&["route", "add", "10.8.0.1", "via", &lab.host(0).v4.to_string()]);
    assert!(accepts(&phone, inside) && !accepts(stranger, inside));

    // renamed, noted, and seen
    let path = admin.path_of("phone");
    // what a command adds is shown, also if the tunnel does not read its file again for that
    server.output(&["peer", "add", "plain"]);
    eventually("it is listed", || admin.get("/").body.contains(">plain</a>"));
    server.output(&["peer", "add", "nas", "--deny", "phone", "--keep-key"]);
    assert_eq!(admin.post(&format!("{path}/rename"), &[("name", "Anna's <phone>")]).status, 303);
    assert_eq!(admin.post(&format!("{path}/set"), &[("Note", "room 5")]).status, 303);
    assert!(
        server.text().contains("# Name = Anna's <phone>\n") && server.text().contains("# Note = room 5\n")
    );
    assert!(server.text().contains("# Deny = Anna's <phone>\n"), "{}", server.text());
    let page = admin.get(&path);
    assert!(page.body.contains("data-state=\"active\"") && page.body.contains("room 5"), "{page:?}");
    let refused = admin.post(&format!("{path}/set"), &[("Expires", "soon")]);
    assert!(refused.status == 409 && refused.body.contains("2026-12-31"), "{refused:?}");
    phone.ping(SERVER_V4);
    daemon.wait_for("admin page: set Note of 'Anna's <phone>'");

    // rules and limits, as 'wontun peer set' has them; what is wrong is said at its field
    let (set, test) = (format!("{path}/set"), format!("{path}/test"));
    let refused = admin.post(&set, &[("Deny", "server:80/tcp, printer"), ("RateUp", "fast")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"RateUp-error\""), "{refused:?}");
    assert!(refused.body.contains("value=\"server:80/tcp, printer\""), "{refused:?}");
    let refused = admin.post(&set, &[("Deny", "server:80/tcp, printer")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"Deny-error\""), "{refused:?}");
    let limits =
        [("Deny", "server:80/tcp"), ("RateUp", "20Mbit"), ("Quota", "1kB/day"), ("OverQuota", "drop")];
    assert_eq!(admin.post(&set, &limits).status, 303);
    assert!(server.text().contains("# Deny = server:80/tcp\n# RateUp = 20Mbit\n# Quota = 1kB/day\n"));
    let mut is_over = || admin.get(&path).body.contains("data-state=\"over quota\"");
    eventually("the quota is used up", &mut is_over);
    assert_eq!(admin.post(&set, &[("Quota", "none"), ("OverQuota", "")]).status, 303);
    phone.ping(SERVER_V4);
    eventually("the rule holds", || !accepts(&phone, inside));
    for (target, direction, verdict) in [
        ("server:80", "to", "<strong>Denied</strong><br>denied: "),
        ("192.0.2.7:443", "to", "<strong>Allowed</strong><br>allowed: "),
        ("server", "from", "<strong>Denied</strong><br>denied: "),
    ] {
        let page = admin.post(&test, &[("target", target), ("direction", direction)]);
        assert!(page.status == 200 && page.body.contains(verdict), "{target}: {page:?}");
    }
    let refused = admin.post(&test, &[("target", "internet"), ("direction", "to")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"target-error\""), "{refused:?}");
    assert_eq!(admin.post(&set, &[("Deny", "")]).status, 303);
    eventually("the rule is gone", || accepts(&phone, inside));
    // another address, and a network behind it
    let moved = [("address", "10.8.0.7"), ("site", "192.168.5.0/24")];
    assert_eq!(admin.post(&set, &moved).status, 303);
    assert!(server.text().contains(", 192.168.5.0/24\n"), "{}", server.text());
    assert!(server.text().contains("AllowedIPs = 10.8.0.7/32, "), "{}", server.text());
    daemon.wait_for("admin page: set address, site of 'Anna's <phone>'");
    let route = server.site.host().ip(&["route", "get", "192.168.5.1"]);
    assert!(route.contains("dev tun0"), "{route}");
    assert!(!phone.ping_once(SERVER_V4, 56), "the old address is of no use");
    let refused = admin.post(&set, &[("address", "10.9.0.7"), ("site", "10.8.0.0/25")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"address-error\""), "{refused:?}");
    assert!(refused.body.contains("id=\"site-error\""), "{refused:?}");
    assert_eq!(admin.post(&set, &[("address", "10.8.0.2"), ("site", "none")]).status, 303);
    assert!(!server.text().contains("192.168.5.0"), "{}", server.text());
    phone.ping(SERVER_V4);
    let added =
        [("name", "disk"), ("routes", "vpn"), ("address", "10.8.0.9"), ("AllowFrom", "Anna's <phone>")];
    let added = admin.post("/new", &added);
    assert_eq!(added.status, 200, "{added:?}");
    // what a command would warn of is in the log of changes
    let around = format!("{}/set", admin.path_of("disk"));
    assert_eq!(admin.post(&around, &[("site", "10.0.0.0/8")]).status, 303);
    daemon
        .wait_for("set site of 'disk'; warning: the site 10.0.0.0/8 contains the VPN's network 10.8.0.0/24");
    assert_eq!(admin.post(&around, &[("site", "")]).status, 303);
    let refused = admin.post("/new", &[("name", "tablet"), ("address", "10.8.0.9"), ("Note", "kept")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"address-error\""), "{refused:?}");
    assert!(refused.body.contains("value=\"kept\"") && !server.text().contains("tablet"), "{refused:?}");
    assert_eq!(server.output(&["peer", "show", "disk", "--json"]).matches("Anna's <phone>").count(), 1);

    // what concerns all of them, and the log of changes with who
    let values = [("endpoint", "vpn.example.com"), ("dns", "9.9.9.9"), ("domain", ""), ("policy", "isolate")];
    assert_eq!(admin.post("/server", &values).status, 303);
    let text = server.text();
    for comment in ["ClientEndpoint = vpn.example.com:51820", "ClientDNS = 9.9.9.9", "Policy = isolate"] {
        assert!(text.contains(&format!("# {comment}\n")), "{comment}: {text}");
    }
    let refused = admin.post("/server", &[("endpoint", "vpn.example.com:4"), ("policy", "open")]);
    assert!(refused.status == 409 && refused.body.contains("id=\"endpoint-error\""), "{refused:?}");
    let page = admin.get("/server").body;
    for part in [
        env!("CARGO_PKG_VERSION"),
        "this host (127.0.0.1)",
        "add 'disk'",
        "set endpoint, dns, policy of the server",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let changes = std::fs::metadata(server.dir.join("tun0.changes")).unwrap();
    assert_eq!(changes.permissions().mode() & 0o777, 0o600);

    // disabled, enabled, removed
    assert_eq!(admin.post(&format!("{path}/disable"), &[]).status, 303);
    eventually("the client is cut off", || !phone.ping_once(SERVER_V4, 56));
    assert_eq!(admin.post(&format!("{path}/enable"), &[]).status, 303);
    phone.ping(SERVER_V4);
    // new keys, of the same client
    let renewed = admin.post(&format!("{path}/renew"), &[]);
    assert!(renewed.status == 200 && renewed.body.contains("PrivateKey = "), "{renewed:?}");
    eventually("the old keys are of no use", || !phone.ping_once(SERVER_V4, 56));
    let path = admin.path_of("Anna's &lt;phone&gt;");
    assert_eq!(admin.post(&format!("{path}/remove"), &[]).status, 303);
    assert!(!server.text().contains("phone"), "{}", server.text());
    for name in ["nas", "disk", "plain"] {
        let path = admin.path_of(name);
        assert_eq!(admin.post(&format!("{path}/remove"), &[]).status, 303);
    }
    let kept = std::fs::read_dir(server.dir.join("tun0.client-keys")).unwrap();
    assert_eq!(kept.count(), 0, "the key of a removed client is kept");
    // the log of who has done it
    assert!(daemon.count("from=127.0.0.1") >= 8);
    assert!(daemon.stop().status.success());

    // the password is there after a restart
    let daemon = server.serve(&["--admin"]);
    assert_eq!(daemon.count("has no password yet"), 0);
    assert!(Admin::sign_in(&server).get("/").body.contains("No peers yet"));
}

#[test]
fn the_tunnel_goes_on_without_the_page_and_while_it_is_flooded() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    // the server's key is elsewhere
    let key = server.site.write("key", &server.output(&["genkey"]));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (endpoint, key) = (lab.host(0).v4.to_string(), key.to_str().unwrap());
    let daemon = server.serve(&["--endpoint", &endpoint, "--private-key-file", key, "--admin"]);
    let file = Admin::first(&server).add("phone");
    let (phone, _phone) = client(&lab, 1, &file);
    phone.ping(SERVER_V4);

    // the rights of the processes
    let [page, editor] = ["wontun-admin", "wontun-editor"].map(|name| helper(daemon.pid(), name));
    for (pid, user) in [(page, HELPER_ID), (editor, "0")] {
        has_no_capability(pid);
        for state in thread_states(pid) {
            assert!(state["Uid"].starts_with(user) && state["Seccomp"] == "2", "{state:?}");
        }
    }

    // connections that say nothing, and requests without end, from inside of the tunnel
    let inside: SocketAddr = IN_TUNNEL.parse().unwrap();
    let silent: Vec<_> = (0..100).map(|_| phone.connect(inside)).collect();
    let open = || std::fs::read_dir(format!("/proc/{page}/fd")).unwrap().count();
    eventually("most of them are closed", || open() < 64);
    let guess = form("/sign-in", "10.8.0.1", "http://10.8.0.1", "", &[("password", "guess")]);
    eventually("guessing is limited", || send(&phone, inside, &guess).status == 429);
    assert!(phone.ping_within(Duration::from_secs(2), SERVER_V4) < Duration::from_secs(2));
    assert!(Admin::sign_in(&server).get("/").body.contains("phone"), "the host itself is not kept out");
    drop(silent);

    // killed: the tunnel does not notice, and the page is back
    kill(page, Signal::SIGKILL).unwrap();
    daemon.wait_for("the process of the admin page ended");
    assert!(phone.ping_once(SERVER_V4, 56));
    let again = helper(daemon.pid(), "wontun-admin");
    assert_ne!(page, again);
    assert!(Admin::sign_in(&server).get("/").body.contains("phone"));
    // killed: its editor is back, too
    kill(editor, Signal::SIGKILL).unwrap();
    daemon.wait_for("the process that edits the file for the admin page ended: starting it again");
    let mut admin = Admin::sign_in(&server);
    eventually("changes are made again", || {
        let answer = admin.post("/new", &[("name", "tablet"), ("routes", "all")]);
        assert!(answer.status == 200 || answer.body.contains("try again soon"), "{answer:?}");
        answer.status == 200
    });
    assert!(server.text().contains("# Name = tablet") && phone.ping_once(SERVER_V4, 56));
    // a process that takes the tunnel over serves the page at the same ports
    let successor = server.launch(&["--private-key-file", key, "--admin", "--take-over"]).spawn();
    successor.wait_for(" ready mode=");
    assert!(daemon.wait_exit().status.success());
    assert!(accepts(server.site.host(), ON_HOST.parse().unwrap()) && accepts(&phone, inside));
    assert!(Admin::sign_in(&server).get("/").body.contains("tablet") && phone.ping_once(SERVER_V4, 56));
    assert!(successor.stop().status.success());
}
