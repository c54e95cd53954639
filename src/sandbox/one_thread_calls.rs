//! Calls of a process with one thread that talks over open sockets.

use nix::libc;

use super::calls::Condition::Is;
use super::calls::{NOT_EXECUTABLE, Syscall, any, only};
use super::numbers::FIONBIO;
use super::numbers::MMAP;

/// Messages on open descriptors, and what the C library and std need.
pub(super) const ONE_THREAD: &[Syscall] = &[
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    // memory
    only(MMAP, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    only(libc::SYS_mprotect, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_clock_gettime),
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)], &[Is(1, libc::F_GETFL)], &[Is(1, libc::F_SETFL)]]),
    only(libc::SYS_ioctl, &[&[Is(1, FIONBIO)]]),
];
#[cfg(target_arch = "x86_64")]
pub(super) const ONE_THREAD_LEGACY: &[Syscall] = &[any(libc::SYS_poll)];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ONE_THREAD_LEGACY: &[Syscall] = &[];
