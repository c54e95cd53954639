//! The reference pages list all drop reasons, variables and keys that the program has.

// Tests report failures by panicking.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use wontun::cli;
use wontun::config::wg_quick::Field;
use wontun_packet::DropReason;

const DROP_REASONS: &str = include_str!("../docs/src/reference/drop-reasons.md");
const COMMAND_LINE: &str = include_str!("../docs/src/reference/command-line.md");
const ENVIRONMENT: &str = include_str!("../docs/src/reference/environment.md");
const FILE: &str = include_str!("../docs/src/reference/file.md");
const FILE_MANUAL: &str = include_str!("../docs/man/wontun.conf.5");

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
    let variables = cli::variables();
    let read: BTreeSet<&str> = variables.iter().map(String::as_str).collect();
    let documented: BTreeSet<&str> =
        rows(ENVIRONMENT).into_iter().filter(|name| name.starts_with("WONTUN_")).collect();
    assert_eq!(documented, read);
}

#[test]
fn each_command_and_option_is_documented() {
    fn check(command: &clap::Command, path: &str) {
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            let Some(name) = option.get_long() else { continue };
            assert!(COMMAND_LINE.contains(&format!("--{name}")), "--{name} of {path} is not documented");
        }
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            assert!(COMMAND_LINE.contains(&path), "{path} is not documented");
            check(command, &path);
        }
    }
    check(&cli::command(), "wontun");
}

#[test]
fn each_key_of_the_file_is_documented() {
    for field in Field::ALL {
        assert!(FILE.contains(&format!("`{field}`")), "{field} is not documented");
        // those of AmneziaWG are in the manual page as ranges
        let is_numbered = field.to_string().ends_with(|last: char| last.is_ascii_digit());
        assert!(is_numbered || FILE_MANUAL.contains(&field.to_string()), "{field} is not in the manual page");
    }
}
