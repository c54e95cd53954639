//! A night's sleep: no session is left, and the tunnel is there before anybody needs it.

use std::sync::Arc;
use std::time::Instant;

use wontun_proto::wireguard::INITIATION_INTERVAL;

use super::meter::LIMIT;
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::soak::clock::{self, Clock};
use crate::waiting::{eventually, holds_within};
use crate::wireguard::implementation::Implementation::Wontun;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};

const NIGHT: u32 = 8 * 3600;

#[test]
fn a_host_that_slept_all_night_makes_a_handshake_at_once() {
    let (lab, folder) = (Arc::new(Lab::new(2)), Folder::new());
    let library = clock::build(folder.path());
    let mut clock = Clock::new(&library, folder.path().join("clock"));
    let plan = Plan::new(&lab, Outer::V4);
    let _server = Node::start(&plan.server_site, Wontun, &plan.server);
    let site = &plan.client_site;
    let file = site.write("wg0.conf", &plan.client.wg_quick());
    let daemon = site
        .launch(BINARY.as_ref(), &["--config", file.to_str().unwrap(), "--log-level", "debug"])
        .wrap(&clock.wrapper())
        .spawn();
    daemon.wait_for(" ready mode=");
    site.ping(super::world::address(SERVER_V4));
    let sessions = || daemon.count("handshake completed");
    eventually("there is a session", || sessions() == 1);
    for night in 1..=2 {
        // for the server, whose clock is the kernel's, no night passes: it drops an initiation that
        // follows another too soon
        std::thread::sleep(INITIATION_INTERVAL * 2);
        let begun = Instant::now();
        clock.sleep(NIGHT);
        // wakes the tunnel process, as the end of a suspension does; nothing is sent into the
        // tunnel
        site.shell("ip link set lo down; ip link set lo up");
        assert!(
            holds_within(LIMIT * 5, || sessions() == 1 + night),
            "no handshake after the night: {:?}",
            daemon.lines()
        );
        eprintln!("figure: after a night: a new session after {:?}", begun.elapsed());
    }
}
