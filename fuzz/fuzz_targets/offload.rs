//! `scripts/fuzz.sh offload`: arbitrary packets from a tun device or a peer are split and coalesced
//! correctly.
#![no_main]

#[path = "../bodies/offload.rs"]
mod offload;
#[path = "../bodies/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|script: &[u8]| offload::run(script));
