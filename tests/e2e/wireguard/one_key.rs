//! Client faults that only the server can report: one file on two devices, and a clock that was set
//! back.

use std::sync::Arc;
use std::time::Duration;

use super::implementation::Implementation::{self, ConfigFile};
use super::node::Node;
use super::pair::{Outer, Plan, SERVER_V4};
use super::site::Site;
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::soak::clock::{self, Clock};
use crate::waiting::{TIMEOUT, finish, holds_within};

/// Both send continuously, and replace each other's session.
#[test]
fn one_file_on_two_devices_is_told_once_with_both_addresses() {
    let lab = Arc::new(Lab::new(3));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let other_site = Arc::new(Site::new(&lab, 2));
    let clients = [&plan.client_site, &other_site].map(|site| Node::start(site, ConfigFile, &plan.client));
    let told = || server.daemon.count("used by two devices");
    // at least one of them is answered at a time
    let is_told = || {
        for client in &clients {
            client.site.ping_once([10, 9, 0, 1], 56);
        }
        told() > 0
    };
    assert!(holds_within(Duration::from_secs(120), is_told), "{:?}", server.daemon.lines());
    let line = server.daemon.wait_for("used by two devices");
    assert!(line.contains(" WARN ") && line.contains(&plan.client_keys.public[..8]), "{line}");
    for site in [&plan.client_site, &other_site] {
        assert!(line.contains(&format!("{}:", site.v4)), "{line}");
    }
    for _ in 0..5 {
        is_told();
    }
    assert_eq!(told(), 1, "{:?}", server.daemon.lines());
}

/// One roaming device is not reported as two.
#[test]
fn a_client_that_changes_its_port_is_in_one_place() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let pair = plan.start(ConfigFile, Implementation::Wontun);
    for port in 40_001..40_008_u16 {
        pair.client.set(&["listen-port", &port.to_string()]);
        pair.client.ping(SERVER_V4);
    }
    assert_eq!(pair.server.daemon.count("used by two devices"), 0, "{:?}", pair.server.daemon.lines());
}

#[test]
fn a_clock_that_was_set_back_is_told_once_with_the_peer_and_by_how_much() {
    let (lab, folder) = (Arc::new(Lab::new(2)), Folder::new());
    let library = clock::build(folder.path());
    let mut clock = Clock::new(&library, folder.path().join("clock"));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let site = &plan.client_site;
    let file = site.write("wg0.conf", &plan.client.wg_quick());
    let start = |clock: &Clock, state: &[&str]| {
        let args = [&["--config", file.to_str().unwrap()], state].concat();
        let daemon = site.launch(BINARY.as_ref(), &args).wrap(&clock.wrapper()).spawn();
        daemon.wait_for(" ready mode=");
        Clock::check(daemon.tunnel_pid());
        daemon
    };
    let daemon = start(&clock, &[]);
    site.ping([10, 9, 0, 1]);
    daemon.stop();
    clock.step_wall(-3 * 3600);
    // it knows what it has sent
    let daemon = start(&clock, &[]);
    site.ping([10, 9, 0, 1]);
    daemon.stop();
    let _daemon = start(&clock, &["--state", "off"]);
    let behind = "its clock was set back: it is 3 h behind this host's";
    let is_told = || {
        assert!(!site.ping_once([10, 9, 0, 1], 56), "the handshake was taken");
        server.daemon.count(behind) > 0
    };
    assert!(holds_within(Duration::from_secs(60), is_told), "{:?}", server.daemon.lines());
    let line = server.daemon.wait_for(behind);
    assert!(line.contains(" WARN ") && line.contains(&plan.client_keys.public[..8]), "{line}");
    for _ in 0..6 {
        is_told();
    }
    assert_eq!(server.daemon.count("its clock was set back"), 1, "{:?}", server.daemon.lines());

    // the server forgets the timestamp
    assert!(line.contains("'wontun peer reset NAME'"), "{line}");
    let reset = |key: &str| {
        let dir = plan.server_site.path().to_str().unwrap();
        let mut command = plan.server_site.command(BINARY);
        finish(command.args(["peer", "reset", key, "--dir", dir, "--tun", "wg0"]), TIMEOUT)
    };
    let done = reset(&plan.client_keys.public);
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(holds_within(Duration::from_secs(10), || site.ping_once([10, 9, 0, 1], 56)));
    server.daemon.stop();
    let failed = reset(&plan.client_keys.public);
    assert!(failed.code() != 0 && failed.stderr.contains("wg0"), "{failed:?}");
}
