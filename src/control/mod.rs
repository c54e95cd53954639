//! Talking to a tunnel that runs.

pub mod health;
pub mod uapi;
