//! Privilege separation: the process that parses input from unknown senders can change nothing of
//! the host, and the processes live and die together.

mod capabilities;
mod death;
pub(crate) mod host_state;
#[cfg(target_arch = "x86_64")]
mod hostile_messages;
#[cfg(target_arch = "x86_64")]
mod inject;
#[cfg(target_arch = "x86_64")]
mod takeover;
#[cfg(target_arch = "x86_64")]
mod takeover_admin;
mod work;
