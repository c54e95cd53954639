//! MTUs from the smallest to the largest that a UDP datagram can hold, and packets above the MTU.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::daemon::Launch;
use crate::lab::Lab;
use crate::streams::Pattern;
use crate::tunnel::{CLIENT_V4, CLIENT_V6, DEVICE, Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};
use crate::waiting::{eventually, uninterrupted};
use crate::wireguard::pair::Outer;
use crate::wireguard::settings::{Keys, Settings};
use crate::wireguard::site::Site;

const MEGABYTE: u64 = 1_000_000;

/// Largest payload of a UDP datagram in IPv4.
const LARGEST: u32 = 65_507;

/// Checks a ping that fills the MTU, UDP up to the largest datagram, and a stream, over every
/// family that fits.
fn everything_passes(tunnel: &Tunnel, mtu: u32) {
    let families = [(IpAddr::from(CLIENT_V4), IpAddr::from(SERVER_V4)), (CLIENT_V6.into(), SERVER_V6.into())];
    for (at_client, at_server) in families.into_iter().take(if mtu < 1280 { 1 } else { 2 }) {
        tunnel.fills(at_server, mtu);
        let headers = if at_server.is_ipv4() { 28 } else { 48 };
        let full = (mtu - headers) as usize;
        // one packet, two of which the second is small, and the largest datagram, fragmented or not
        for size in [full, full + 1, 65_507] {
            datagram_passes(tunnel, (at_client, at_server), size.min(65_507));
        }
        tunnel.connect(at_server).exchange(3 * MEGABYTE);
    }
}

/// Checks that a datagram arrives. UDP may lose one, so it tries three times.
fn datagram_passes(tunnel: &Tunnel, (from, to): (IpAddr, IpAddr), size: usize) {
    let sink = tunnel.server_site.udp(SocketAddr::new(to, 0));
    let socket = tunnel.client_site.udp(SocketAddr::new(from, 0));
    sink.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let (mut datagram, mut buffer) = (vec![0; size], vec![0; 65_536]);
    Pattern::new(size as u64).fill(&mut datagram);
    for _ in 0..3 {
        socket.send_to(&datagram, sink.local_addr().unwrap()).unwrap();
        if let Ok(received) = uninterrupted(|| sink.recv(&mut buffer)) {
            assert!(buffer[..received] == datagram, "{size} bytes became {received} other ones");
            return;
        }
    }
    panic!("a UDP datagram of {size} bytes does not get through to {to}");
}

fn carries(mode: Mode, outer: Outer, mtu: u32, wire: u32) {
    let lab = Arc::new(Lab::with_mtu(2, wire));
    let tunnel = Plan::new(mode).outer(outer).mtu(mtu).start_on(&lab);
    for site in [&tunnel.server_site, &tunnel.client_site] {
        assert_eq!(site.mtu(DEVICE), mtu);
    }
    everything_passes(&tunnel, mtu);
}

#[test]
fn small_mtus_work_in_plain_mode() {
    carries(Mode::Plain, Outer::V4, 576, 1500);
    carries(Mode::Plain, Outer::V4, 1280, 1500);
    carries(Mode::Plain, Outer::V6, 1420, 1500);
}

#[test]
fn small_mtus_work_in_wireguard() {
    carries(Mode::WireGuard, Outer::V4, 576, 1500);
    carries(Mode::WireGuard, Outer::V6, 1280, 1500);
    carries(Mode::WireGuard, Outer::V4, 1420, 1500);
}

/// On a link with that MTU, and on one on which each datagram is fragmented.
#[test]
fn jumbo_packets_work() {
    for mode in Mode::BOTH {
        carries(mode, Outer::V4, 9000, 9100);
        carries(mode, Outer::V6, 9000, 1500);
    }
}

#[test]
fn the_largest_mtu_works() {
    for mode in Mode::BOTH {
        carries(mode, Outer::V4, LARGEST - mode.overhead(), 1500);
        // no link takes more; here most datagrams are not fragmented
        carries(mode, Outer::V4, LARGEST - mode.overhead(), 65_535);
    }
}

/// No datagram can hold such a packet, so the option is refused with one line.
#[test]
fn a_larger_mtu_is_refused() {
    let lab = Arc::new(Lab::new(2));
    for mtu in ["65508", "65535"] {
        let run = Launch::plain(lab.server(), &["--mtu", mtu]).run();
        assert_eq!(run.code(), 78, "{run:?}");
        let said = run.stderr;
        assert!(said.contains(&format!("--mtu {mtu}")) && said.contains("65507"), "{said}");
    }
    let site = Site::new(&lab, 0);
    for mtu in [65_476, 65_535] {
        let settings = Settings::new(&Keys::new(), &["10.9.0.1/24"]).mtu(mtu);
        let file = site.write("tun0.conf", &settings.wg_quick());
        let run = site.launch(crate::mounts::BINARY.as_ref(), &["--config", file.to_str().unwrap()]).run();
        assert_eq!(run.code(), 78, "{run:?}");
        let said = run.stderr;
        assert!(said.contains(&format!("MTU: found '{mtu}'")) && said.contains("65475"), "{said}");
    }
    assert!(!lab.server().has_device("tun"));
}

/// Any administrator can raise the device's MTU, so a packet can come that no datagram holds. Its
/// sender gets the MTU that fits, as from a router (RFC 1191, RFC 8201), and a stream recovers.
fn too_big_is_told(mode: Mode, from: IpAddr, to: IpAddr) {
    let tunnel = Plan::new(mode).start();
    tunnel.client_site.ping(to);
    for site in [&tunnel.server_site, &tunnel.client_site] {
        site.ip(&["link", "set", DEVICE, "mtu", "65535"]);
    }
    let what_fits = LARGEST - mode.overhead();
    let route = || tunnel.client_site.ip(&["route", "get", &to.to_string()]);
    assert!(!route().contains("mtu"), "{}", route());
    let sink = tunnel.server_site.udp(SocketAddr::new(to, 0));
    let socket = tunnel.client_site.udp(SocketAddr::new(from, 0));
    socket.connect(sink.local_addr().unwrap()).unwrap();
    let largest = if from.is_ipv4() { 65_507 } else { 65_487 };
    let datagram = vec![7; largest];
    assert_eq!(socket.send(&datagram).unwrap(), largest);
    let mut error = None;
    eventually("the sender is told that its packet was too big", || {
        error = error.take().or(socket.take_error().unwrap());
        error.is_some()
    });
    assert_eq!(error.unwrap().raw_os_error(), Some(nix::libc::EMSGSIZE));
    assert!(route().contains(&format!("mtu {what_fits}")), "{}", route());
    assert!(tunnel.client.summary().dropped("too_big") >= 1, "{:?}", tunnel.client.summary());
    // now it is fragmented before it enters the tunnel
    datagram_passes(&tunnel, (from, to), largest);
    tunnel.connect(to).exchange(3 * MEGABYTE);
}

#[test]
fn who_sends_a_packet_that_no_datagram_holds_is_told_what_fits() {
    for mode in Mode::BOTH {
        too_big_is_told(mode, CLIENT_V4.into(), SERVER_V4.into());
        too_big_is_told(mode, CLIENT_V6.into(), SERVER_V6.into());
    }
}
