//! `scripts/fuzz.sh import`: whatever another program's file has in it, it is taken over or
//! refused.
#![no_main]

#[path = "../bodies/import.rs"]
mod import;

libfuzzer_sys::fuzz_target!(|text: &[u8]| import::run(text));
