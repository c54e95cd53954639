//! Replays the fuzzers' corpus, so that an ordinary test run covers it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies/admin.rs"]
mod admin;
#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../fuzz/bodies/datagram.rs"]
mod datagram;
#[path = "../fuzz/bodies/engine.rs"]
mod engine;
#[path = "../fuzz/bodies/enroll.rs"]
mod enroll;
#[path = "../fuzz/bodies/import.rs"]
mod import;
#[path = "../fuzz/bodies/messages.rs"]
mod messages;
#[path = "../fuzz/bodies/names.rs"]
mod names;
#[path = "../fuzz/bodies/offload.rs"]
mod offload;
#[path = "../fuzz/bodies/script.rs"]
mod script;
#[path = "../fuzz/bodies/state_file.rs"]
mod state_file;
#[path = "../fuzz/bodies/uapi.rs"]
mod uapi;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn admin() {
    replay("admin", admin::run);
}

#[test]
fn config() {
    replay("config", config::run);
}

#[test]
fn datagram() {
    replay("datagram", datagram::run);
}

#[test]
fn engine() {
    replay("engine", engine::run);
}

#[test]
fn enroll() {
    replay("enroll", enroll::run);
}

#[test]
fn uapi() {
    replay("uapi", uapi::run);
}

#[test]
fn messages() {
    replay("messages", messages::run);
}

#[test]
fn state_file() {
    replay("state_file", state_file::run);
}

#[test]
fn names() {
    replay("names", names::run);
}

#[test]
fn offload() {
    replay("offload", offload::run);
}

#[test]
fn import() {
    replay("import", import::run);
}
