//! `scripts/fuzz.sh uapi`: the parser answers arbitrary socket input and keeps its invariants.
#![no_main]

#[path = "../bodies/uapi.rs"]
mod uapi;

libfuzzer_sys::fuzz_target!(|text: &[u8]| uapi::run(text));
