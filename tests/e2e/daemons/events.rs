//! Deletions and additions of the tunnel's state, as the kernel announces them, and the time
//! between.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::waiting::eventually;
use crate::wireguard::site::Site;

/// Part of the names of objects that are added and deleted to check that the monitors report.
const PROBE: &str = "9999";

/// Lines of `ip monitor` and `nft monitor` about the tunnel `wg0`.
#[derive(Debug)]
pub(super) struct Events {
    monitors: Vec<Child>,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Events {
    pub(super) fn start(site: &Site) -> Self {
        let lines = Arc::default();
        let routes = ["monitor", "address", "route", "rule"];
        let monitors = [("ip", &routes[..]), ("nft", &["monitor", "tables"])];
        let monitors = monitors.map(|(program, arguments)| watch(site, program, arguments, &lines));
        let events = Self { monitors: monitors.into(), lines };
        // both monitors run once they have reported something
        eventually("the monitors tell", || {
            site.shell(
                "ip rule add priority 9 table 9999; ip rule delete priority 9
                 nft add table inet probe9999; nft delete table inet probe9999",
            );
            let lines = events.lines.lock().unwrap();
            ["lookup 9999", "inet probe9999"]
                .iter()
                .all(|probe| lines.iter().any(|(_, line)| line.contains(probe)))
        });
        events
    }

    /// Returns each deletion and the time until the object was there again; `None` if it was not.
    pub(super) fn outages(&self) -> Vec<(String, Option<Duration>)> {
        let lines = self.lines.lock().unwrap();
        let deleted = lines.iter().enumerate().filter_map(|(number, (at, line))| {
            let what = line.strip_prefix("Deleted ").or_else(|| line.strip_prefix("delete "))?;
            if what.contains(PROBE) {
                return None;
            }
            let added = |line: &str| {
                line == what || line.strip_prefix("add ").is_some_and(|line| line.starts_with(what))
            };
            let back = lines[number..].iter().find(|(_, line)| added(line));
            Some((what.to_owned(), back.map(|(back, _)| back.duration_since(*at))))
        });
        deleted.collect()
    }

    /// Prints the number of deletions of each kind and the longest time to a repair. Panics if that
    /// is longer than `limit`.
    pub(super) fn report(&self, title: &str, limit: Duration) {
        let outages = self.outages();
        for kind in ["rule", "route", "address", "table"] {
            let of_kind: Vec<_> = outages.iter().filter(|(what, _)| kind_of(what) == kind).collect();
            let longest = of_kind.iter().filter_map(|(_, time)| *time).max();
            let lost = of_kind.iter().filter(|(_, time)| time.is_none()).count();
            println!("FIGURE {title}: {kind}: {} deleted, back after {longest:?}, {lost} not", of_kind.len());
            assert!(longest.is_none_or(|longest| longest < limit), "{outages:#?}");
        }
    }
}

fn kind_of(what: &str) -> &'static str {
    if what.starts_with("table ") {
        "table"
    } else if what
        .split_once(": ")
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok() && !what.contains(" inet"))
    {
        "rule"
    } else if what.contains(" inet ") || what.contains(" inet6 ") {
        "address"
    } else {
        "route"
    }
}

fn watch(
    site: &Site,
    program: &str,
    arguments: &[&str],
    lines: &Arc<Mutex<Vec<(Instant, String)>>>,
) -> Child {
    let mut command = site.command(program);
    let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let is_ours = ["proto 119", "wg0", "wontun", PROBE].iter().any(|needle| line.contains(needle));
            // the kernel's own routes follow the addresses
            if is_ours && !line.contains("proto kernel") {
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                lines.lock().unwrap().push((Instant::now(), line));
            }
        }
    });
    child
}

impl Drop for Events {
    fn drop(&mut self) {
        for monitor in &mut self.monitors {
            monitor.kill().ok();
            monitor.wait().ok();
        }
    }
}
