//! Calls of the `dns` process that writes /etc/resolv.conf.
//!
//! It may run as root, to which the files in that folder belong. Landlock identifies files by their
//! inodes, and programs replace /etc/resolv.conf by new files: so its rules allow the whole folder.
//! This filter restricts the process to that one path: a file is opened, or removed, only
//! if the *address* of the path is that of a constant in the program's read-only memory, and
//! memory at that address cannot be changed or replaced.

use std::ffi::CStr;

use nix::libc;

use super::calls::{ABSENT, Condition, NOT_EXECUTABLE, RUNTIME, Syscall, any, only};
use super::numbers::{MMAP, NEWFSTATAT};

use Condition::{Above, FarBelow, Is, IsPath, LessThanBelow, Masked};

/// The path. The process must use this constant, whose address its filter allows.
pub(crate) static RESOLV_CONF_PATH: &CStr = c"/etc/resolv.conf";
/// Distance and length in bytes for [`FarBelow`] and [`LessThanBelow`].
pub(super) const BELOW: u64 = 128 * 1024;

/// Calls that are allowed.
const RESOLV_CONF: &[Syscall] = &[
    // the channel, the file, its watch, the log of a panic
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    any(libc::SYS_fstat),
    any(NEWFSTATAT),
    any(libc::SYS_statx),
    any(libc::SYS_readlinkat),
    any(libc::SYS_lseek),
    any(libc::SYS_pread64),
    any(libc::SYS_pwrite64),
    any(libc::SYS_pwritev2),
    any(libc::SYS_ftruncate),
    any(libc::SYS_fsync),
    any(libc::SYS_flock),
    any(libc::SYS_inotify_add_watch),
    any(libc::SYS_inotify_rm_watch),
    only(libc::SYS_openat, &[&[IsPath(1)]]),
    only(libc::SYS_unlinkat, &[&[IsPath(1), Is(2, 0)]]),
    only(
        libc::SYS_fcntl,
        &[
            &[Is(1, libc::F_GETFD)],
            // musl sets it again after open(2) with O_CLOEXEC
            &[Is(1, libc::F_SETFD)],
            &[Is(1, libc::F_GETFL)],
            &[Is(1, libc::F_SETFL)],
            // the descriptor that holds the lock
            &[Is(1, libc::F_DUPFD_CLOEXEC)],
        ],
    ),
    // memory: nothing replaces the page of the path
    only(MMAP, &[&[NOT_EXECUTABLE, Masked(3, libc::MAP_FIXED | libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)]]),
    only(
        libc::SYS_mprotect,
        &[&[NOT_EXECUTABLE, Above(0)], &[NOT_EXECUTABLE, FarBelow(0), LessThanBelow(1)]],
    ),
    only(libc::SYS_munmap, &[&[Above(0)], &[FarBelow(0), LessThanBelow(1)]]),
    // the pause between two attempts to lock the file
    any(libc::SYS_nanosleep),
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_clock_gettime),
    // a panic
    any(libc::SYS_getcwd),
];
/// Older x86-64 calls for the same operations.
#[cfg(target_arch = "x86_64")]
const RESOLV_CONF_LEGACY: &[Syscall] = &[
    any(libc::SYS_poll),
    any(libc::SYS_stat),
    any(libc::SYS_lstat),
    any(libc::SYS_readlink),
    only(libc::SYS_open, &[&[IsPath(0)]]),
];
#[cfg(not(target_arch = "x86_64"))]
const RESOLV_CONF_LEGACY: &[Syscall] = &[];

/// Calls that the C library does without: memory that grows by another mapping.
const RESOLV_CONF_ABSENT: &[Syscall] = &[any(libc::SYS_mremap)];

/// Calls that are allowed, or fail with ENOSYS.
pub(super) const RESOLV_CONF_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, RESOLV_CONF, RESOLV_CONF_LEGACY, RESOLV_CONF_ABSENT, ABSENT];
/// Calls that fail with ENOSYS.
pub(super) const RESOLV_CONF_MISSING: &[&[Syscall]] = &[RESOLV_CONF_ABSENT, ABSENT];
