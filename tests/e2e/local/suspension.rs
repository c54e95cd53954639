//! Keys do not survive the machine's suspension: all sessions after it are new. The machine's boot
//! clock is stepped, as the kernel does after a suspension.

use std::sync::Arc;

use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::soak::clock::{self, Clock};
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::{ConfigFile, Wontun};
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, Outer, Plan, SERVER_V4};

/// Length of the suspension, out of a session's three minutes.
const SLEEP: u32 = 5;

#[test]
fn a_host_that_slept_makes_new_sessions() {
    let (lab, folder) = (Arc::new(Lab::new(2)), Folder::new());
    let library = clock::build(folder.path());
    let mut clock = Clock::new(&library, folder.path().join("clock"));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, Wontun, &plan.server);
    let site = &plan.client_site;
    let file = site.write("wg0.conf", &plan.client.wg_quick());
    let args = ["--config", file.to_str().unwrap(), "--workers", "2", "--log-level", "debug"];
    let daemon = site.launch(BINARY.as_ref(), &args).wrap(&clock.wrapper()).spawn();
    daemon.wait_for(" ready mode=");
    [daemon.pid(), daemon.tunnel_pid()].into_iter().for_each(Clock::check);
    let client = Node { daemon, site: Arc::clone(site), implementation: ConfigFile, name: "wg0".to_owned() };
    client.ping(SERVER_V4);
    let sessions = || client.daemon.count("handshake completed");
    eventually("there is a session", || sessions() == 1);
    client.ping(SERVER_V4);
    assert_eq!((sessions(), client.daemon.count("resumed from suspend")), (1, 0));
    for slept in 1..=2 {
        clock.sleep(SLEEP);
        // the first packet after the suspension, and all that follow
        client.ping(SERVER_V4);
        server.ping(CLIENT_V4);
        eventually("there is a new session", || sessions() == 1 + slept);
        assert_eq!(client.daemon.count("resumed from suspend"), slept);
    }
}
