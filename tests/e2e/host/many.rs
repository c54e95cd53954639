//! Cost of repairs with 10,000 peers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::events::{DELETED_ROUTE, DELETED_RULE, Event, Events, GENERATION, NEW_ROUTE, NEW_RULE};
use super::older::{Library, NfTables};
use super::stage::start;
use crate::daemon::Daemon;
use crate::lab::{Lab, heavy};
use crate::processes::cpu_ticks;
use crate::waiting::{TIMEOUT, holds_within};
use crate::wireguard::memory::with_idle_peers;
use crate::wireguard::pair::PORT;
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

const PEERS: u64 = 10_000;
const ROUNDS: usize = 5;
/// Longest time to repair one object, independent of the number of others, in a debug build under
/// load.
const BOUND: Duration = Duration::from_secs(1);

/// A server with many peers, whose addresses are in its own network or elsewhere.
struct Crowd {
    site: Arc<Site>,
    daemon: Daemon,
    _library: Library,
}

impl Crowd {
    fn start(address: &str, default_route: bool) -> Self {
        let site = Arc::new(Site::new(&Arc::new(Lab::new(2)), 0));
        let mut settings = Settings::new(&Keys::new(), &[address]).port(PORT);
        if default_route {
            let upstream = Peer::new(&Keys::new().public, &["0.0.0.0/0", "::/0"]);
            settings = settings.peer(upstream.at("192.0.2.2:51820"));
        }
        let settings = with_idle_peers(&settings, PEERS);
        let library = Library::new(NfTables::Older);
        let daemon = start(&site, &settings, &[], &library);
        Self { site, daemon, _library: library }
    }

    fn routes(&self) -> usize {
        self.site.shell("ip -4 route show table all proto 119 | wc -l").trim().parse().unwrap()
    }

    /// Runs `removal` several times, and prints the times to the repair and the supervisor's
    /// processor time.
    fn measure(
        &self,
        what: &str,
        removal: &str,
        events: &Events,
        is_gone: fn(&Event) -> bool,
        is_back: fn(&Event) -> bool,
    ) {
        let supervisor = self.daemon.processes().supervisor;
        let ticks = cpu_ticks(supervisor);
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let from = events.count();
                self.site.shell(removal);
                let (place, start) = events.find(what, from, is_gone);
                let (_, end) = events.find(what, place + 1, is_back);
                // wait for the removal's side effects
                std::thread::sleep(Duration::from_millis(300));
                end - start
            })
            .collect();
        times.sort();
        let cpu = (cpu_ticks(supervisor) - ticks) * 10 / ROUNDS as u64;
        eprintln!(
            "{PEERS} peers: {what}: back after {:?} ({:?}-{:?}), {cpu} ms of the supervisor's processor time",
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS - 1]
        );
        assert!(times[ROUNDS / 2] < BOUND, "{what}: {times:?}");
    }

    /// Has the file read again.
    fn reload(&self, what: &str) {
        let supervisor = self.daemon.processes().supervisor;
        let ticks = cpu_ticks(supervisor);
        let seen = self.daemon.count("reloaded the configuration");
        let start = Instant::now();
        self.daemon.signal(Signal::SIGHUP);
        self.daemon.wait_for_more("reloaded the configuration", seen);
        let took = start.elapsed();
        eprintln!(
            "{PEERS} peers: SIGHUP {what}: {took:?}, {} ms of processor time",
            (cpu_ticks(supervisor) - ticks) * 10
        );
    }
}

fn gone_table(event: &Event) -> bool {
    event.kind == GENERATION && event.has(b"nft\0")
}

fn back_table(event: &Event) -> bool {
    event.kind == GENERATION && !event.has(b"nft\0")
}

#[test]
fn with_networks_elsewhere() {
    let _guard = heavy();
    let crowd = Crowd::start("10.9.0.1/24", true);
    // the default route and the ownership marker of its table are there, too
    let all = PEERS as usize + 2;
    assert_eq!(crowd.routes(), all);
    let routing = Events::of_routing(crowd.site.host());
    let ruleset = Events::of_ruleset(crowd.site.host());
    crowd.measure(
        "one route",
        "ip route del 10.64.7.7/32 dev wg0",
        &routing,
        |event| event.kind == DELETED_ROUTE,
        |event| event.kind == NEW_ROUTE,
    );
    crowd.measure(
        "one policy rule",
        "ip -4 rule del $(ip -4 rule | grep 'lookup 51820' | sed 's/:.*//; s/^/priority /')",
        &routing,
        |event| event.kind == DELETED_RULE,
        |event| event.kind == NEW_RULE,
    );
    crowd.measure(
        "the guard's table",
        "nft delete table inet wontun-guard-wg0",
        &ruleset,
        gone_table,
        back_table,
    );
    let start = Instant::now();
    let supervisor = crowd.daemon.processes().supervisor;
    let ticks = cpu_ticks(supervisor);
    crowd.site.shell("ip -4 route flush proto 119");
    let flushed = start.elapsed();
    assert!(holds_within(TIMEOUT, || crowd.routes() == all), "{} routes are back", crowd.routes());
    eprintln!(
        "{PEERS} peers: all routes: flushed in {flushed:?}, back {:?} later, {} ms of processor time",
        start.elapsed() - flushed,
        (cpu_ticks(supervisor) - ticks) * 10
    );
    crowd.reload("with all there");
    crowd.reload("again");
}

#[test]
fn within_its_own_network() {
    let _guard = heavy();
    let crowd = Crowd::start("10.127.255.254/10", false);
    assert_eq!(crowd.routes(), 0);
    let ruleset = Events::of_ruleset(crowd.site.host());
    crowd.measure(
        "the guard's table, no routes",
        "nft delete table inet wontun-guard-wg0",
        &ruleset,
        gone_table,
        back_table,
    );
    crowd.reload("without routes");
}
