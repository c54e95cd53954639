//! Parsing and building of the packets inside the tunnel: pure functions over bytes, without copies
//! or sockets.

pub mod carried;
pub mod checksum;
pub mod coalesce;
mod field;
pub mod icmpv6;
pub mod ip;
pub mod mss;
pub mod split;
pub mod tcp;
pub mod too_big;
pub mod transport;
pub mod udp;
pub mod virtio;

#[cfg(test)]
mod sample;
