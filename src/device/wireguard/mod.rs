//! WireGuard mode: many peers, each known by its key, wherever it is.
//!
//! The protocol engine ([`crate::tunnel::wireguard`]) decides what is sent and what is believed; the allowed IPs
//! ([`crate::routing`]) decide which peer a packet is for, and whether it may come from the peer that sent it. Here
//! are the ways between them and the descriptors: packets and datagrams in `data_path`, the peers' sockets in
//! `path`, their names in `names` and `lookup`, changes to all of it in `change`, what the supervisor is told
//! of their addresses in `endpoints` and `report`, answers to wg(8) in `answers` and `requests`.

mod answers;
mod change;
mod data_path;
mod endpoints;
mod lookup;
mod mode;
mod names;
mod path;
mod peer_log;
mod report;
mod requests;
mod status;
mod tunnel;

pub use tunnel::WireGuard;
