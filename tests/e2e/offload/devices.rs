//! Devices that another program made before: wontun uses the offloads and queues that they have.

use std::sync::Arc;

use crate::daemon::Launch;
use crate::lab::Lab;
use crate::tunnel::{DEVICE, Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};

const MEGABYTE: u64 = 1_000_000;

/// Returns the average number of tunnel packets in one packet written to the server's device.
fn joined(tunnel: &Tunnel) -> f64 {
    tunnel.client_site.ping(SERVER_V4);
    let (_, written) = tunnel.joined(|| {
        tunnel.connect(SERVER_V4).exchange(2 * MEGABYTE);
        tunnel.connect(SERVER_V6).exchange(2 * MEGABYTE);
    });
    written
}

/// Returns the number of attached queues of the server's device, as the kernel reports it; a device
/// of one queue has no such number.
fn queues(tunnel: &Tunnel) -> usize {
    let shown = tunnel.server_site.ip(&["-d", "-o", "link", "show", "dev", DEVICE]);
    let mut words = shown.split_whitespace();
    if words.any(|word| word == "numqueues") { words.next().unwrap().parse().unwrap() } else { 1 }
}

/// Uses one device from several holders in sequence, each with another setting: none leaves its own
/// behind.
fn a_persistent_device_is_used(kind: &[&str], holders: &[(Mode, &str, usize, bool)]) {
    let lab = Arc::new(Lab::new(2));
    lab.server().ip(&[&["tuntap", "add", DEVICE, "mode", "tun"], kind].concat());
    for &(mode, args, expected, joins) in holders {
        let plan = Plan::new(mode);
        let (server, client) = (plan.server.clone().args(args), plan.client.clone().args("--offload auto"));
        let tunnel = Plan { server, client, ..plan }.start_on(&lab);
        assert_eq!(queues(&tunnel), expected, "{mode:?} {args}");
        let joined = joined(&tunnel);
        assert!(if joins { joined > 2.0 } else { joined == 1.0 }, "{mode:?} {args}: {joined} packets in one");
        assert!(tunnel.server.stop().status.success());
        assert!(lab.server().has_device(DEVICE), "it is the maker's to delete");
    }
}

#[test]
fn a_persistent_device_of_one_queue_is_used() {
    a_persistent_device_is_used(
        &[],
        &[
            (Mode::Plain, "--workers 1 --offload auto", 1, true),
            (Mode::WireGuard, "--workers 2 --offload off", 1, false),
            (Mode::Plain, "--workers 2 --offload auto", 1, true),
        ],
    );
}

#[test]
fn a_persistent_device_of_many_queues_is_used() {
    a_persistent_device_is_used(
        &["multi_queue"],
        &[
            (Mode::WireGuard, "--workers 2 --offload auto", 4, true),
            (Mode::Plain, "--workers 1 --offload auto", 2, true),
        ],
    );
}

/// A queue without offloads requires a device of one queue.
#[test]
fn without_offloads_a_device_of_many_queues_is_refused() {
    let lab = Lab::new(2);
    lab.server().ip(&["tuntap", "add", DEVICE, "mode", "tun", "multi_queue"]);
    let run = Launch::plain(lab.server(), &["--offload", "off"]).run();
    assert_eq!(run.code(), 69, "{run:?}");
    assert!(run.stderr.contains("tun0 exists and is not a TUN device"), "{run:?}");
}

/// The kernel would give the second process its own queue, and with it half of the packets.
#[test]
fn a_device_of_many_queues_is_taken_by_one_process_only() {
    let lab = Arc::new(Lab::new(2));
    lab.server().ip(&["tuntap", "add", DEVICE, "mode", "tun", "multi_queue"]);
    for workers in ["--workers 1", "--workers 2"] {
        let tunnel = Plan::new(Mode::Plain).args("--offload auto").args(workers).start_on(&lab);
        for others in ["1", "2"] {
            let args = ["--tun", DEVICE, "--listen-port", "20000", "--offload", "auto", "--workers", others];
            let run = Launch::plain(lab.server(), &args).run();
            assert_eq!(run.code(), 69, "{run:?}");
            assert!(run.stderr.contains("tun0 is in use by another process"), "{run:?}");
        }
        // the first one still has every packet
        for _ in 0..5 {
            tunnel.client_site.ping(SERVER_V4);
        }
        tunnel.connect(SERVER_V4).exchange(MEGABYTE);
    }
}
