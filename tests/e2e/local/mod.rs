//! Attacks and accidents on the host itself: other users, other administrators, other programs.

mod endpoint_routes;
mod metrics_host;
mod noise_peer;
mod other_family;
mod peer_noise;
mod plain_by_name;
mod ruleset;
mod session_keys;
mod setcap;
