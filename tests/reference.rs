//! The reference pages list all drop reasons, variables and keys that the program has.

// Tests report failures by panicking.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use wontun::cli::Cli;
use wontun::config::wg_quick::Field;
use wontun_packet::DropReason;

const DROP_REASONS: &str = include_str!("../docs/src/reference/drop-reasons.md");
const ENVIRONMENT: &str = include_str!("../docs/src/reference/environment.md");
const FILE: &str = include_str!("../docs/src/reference/file.md");

/// Returns the first word in backquotes of each row of a table.
fn rows(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn each_drop_reason_is_documented() {
    let names: BTreeSet<&str> = DropReason::ALL.into_iter().map(DropReason::name).collect();
    assert_eq!(rows(DROP_REASONS), names);
}

#[test]
fn each_variable_is_documented() {
    let variables = Cli::variables();
    let read: BTreeSet<&str> = variables.iter().map(String::as_str).collect();
    let documented: BTreeSet<&str> =
        rows(ENVIRONMENT).into_iter().filter(|name| name.starts_with("WONTUN_")).collect();
    assert_eq!(documented, read);
}

#[test]
fn each_key_of_the_file_is_documented() {
    for field in Field::ALL {
        assert!(FILE.contains(&format!("`{field}`")), "{field} is not documented");
    }
}
