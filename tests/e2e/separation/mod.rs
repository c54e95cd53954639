//! Privilege separation: the process that parses what strangers send can change nothing of the
//! host, whatever it tries, and the processes live and die together.

mod capabilities;
mod death;
mod host_state;
#[cfg(target_arch = "x86_64")]
mod hostile_messages;
#[cfg(target_arch = "x86_64")]
mod inject;
#[cfg(target_arch = "x86_64")]
mod takeover;
mod work;
