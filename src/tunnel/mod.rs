//! The protocol engines, sans-IO: input is bytes and the time, output is bytes and the next
//! deadline. They use no socket, no clock and no system randomness, so a test simulates a day in
//! milliseconds.

pub mod plain;
pub mod wireguard;
