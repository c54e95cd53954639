//! `scripts/fuzz.sh admin`: requests to the admin page.
#![no_main]

#[path = "../bodies/admin.rs"]
mod admin;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| admin::run(bytes));
