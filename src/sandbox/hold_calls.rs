//! System calls allowed to `wontun hold`.

use nix::libc;

use super::calls::Condition::{Is, IsSelf};
use super::calls::{NOT_EXECUTABLE, Syscall, any, only};

/// Calls of a process that only waits for signals, reaps children and ends.
const HOLD: &[Syscall] = &[
    any(0xffff_ffff),
    any(libc::SYS_read),
    any(libc::SYS_write),
    any(libc::SYS_writev),
    any(libc::SYS_ppoll),
    any(libc::SYS_wait4),
    any(libc::SYS_close),
    // without optimization, std checks descriptors that it closes
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)]]),
    // memory of the C library and std, for a message
    any(libc::SYS_brk),
    only(libc::SYS_mmap, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
    any(libc::SYS_madvise),
    any(libc::SYS_getrandom),
    any(libc::SYS_futex),
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_restart_syscall),
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
    // abort() of glibc and of musl
    only(libc::SYS_tgkill, &[&[IsSelf(0)]]),
    only(libc::SYS_tkill, &[&[Is(1, libc::SIGABRT)]]),
    any(libc::SYS_getpid),
    any(libc::SYS_gettid),
];
#[cfg(target_arch = "x86_64")]
const HOLD_LEGACY: &[Syscall] = &[any(libc::SYS_poll)];
#[cfg(not(target_arch = "x86_64"))]
const HOLD_LEGACY: &[Syscall] = &[];

/// Calls that are allowed to a process that only waits for signals.
pub(super) const HOLD_ALLOWED: &[&[Syscall]] = &[HOLD, HOLD_LEGACY];
