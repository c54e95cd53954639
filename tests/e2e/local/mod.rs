//! Attacks and accidents on the host itself: other users, other administrators, other programs.

mod ruleset;
