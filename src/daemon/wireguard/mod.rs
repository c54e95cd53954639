//! WireGuard mode: many peers, each identified by its key, at any endpoint.
//!
//! The protocol engine ([`wontun_proto::wireguard`]) decides which messages are sent and accepted;
//! the allowed IPs ([`wontun_proto::allowed_ips`]) decide which peer a packet is for, and whether
//! it may come from the peer that sent it. This module connects them with the descriptors: packets
//! and datagrams in `data_path`, the peers' sockets in `connected_sockets`, their names in
//! `endpoint_resolver` and `lookup`, configuration changes in `change`, reports of their addresses
//! to the supervisor in `endpoint_reports` and `report`, what is kept over a restart in `restart`,
//! `state_reports` and `greetings`, answers to wg(8) in `responses` and `requests`, log lines about
//! peers that do not answer in `outages` and `outage_log`.

mod change;
mod connected_sockets;
mod connection_log;
mod connections;
mod data_path;
mod device_queue;
mod endpoint_reports;
mod endpoint_resolver;
mod excluded;
mod excluded_log;
mod greetings;
mod hand_over;
mod ledger;
mod limits;
mod lookup;
mod outage_log;
mod outages;
mod peer_log;
mod peer_lookup;
mod protocol;
mod quotas;
mod report;
mod requests;
mod responses;
mod restart;
mod state_reports;
mod status;
mod tunnel;
mod unknown_keys;

#[cfg(test)]
mod tests;

pub use tunnel::WireGuard;
