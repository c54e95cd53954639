//! No packet waits for others: everything read is sent, and everything received is written, before
//! the loop sleeps. Latency itself is measured elsewhere, because no machine is quiet enough for a
//! test to judge it.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::mounts::Folder;
use crate::tunnel::{CLIENT_V4, Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{TIMEOUT, eventually, exit_within, uninterrupted};

/// Smallest length of a packet in bytes: shorter reads are of timers, signals and eventfds.
const LEAST: i64 = 20;

/// Datagrams of a burst.
const BURST: usize = 100;

/// One action of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Sleep,
    /// Read from the tun.
    Read,
    /// Received from the wire.
    Receive,
    /// Sent to the wire.
    Send,
    /// Written to the tun.
    Write,
}

/// Parses a line of strace. Returns `None` for a call that found or did nothing.
fn parse(line: &str) -> Option<Step> {
    let (call, _) = line.split_once('(')?;
    let result = || line.rsplit_once(" = ")?.1.split_whitespace().next()?.parse::<i64>().ok();
    match call {
        // a call that does not wait is not a sleep
        "epoll_wait" => (!line.contains(", 0) = ")).then_some(Step::Sleep),
        "read" => (result()? > LEAST).then_some(Step::Read),
        "recvmmsg" => (result()? > 0).then_some(Step::Receive),
        "sendmmsg" => (result()? > 0).then_some(Step::Send),
        "write" | "writev" => (result()? > LEAST).then_some(Step::Write),
        _ => None,
    }
}

/// Returns the actions of the only worker of `pid` while `work` runs.
fn steps(pid: Pid, trace: &Path, work: impl FnOnce()) -> Vec<Step> {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-s", "0", "-e", "trace=epoll_wait,read,recvmmsg,sendmmsg,write,writev"]);
    strace.args(["-e", "signal=none", "-p", &pid.to_string(), "-o"]).arg(trace);
    let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let tracer = format!("TracerPid:\t{}\n", strace.id());
    eventually("strace is attached", || {
        std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains(&tracer)
    });
    work();
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).unwrap();
    assert!(exit_within(&mut strace, TIMEOUT).is_some(), "strace does not end");
    let lines = std::fs::read_to_string(trace).unwrap();
    lines.lines().filter_map(parse).collect()
}

/// Panics if the loop sleeps with a packet pending.
fn nothing_waits(steps: &[Step]) {
    for (enters, leaves) in [(Step::Read, Step::Send), (Step::Receive, Step::Write)] {
        let mut in_hand = None;
        let mut count = 0;
        for (place, step) in steps.iter().enumerate() {
            if *step == enters {
                in_hand = Some(place);
                count += 1;
            } else if *step == leaves {
                in_hand = None;
            } else if *step == Step::Sleep
                && let Some(since) = in_hand
            {
                panic!("{:?} and then to sleep: {:#?}", steps[since], &steps[since..=place]);
            }
        }
        assert!(count > 10, "only {count} times {enters:?} in {steps:?}");
    }
}

fn single_packets_and_bursts(tunnel: &Tunnel) {
    let sink = tunnel.server_site.udp((SERVER_V4, 0));
    let socket = tunnel.client_site.udp((CLIENT_V4, 0));
    socket.connect(sink.local_addr().unwrap()).unwrap();
    sink.connect(socket.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 200];
    for (from, to) in [(&socket, &sink), (&sink, &socket)] {
        for _ in 0..20 {
            from.send(&[1; 100]).unwrap();
            assert_eq!(uninterrupted(|| to.recv(&mut buffer)).unwrap(), 100);
        }
        (0..BURST).for_each(|number| assert_eq!(from.send(&[2; 200][number..]).unwrap(), 200 - number));
        (0..BURST)
            .for_each(|number| assert_eq!(uninterrupted(|| to.recv(&mut buffer)).unwrap(), 200 - number));
    }
}

#[test]
fn no_packet_waits_for_others() {
    let folder = Folder::new();
    for mode in Mode::BOTH {
        for offload in ["auto", "off"] {
            let tunnel = Plan::new(mode).args("--workers 1 --offload").args(offload).start();
            tunnel.client_site.ping(SERVER_V4);
            let trace = folder.path().join("trace");
            let steps = steps(tunnel.client.tunnel_pid(), &trace, || single_packets_and_bursts(&tunnel));
            nothing_waits(&steps);
        }
    }
}
