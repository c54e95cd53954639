//! Views of the packets inside the tunnel: pure functions over bytes, no copies, no sockets.

pub mod ip;
