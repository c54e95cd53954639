//! `scripts/fuzz.sh import`: an arbitrary file of another program is either imported or refused.
#![no_main]

#[path = "../bodies/import.rs"]
mod import;

libfuzzer_sys::fuzz_target!(|text: &[u8]| import::run(text));
