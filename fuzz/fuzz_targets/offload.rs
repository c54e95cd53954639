//! `scripts/fuzz.sh offload`: whatever a tun device or a peer gives, it is cut and joined by the
//! rules.
#![no_main]

#[path = "../bodies/offload.rs"]
mod offload;

libfuzzer_sys::fuzz_target!(|script: &[u8]| offload::run(script));
