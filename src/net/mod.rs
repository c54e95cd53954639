//! Safe, non-blocking I/O objects, each of which owns its descriptor.

pub mod batch;
mod control_message;
pub mod fault;
pub mod interrupted;
pub mod limit;
pub mod mailbox;
pub mod random;
pub mod signal;
pub mod steering;
pub mod timer;
pub mod tun;
pub mod udp;
