//! Safe, non-blocking I/O objects, each of which owns its descriptor.

mod control_message;
pub mod descriptor_limit;
pub mod error_class;
pub mod random;
pub mod recv_buffer;
pub mod send_batch;
pub mod signal;
pub mod steering;
pub mod timer;
pub mod tun;
pub mod udp;
