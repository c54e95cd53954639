//! A tunnel inside the tunnel: TCP in VXLAN, whose super-packets are read as they are and cut inside
//! both headers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::lab::heavy;
use crate::streams::Connection;
use crate::tunnel::{CLIENT_V4, CLIENT_V6, DEVICE, Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};

/// Bytes in each direction.
const BYTES: u64 = 4_000_000;
/// Smallest average number of packets in one that is read, as in `streams.rs`.
const JOINED: f64 = 3.0;

/// Returns true if the kernel gives super-packets in a UDP tunnel to a TUN device: Linux 6.17 does.
fn kernel_has_tunnel_offload() -> bool {
    let release = fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap_or_default()) >= (6, 17)
}

/// Connects the two ends by VXLAN through the tunnel. `options` are those of ip-link(8).
fn connect_by_vxlan(tunnel: &Tunnel, id: u8, remotes: [&str; 2], options: &str) {
    let sites = [(&tunnel.server_site, 1, remotes[0]), (&tunnel.client_site, 2, remotes[1])];
    for (site, host, remote) in sites {
        site.shell(&format!(
            "ip link add vx{id} type vxlan id {id} remote {remote} dstport {port} {options}
             ip link set vx{id} mtu 1300
             ip address add 10.66.{id}.{host}/24 dev vx{id}; ip address add fd66:{id}::{host}/64 dev vx{id} nodad
             ip link set vx{id} up",
            port = 4700 + u32::from(id),
        ));
    }
}

#[test]
fn a_stream_in_vxlan_arrives_and_no_packet_of_it_is_lost_in_the_device() {
    let _one_at_a_time = heavy();
    let tunnel = Plan::new(Mode::WireGuard).args("--offload auto").start();
    let outer = [CLIENT_V4.to_string(), SERVER_V4.to_string()];
    connect_by_vxlan(&tunnel, 1, [&outer[0], &outer[1]], "noudpcsum");
    connect_by_vxlan(&tunnel, 2, [&outer[0], &outer[1]], "udpcsum");
    let outer = [CLIENT_V6.to_string(), SERVER_V6.to_string()];
    connect_by_vxlan(&tunnel, 3, [&outer[0], &outer[1]], "udp6zerocsumtx udp6zerocsumrx");
    connect_by_vxlan(&tunnel, 4, [&outer[0], &outer[1]], "");
    for inner in ["10.66.1.1", "[fd66:2::1]", "[fd66:3::1]", "10.66.4.1"] {
        let address: SocketAddr = format!("{inner}:5001").parse().unwrap();
        let connection = Connection::open(&tunnel.server_site, address, &tunnel.client_site);
        let (read, _) = tunnel.joined(|| connection.exchange(BYTES));
        if kernel_has_tunnel_offload() {
            assert!(read > JOINED, "{inner}: {read} packets in one that is read");
            for site in [&tunnel.server_site, &tunnel.client_site] {
                let dropped = format!("cat /sys/class/net/{DEVICE}/statistics/tx_dropped");
                assert_eq!(
                    site.shell(&dropped).trim(),
                    "0",
                    "{inner}: packets were lost in the queue of the device"
                );
            }
        }
    }
}
