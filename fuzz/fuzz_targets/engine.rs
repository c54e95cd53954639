//! `scripts/fuzz.sh engine`: two engines that exchange arbitrary messages keep their invariants.
#![no_main]

#[path = "../bodies/engine.rs"]
mod engine;
#[path = "../bodies/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|script: &[u8]| engine::run(script));
