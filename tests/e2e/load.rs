//! Memory and system calls of a tunnel under full load.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::heavy;
use crate::mounts::Folder;
use crate::processes::proportional_kilobytes;
use crate::tunnel::{Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, exit_within};

/// Largest resident size of the program, its libraries and its buffers.
const MOST_KILOBYTES: u64 = 16 * 1024;

/// Returns the peak resident size of one process, in kilobytes.
fn peak_kilobytes(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Returns the system calls of `pid` within `time`: those that allocate memory, and the number of
/// those that send datagrams.
fn calls(pid: Pid, time: Duration) -> (Vec<String>, usize) {
    let folder = Folder::new();
    let trace = folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "0", "-e", "trace=brk,mmap,munmap,mremap,madvise,sendmmsg"]);
    strace.args(["-e", "signal=none", "-p", &pid.to_string(), "-o"]).arg(&trace);
    let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lines = || std::fs::read_to_string(&trace).unwrap_or_default();
    eventually("strace sees system calls", || lines().contains("sendmmsg"));
    thread::sleep(time);
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).unwrap();
    assert!(exit_within(&mut strace, TIMEOUT).is_some(), "strace does not end");
    let lines = lines();
    let (sends, others): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.contains("sendmmsg"));
    (others.into_iter().map(str::to_owned).collect(), sends.len())
}

/// Runs a stream in both directions, and `work` once it has begun.
fn under_load(tunnel: &Tunnel, work: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    let connection = tunnel.connect(SERVER_V4);
    thread::scope(|scope| {
        let stream = scope.spawn(|| connection.exchange_while(|_| !ended.load(Ordering::Relaxed)));
        {
            let _end = SetAtEnd(&ended);
            eventually("data flows", || tunnel.server.summary().rx_bytes > 50_000_000);
            work();
        }
        stream.join().unwrap();
    });
}

fn memory_stays_as_it_is(mode: Mode) {
    let _one_at_a_time = heavy();
    let tunnel = Plan::new(mode).args("--workers 2").start();
    under_load(&tunnel, || {
        for daemon in [&tunnel.server, &tunnel.client] {
            let (memory, sends) = calls(daemon.tunnel_pid(), Duration::from_secs(1));
            assert!(sends > 100, "{sends} calls to send");
            assert!(memory.is_empty(), "memory is asked for while packets flow: {memory:#?}");
            let all = proportional_kilobytes(daemon.pid());
            assert!(all <= MOST_KILOBYTES, "{all} kB of all processes together");
        }
    });
    tunnel.connect(SERVER_V4).exchange(200_000_000);
    for daemon in [&tunnel.server, &tunnel.client] {
        let peaks: Vec<_> = daemon.processes().all().into_iter().map(peak_kilobytes).collect();
        let all = proportional_kilobytes(daemon.pid());
        eprintln!("{mode:?}: {all} kB of all processes together; each at most: {peaks:?} kB");
        assert!(all <= MOST_KILOBYTES, "{all} kB of all processes together");
        assert!(peaks.iter().all(|peak| *peak <= MOST_KILOBYTES), "{peaks:?} kB were resident");
    }
}

#[test]
fn memory_stays_as_it_is_in_plain_mode() {
    memory_stays_as_it_is(Mode::Plain);
}

#[test]
fn memory_stays_as_it_is_in_wireguard() {
    memory_stays_as_it_is(Mode::WireGuard);
}
