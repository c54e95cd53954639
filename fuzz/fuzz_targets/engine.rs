//! `scripts/fuzz.sh engine`: whatever two engines meet with, they keep their rules.
#![no_main]

#[path = "../bodies/engine.rs"]
mod engine;

libfuzzer_sys::fuzz_target!(|script: &[u8]| engine::run(script));
