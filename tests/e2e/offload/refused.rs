//! Kernels and sandboxes without offloads, or that refuse them later: one line reports it, and
//! everything works.

use std::path::Path;
use std::sync::Arc;

use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::tunnel::{Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};
use crate::wireguard::site::Site;

const MEGABYTE: u64 = 1_000_000;

/// Returns strace in the background of the program that it starts, so that the process is the
/// program's.
fn strace(options: &str) -> String {
    format!("strace -D -f -qq -e signal=none {options} --")
}

/// Returns a wrapper that starts a program with some of its system calls answered by an error.
fn refusing(folder: &Folder, inject: &str) -> String {
    let (call, _) = inject.split_once(':').unwrap();
    let log = folder.path().join("injected");
    strace(&format!("-e trace={call} -e inject={inject} -o {}", log.display()))
}

/// Returns the number of calls of the trace that strace answered.
fn injected(folder: &Folder) -> usize {
    std::fs::read_to_string(folder.path().join("injected")).unwrap().matches("(INJECTED)").count()
}

/// The kernel cannot segment on this path, which shows at the first message of several datagrams:
/// those are sent one by one, and so are all that follow. Later errors, of single datagrams, are
/// retried.
fn segments_are_refused_while_data_flows(mode: Mode) {
    let folder = Folder::new();
    let refusing = refusing(&folder, "sendmmsg:error=EIO:when=40+7");
    let plan = Plan::new(mode).args("--workers 1 --offload auto");
    let client = plan.client.clone().wrap(&refusing);
    let tunnel = Plan { client, ..plan }.start();
    let connection = tunnel.connect(SERVER_V4);
    // no queue on the path overflows, so any loss is the tunnel's
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

/// Returns the ioctls that a server's main thread makes during its start, in order.
fn ioctls(args: &str) -> Vec<String> {
    let (lab, folder) = (Arc::new(Lab::new(2)), Folder::new());
    let trace = folder.path().join("trace");
    let site = Site::new(&lab, 0);
    let args: Vec<&str> = ["plain", "--offload", "auto"].into_iter().chain(args.split_whitespace()).collect();
    let wrapper = strace(&format!("-e trace=ioctl -o {}", trace.display()));
    let server = site.launch(Path::new(BINARY), &args).wrap(&wrapper).spawn();
    server.wait_ready();
    let text = std::fs::read_to_string(&trace).unwrap();
    // strace counts the calls of each thread, and a second thread makes some while the device is
    // created
    let main = format!("{} ", server.pid());
    let of_main = text.lines().filter(|line| line.starts_with(&main) && !line.contains(" resumed>"));
    of_main.map(str::to_owned).collect()
}

/// Returns the number of the first of `calls` that is `name`, counted from 1 as strace does.
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

/// Starts a tunnel whose server's ioctls fail with `error`, those selected by `when` in strace's
/// syntax.
fn with_refused_ioctls(mode: Mode, args: &str, error: &str, when: &str) -> Tunnel {
    let folder = Folder::new();
    let refusing = refusing(&folder, &format!("ioctl:error={error}:when={when}"));
    let plan = Plan::new(mode).args("--offload auto");
    let server = plan.server.clone().args(args).wrap(&refusing);
    let tunnel = Plan { server, ..plan }.start();
    assert!(injected(&folder) > 0, "nothing was refused");
    tunnel
}

/// A kernel without virtio-net headers, and sandboxes that allow only the requests of old programs.
#[test]
fn a_tun_without_offloads_carries_packets_one_by_one() {
    for workers in ["--workers 1", "--workers 2"] {
        let calls = ioctls(workers);
        let attach = place(&calls, "TUNSETIFF");
        let header = place(&calls, "TUNSETVNETHDRSZ");
        let offload = place(&calls, "TUNSETOFFLOAD");
        // header, offload; then the same again without tunnels, and without UDP
        assert_eq!(offload, header + 1, "{calls:#?}");
        for (mode, error, when) in [
            (Mode::Plain, "EINVAL", attach.to_string()),
            (Mode::WireGuard, "ENOTTY", format!("{header}..{}", header + 2)),
            (Mode::Plain, "EPERM", format!("{offload}..{}+2", offload + 4)),
        ] {
            let tunnel = with_refused_ioctls(mode, workers, error, &when);
            let line = tunnel.server.wait_for("has no offloads");
            assert!(line.contains("INFO") && line.contains("tun0"), "{line}");
            assert_eq!(tunnel.server.count("offloads"), 1, "{:?}", tunnel.server.lines());
            let (_, written) = carries_both_families(&tunnel);
            assert!(written <= 1.0, "{written} packets in one");
        }
    }
}

/// Linux before 6.2 has TCP offloads and no UDP offloads. Nothing is logged.
#[test]
fn a_tun_without_udp_offloads_still_joins_tcp() {
    let offload = place(&ioctls("--workers 1"), "TUNSETOFFLOAD");
    for mode in Mode::BOTH {
        let tunnel =
            with_refused_ioctls(mode, "--workers 1", "EINVAL", &format!("{offload}..{}+2", offload + 2));
        assert_eq!(tunnel.server.count("offloads"), 0, "{:?}", tunnel.server.lines());
        let (_, written) = carries_both_families(&tunnel);
        assert!(written > 2.0, "{written} packets in one");
        super::datagrams::both_ways(&tunnel, 1420);
    }
}
