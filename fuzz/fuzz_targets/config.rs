//! `scripts/fuzz.sh config`: the parser answers an arbitrary file and keeps its invariants.
#![no_main]

#[path = "../bodies/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|text: &[u8]| config::run(text));
