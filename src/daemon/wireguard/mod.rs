//! WireGuard mode: many peers, each identified by its key, at any endpoint.
//!
//! The protocol engine ([`wontun_proto::wireguard`]) decides which messages are sent and accepted;
//! the allowed IPs ([`wontun_proto::allowed_ips`]) decide which peer a packet is for, and whether it may come
//! from the peer that sent it. This module connects them with the descriptors: packets and
//! datagrams in `data_path`, the peers' sockets in `path`, their names in `names` and `lookup`,
//! configuration changes in `change`, reports of their addresses to the supervisor in `endpoints`
//! and `report`, answers to wg(8) in `answers` and `requests`.

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
