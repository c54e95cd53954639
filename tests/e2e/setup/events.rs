//! Events of `--log-format json`: peers that connect and disconnect.

use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::server::{Server, client};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::site::Site;
use crate::wireguard::wg_quick_tool::wg_quick;

/// Returns the lines of the log; each must be an object with time, level and message.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let parse = |line: &String| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(["time", "level", "message"].iter().all(|key| value[key].is_string()), "{line}");
        value
    };
    // what 'serve' says before there is a log
    let of_log = |line: &&String| !line.starts_with("wontun: ");
    daemon.lines().iter().filter(of_log).map(parse).collect()
}

/// Returns the events of this kind.
fn events(daemon: &Daemon, kind: &str) -> Vec<Value> {
    lines(daemon).into_iter().filter(|line| line["event"] == kind).collect()
}

#[test]
fn who_connects_and_disconnects_is_told_in_json() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let name = "Anna's \"laptop\" \\ 電話 {}";
    let daemon = server.launch(&["--endpoint", &lab.host(0).v4.to_string(), "--log-format", "json"]).spawn();
    daemon.wait_for("\"message\":\"ready\"");
    let (phone, phone_daemon) = client(&lab, 1, &server.output(&["peer", "add", name]));
    let tablet = Site::new(&lab, 2);
    let file = tablet.write("wg0.conf", &server.output(&["peer", "add", "tablet"]));
    let up = wg_quick(&tablet, Implementation::WireguardGo, "up", &file);
    assert!(up.status.success(), "{up:?}");
    phone.ping([10, 8, 0, 1]);
    assert!(phone.ping_once([10, 8, 0, 1], 1200));
    tablet.ping([10, 8, 0, 1]);

    eventually("both have connected", || events(&daemon, "connect").len() >= 2);
    let connected = events(&daemon, "connect");
    assert_eq!(connected.len(), 2, "{connected:#?}");
    let laptop = &connected[0];
    assert_eq!((&laptop["peer"], &laptop["level"]), (&name.into(), &"INFO".into()), "{laptop}");
    assert_eq!(laptop["public_key"], server.key_of(name));
    assert!(laptop["endpoint"].as_str().unwrap().starts_with(&format!("{}:", lab.host(1).v4)), "{laptop}");
    assert_eq!(connected[1]["peer"], "tablet");

    // neither a reload nor a new handshake is a connection
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    assert!(phone_daemon.stop().status.success());
    let (phone, _phone) = client(&lab, 1, &std::fs::read_to_string(phone.path().join("wg0.conf")).unwrap());
    phone.ping([10, 8, 0, 1]);
    assert_eq!(events(&daemon, "connect").len(), 2);

    server.output(&["peer", "disable", name]);
    daemon.wait_for("\"event\":\"disconnect\"");
    let gone = &events(&daemon, "disconnect")[0];
    assert_eq!((&gone["peer"], &gone["reason"]), (&name.into(), &"removed".into()), "{gone}");
    assert!(gone["received_bytes"].as_u64().unwrap() > 1_200 && gone["sent_bytes"].as_u64().unwrap() > 1_200);
    assert!(gone["seconds"].is_u64() && gone["endpoint"].is_string(), "{gone}");
    server.output(&["peer", "enable", name]);
    phone.ping_within(std::time::Duration::from_secs(5), [10, 8, 0, 1]);
    eventually("it has connected again", || events(&daemon, "connect").len() >= 3);
    assert_eq!(events(&daemon, "connect").len(), 3);
    // an error that ends it is an object, too
    let stopped = daemon.stop();
    assert!(stopped.status.success(), "{:?}", stopped.lines);
    server.site.write("etc/tun0.conf", "[Interface]\nPrivateKey = x\n");
    let args = ["--config", server.dir.join("tun0.conf").to_str().unwrap(), "--log-format", "json"]
        .map(str::to_owned);
    let run = finish(server.site.command(BINARY).args(args), TIMEOUT);
    assert_ne!(run.code(), 0);
    let last: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert!(last["level"] == "ERROR" && last["message"].as_str().unwrap().contains("tun0.conf"), "{run:?}");
}

/// Without the option, and below debug, the log of a server has no address of a client.
#[test]
fn events_have_addresses_in_json_only() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let args = ["serve", "--endpoint", &lab.host(0).v4.to_string()];
    let launch = server.site.launch(BINARY.as_ref(), &args);
    let daemon = launch.env("WONTUN_DIR", server.dir.to_str().unwrap()).spawn();
    daemon.wait_for(" ready mode=");
    let (phone, _phone) = client(&lab, 1, &server.output(&["peer", "add", "phone"]));
    phone.ping([10, 8, 0, 1]);
    let line = daemon.wait_for("a peer has connected");
    assert!(line.contains("event=\"connect\" peer=\"phone\" public_key="), "{line}");
    assert!(!daemon.lines().iter().any(|line| line.contains(&lab.host(1).v4.to_string())));
}
