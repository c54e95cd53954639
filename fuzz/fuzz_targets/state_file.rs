//! `scripts/fuzz.sh state_file`: arbitrary bytes are read as a state file, and written again.
#![no_main]

#[path = "../bodies/state_file.rs"]
mod state_file;

libfuzzer_sys::fuzz_target!(|input: &[u8]| state_file::run(input));
