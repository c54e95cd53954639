//! The tunnel at work: workers, each with an edge-triggered epoll of its own and handlers that drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves everyone who waits there once, for a bounded number of
//! packets; who has more to give stays in the set, and the next poll does not block. What is due comes first in a turn,
//! and each handler is followed by what it made due.
//!
//! A [`Worker`] takes its turns in `event_loop`, and moves packets: `outgoing` from the tun to the wire, `incoming` back.
//! What a packet or datagram means is its [`Mode`]'s: [`PlainTunnel`] has one peer and `hello?`, [`WireGuard`] has many
//! and keys. The mode and [`Core`] are shared by the workers behind one lock ([`Shared`]), which is held neither while
//! packets of a session are sealed or opened nor across a packet's system calls. One handshake message is worked on under
//! it at a time.
//!
//! Imports between these files point one way. From the bottom: the parts of [`Core`] (`checkup`, `connection`, `poll`,
//! `pulse`, `sockets`); [`Core`]; [`Mode`]; the methods of [`Core`] that need the mode (`health`, `housekeeping`,
//! `supervisor`); [`Worker`] and [`Shared`]; `outgoing`, `incoming`, `event_loop`; [`Device`]; the two modes; `process`.
//!
//! All this is a process of its own (`process`), which has no capability and opens nothing: its
//! `supervisor` gives it the descriptors, keys and peers, and sets the host.

mod budget;
mod checkup;
mod connection;
mod core;
mod error;
mod event_loop;
mod handshake_budget;
mod health;
mod housekeeping;
mod incoming;
mod metrics;
mod mode;
mod outgoing;
mod pending;
mod plain;
mod poll;
mod process;
mod pulse;
mod ready;
mod run;
mod shared;
mod sockets;
mod supervisor;
mod suspension;
mod token;
mod wireguard;
mod worker;

pub use budget::Progress;
pub use core::Core;
pub use error::DeviceError;
pub use incoming::Receive;
pub use mode::{Mode, Way};
pub use plain::PlainTunnel;
pub use process::main;
pub use run::Device;
pub use shared::Shared;
pub use sockets::{Entrance, Sockets, Via};
pub use token::{SockId, Token, UnknownToken};
pub use wireguard::WireGuard;
pub use worker::Worker;
