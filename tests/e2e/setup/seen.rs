//! Output of `wontun peer list`, `peer show` and `show` about peers: states, and traffic of days,
//! months and all runs.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use wontun::state_file::StateTable;
use wontun::traffic::Traffic;

use super::server::{Server, client};
use crate::lab::Lab;
use crate::waiting::eventually;

const SERVER: [u8; 4] = [10, 8, 0, 1];

/// Returns the peer `name` of `wontun peer list --json`.
fn listed(server: &Server, name: &str) -> Value {
    let document: Value = serde_json::from_str(&server.output(&["peer", "list", "--json"])).unwrap();
    let peers = document["peers"].as_array().unwrap();
    let found = peers.iter().find(|peer| peer["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// Returns the bytes received from `phone` in a period.
fn received(server: &Server, period: &str) -> u64 {
    let phone = listed(server, "phone");
    phone["traffic"][period]["received_bytes"].as_u64().unwrap_or_else(|| panic!("{phone}"))
}

/// Changes the traffic in a state file that no process uses.
fn change_traffic(path: &Path, change: impl Fn(&mut Traffic)) {
    let (mut table, _) = StateTable::parse(&fs::read(path).unwrap());
    let keys: Vec<_> = table.records().map(|record| record.public_key).collect();
    for key in keys {
        table.update(&key, |record| change(&mut record.traffic));
    }
    let file = fs::File::options().write(true).open(path).unwrap();
    while let Some(page) = table.poll_write() {
        file.write_all_at(&page.bytes, page.offset).unwrap();
        table.handle_written(page.number);
    }
}

#[test]
fn states_and_traffic_are_shown_over_reload_take_over_and_restart() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    let (phone, _phone) = client(&lab, 1, &server.output(&["peer", "add", "phone"]));
    let long = "Anna's \"laptop\" 電話 with a long name";
    for name in [long, "old", "away"] {
        server.output(&["peer", "add", name]);
    }
    let text = server.text();
    let text = text.replace("# Name = old\n", "# Name = old\n# Expires = 2020-01-01\n# Allow = dns, lan\n");
    fs::write(server.file(), text.replace("# Name = away\n", "# Name = away\n# Disabled = yes\n")).unwrap();
    phone.ping(SERVER);
    for _ in 0..4 {
        assert!(phone.ping_once(SERVER, 1200));
    }

    let states = ["phone", long, "old", "away"].map(|name| listed(&server, name)["state"].clone());
    assert_eq!(states, ["active", "never", "expired", "disabled"]);
    let settings = &listed(&server, "old")["settings"];
    assert_eq!(*settings, serde_json::json!({ "expires": "2020-01-01", "allow": "dns, lan" }));
    let table = server.output(&["peer", "list"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{table}");
    assert!(lines[0].starts_with("NAME ") && lines[0].ends_with("THIS MONTH  STATE"), "{table}");
    assert!(lines[1].starts_with("phone ") && lines[1].ends_with(" KiB  active"), "{table}");
    assert!(lines[1].contains(" 10.8.0.2 ") && lines[2].trim_start().starts_with("fd"), "{table}");
    assert!(lines.iter().any(|line| line.ends_with(" disabled")), "{table}");
    let shown = server.output(&["peer", "show", "old"]);
    assert!(shown.contains("state: expired\n") && shown.contains("  allow: dns, lan\n"), "{shown}");
    for args in [&["peer", "show", "phone"][..], &["show"]] {
        let shown = server.output(args);
        for label in ["today", "this month", "all runs"] {
            let line = shown.lines().find(|line| line.trim_start().starts_with(&format!("{label}: ")));
            assert!(line.is_some_and(|line| line.contains(" KiB received, ")), "{label}: {shown}");
        }
    }
    assert!(server.output(&["status"]).contains("  active "));

    // one that is cut off keeps its totals, which are shown
    server.output(&["peer", "disable", "phone"]);
    let disabled = received(&server, "month");
    assert_eq!(listed(&server, "phone")["state"], "disabled");
    server.output(&["peer", "enable", "phone"]);
    phone.ping_within(Duration::from_secs(5), SERVER);

    let before = received(&server, "month");
    assert!(disabled > 4_800 && before > disabled, "{disabled}, {before}");
    assert!((4_800..10_000).contains(&before), "{before}");
    assert_eq!((received(&server, "total"), received(&server, "day")), (before, before));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    assert!(received(&server, "month") >= before);

    // by another process, without a break; each byte is counted once
    let new = server.serve(&["--take-over"]);
    assert_eq!(daemon.wait_exit().status.code(), Some(0));
    let taken_over = received(&server, "month");
    assert!((before..before + 500).contains(&taken_over), "{before}, {taken_over}");
    new.stop();

    // by another run, with what was carried until the end
    let path = server.dir.join("tun0.state");
    let new = server.serve(&[]);
    let after = received(&server, "month");
    assert!((taken_over..taken_over + 1500).contains(&after), "{taken_over}, {after}");
    assert!(listed(&server, "phone")["latest_handshake"].as_u64().unwrap() > 0);
    new.stop();
    // the last run was in the month before
    change_traffic(&path, |traffic| {
        traffic.month.number -= 1;
        traffic.day.number -= 31;
    });
    let _new = server.serve(&[]);
    phone.ping(SERVER);
    let [month, previous, total, yesterday] =
        ["month", "previous_month", "total", "previous_day"].map(|period| received(&server, period));
    assert!(month < 2_000 && previous >= after && total >= previous + month, "{month}, {previous}, {total}");
    assert_eq!(yesterday, 0);
    eventually("the new month", || {
        let (table, _) = StateTable::parse(&fs::read(&path).unwrap());
        table.records().any(|record| record.traffic.month.previous.received == previous)
    });
}
