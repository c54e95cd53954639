//! iperf3 through a tunnel.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::site::Site;
use crate::waiting::{TIMEOUT, eventually, finish};

/// A server that runs one test after the other. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Iperf {
    server: Child,
    site: Arc<Site>,
}

impl Iperf {
    pub(crate) fn serve(node: &Node) -> Self {
        let mut command = node.site.command("iperf3");
        command.args(["-s", "--forceflush"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { server: command.spawn().unwrap(), site: Arc::clone(&node.site) }
    }

    /// Waits until the server listens and has ended the run before, during which it refuses others:
    /// it ends it a moment after its client.
    fn wait_until_free(&self) {
        eventually("iperf3 is free", || {
            let table = self.site.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp6")).unwrap();
            // local address, remote address, state; 5201 is 1451 in hexadecimal
            let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let states: Vec<_> = sockets
                .filter(|fields| fields[1].ends_with(":1451"))
                .map(|fields| fields[3].to_owned())
                .collect();
            let has = |state: &str| states.iter().any(|found| found == state);
            let (established, close_wait, listen) = ("01", "08", "0A");
            has(listen) && !has(established) && !has(close_wait)
        });
    }

    /// Runs `iperf3 -c address args…` on `client`. Returns the bytes that arrived.
    pub(crate) fn run(&self, client: &Node, address: &str, args: &[&str]) -> u64 {
        self.wait_until_free();
        let mut command = client.site.command("iperf3");
        command.args(["-c", address, "--json", "--connect-timeout", "5000"]).args(args);
        let done = finish(&mut command, TIMEOUT + Duration::from_secs(20));
        assert!(done.status.success(), "iperf3 {args:?} to {address} failed: {done:?}");
        let received = number_after(&done.stdout, "\"sum_received\":", "\"bytes\":");
        received.unwrap_or_else(|| panic!("no sum_received in {}", done.stdout))
    }

    /// Runs `iperf3 -c address -u args…` until one run loses nothing, five times at most: on a busy
    /// machine queues overflow while a program waits to be scheduled.
    pub(crate) fn run_udp(&self, client: &Node, address: &str, args: &[&str]) {
        let mut lost = Vec::new();
        let mut last = String::new();
        while lost.len() < 5 {
            self.wait_until_free();
            let mut command = client.site.command("iperf3");
            command.args(["-c", address, "-u", "-b", "10M", "-l", "1300", "-n", "1M", "--json"]).args(args);
            let done = finish(&mut command, TIMEOUT);
            assert!(done.status.success(), "iperf3 -u {args:?} to {address} failed: {done:?}");
            // iperf3 was seen to say nothing of it once
            lost.push(number_after(&done.stdout, "\"sum\":", "\"lost_packets\":"));
            if lost.last() == Some(&Some(0)) {
                return;
            }
            last = done.stdout;
        }
        panic!(
            "iperf3 -u {args:?} to {address}: of about 800 packets these were lost: {lost:?}; it said\n{last}"
        );
    }
}

/// Returns the number after `key` after the last `section` of a JSON text.
fn number_after(text: &str, section: &str, key: &str) -> Option<u64> {
    let section = &text[text.rfind(section)?..];
    let value = section[section.find(key)? + key.len()..].trim_start();
    value.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

impl Drop for Iperf {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
