//! `scripts/fuzz.sh uapi`: whatever comes over the socket, the parser answers and keeps its rules.
#![no_main]

#[path = "../bodies/uapi.rs"]
mod uapi;

libfuzzer_sys::fuzz_target!(|text: &[u8]| uapi::run(text));
