//! Calls of the processes of the admin page.

use nix::libc;

use super::calls::{ATTACKS, NURSERY_NEVER, RUNTIME, Syscall, any};
use super::numbers::NEWFSTATAT;
use super::one_thread_calls::{ONE_THREAD, ONE_THREAD_LEGACY};

/// Additional calls of both: the clock, where the vDSO does not provide it, and pauses. Others fail
/// with ENOSYS.
const BOTH: &[Syscall] =
    &[any(libc::SYS_gettimeofday), any(libc::SYS_nanosleep), any(libc::SYS_clock_nanosleep)];
#[cfg(target_arch = "x86_64")]
const BOTH_LEGACY: &[Syscall] = &[any(libc::SYS_time)];
#[cfg(not(target_arch = "x86_64"))]
const BOTH_LEGACY: &[Syscall] = &[];

/// Additional calls of the process that serves the page: connections to its listeners.
const ADMIN: &[Syscall] = &[any(libc::SYS_accept4), any(libc::SYS_shutdown)];

/// Additional calls of the process that changes the server's file: files, which Landlock restricts
/// to the configuration's folder, and their owner and permissions.
const EDITOR: &[Syscall] = &[
    any(libc::SYS_openat),
    any(NEWFSTATAT),
    any(libc::SYS_fstat),
    any(libc::SYS_statx),
    any(libc::SYS_readlinkat),
    any(libc::SYS_getcwd),
    any(libc::SYS_lseek),
    any(libc::SYS_readv),
    any(libc::SYS_flock),
    any(libc::SYS_fchown),
    any(libc::SYS_fchmod),
    any(libc::SYS_fsync),
    any(libc::SYS_renameat2),
    any(libc::SYS_linkat),
    any(libc::SYS_unlinkat),
    any(libc::SYS_faccessat2),
];
#[cfg(target_arch = "x86_64")]
const EDITOR_LEGACY: &[Syscall] = &[
    any(libc::SYS_open),
    any(libc::SYS_stat),
    any(libc::SYS_lstat),
    any(libc::SYS_readlink),
    any(libc::SYS_rename),
    any(libc::SYS_renameat),
    any(libc::SYS_link),
    any(libc::SYS_unlink),
    any(libc::SYS_access),
];
#[cfg(not(target_arch = "x86_64"))]
const EDITOR_LEGACY: &[Syscall] = &[any(libc::SYS_renameat)];

/// Calls that kill both: sockets of their own.
const NEVER: &[Syscall] =
    &[any(libc::SYS_socket), any(libc::SYS_connect), any(libc::SYS_bind), any(libc::SYS_listen)];

/// Calls that are allowed to the process that serves the page.
pub(super) const ADMIN_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY, BOTH, BOTH_LEGACY, ADMIN];
/// Calls that kill it.
pub(super) const ADMIN_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER, NEVER];
/// Calls that are allowed to the process that changes the server's file.
pub(super) const EDITOR_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY, BOTH, BOTH_LEGACY, EDITOR, EDITOR_LEGACY];
/// Calls that kill it.
pub(super) const EDITOR_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER, NEVER];
