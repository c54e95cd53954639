//! System calls allowed to `wontun hold`.

use nix::libc;

use super::calls::Condition::Is;
use super::calls::{NOT_EXECUTABLE, RUNTIME, Syscall, any, only};
use super::numbers::MMAP;

/// Calls of a process that only waits for signals, reaps children and ends.
const HOLD: &[Syscall] = &[
    any(libc::SYS_wait4),
    // without optimization, std checks descriptors that it closes
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)]]),
    // memory of the C library and std, for a message
    only(MMAP, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
];
#[cfg(target_arch = "x86_64")]
const HOLD_LEGACY: &[Syscall] = &[any(libc::SYS_poll)];
#[cfg(not(target_arch = "x86_64"))]
const HOLD_LEGACY: &[Syscall] = &[];

/// Calls that are allowed to a process that only waits for signals.
pub(super) const HOLD_ALLOWED: &[&[Syscall]] = &[RUNTIME, HOLD, HOLD_LEGACY];
