//! System calls allowed to each process: the filters as data. Reviewed by hand; each addition
//! states what needs it.
//!
//! Calls made per packet have no conditions: since Linux 5.11 the kernel caches that such a call is
//! allowed and does not run the filter.

use nix::libc::{self, c_int, c_long};

use super::numbers::{
    ACCEPT, F_SETOWN_EX, F_SETSIG, FIONBIO, FIONREAD, FIOSETOWN, MMAP, NEWFSTATAT, NO_CALL, RSEQ,
    SIOCGIFINDEX, SIOCGIFNAME, SIOCSPGRP, TCGETS, TIOCGWINSZ, TIOCLINUX, TIOCSTI,
};

/// A system call and its permitted forms, of which one must match; an empty list permits any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syscall {
    pub(super) number: c_long,
    pub(super) forms: &'static [&'static [Condition]],
}

/// A condition on an argument, numbered from 0. Of 64-bit arguments the lower half is compared: all
/// of these are an int, or flags in the lower half. Addresses and lengths are compared whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// The argument has this value.
    Is(u8, c_int),
    /// The argument has another value.
    IsNot(u8, c_int),
    /// The bits of the argument selected by the mask (first) have this value (second).
    Masked(u8, c_int, c_int),
    /// The argument is the id of this process.
    IsSelf(u8),
    /// The argument, a pointer, is that of `RESOLV_CONF_PATH`.
    IsPath(u8),
    /// The argument, an address, is above the page of that path.
    Above(u8),
    /// The argument, an address, is more than `BELOW` bytes below that page.
    FarBelow(u8),
    /// The argument, a length, is at most `BELOW` bytes.
    LessThanBelow(u8),
}

use Condition::{Is, IsNot, IsSelf, Masked};

pub(super) const fn any(number: c_long) -> Syscall {
    Syscall { number, forms: &[] }
}

pub(super) const fn only(number: c_long, forms: &'static [&'static [Condition]]) -> Syscall {
    Syscall { number, forms }
}

const EXECUTABLE: Condition = Masked(2, libc::PROT_EXEC, libc::PROT_EXEC);
pub(super) const NOT_EXECUTABLE: Condition = Masked(2, libc::PROT_EXEC, 0);
/// The flags of a thread of this process, in its namespaces.
const AS_THREAD: &[Condition] = &[Masked(
    0,
    libc::CLONE_THREAD
        | libc::CLONE_VM
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP,
    libc::CLONE_THREAD | libc::CLONE_VM,
)];
/// `SOCK_TYPE_MASK`: the remaining bits are SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCKET_TYPE: c_int = 0xf;
pub(super) const DATAGRAM: Condition = Masked(1, SOCKET_TYPE, libc::SOCK_DGRAM);
const SEQPACKET: Condition = Masked(1, SOCKET_TYPE, libc::SOCK_SEQPACKET);
pub(super) const STREAM: Condition = Masked(1, SOCKET_TYPE, libc::SOCK_STREAM);

/// Calls of every process, as used by the C library and std: open descriptors, memory, signals and
/// the end.
pub(super) const RUNTIME: &[Syscall] = &[
    // No call: the number that a tracer sets to skip a call (strace's injected errors). The kernel
    // returns ENOSYS.
    any(NO_CALL),
    any(libc::SYS_read),
    any(libc::SYS_write),
    any(libc::SYS_writev),
    any(libc::SYS_ppoll),
    any(libc::SYS_close),
    any(libc::SYS_brk),
    any(libc::SYS_madvise),
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
    any(libc::SYS_getrandom),
];

/// Calls of the supervisor, the resolver process and look-ups, for all threads.
const COMMON: &[Syscall] = &[
    // open descriptors
    any(libc::SYS_readv),
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    any(libc::SYS_sendmmsg),
    any(libc::SYS_recvmmsg),
    any(libc::SYS_epoll_pwait),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_bind),
    any(libc::SYS_connect),
    any(libc::SYS_shutdown),
    any(libc::SYS_getsockname),
    any(libc::SYS_getpeername),
    any(libc::SYS_getsockopt),
    any(libc::SYS_fstat),
    any(libc::SYS_lseek),
    any(libc::SYS_pread64),
    // memory and threads, as used by the C library and std
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    only(libc::SYS_mprotect, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_set_robust_list),
    any(RSEQ),
    any(libc::SYS_sched_yield),
    any(libc::SYS_sched_getaffinity),
    any(libc::SYS_nanosleep),
    any(libc::SYS_clock_nanosleep),
    // clocks and random numbers, where the vDSO does not provide them
    any(libc::SYS_clock_gettime),
    any(libc::SYS_gettimeofday),
    any(libc::SYS_getuid),
    any(libc::SYS_geteuid),
    any(libc::SYS_getgid),
    any(libc::SYS_getegid),
    any(libc::SYS_uname),
    any(libc::SYS_sysinfo),
    // files, which Landlock restricts
    any(libc::SYS_openat),
    any(NEWFSTATAT),
    any(libc::SYS_statx),
    any(libc::SYS_getdents64),
    any(libc::SYS_readlinkat),
    any(libc::SYS_getcwd),
];

/// Older x86-64 calls that current C libraries still use: the same operations as above by other
/// numbers.
#[cfg(target_arch = "x86_64")]
const COMMON_LEGACY: &[Syscall] = &[
    any(libc::SYS_epoll_wait),
    any(libc::SYS_poll),
    any(libc::SYS_open),
    any(libc::SYS_stat),
    any(libc::SYS_lstat),
    any(libc::SYS_readlink),
    any(libc::SYS_time),
];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_LEGACY: &[Syscall] = &[];

/// Calls of all threads of the supervisor.
const SUPERVISOR: &[Syscall] = &[
    only(MMAP, &[&[NOT_EXECUTABLE]]),
    only(libc::SYS_clone, &[AS_THREAD]),
    // sockets of peers that moved, and those for the resolver's queries
    only(
        libc::SYS_socket,
        &[
            &[Is(0, libc::AF_INET), DATAGRAM, Is(2, 0)],
            &[Is(0, libc::AF_INET), DATAGRAM, Is(2, libc::IPPROTO_UDP)],
            &[Is(0, libc::AF_INET), STREAM, Is(2, 0)],
            &[Is(0, libc::AF_INET6), DATAGRAM, Is(2, 0)],
            &[Is(0, libc::AF_INET6), DATAGRAM, Is(2, libc::IPPROTO_UDP)],
            &[Is(0, libc::AF_INET6), STREAM, Is(2, 0)],
            // the health socket of a renamed device
            &[Is(0, libc::AF_UNIX), SEQPACKET, Is(2, 0)],
        ],
    ),
    // and the peers' DNS queries at a new address
    only(
        libc::SYS_listen,
        &[&[Is(1, crate::control::health::BACKLOG)], &[Is(1, crate::names::listeners::BACKLOG)]],
    ),
    // the UAPI socket's file is renamed, too
    only(libc::SYS_renameat2, &[&[Is(4, libc::RENAME_NOREPLACE as c_int)]]),
    // no option that loads a program except the one below, and not the packet filter's
    // (IPT_SO_SET_REPLACE)
    only(
        libc::SYS_setsockopt,
        &[
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_REUSEPORT)],
            // listening sockets for the peers' DNS queries
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_REUSEADDR)],
            &[Is(1, libc::IPPROTO_IP), Is(2, libc::IP_FREEBIND)],
            &[Is(1, libc::IPPROTO_IPV6), Is(2, libc::IPV6_FREEBIND)],
            // selection of the socket that receives a datagram, after a change of port
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_ATTACH_REUSEPORT_CBPF)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_SNDBUF)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_RCVBUF)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_SNDBUFFORCE)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_RCVBUFFORCE)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_SNDTIMEO)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_RCVTIMEO)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_LINGER)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_MARK)],
            &[Is(1, libc::IPPROTO_IP), Is(2, libc::IP_MTU_DISCOVER)],
            &[Is(1, libc::IPPROTO_IP), Is(2, libc::IP_PKTINFO)],
            &[Is(1, libc::IPPROTO_IP), Is(2, libc::IP_RECVTOS)],
            &[Is(1, libc::IPPROTO_IPV6), Is(2, libc::IPV6_V6ONLY)],
            &[Is(1, libc::IPPROTO_IPV6), Is(2, libc::IPV6_RECVPKTINFO)],
            &[Is(1, libc::IPPROTO_IPV6), Is(2, libc::IPV6_RECVTCLASS)],
            &[Is(1, libc::IPPROTO_UDP), Is(2, libc::UDP_SEGMENT)],
            &[Is(1, libc::IPPROTO_UDP), Is(2, libc::UDP_GRO)],
            &[Is(1, libc::IPPROTO_TCP), Is(2, libc::TCP_NODELAY)],
            // a pause of the notifications about the ruleset
            &[Is(1, libc::SOL_NETLINK), Is(2, libc::NETLINK_ADD_MEMBERSHIP)],
            &[Is(1, libc::SOL_NETLINK), Is(2, libc::NETLINK_DROP_MEMBERSHIP)],
        ],
    ),
    // wg(8), `wontun health`, the metrics
    any(libc::SYS_accept4),
    any(libc::SYS_getrusage),
    // the end of a peer's access
    any(libc::SYS_timerfd_settime),
    // a channel to a restarted helper
    only(libc::SYS_socketpair, &[&[Is(0, libc::AF_UNIX)]]),
    // no owner of signals (F_SETOWN), no locks
    only(
        libc::SYS_fcntl,
        &[
            &[Is(1, libc::F_GETFD)],
            &[Is(1, libc::F_SETFD)],
            &[Is(1, libc::F_GETFL)],
            &[Is(1, libc::F_SETFL)],
            &[Is(1, libc::F_DUPFD_CLOEXEC)],
            &[Is(1, libc::F_ADD_SEALS)],
        ],
    ),
    // std's non-blocking sockets; glibc's and musl's test if stderr is a terminal; not the tun's
    only(libc::SYS_ioctl, &[&[Is(1, FIONBIO)], &[Is(1, TCGETS)], &[Is(1, TIOCGWINSZ)]]),
    // the name of a thread
    only(libc::SYS_prctl, &[&[Is(0, libc::PR_SET_NAME)]]),
    // std reads the limit of the main thread's stack
    only(libc::SYS_prlimit64, &[&[Is(0, 0), Is(2, 0)]]),
    // a line for journald that is too long for a datagram
    any(libc::SYS_memfd_create),
    // settings under /proc/sys; glibc's pwrite, and musl's since 1.2.6
    any(libc::SYS_pwrite64),
    any(libc::SYS_pwritev2),
    // the state file
    any(libc::SYS_fdatasync),
    // at the end: the UAPI socket's file, the other processes
    any(libc::SYS_unlinkat),
    any(libc::SYS_wait4),
];

/// Additional calls of the log's thread until it has found journald.
const LOG: &[Syscall] = &[
    only(libc::SYS_socket, &[&[Is(0, libc::AF_UNIX), DATAGRAM]]),
    // to confine itself further
    only(libc::SYS_prctl, &[&[Is(0, libc::PR_SET_NO_NEW_PRIVS)]]),
    any(libc::SYS_seccomp),
];

/// Additional calls of the resolver process: it starts a process for each look-up, which confines
/// itself.
const RESOLVER: &[Syscall] = &[
    // a child created by fork(3)
    only(
        libc::SYS_clone,
        &[&[Masked(0, !(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID), libc::SIGCHLD)]],
    ),
    any(libc::SYS_close_range),
    // its socket, which is not a network socket
    only(libc::SYS_socketpair, &[&[Is(0, libc::AF_UNIX)]]),
    only(libc::SYS_prctl, &[&[Is(0, libc::PR_SET_PDEATHSIG)], &[Is(0, libc::PR_SET_NO_NEW_PRIVS)]]),
    any(libc::SYS_landlock_create_ruleset),
    any(libc::SYS_landlock_add_rule),
    any(libc::SYS_landlock_restrict_self),
    any(libc::SYS_seccomp),
];

/// The older x86-64 call that musl's fork(3) uses for the same.
#[cfg(target_arch = "x86_64")]
const RESOLVER_LEGACY: &[Syscall] = &[any(libc::SYS_fork)];
#[cfg(not(target_arch = "x86_64"))]
const RESOLVER_LEGACY: &[Syscall] = &[];

/// Calls of a look-up: those of getaddrinfo(3) and of the modules that nsswitch.conf(5) makes it
/// load, which are foreign code. Other calls fail with ENOSYS.
const LOOK_UP: &[Syscall] = &[
    // a module's code is mapped from a file, and never writable
    only(
        MMAP,
        &[
            &[NOT_EXECUTABLE],
            &[EXECUTABLE, Masked(2, libc::PROT_WRITE, 0), Masked(3, libc::MAP_ANONYMOUS, 0)],
        ],
    ),
    only(
        libc::SYS_socket,
        &[
            &[Is(0, libc::AF_INET), DATAGRAM],
            &[Is(0, libc::AF_INET), STREAM],
            &[Is(0, libc::AF_INET6), DATAGRAM],
            &[Is(0, libc::AF_INET6), STREAM],
            // nscd, systemd-resolved, avahi; and glibc's query for a device's index
            &[Is(0, libc::AF_UNIX), DATAGRAM],
            &[Is(0, libc::AF_UNIX), STREAM],
            // the addresses of this host, by NETLINK_ROUTE
            &[Is(0, libc::AF_NETLINK), Is(2, libc::NETLINK_ROUTE)],
        ],
    ),
    any(libc::SYS_setsockopt),
    only(
        libc::SYS_ioctl,
        &[
            &[Is(1, FIONBIO)],
            &[Is(1, FIONREAD)],
            &[Is(1, TCGETS)],
            &[Is(1, SIOCGIFINDEX)],
            &[Is(1, SIOCGIFNAME)],
        ],
    ),
    any(libc::SYS_fcntl),
    any(libc::SYS_pselect6),
    any(libc::SYS_epoll_create1),
    any(libc::SYS_eventfd2),
    any(libc::SYS_timerfd_create),
    any(libc::SYS_timerfd_settime),
    any(libc::SYS_faccessat),
    any(libc::SYS_faccessat2),
    any(libc::SYS_statfs),
    any(libc::SYS_fstatfs),
    any(libc::SYS_getppid),
    any(libc::SYS_getgroups),
    any(libc::SYS_getresuid),
    any(libc::SYS_getresgid),
    only(libc::SYS_prlimit64, &[&[Is(0, 0), Is(2, 0)]]),
];
#[cfg(target_arch = "x86_64")]
const LOOK_UP_LEGACY: &[Syscall] = &[any(libc::SYS_access), any(libc::SYS_select)];
#[cfg(not(target_arch = "x86_64"))]
const LOOK_UP_LEGACY: &[Syscall] = &[];

/// Calls that kill the nursery, every helper and look-ups, since none of them makes them: those of
/// an attacker who has taken one over. The nursery's filter applies to every helper, too, so that
/// the list contains no call that a helper needs before it confines itself, and no call made per
/// packet.
pub(super) const ATTACKS: &[Syscall] = &[
    // other programs, other processes
    any(libc::SYS_execve),
    any(libc::SYS_ptrace),
    any(libc::SYS_process_vm_readv),
    any(libc::SYS_process_vm_writev),
    any(libc::SYS_process_madvise),
    any(libc::SYS_pidfd_getfd),
    any(libc::SYS_kill),
    any(libc::SYS_rt_sigqueueinfo),
    any(libc::SYS_rt_tgsigqueueinfo),
    any(libc::SYS_kcmp),
    // programs for the kernel
    any(libc::SYS_bpf),
    any(libc::SYS_perf_event_open),
    any(libc::SYS_io_uring_setup),
    any(libc::SYS_io_uring_enter),
    any(libc::SYS_io_uring_register),
    any(libc::SYS_userfaultfd),
    // namespaces, mounts and file handles
    any(libc::SYS_unshare),
    any(libc::SYS_setns),
    any(libc::SYS_mount),
    any(libc::SYS_umount2),
    any(libc::SYS_pivot_root),
    any(libc::SYS_chroot),
    any(libc::SYS_open_tree),
    any(libc::SYS_move_mount),
    any(libc::SYS_fsopen),
    any(libc::SYS_fsconfig),
    any(libc::SYS_fsmount),
    any(libc::SYS_fspick),
    any(libc::SYS_mount_setattr),
    any(libc::SYS_open_by_handle_at),
    // the kernel's keys, modules and clock
    any(libc::SYS_add_key),
    any(libc::SYS_request_key),
    any(libc::SYS_keyctl),
    any(libc::SYS_init_module),
    any(libc::SYS_finit_module),
    any(libc::SYS_delete_module),
    any(libc::SYS_kexec_load),
    any(libc::SYS_reboot),
    any(libc::SYS_swapon),
    any(libc::SYS_settimeofday),
    any(libc::SYS_clock_settime),
    any(libc::SYS_clock_adjtime),
    any(libc::SYS_adjtimex),
];

/// Additional calls that kill the nursery and every helper: execution of another program than the
/// image, whose descriptor has no path; namespaces; signals to threads, except those of abort(),
/// and those sent by a descriptor or a limit; input on a terminal.
pub(super) const NURSERY_NEVER: &[Syscall] = &[
    // the end of its helpers after that of the supervisor; no helper has a descriptor of a process
    only(libc::SYS_pidfd_send_signal, &[&[IsNot(1, libc::SIGKILL)]]),
    only(libc::SYS_execveat, &[&[IsNot(4, libc::AT_EMPTY_PATH)]]),
    only(libc::SYS_tgkill, &[&[IsNot(2, libc::SIGABRT)]]),
    only(libc::SYS_tkill, &[&[IsNot(1, libc::SIGABRT)]]),
    only(libc::SYS_fcntl, &[&[Is(1, libc::F_SETOWN)], &[Is(1, F_SETSIG)], &[Is(1, F_SETOWN_EX)]]),
    only(
        libc::SYS_ioctl,
        &[&[Is(1, FIOSETOWN)], &[Is(1, SIOCSPGRP)], &[Is(1, TIOCSTI)], &[Is(1, TIOCLINUX)]],
    ),
    only(libc::SYS_prlimit64, &[&[IsNot(0, 0)]]),
    any(libc::SYS_setpriority),
    any(libc::SYS_sched_setparam),
    any(libc::SYS_sched_setscheduler),
    any(libc::SYS_sched_setattr),
    only(
        libc::SYS_clone,
        &[
            &[Masked(0, libc::CLONE_NEWNS, libc::CLONE_NEWNS)],
            &[Masked(0, libc::CLONE_NEWUTS, libc::CLONE_NEWUTS)],
            &[Masked(0, libc::CLONE_NEWIPC, libc::CLONE_NEWIPC)],
            &[Masked(0, libc::CLONE_NEWUSER, libc::CLONE_NEWUSER)],
            &[Masked(0, libc::CLONE_NEWPID, libc::CLONE_NEWPID)],
            &[Masked(0, libc::CLONE_NEWNET, libc::CLONE_NEWNET)],
            &[Masked(0, libc::CLONE_NEWCGROUP, libc::CLONE_NEWCGROUP)],
        ],
    ),
];

/// Additional calls that kill the resolver process and look-ups, since neither makes them.
const NEVER: &[Syscall] = &[
    any(libc::SYS_execveat),
    any(libc::SYS_pidfd_send_signal),
    // other kinds of sockets, and accepting connections
    only(
        libc::SYS_socket,
        &[&[
            IsNot(0, libc::AF_UNIX),
            IsNot(0, libc::AF_INET),
            IsNot(0, libc::AF_INET6),
            IsNot(0, libc::AF_NETLINK),
        ]],
    ),
    any(libc::SYS_listen),
    any(ACCEPT),
    any(libc::SYS_accept4),
    // programs for the kernel
    only(
        libc::SYS_setsockopt,
        &[
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_ATTACH_FILTER)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_ATTACH_BPF)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_ATTACH_REUSEPORT_CBPF)],
            &[Is(1, libc::SOL_SOCKET), Is(2, libc::SO_ATTACH_REUSEPORT_EBPF)],
        ],
    ),
    // changes of files
    any(libc::SYS_unlinkat),
    any(libc::SYS_renameat2),
    any(libc::SYS_linkat),
    any(libc::SYS_symlinkat),
    any(libc::SYS_mkdirat),
    any(libc::SYS_mknodat),
    any(libc::SYS_fchmodat),
    any(libc::SYS_fchownat),
];
#[cfg(target_arch = "x86_64")]
const NEVER_LEGACY: &[Syscall] = &[any(libc::SYS_fork), any(libc::SYS_vfork)];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_LEGACY: &[Syscall] = &[];

/// Calls that the C library replaces by others if the kernel lacks them. clone3 passes its flags in
/// memory, which a filter cannot read: threads are created by clone instead.
pub(super) const ABSENT: &[Syscall] = &[any(libc::SYS_clone3)];

/// Calls of all threads of the tunnel process. It opens nothing: no socket, no file, no process.
const TUNNEL: &[Syscall] = &[
    // open descriptors: packets, datagrams, events, the supervisor, the log
    any(libc::SYS_readv),
    any(libc::SYS_sendto),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvmsg),
    any(libc::SYS_sendmmsg),
    any(libc::SYS_recvmmsg),
    any(libc::SYS_epoll_pwait),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_timerfd_settime),
    // spare UDP sockets; Landlock refuses TCP
    any(libc::SYS_bind),
    any(libc::SYS_connect),
    any(libc::SYS_getsockname),
    // `wontun health`, the metrics: the client's credentials, and the end of an answer
    any(libc::SYS_accept4),
    any(libc::SYS_getsockopt),
    any(libc::SYS_shutdown),
    // open files of /proc, for the metrics
    any(libc::SYS_pread64),
    any(libc::SYS_getrusage),
    // memory and threads, as used by the C library and std
    only(MMAP, &[&[NOT_EXECUTABLE]]),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    only(libc::SYS_mprotect, &[&[NOT_EXECUTABLE]]),
    only(libc::SYS_clone, &[AS_THREAD]),
    only(libc::SYS_prctl, &[&[Is(0, libc::PR_SET_NAME)]]),
    any(libc::SYS_set_robust_list),
    any(RSEQ),
    any(libc::SYS_sched_yield),
    any(libc::SYS_sched_getaffinity),
    any(libc::SYS_nanosleep),
    any(libc::SYS_clock_nanosleep),
    // clocks and random numbers, where the vDSO does not provide them
    any(libc::SYS_clock_gettime),
    any(libc::SYS_gettimeofday),
    // without optimization, std checks descriptors that it closes; accepted connections are made
    // non-blocking: by fcntl in socket2, and by ioctl, below, in std
    // the sessions for another process are sealed
    only(
        libc::SYS_fcntl,
        &[
            &[Is(1, libc::F_GETFD)],
            &[Is(1, libc::F_GETFL)],
            &[Is(1, libc::F_SETFL)],
            &[Is(1, libc::F_ADD_SEALS)],
        ],
    ),
    // glibc's and musl's test if stderr is a terminal; not the tun's
    only(libc::SYS_ioctl, &[&[Is(1, FIONBIO)], &[Is(1, TCGETS)], &[Is(1, TIOCGWINSZ)]]),
];

/// Older x86-64 calls for the same operations as above.
#[cfg(target_arch = "x86_64")]
const TUNNEL_LEGACY: &[Syscall] = &[any(libc::SYS_epoll_wait), any(libc::SYS_poll), any(libc::SYS_time)];
#[cfg(not(target_arch = "x86_64"))]
const TUNNEL_LEGACY: &[Syscall] = &[];

/// Calls that libraries may try in the tunnel process, and do without if they fail with ENOSYS:
/// clone3, as above; files, read for a panic's backtrace and for the time zone; the limit of the
/// main thread's stack; a line for journald that is too long for a datagram.
const TUNNEL_ABSENT: &[Syscall] = &[
    any(libc::SYS_clone3),
    any(libc::SYS_openat),
    any(NEWFSTATAT),
    any(libc::SYS_fstat),
    any(libc::SYS_lseek),
    any(libc::SYS_statx),
    any(libc::SYS_readlinkat),
    any(libc::SYS_getcwd),
    any(libc::SYS_prlimit64),
    any(libc::SYS_memfd_create),
];
#[cfg(target_arch = "x86_64")]
const TUNNEL_ABSENT_LEGACY: &[Syscall] =
    &[any(libc::SYS_open), any(libc::SYS_stat), any(libc::SYS_lstat), any(libc::SYS_readlink)];
#[cfg(not(target_arch = "x86_64"))]
const TUNNEL_ABSENT_LEGACY: &[Syscall] = &[];

/// Calls that are allowed to the threads of the tunnel process or fail with ENOSYS.
pub(super) const TUNNEL_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, TUNNEL, TUNNEL_LEGACY, TUNNEL_ABSENT, TUNNEL_ABSENT_LEGACY];
/// The same for the log's thread of the tunnel process until it has found journald.
pub(super) const TUNNEL_LOG_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, TUNNEL, TUNNEL_LEGACY, TUNNEL_ABSENT, TUNNEL_ABSENT_LEGACY, LOG];
/// Calls that fail with ENOSYS in the threads of the tunnel process.
pub(super) const TUNNEL_MISSING: &[&[Syscall]] = &[TUNNEL_ABSENT, TUNNEL_ABSENT_LEGACY];
/// Calls that are allowed to the supervisor's threads or fail with ENOSYS.
pub(super) const SUPERVISOR_ALLOWED: &[&[Syscall]] = &[RUNTIME, COMMON, COMMON_LEGACY, SUPERVISOR, ABSENT];
/// The same for the log's thread of the supervisor until it has found journald.
pub(super) const SUPERVISOR_LOG_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, COMMON, COMMON_LEGACY, SUPERVISOR, ABSENT, LOG];
/// Calls that fail with ENOSYS in the supervisor's threads.
pub(super) const SUPERVISOR_ABSENT: &[&[Syscall]] = &[ABSENT];
/// Calls that are allowed to the resolver process.
pub(super) const RESOLVER_ALLOWED: &[&[Syscall]] =
    &[RUNTIME, COMMON, COMMON_LEGACY, LOOK_UP, LOOK_UP_LEGACY, RESOLVER, RESOLVER_LEGACY];
/// Calls that are allowed to a look-up.
pub(super) const LOOK_UP_ALLOWED: &[&[Syscall]] = &[RUNTIME, COMMON, COMMON_LEGACY, LOOK_UP, LOOK_UP_LEGACY];
/// Calls that kill the resolver process.
pub(super) const RESOLVER_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NEVER];
/// Calls that kill a look-up.
pub(super) const LOOK_UP_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NEVER, NEVER_LEGACY];
/// Calls that kill the nursery and every helper.
pub(super) const NURSERY_FORBIDDEN: &[&[Syscall]] = &[ATTACKS, NURSERY_NEVER];
/// Calls that fail with ENOSYS in the nursery and every helper.
pub(super) const NURSERY_ABSENT: &[&[Syscall]] = &[ABSENT];
