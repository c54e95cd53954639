//! Calls of the processes that are connected to the system bus.

use nix::libc;

use super::calls::Condition::Is;
use super::calls::{ATTACKS, NURSERY_NEVER, RUNTIME, STREAM, Syscall, any, only};
use super::one_thread_calls::{ONE_THREAD, ONE_THREAD_LEGACY};

/// Additional calls of the `dns` process where its own user may set name servers: to connect to a
/// bus that was restarted.
const DNS_RECONNECT: &[Syscall] =
    &[only(libc::SYS_socket, &[&[Is(0, libc::AF_UNIX), STREAM, Is(2, 0)]]), any(libc::SYS_connect)];

/// Calls that are allowed to the `dns` process that is connected to the bus, and to the one that
/// sets name servers. Others fail with ENOSYS.
pub(super) const DNS_BUS_ALLOWED: &[&[Syscall]] = &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY];
/// The same where it may connect again.
pub(super) const DNS_RECONNECT_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY, DNS_RECONNECT];
/// Calls that kill these processes.
pub(super) const DNS_BUS_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER];
