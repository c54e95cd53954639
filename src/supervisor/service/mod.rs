//! Notifications to the service manager: ready, reloading, stopping, status and watchdog. The
//! watchdog is only told that the tunnel is alive once the tunnel process has answered a probe,
//! which it does when all its workers have turned; so one that is stuck has the tunnel restarted,
//! and so has a supervisor that is stuck.

mod notify;
mod state;

pub(super) use state::Service;
