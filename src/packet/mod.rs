//! Views of the packets inside the tunnel: pure functions over bytes, no copies, no sockets.

pub mod icmpv6;
pub mod ip;
pub mod udp;
