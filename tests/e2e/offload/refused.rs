//! Kernels and sandboxes that have no offloads, or have them no longer: one line says so, and everything works.

use std::path::Path;
use std::sync::Arc;

use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::tunnel::{Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};
use crate::wireguard::site::Site;

const MEGABYTE: u64 = 1_000_000;

/// strace in the background of the program that it starts, so that the process is the program's.
fn strace(options: &str) -> String {
    format!("strace -D -f -qq -e signal=none {options} --")
}

/// What starts a program as if the kernel answered some of its system calls with an error.
fn refusing(folder: &Folder, inject: &str) -> String {
    let (call, _) = inject.split_once(':').unwrap();
    let log = folder.path().join("injected");
    strace(&format!("-e trace={call} -e inject={inject} -o {}", log.display()))
}

/// How many calls of the trace were answered by strace.
fn injected(folder: &Folder) -> usize {
    std::fs::read_to_string(folder.path().join("injected")).unwrap().matches("(INJECTED)").count()
}

/// The kernel cannot cut what goes this way, which shows at the first message of several datagrams: they leave one by
/// one, and so do all that follow. Later errors, of datagrams that go alone, are tried again.
fn segments_are_refused_while_data_flows(mode: Mode) {
    let folder = Folder::new();
    let refusing = refusing(&folder, "sendmmsg:error=EIO:when=40+7");
    let plan = Plan::new(mode).args("--workers 1 --offload auto");
    let client = plan.client.clone().wrap(&refusing);
    let tunnel = Plan { client, ..plan }.start();
    let connection = tunnel.connect(SERVER_V4);
    // no queue on the way overflows, so that whatever is lost was lost by the tunnel
    connection.bound_windows();
    connection.exchange(10 * MEGABYTE);
    tunnel.assert_lossless();
    assert!(injected(&folder) > 10, "{} errors", injected(&folder));
    tunnel.client.wait_for("UDP_SEGMENT");
    assert_eq!(tunnel.client.count("UDP_SEGMENT"), 1, "{:?}", tunnel.client.lines());
}

#[test]
fn segments_that_are_refused_while_data_flows_leave_alone_in_plain_mode() {
    segments_are_refused_while_data_flows(Mode::Plain);
}

#[test]
fn segments_that_are_refused_while_data_flows_leave_alone_in_wireguard() {
    segments_are_refused_while_data_flows(Mode::WireGuard);
}

/// The ioctls that a server's main thread makes on its way up, in their order.
fn ioctls(args: &str) -> Vec<String> {
    let (lab, folder) = (Arc::new(Lab::new(2)), Folder::new());
    let trace = folder.path().join("trace");
    let site = Site::new(&lab, 0);
    let args: Vec<&str> = ["plain", "--offload", "auto"].into_iter().chain(args.split_whitespace()).collect();
    let wrapper = strace(&format!("-e trace=ioctl -o {}", trace.display()));
    let server = site.launch(Path::new(BINARY), &args).wrap(&wrapper).spawn();
    server.wait_ready();
    let text = std::fs::read_to_string(&trace).unwrap();
    // strace counts those of each thread, and a second one makes some while the device is made
    let main = format!("{} ", server.pid());
    let of_main = text.lines().filter(|line| line.starts_with(&main) && !line.contains(" resumed>"));
    of_main.map(str::to_owned).collect()
}

/// The place of the first of `calls` that is `name`, counted from 1 as strace does.
fn place(calls: &[String], name: &str) -> usize {
    let place = calls.iter().position(|call| call.contains(name));
    place.unwrap_or_else(|| panic!("no {name} in {calls:#?}")) + 1
}

fn carries_both_families(tunnel: &Tunnel) -> (f64, f64) {
    tunnel.client_site.ping(SERVER_V4);
    tunnel.joined(|| {
        tunnel.connect(SERVER_V4).exchange(2 * MEGABYTE);
        tunnel.connect(SERVER_V6).exchange(2 * MEGABYTE);
    })
}

/// A tunnel whose server's ioctls are answered with `error`, those that `when` names as strace has it.
fn with_refused_ioctls(mode: Mode, args: &str, error: &str, when: &str) -> Tunnel {
    let folder = Folder::new();
    let refusing = refusing(&folder, &format!("ioctl:error={error}:when={when}"));
    let plan = Plan::new(mode).args("--offload auto");
    let server = plan.server.clone().args(args).wrap(&refusing);
    let tunnel = Plan { server, ..plan }.start();
    assert!(injected(&folder) > 0, "nothing was refused");
    tunnel
}

/// A kernel without virtio-net headers, and sandboxes that let through only what old programs ask for.
#[test]
fn a_tun_without_offloads_carries_packets_one_by_one() {
    for workers in ["--workers 1", "--workers 2"] {
        let calls = ioctls(workers);
        let attach = place(&calls, "TUNSETIFF");
        let header = place(&calls, "TUNSETVNETHDRSZ");
        let offload = place(&calls, "TUNSETOFFLOAD");
        // header, offload; then the same again without UDP
        assert_eq!(offload, header + 1, "{calls:#?}");
        for (mode, error, when) in [
            (Mode::Plain, "EINVAL", attach.to_string()),
            (Mode::WireGuard, "ENOTTY", format!("{header}..{}", header + 1)),
            (Mode::Plain, "EPERM", format!("{offload}..{}+2", offload + 2)),
        ] {
            let tunnel = with_refused_ioctls(mode, workers, error, &when);
            let line = tunnel.server.wait_for("without offloads");
            assert!(line.contains("INFO") && line.contains("tun0"), "{line}");
            assert_eq!(tunnel.server.count("offloads"), 1, "{:?}", tunnel.server.lines());
            let (_, written) = carries_both_families(&tunnel);
            assert!(written <= 1.0, "{written} packets in one");
        }
    }
}

/// Linux before 6.2 has TCP's offloads and not UDP's. Nobody needs to be told.
#[test]
fn a_tun_without_udp_offloads_still_joins_tcp() {
    let offload = place(&ioctls("--workers 1"), "TUNSETOFFLOAD");
    for mode in Mode::BOTH {
        let tunnel = with_refused_ioctls(mode, "--workers 1", "EINVAL", &offload.to_string());
        assert_eq!(tunnel.server.count("offloads"), 0, "{:?}", tunnel.server.lines());
        let (_, written) = carries_both_families(&tunnel);
        assert!(written > 2.0, "{written} packets in one");
        super::datagrams::both_ways(&tunnel, 1420);
    }
}
