//! Calls of the process that enrols devices.

use nix::libc;

use super::calls::{ATTACKS, NURSERY_NEVER, RUNTIME, Syscall, any};
use super::one_thread_calls::{ONE_THREAD, ONE_THREAD_LEGACY};

/// Calls that kill it: sockets of its own.
const NEVER: &[Syscall] =
    &[any(libc::SYS_socket), any(libc::SYS_connect), any(libc::SYS_bind), any(libc::SYS_listen)];

/// Calls that are allowed to the process. Others fail with ENOSYS.
pub(super) const ENROLL_ALLOWED: &[&[Syscall]] = &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY];
/// Calls that kill it.
pub(super) const ENROLL_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER, NEVER];
