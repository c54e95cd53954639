//! `scripts/fuzz.sh datagram`: the engine handles arbitrary datagrams and keeps its invariants.
#![no_main]

#[path = "../bodies/datagram.rs"]
mod datagram;

libfuzzer_sys::fuzz_target!(|script: &[u8]| datagram::run(script));
