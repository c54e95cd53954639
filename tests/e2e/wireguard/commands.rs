//! The commands other than running a tunnel, checked against `wg`; and invalid configurations.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::implementation::Implementation;
use super::pair::{CLIENT_V4, Outer, Pair, SERVER_V4};
use super::settings::{Keys, Settings};
use super::site::Site;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};

fn wontun(site: &Site, args: &[&str]) -> Finished {
    finish(site.command(BINARY).args(args), TIMEOUT)
}

fn output(site: &Site, args: &[&str]) -> String {
    let run = wontun(site, args);
    assert_eq!((run.code(), run.stderr.as_str()), (0, ""), "{run:?}");
    run.stdout
}

#[test]
fn keys_are_those_of_wg() {
    let site = Site::new(&Arc::new(Lab::new(1)), 0);
    let ours = site
        .shell(&format!("umask 077; {BINARY} genkey | tee ours | wg pubkey; {BINARY} pubkey <ours; rm ours"));
    let keys: Vec<&str> = ours.lines().collect();
    assert!(matches!(keys[..], [theirs, own] if theirs == own && own.len() == 44), "{keys:?}");
    let theirs = site
        .shell(&format!("umask 077; wg genkey | tee theirs | wg pubkey; {BINARY} pubkey <theirs; rm theirs"));
    assert!(matches!(theirs.lines().collect::<Vec<_>>()[..], [a, b] if a == b), "{theirs}");
    let (one, two) = (output(&site, &["genpsk"]), output(&site, &["genpsk"]));
    assert!(one.trim_end().len() == 44 && one != two);
    let wrong = finish(site.command("sh").args(["-c", &format!("echo nonsense | {BINARY} pubkey")]), TIMEOUT);
    assert_eq!(wrong.code(), 1);
    assert!(wrong.stderr.starts_with("wontun: ") && !wrong.stderr.contains("nonsense"), "{wrong:?}");
}

#[test]
fn show_says_what_wg_says_and_no_secret() {
    let pair = Pair::new(Implementation::ConfigFile, Implementation::Wontun, Outer::V4);
    pair.client.ping(SERVER_V4);
    let (site, state) = (&pair.server.site, pair.server.only_peer());
    let human = output(site, &["show", "wg0"]);
    for part in
        ["interface: wg0", "private key: (hidden)", "listening port: 51820", &state.endpoint, &state.public]
    {
        assert!(human.contains(part), "{part} in:\n{human}");
    }
    let json = output(site, &["show", "--json"]);
    for part in [
        format!(r#""public_key":"{}""#, pair.server_public()),
        format!(r#""public_key":"{}""#, pair.client_public()),
        format!(r#""endpoint":"{}""#, state.endpoint),
        r#""has_session":true"#.to_owned(),
        r#""listen_port":51820"#.to_owned(),
        r#""mtu":1420"#.to_owned(),
    ] {
        assert!(json.contains(&part), "{part} in:\n{json}");
    }
    // an independent JSON parser
    site.shell(&format!("{BINARY} show --json | python3 -m json.tool >/dev/null"));
    for text in [&human, &json] {
        assert!(!text.contains(&pair.plan.server_keys.private), "a private key in:\n{text}");
    }
    // dropped packets are reported with the reason
    pair.server.set(&["peer", pair.client_public(), "allowed-ips", ""]);
    let _ = finish(site.command("ping").args(["-c", "1", "-W", "1", CLIENT_V4]), TIMEOUT);
    eventually("the drop is shown", || output(site, &["show", "--json"]).contains(r#""not_routed":"#));
    assert!(output(site, &["show"]).contains("not_routed"));
    let none = wontun(&pair.client.site, &["show", "nosuch"]);
    assert!(none.code() == 1 && none.stderr.contains("nosuch"), "{none:?}");
}

#[test]
fn a_tunnel_without_handshakes_is_not_healthy_when_that_is_asked() {
    let pair = Pair::new(Implementation::ConfigFile, Implementation::Wontun, Outer::V4);
    let site = &pair.server.site;
    let ask = |age: &str| wontun(site, &["health", "--tun", "wg0", "--max-handshake-age", age]);
    assert_eq!(wontun(site, &["health", "--tun", "wg0"]).code(), 0);
    let never = ask("60");
    assert!(never.code() == 1 && never.stderr.contains("handshake"), "{never:?}");
    pair.client.ping(SERVER_V4);
    assert_eq!(ask("60").code(), 0);
    eventually("the handshake is too old", || ask("0").code() == 1);
}

#[test]
fn routes_that_are_ours_follow_what_wg_sets() {
    let pair = Pair::new(Implementation::ConfigFile, Implementation::Wontun, Outer::V4);
    let routes = || pair.server.site.ip(&["route", "show", "dev", "wg0"]);
    pair.server.set(&["peer", pair.client_public(), "allowed-ips", "10.9.0.2/32,10.71.0.0/16"]);
    eventually("the route is there", || routes().contains("10.71.0.0/16"));
    pair.server.set(&["peer", pair.client_public(), "remove"]);
    eventually("the route is gone", || !routes().contains("10.71.0.0/16"));
    // where `wg` and `ip` set the routes there are none
    pair.client.set(&["peer", pair.server_public(), "allowed-ips", "10.9.0.0/24,10.72.0.0/16"]);
    pair.client.site.wg(&["show", "wg0"]);
    assert!(!pair.client.site.ip(&["route", "show"]).contains("10.72.0.0/16"));
}

/// Runs a tunnel with an invalid file, and returns the one line that it ends with.
fn fails(site: &Site, text: &str, more: &[&str], code: i32) -> String {
    let file = site.write("wg0.conf", text);
    let run = wontun(site, &[&["--config", file.to_str().unwrap()], more].concat());
    assert_eq!(run.code(), code, "{run:?}");
    let last = run.stderr.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("wontun: "), "{run:?}");
    assert!(!site.has_device("wg0"), "a device was left behind");
    last
}

#[test]
fn a_file_that_cannot_be_is_refused_with_its_line() {
    let site = Site::new(&Arc::new(Lab::new(1)), 0);
    let keys = Keys::new();
    let good = Settings::new(&keys, &["10.9.0.1/24"]).wg_quick();
    let with = |line: &str| good.replacen("[Interface]\n", &format!("[Interface]\n{line}\n"), 1);
    for (line, needle) in [
        ("PostUp = touch /tmp/run", "PostUp"),
        ("PreDown = true", "PreDown"),
        ("SaveConfig = true", "SaveConfig"),
        ("MTU = many", "MTU"),
        ("Colour = blue", "Colour"),
        ("ListenPort = 70000", "ListenPort"),
    ] {
        let said = fails(&site, &with(line), &[], 78);
        assert!(said.contains("wg0.conf:2") && said.contains(needle), "{said}");
        assert!(!said.contains(&keys.private), "{said}");
    }
    let alone = wontun(&site, &["plain", "--ignore-hooks"]);
    assert!(alone.code() == 78 && alone.stderr.contains("--config"), "{alone:?}");
    let said = fails(&site, &good, &["--peer", "192.0.2.1"], 2);
    assert!(said.contains("--config") && said.contains("--peer"), "{said}");
}

#[test]
fn hooks_are_left_out_and_open_files_are_told_of() {
    let site = Site::new(&Arc::new(Lab::new(1)), 0);
    let mark = site.path().join("was-run");
    let text = Settings::new(&Keys::new(), &["10.9.0.1/24"]).wg_quick();
    let text =
        text.replacen("[Interface]\n", &format!("[Interface]\nPostUp = touch {}\n", mark.display()), 1);
    let file = site.write("wg0.conf", &text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--ignore-hooks"];
    let daemon = site.launch(std::path::Path::new(BINARY), &arguments).spawn();
    daemon.wait_for(" ready mode=");
    let told = ["PostUp is ignored", "chmod 600"];
    for line in told {
        daemon.wait_for(line);
    }
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    assert_eq!(told.map(|line| stopped.count(line)), [1, 1], "{:#?}", stopped.lines);
    assert!(!mark.exists(), "a line of the file was run");
}
