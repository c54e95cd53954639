//! `scripts/fuzz.sh messages`: arbitrary bytes from another process are either an error or a
//! message.
#![no_main]

#[path = "../bodies/messages.rs"]
mod messages;

libfuzzer_sys::fuzz_target!(|input: &[u8]| messages::run(input));
