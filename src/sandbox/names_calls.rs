//! Calls of the process that answers the peers' DNS queries.

use nix::libc;

use super::calls::Condition::{Is, Masked};
use super::calls::{ATTACKS, DATAGRAM, NOT_EXECUTABLE, NURSERY_NEVER, RUNTIME, STREAM, Syscall, any, only};
use super::numbers::FIONBIO;

/// Its calls: the listening sockets, connections of clients, and sockets to name servers, which the
/// kernel binds when they are connected. Others fail with ENOSYS.
const NAMES: &[Syscall] = &[
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    any(libc::SYS_accept4),
    only(
        libc::SYS_socket,
        &[
            &[Is(0, libc::AF_INET), DATAGRAM],
            &[Is(0, libc::AF_INET6), DATAGRAM],
            &[Is(0, libc::AF_INET), STREAM],
            &[Is(0, libc::AF_INET6), STREAM],
        ],
    ),
    any(libc::SYS_connect),
    // the host's name servers
    only(libc::SYS_openat, &[&[Masked(2, libc::O_ACCMODE, libc::O_RDONLY)]]),
    any(libc::SYS_fstat),
    any(libc::SYS_statx),
    any(libc::SYS_lseek),
    // memory
    only(libc::SYS_mmap, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    only(libc::SYS_mprotect, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_clock_gettime),
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)], &[Is(1, libc::F_GETFL)], &[Is(1, libc::F_SETFL)]]),
    only(libc::SYS_ioctl, &[&[Is(1, FIONBIO)]]),
];
#[cfg(target_arch = "x86_64")]
const NAMES_LEGACY: &[Syscall] = &[any(libc::SYS_poll)];
#[cfg(not(target_arch = "x86_64"))]
const NAMES_LEGACY: &[Syscall] = &[];

/// Calls that are allowed to the process.
pub(super) const NAMES_ALLOWED: &[&[Syscall]] = &[RUNTIME, NAMES, NAMES_LEGACY];
/// Calls that kill it.
pub(super) const NAMES_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER];
