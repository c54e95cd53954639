//! `scripts/fuzz.sh datagram`: whatever arrives, the engine answers and keeps its rules.
#![no_main]

#[path = "../bodies/datagram.rs"]
mod datagram;

libfuzzer_sys::fuzz_target!(|script: &[u8]| datagram::run(script));
