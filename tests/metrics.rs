//! The metrics' documentation and dashboard cover exactly the metrics that are served.

// Tests report failures by panicking.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wontun::metrics::FAMILIES;

const DASHBOARD: &str = include_str!("../docs/src/reference/grafana.json");
const DOCUMENTATION: &str = include_str!("../docs/src/reference/metrics.md");

/// Returns the metric names in an expression: words with the prefix of wontun's metrics.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("wontun_") || word.starts_with("process_"))
}

fn served() -> BTreeSet<&'static str> {
    FAMILIES.iter().map(|family| family.name).collect()
}

/// Collects all values of `key` at any depth.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|value| find(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| find(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_is_served_and_nothing_else() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    find(&dashboard, "expr", &mut expressions);
    let shown: BTreeSet<_> = expressions.iter().flat_map(|value| names(value.as_str().unwrap())).collect();
    assert_eq!(shown, served());
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert!(
        !dashboard["title"].as_str().unwrap().is_empty() && !dashboard["uid"].as_str().unwrap().is_empty()
    );
    let variables: BTreeSet<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "instance"]));
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its number is taken");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(
            place("x") + place("w") <= 24 && place("w") > 0 && place("h") > 0,
            "{title} is beyond the edge"
        );
        for (x, y) in (place("x")..place("x") + place("w"))
            .flat_map(|x| (place("y")..place("y") + place("h")).map(move |y| (x, y)))
        {
            assert_eq!(taken.insert((x, y), title), None, "{title} lies on another at {x}, {y}");
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
                assert_eq!(
                    expression.matches(open).count(),
                    expression.matches(close).count(),
                    "{expression}"
                );
            }
        }
    }
    let mut sources = Vec::new();
    find(&dashboard, "datasource", &mut sources);
    assert!(sources.len() > panels.len());
    assert!(sources.iter().all(|source| source["uid"] == "${datasource}"), "a data source of somebody's own");
}

#[test]
fn counters_are_shown_as_rates_and_gauges_are_not() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    find(&dashboard, "expr", &mut expressions);
    for expression in expressions.iter().map(|value| value.as_str().unwrap()) {
        for name in names(expression) {
            let is_rate = expression.contains(&format!("rate({name}"));
            let is_counter = served().contains(name) && name.ends_with("_total");
            assert_eq!(is_rate, is_counter, "{expression}");
        }
    }
}

#[test]
fn the_documentation_has_each_metric_with_its_type_and_meaning() {
    let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut documented = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [name, kind, _, help] = cells[..] else { panic!("{row}") };
        let name = name.trim_end_matches('`');
        let family = FAMILIES.iter().find(|family| family.name == name);
        let family = family.unwrap_or_else(|| panic!("{name} is not served"));
        assert_eq!((kind, help), (family.kind.name(), family.help), "{name}");
        assert!(documented.insert(family.name), "{name} is there twice");
    }
    assert_eq!(documented, served());
    let used: BTreeSet<_> = names(DOCUMENTATION).collect();
    assert!(used.is_subset(&served()), "{:?} are not served", used.difference(&served()));
}
