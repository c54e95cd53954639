//! Distribution of clients over the workers.

use std::thread;
use std::time::Duration;

use super::lab::{Star, ran_meanwhile};
use crate::lab::heavy;
use crate::streams::Connection;
use crate::tunnel::SERVER_V4;

/// Bytes that each client sends and receives.
const BYTES: u64 = 100_000_000;

/// Returns the CPU time of each worker of the server for a stream of each client.
fn carry(star: &Star) -> Vec<Duration> {
    ran_meanwhile(&star.server, || {
        thread::scope(|scope| {
            for site in &star.client_sites {
                scope.spawn(|| Connection::open(&star.server_site, (SERVER_V4, 0), site).exchange(BYTES));
            }
        });
    })
}

/// Prints the total cost for people to read: no machine is quiet enough for a test to judge it.
fn print_times(what: &str, ran: &[Duration]) {
    let gigabytes = 4.0 * BYTES as f64 / 1e9;
    let all: Duration = ran.iter().sum();
    eprintln!("{what}: {ran:?}, {:.2} s of the server's CPU a GB", all.as_secs_f64() / gigabytes);
}

#[test]
fn two_clients_are_two_workers_work() {
    let _one_at_a_time = heavy();
    let spread = carry(&Star::spread(&["--offload", "auto"]));
    print_times("a worker for each client", &spread);
    let all: Duration = spread.iter().sum();
    assert_eq!(spread.len(), 2);
    assert!(spread.iter().all(|ran| *ran > all / 4), "one worker did the other's work: {spread:?}");
    let alone = carry(&Star::new("1", &["--offload", "auto"]));
    print_times("one worker for both", &alone);
    assert_eq!(alone.len(), 1);
}
