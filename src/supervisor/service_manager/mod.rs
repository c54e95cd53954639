//! Notifications to the service manager: ready, reloading, stopping, status and watchdog. A
//! watchdog keep-alive is sent only once the tunnel process has answered a probe, which it does
//! when all its workers have run a turn; so a stuck tunnel process or supervisor makes the service
//! manager restart the tunnel.

mod notify;
mod state;

pub(super) use state::ServiceManager;
