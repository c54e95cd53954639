//! Interfaces for the control of a running tunnel and for the service manager.

pub mod health;
pub mod notify;
