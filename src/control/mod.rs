//! Interfaces for the control of a running tunnel and for the service manager.

pub(crate) mod fd_store;
pub(crate) mod health;
pub(crate) mod notify;
