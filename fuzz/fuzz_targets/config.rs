//! `scripts/fuzz.sh config`: whatever is in a file, the parser answers and keeps its rules.
#![no_main]

#[path = "../bodies/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|text: &[u8]| config::run(text));
