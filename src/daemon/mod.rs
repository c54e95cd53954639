//! The data path of a tunnel: workers, each with its own edge-triggered epoll and handlers that
//! drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves every token in it once, for a bounded
//! number of packets; a token with more work stays in the set, and the next poll does not block.
//! Deadlines are handled first in a turn, and after each handler the deadlines that it has set.
//!
//! A [`Worker`] runs its turns in `event_loop`, and moves packets: `tx` from the tun to the wire,
//! `rx` back. The [`Protocol`] interprets packets and datagrams: [`PlainTunnel`] has one peer and
//! `hello?`, [`WireGuard`] has many peers and keys. The mode and [`Core`] are shared by the workers
//! behind one lock ([`Shared`]), which is held neither while packets are encrypted or decrypted nor
//! across the system calls for a packet. Most packets do without it: their peer has a lock of its
//! own, and tables are read without one (`carry`, `view`, `wireguard::peer_lookup`). The Curve25519
//! operations of received handshake messages are done without it, by a thread of its own
//! (`handshakes`).
//!
//! Imports between these files point one way. From the bottom: the parts of [`Core`]
//! (`handshake_signal`, `health_requests`, `supervisor_connection`, `poll`, `liveness`,
//! `sockets_in_use`, `sockets`); [`Core`]; [`Protocol`]; `view`; the methods of [`Core`] that need
//! the mode (`health`, `housekeeping`, `supervisor`); [`Worker`] and [`Shared`]; `carry`; `tx`,
//! `rx`, `handshakes`, `event_loop`; [`Daemon`]; the two modes; `process`.
//!
//! All this runs in a process of its own (`process`), which has no capabilities and opens nothing:
//! its `supervisor` passes it the descriptors, keys and peers, and configures the host.

mod budget;
mod carry;
mod core;
mod data_path;
mod device_queues;
mod error;
mod event_loop;
mod hand_over;
mod handshake_budget;
mod handshake_signal;
mod handshakes;
mod health;
mod health_requests;
mod housekeeping;
mod inbound_bulk;
mod limited;
mod liveness;
mod metrics;
mod pending;
mod plain;
mod poll;
mod process;
mod protocol;
mod ready;
mod run;
mod rx;
mod shared;
mod sockets;
mod sockets_in_use;
mod supervisor;
mod supervisor_connection;
mod suspension;
mod token;
mod tx;
mod uplink;
mod view;
mod wireguard;
mod worker;

pub use budget::Progress;
pub use carry::Carry;
pub use core::Core;
pub use data_path::{DataPath, Route, RouteDecision};
pub use error::DaemonError;
pub use plain::PlainTunnel;
pub use process::main;
pub use protocol::{Control, Protocol};
pub use run::Daemon;
pub use shared::Shared;
pub use sockets::Sockets;
pub use sockets_in_use::{SocketInfo, SocketRef};
pub use token::{SocketId, Token, UnknownTokenError};
pub use wireguard::WireGuard;
pub use worker::Worker;
