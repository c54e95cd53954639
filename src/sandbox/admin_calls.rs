//! Calls of the processes of the admin page.

use nix::libc;

use super::calls::Condition::Is;
use super::calls::{ATTACKS, NOT_EXECUTABLE, NURSERY_NEVER, RUNTIME, Syscall, any, only};
use super::numbers::FIONBIO;

/// Calls of both: the channel to the supervisor, memory, the clock. Others fail with ENOSYS.
const BOTH: &[Syscall] = &[
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    only(libc::SYS_mmap, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    only(libc::SYS_mprotect, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_clock_gettime),
    any(libc::SYS_gettimeofday),
    any(libc::SYS_nanosleep),
    any(libc::SYS_clock_nanosleep),
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)], &[Is(1, libc::F_GETFL)], &[Is(1, libc::F_SETFL)]]),
];
#[cfg(target_arch = "x86_64")]
const BOTH_LEGACY: &[Syscall] = &[any(libc::SYS_poll), any(libc::SYS_time)];
#[cfg(not(target_arch = "x86_64"))]
const BOTH_LEGACY: &[Syscall] = &[];

/// Additional calls of the process that serves the page: connections to its listeners.
const ADMIN: &[Syscall] =
    &[any(libc::SYS_accept4), any(libc::SYS_shutdown), only(libc::SYS_ioctl, &[&[Is(1, FIONBIO)]])];

/// Additional calls of the process that changes the server's file: files, which Landlock restricts
/// to the configuration's folder, and their owner and permissions.
const EDITOR: &[Syscall] = &[
    any(libc::SYS_openat),
    any(libc::SYS_newfstatat),
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
pub(super) const ADMIN_ALLOWED: &[&[Syscall]] = &[RUNTIME, BOTH, BOTH_LEGACY, ADMIN];
/// Calls that kill it.
pub(super) const ADMIN_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER, NEVER];
/// Calls that are allowed to the process that changes the server's file.
pub(super) const EDITOR_ALLOWED: &[&[Syscall]] = &[RUNTIME, BOTH, BOTH_LEGACY, EDITOR, EDITOR_LEGACY];
/// Calls that kill it.
pub(super) const EDITOR_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER, NEVER];
