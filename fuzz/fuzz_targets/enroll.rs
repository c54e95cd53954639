//! `scripts/fuzz.sh enroll`: arbitrary bytes are read as a request of a device, an answer, and a
//! code.
#![no_main]

#[path = "../bodies/enroll.rs"]
mod enroll;

libfuzzer_sys::fuzz_target!(|input: &[u8]| enroll::run(input));
