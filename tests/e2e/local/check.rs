//! `wontun check`: what it shows is what a start does, and it does nothing itself.

use serde_json::Value;

use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, finish, succeed};
use crate::wireguard::kill_switch::{Stage, launch};
use crate::wireguard::site::Site;

const STATE: &str = "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; \
    ip -br link; nft list ruleset; sysctl net.ipv4.conf.all.src_valid_mark net.ipv4.ip_forward";

/// Runs `wontun check` as a user without a privilege, who owns a copy of the file.
fn check(site: &Site, text: &str, arguments: &[&str]) -> Finished {
    let file = site.write("wg0.conf", text);
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    let mut command = site.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", BINARY, "check"]);
    finish(command.arg(&file).args(arguments), TIMEOUT)
}

#[test]
fn a_start_does_what_was_shown() {
    let stage = Stage::new();
    let client = stage.client();
    let before = client.shell(STATE);
    let text = stage.plan.client.wg_quick();
    let run = check(client, &text, &["--kill-switch", "--json"]);
    assert_eq!((run.code(), run.stderr.as_str()), (0, ""), "{run:?}");
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let plan = &document["plan"];
    let people = check(client, &text, &["--kill-switch"]);
    assert!(
        people.stdout.contains("table 51820") && people.stdout.ends_with("Nothing was changed.\n"),
        "{people:?}"
    );
    assert_eq!(client.shell(STATE), before);
    let daemon = launch(client, &stage.plan.client, &["--kill-switch"]);
    daemon.wait_for(" ready mode=");
    for (family, option) in [("IPv4", "-4"), ("IPv6", "-6")] {
        let made = client.ip(&[option, "rule"]).replace(":\t", ": ");
        let rules = plan["rules"].as_array().unwrap().iter().filter(|rule| rule["family"] == family);
        let rules: Vec<_> = rules.map(|rule| rule["rule"].as_str().unwrap()).collect();
        assert!(!rules.is_empty() && rules.iter().all(|rule| made.contains(rule)), "{rules:?}: {made}");
        // besides those for local, main and default
        let others = if option == "-4" { 3 } else { 2 };
        assert_eq!(made.lines().count(), rules.len() + others, "{made}");
        let zero = if option == "-4" { "0.0.0.0/0" } else { "::/0" };
        let route = plan["routes"].as_array().unwrap().iter().find(|route| route["network"] == zero).unwrap();
        let made = client.ip(&[option, "route", "show", "table", &route["table"].to_string()]);
        assert!(made.starts_with("default dev wg0"), "{made}");
    }
    let tables = client.shell("nft list tables");
    let planned: Vec<_> =
        plan["nf_tables"].as_array().unwrap().iter().map(|table| table.as_str().unwrap()).collect();
    assert!(
        planned.iter().all(|table| tables.contains(&format!("table {table}\n"))),
        "{planned:?}: {tables}"
    );
    assert_eq!(tables.matches("wontun-").count(), planned.len(), "{planned:?}: {tables}");
    assert_eq!(plan["mtu"].to_string(), client.mtu("wg0").to_string());
    let addresses = client.ip(&["-br", "address", "show", "dev", "wg0"]);
    assert!(
        plan["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .all(|address| addresses.contains(address.as_str().unwrap()))
    );
    assert!(client.shell("sysctl net.ipv4.conf.all.src_valid_mark").ends_with(" = 1\n"));
    // it runs: the same again
    let again = check(client, &text, &["--kill-switch", "--json"]);
    let mut expected = plan.clone();
    expected["settings"] = Value::Array(Vec::new());
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap()["plan"], expected, "{again:?}");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

#[test]
fn all_errors_are_shown_at_once_and_a_start_has_the_first() {
    let stage = Stage::new();
    let client = stage.client();
    let text = stage
        .plan
        .client
        .wg_quick()
        .replace("AllowedIPs", "AlowedIPs")
        .replace("[Interface]", "[Interface]\nMTU = x\nPostUp = touch /tmp/never");
    let run = check(client, &text, &[]);
    assert_eq!(run.code(), 78, "{run:?}");
    let shown = [
        "'AlowedIPs' in [Peer]; did you mean AllowedIPs?",
        "MTU: found 'x', expected a number of bytes",
        "PostUp is refused",
    ];
    assert!(
        shown.iter().all(|part| run.stdout.contains(part)) && run.stderr.ends_with("wg0.conf: 3 errors\n"),
        "{run:?}"
    );
    let file = client.write("wg0.conf", &text);
    let started = finish(client.command(BINARY).args(["--config", file.to_str().unwrap()]), TIMEOUT);
    assert_eq!(started.code(), 78, "{started:?}");
    let line = started.stderr.trim_end().split_once(": ").unwrap().1;
    assert!(run.stdout.contains(line), "{line}: {run:?}");
    assert_eq!(succeed(client.command("ip").args(["-br", "link", "show", "type", "tun"])), "");
}
