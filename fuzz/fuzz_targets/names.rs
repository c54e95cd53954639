//! `scripts/fuzz.sh names`: arbitrary bytes are read as a DNS query and as an answer.
#![no_main]

#[path = "../bodies/names.rs"]
mod names;

libfuzzer_sys::fuzz_target!(|input: &[u8]| names::run(input));
