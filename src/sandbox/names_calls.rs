//! Calls of the process that answers the peers' DNS queries.

use nix::libc;

use super::calls::Condition::{Is, Masked};
use super::calls::{ATTACKS, DATAGRAM, NURSERY_NEVER, RUNTIME, STREAM, Syscall, any, only};
use super::one_thread_calls::{ONE_THREAD, ONE_THREAD_LEGACY};

/// Additional calls: the listening sockets, connections of clients, and those to name servers,
/// which the kernel binds when they are connected. Others fail with ENOSYS.
const NAMES: &[Syscall] = &[any(libc::SYS_accept4), any(libc::SYS_connect)];
/// Additional calls where name servers are asked without encryption.
const PLAIN: &[Syscall] = &[
    only(
        libc::SYS_socket,
        &[
            &[Is(0, libc::AF_INET), DATAGRAM],
            &[Is(0, libc::AF_INET6), DATAGRAM],
            &[Is(0, libc::AF_INET), STREAM],
            &[Is(0, libc::AF_INET6), STREAM],
        ],
    ),
    // the host's name servers
    only(libc::SYS_openat, &[&[Masked(2, libc::O_ACCMODE, libc::O_RDONLY)]]),
    any(libc::SYS_fstat),
    any(libc::SYS_statx),
    any(libc::SYS_lseek),
];
/// Additional calls where name servers are asked over TLS only: no datagram leaves, except answers
/// from the listening sockets.
const TLS: &[Syscall] =
    &[only(libc::SYS_socket, &[&[Is(0, libc::AF_INET), STREAM], &[Is(0, libc::AF_INET6), STREAM]])];

/// Calls that are allowed to the process.
pub(super) const NAMES_ALLOWED: &[&[Syscall]] = &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY, NAMES, PLAIN];
/// The same where name servers are asked over TLS only.
pub(super) const NAMES_OVER_TLS_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, ONE_THREAD, ONE_THREAD_LEGACY, NAMES, TLS];
/// Calls that kill it.
pub(super) const NAMES_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER];
