//! Talking to a tunnel that runs, and to whoever watches over it.

pub mod health;
pub mod notify;
pub mod uapi;
