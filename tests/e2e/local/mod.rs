//! Attacks and accidents on the host itself: other users, other administrators, other programs.

mod noise_peer;
mod ruleset;
mod session_keys;
