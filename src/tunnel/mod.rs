//! The protocol engines, sans-IO: bytes and the time go in, bytes and the next deadline come out. No socket,
//! no clock and no randomness of the operating system's in here, so a test plays a day in milliseconds.

pub mod plain;
pub mod wireguard;
