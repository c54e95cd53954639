//! The WireGuard protocol, and wontun's plain mode, as sans-IO engines: input is bytes and the
//! time, output is bytes and the next deadline.
//!
//! The engines use no socket, no clock and no randomness of the system, so a test simulates a day
//! in milliseconds, and any event loop can drive them.
//!
//! - [`wireguard::Interface`]: a WireGuard interface with its peers (handshakes, sessions, timers,
//!   cookies, replay protection)
//! - [`plain::Plain`]: the unencrypted mode for one peer
//! - [`allowed_ips`]: longest prefix match from address to peer
//! - [`codel`]: congestion signals of a queue
//! - [`time`]: `Instant`, nanoseconds since boot
//! - [`stack`]: overwriting of keys on the stack
//!
//! `examples/two_peers.rs` connects two engines on a virtual clock.
#![forbid(unsafe_code)]

pub mod allowed_ips;
pub mod codel;
pub mod plain;
pub mod stack;
pub mod time;
pub mod wireguard;
