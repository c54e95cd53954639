//! The device's MTU leaves space for the tunnel's overhead, and padding does not exceed it.

use std::net::IpAddr;
use std::sync::Arc;

use super::capture::{Capture, Frame};
use super::implementation::Implementation;
use super::pair::{CLIENT_V6, Outer, PORT, Plan, SERVER_V4};
use crate::lab::{Lab, heavy};
use crate::streams::Connection;

/// Inner MTU that is not a multiple of 16.
const MTU: usize = 1406;

/// The link's MTU fits the inner MTU exactly.
fn padding_stays_within_the_mtu(server: Implementation, client: Implementation, outer: Outer) {
    let room = MTU + outer.overhead();
    let lab = Arc::new(Lab::with_mtu(2, room as u32));
    for host in [lab.server(), lab.client()] {
        // A capture before the interface would see several datagrams in one.
        host.ip(&["link", "set", "eth0", "gso_max_segs", "1"]);
    }
    let mut plan = Plan::new(&lab, outer);
    plan.server.mtu = Some(MTU as u32);
    plan.client.mtu = Some(MTU as u32);
    let capture = Capture::start(lab.server());
    let pair = plan.start(server, client);
    for (node, address, header) in [(&pair.client, SERVER_V4, 28), (&pair.server, CLIENT_V6, 48)] {
        for len in [MTU - 17, MTU - 15, MTU - 2, MTU - 1, MTU] {
            node.ping_exactly(address, 1, len - header);
        }
    }
    let _guard = heavy();
    let inner: IpAddr = SERVER_V4.parse().unwrap();
    Connection::open(&pair.server.site, (inner, 0), &pair.client.site).exchange(1 << 20);
    assert_room_is_used(&capture.stop(), &lab, outer, room);
}

/// Checks the captured frames: none was larger than `room`, and one in each direction was exactly
/// as large.
fn assert_room_is_used(frames: &[Frame], lab: &Lab, outer: Outer, room: usize) {
    let (server, client): (IpAddr, IpAddr) = match outer {
        Outer::V4 => (lab.server().v4.into(), lab.client().v4.into()),
        Outer::V6 => (lab.server().v6.into(), lab.client().v6.into()),
    };
    let on_wire: Vec<_> = frames
        .iter()
        .filter(|frame| [server, client].contains(&frame.from.0) && [server, client].contains(&frame.to.0))
        .collect();
    assert!(on_wire.len() > 1000, "only {} packets were seen", on_wire.len());
    for from in [server, client] {
        let largest = on_wire.iter().filter(|frame| frame.from.0 == from).map(|frame| frame.len).max();
        assert_eq!(largest, Some(room), "the largest packet of {from}");
    }
    let fragments = on_wire.iter().filter(|frame| frame.is_fragment).count();
    assert_eq!(fragments, 0, "fragments of {}", on_wire.len());
    assert!(
        on_wire.iter().all(|frame| frame.from.1 == PORT || frame.to.1 == PORT),
        "other datagrams on the wire"
    );
}

between!(padding_stays_within_the_mtu: {
    wontun_and_wontun: (ConfigFile, Wontun, Outer::V4),
    wontun_and_wontun_over_v6: (Wontun, ConfigFile, Outer::V6),
    wireguard_go_to_wontun: (ConfigFile, WireguardGo, Outer::V6),
    wontun_to_boringtun: (Boringtun, ConfigFile, Outer::V4),
});

/// Without an MTU in the file, the client's MTU is that of the route to its server, less 80.
#[test]
fn the_mtu_follows_the_route_to_the_endpoint() {
    let lab = Arc::new(Lab::with_mtu(2, 1460));
    let plan = Plan::new(&lab, Outer::V4);
    let mut pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    assert_eq!(lab.client().mtu("wg0"), 1380);
    // The server knows no endpoint.
    assert_eq!(lab.server().mtu("wg0"), 1420);
    pair.client.ping(SERVER_V4);
    assert!(pair.client.daemon.is_running());
}
