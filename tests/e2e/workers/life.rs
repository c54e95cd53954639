//! Start and end of the workers, and changes that affect all of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::{Star, threads};
use crate::daemon::{Stopped, best_stop};
use crate::processes::TUNNEL;
use crate::streams::Connection;
use crate::tunnel::{DEVICE, Mode, Plan, SERVER_V4};
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, holds_within, uninterrupted};

/// Number of packets in each direction of each client.
const PACKETS: u64 = 2_000;
/// Longest time until all threads have ended. It takes milliseconds, more on a busy machine.
const END: Duration = Duration::from_secs(1);

#[test]
fn there_are_as_many_threads_as_workers_and_one_for_handshakes() {
    for mode in Mode::BOTH {
        for (workers, others) in [("1", &[][..]), ("3", &["worker-1", "worker-2"])] {
            let handshakes = &["handshakes"][..usize::from(mode == Mode::WireGuard)];
            let expected = [handshakes, &["wontun-log", TUNNEL], others].concat();
            let tunnel = Plan::new(mode).args("--workers").args(workers).start();
            for daemon in [&tunnel.server, &tunnel.client] {
                // a thread gets its name a moment after it starts
                let names = |pid| {
                    let mut names: Vec<_> = threads(pid).into_iter().map(|thread| thread.name).collect();
                    names.sort();
                    names
                };
                let (tunnel, supervisor) = (daemon.tunnel_pid(), daemon.pid());
                let is_so = holds_within(TIMEOUT, || names(tunnel) == expected);
                assert!(is_so, "{mode:?}: {:?}", names(tunnel));
                // the supervisor's threads are not multiplied
                assert_eq!(names(supervisor), ["wontun", "wontun-log"], "{mode:?}");
            }
        }
    }
}

/// Ends the server by `act` while both clients send.
fn under_load(star: Star, act: impl FnOnce(Star) -> Stopped) -> Stopped {
    let floods = [0, 1].map(|client| star.udp(client));
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for (socket, _) in &floods {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // the server is gone in the end
                    let _ = socket.send(&[0; 1000]);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = SetAtEnd(&ended);
        eventually("the clients send", || sent.load(Ordering::Relaxed) > 10_000);
        act(star)
    })
}

#[test]
fn a_stop_ends_all_workers_while_they_work() {
    let is_clean = |stopped: &Stopped| stopped.elapsed < END && stopped.ends_with_summary();
    let stopped = best_stop(is_clean, || under_load(Star::spread(&[]), |star| star.server.stop()));
    assert!(is_clean(&stopped), "{stopped:?}");
}

/// In a session, packets take no lock that they share with those of other peers: it is taken at the
/// start, for handshakes and by timers.
#[test]
fn packets_do_not_take_the_lock() {
    let star = Star::spread(&["--log-level", "debug"]);
    for (socket, sink) in &[0, 1].map(|client| star.udp(client)) {
        for number in 0..PACKETS {
            socket.send(&number.to_le_bytes()).unwrap();
            let mut buffer = [0; 8];
            let length = uninterrupted(|| sink.recv(&mut buffer)).unwrap();
            sink.send(&buffer[..length]).unwrap();
            uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        }
    }
    let carried = star.server.summary();
    let lines = star.server.stop().lines;
    let uses = |line: &String| line.split_once(" lock_uses=")?.1.trim().parse::<u64>().ok();
    let uses: Vec<_> = lines.iter().filter(|line| line.contains("worker ended")).filter_map(uses).collect();
    assert_eq!(uses.len(), 2, "{lines:?}");
    eprintln!("{} and {} packets; uses of the lock: {uses:?}", carried.rx_packets, carried.tx_packets);
    assert!(carried.rx_packets >= 2 * PACKETS && carried.tx_packets >= 2 * PACKETS, "{carried:?}");
    // with it, each packet takes it three times: to begin a turn, for itself, and to end the turn
    assert!(uses.iter().sum::<u64>() < PACKETS / 2, "{uses:?}");
}

#[test]
fn what_ends_one_worker_ends_the_process_with_its_code() {
    let stopped = under_load(Star::spread(&[]), |star| {
        star.server_site.ip(&["link", "delete", DEVICE]);
        star.server.wait_exit()
    });
    assert_eq!(stopped.status.code(), Some(69), "{stopped:?}");
    let said = stopped.lines.iter().filter(|line| line.starts_with("wontun: ")).collect::<Vec<_>>();
    assert!(matches!(said[..], [line] if line.contains("tun0 was deleted")), "{stopped:?}");
}

/// Streams of both clients continue through everything that changes the sockets of all workers.
#[test]
fn changes_reach_all_workers_while_they_work() {
    let star = Star::spread(&[]);
    let ended = AtomicBool::new(false);
    let set = |args: &[&str]| star.server_site.wg(&[&["set", DEVICE], args].concat());
    let carried = || star.server.summary().rx_bytes;
    let goes_on = |after: &str| {
        let before = carried();
        eventually(&format!("data flows after {after}"), || carried() > before + 1_000_000);
    };
    thread::scope(|scope| {
        let streams = star.client_sites.each_ref().map(|site| {
            let connection = Connection::open(&star.server_site, (SERVER_V4, 0), site);
            let ended = &ended;
            scope.spawn(move || connection.exchange_while(|_| !ended.load(Ordering::Relaxed)))
        });
        let _end = SetAtEnd(&ended);
        goes_on("the start");
        for round in 0..3_u16 {
            star.server.signal(Signal::SIGHUP);
            star.server.wait_for_more("reloaded the configuration", usize::from(round));
            goes_on("SIGHUP");
            set(&["fwmark", &(round + 1).to_string()]);
            goes_on("another mark");
            star.client_sites[0].wg(&["set", DEVICE, "listen-port", &(53_000 + round).to_string()]);
            // the server receives from the new port before it moves too: if both move at once
            // neither finds the other again
            star.client_sites[0].ping(SERVER_V4);
            goes_on("another port of a client");
            // the clients follow, since the server keeps sending
            set(&["listen-port", &(54_000 + round).to_string()]);
            goes_on("another port of the server");
        }
        ended.store(true, Ordering::Relaxed);
        for stream in streams {
            let (up, down) = stream.join().unwrap();
            assert!(up > 0 && down > 0);
        }
    });
    assert_eq!(star.server_site.wg(&["show", DEVICE, "listen-port"]).trim(), "54002");
    assert_eq!(star.server_site.wg(&["show", DEVICE, "fwmark"]).trim(), "0x3");
    for site in &star.client_sites {
        site.ping(SERVER_V4);
    }
}
