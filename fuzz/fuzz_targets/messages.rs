//! `scripts/fuzz.sh messages`: whatever bytes another process sends, they are an error or a
//! message.
#![no_main]

#[path = "../bodies/messages.rs"]
mod messages;

libfuzzer_sys::fuzz_target!(|input: &[u8]| messages::run(input));
