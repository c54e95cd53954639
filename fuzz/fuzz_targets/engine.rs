//! `scripts/fuzz.sh engine`: two engines that exchange arbitrary messages keep their invariants.
#![no_main]

#[path = "../bodies/engine.rs"]
mod engine;

libfuzzer_sys::fuzz_target!(|script: &[u8]| engine::run(script));
