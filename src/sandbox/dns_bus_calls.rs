//! Calls of the processes that are connected to the system bus.

use nix::libc;

use super::calls::Condition::Is;
use super::calls::{ATTACKS, NOT_EXECUTABLE, NURSERY_NEVER, RUNTIME, STREAM, Syscall, any, only};
use super::numbers::FIONBIO;

/// Calls of the `dns` process where systemd-resolved applies the settings, and of the one that sets
/// them: open descriptors, and what the C library and std need. Others fail with ENOSYS.
const DNS_BUS: &[Syscall] = &[
    // the supervisor, the bus
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
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
const DNS_BUS_LEGACY: &[Syscall] = &[any(libc::SYS_poll)];
#[cfg(not(target_arch = "x86_64"))]
const DNS_BUS_LEGACY: &[Syscall] = &[];

/// Additional calls of the `dns` process where its own user may set name servers: to connect to a
/// bus that was restarted.
const DNS_RECONNECT: &[Syscall] =
    &[only(libc::SYS_socket, &[&[Is(0, libc::AF_UNIX), STREAM, Is(2, 0)]]), any(libc::SYS_connect)];

/// Calls that are allowed to the `dns` process that is connected to the bus.
pub(super) const DNS_BUS_ALLOWED: &[&[Syscall]] = &[RUNTIME, DNS_BUS, DNS_BUS_LEGACY];
/// The same where it may connect again.
pub(super) const DNS_RECONNECT_ALLOWED: &[&[Syscall]] = &[RUNTIME, DNS_BUS, DNS_BUS_LEGACY, DNS_RECONNECT];
/// Calls that kill these processes.
pub(super) const DNS_BUS_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER];
