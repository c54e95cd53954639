//! Calls that processes behind the sandbox may not make.

use super::numbers::MMAP;
use nix::libc::{self, c_long};

/// Calls that no process of the tunnel may make, at least not with these arguments.
pub(super) const ATTACKS: &[(&str, c_long, [c_long; 6])] = &[
    ("execve", libc::SYS_execve, [0; 6]),
    ("execveat", libc::SYS_execveat, [-1, 0, 0, 0, 0, 0]),
    ("clone of a process", libc::SYS_clone, [libc::SIGCHLD as c_long, 0, 0, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_TRACEME as c_long, 0, 0, 0, 0, 0]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [1, 0, 0, 0, 0, 0]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0, 0]),
    ("kill of another", libc::SYS_kill, [i32::MAX as c_long, 0, 0, 0, 0, 0]),
    ("kill of all", libc::SYS_kill, [-1, 0, 0, 0, 0, 0]),
    ("a packet socket", libc::SYS_socket, [libc::AF_PACKET as c_long, libc::SOCK_RAW as c_long, 0, 0, 0, 0]),
    (
        "a Bluetooth socket",
        libc::SYS_socket,
        [libc::AF_BLUETOOTH as c_long, libc::SOCK_RAW as c_long, 0, 0, 0, 0],
    ),
    ("a vsock socket", libc::SYS_socket, [libc::AF_VSOCK as c_long, libc::SOCK_STREAM as c_long, 0, 0, 0, 0]),
    (
        "an AF_ALG socket",
        libc::SYS_socket,
        [libc::AF_ALG as c_long, libc::SOCK_SEQPACKET as c_long, 0, 0, 0, 0],
    ),
    ("listen", libc::SYS_listen, [-1, 1, 0, 0, 0, 0]),
    ("a socket's program", libc::SYS_setsockopt, [-1, 1, libc::SO_ATTACH_BPF as c_long, 0, 0, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0, 0]),
    ("mount", libc::SYS_mount, [0; 6]),
    ("umount2", libc::SYS_umount2, [0; 6]),
    ("fsopen", libc::SYS_fsopen, [0; 6]),
    ("pivot_root", libc::SYS_pivot_root, [0; 6]),
    ("chroot", libc::SYS_chroot, [0; 6]),
    ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as c_long, 0, 0, 0, 0, 0]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [0; 6]),
    ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
    ("keyctl", libc::SYS_keyctl, [0; 6]),
    ("add_key", libc::SYS_add_key, [0; 6]),
    ("request_key", libc::SYS_request_key, [0; 6]),
    ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
    ("init_module", libc::SYS_init_module, [0; 6]),
    ("finit_module", libc::SYS_finit_module, [-1, 0, 0, 0, 0, 0]),
    ("kexec_load", libc::SYS_kexec_load, [0; 6]),
    ("reboot", libc::SYS_reboot, [0; 6]),
    ("clock_settime", libc::SYS_clock_settime, [0; 6]),
];
/// Calls that the supervisor and the tunnel process may not make, in addition to `ATTACKS`.
pub(super) const OF_SUPERVISOR: &[(&str, c_long, [c_long; 6])] = &[
    ("a unix socket", libc::SYS_socket, [libc::AF_UNIX as c_long, libc::SOCK_STREAM as c_long, 0, 0, 0, 0]),
    (
        "a unix datagram socket",
        libc::SYS_socket,
        [libc::AF_UNIX as c_long, libc::SOCK_DGRAM as c_long, 0, 0, 0, 0],
    ),
    (
        "a netlink socket",
        libc::SYS_socket,
        [libc::AF_NETLINK as c_long, libc::SOCK_DGRAM as c_long, 0, 0, 0, 0],
    ),
    ("a raw socket", libc::SYS_socket, [libc::AF_INET as c_long, libc::SOCK_RAW as c_long, 1, 0, 0, 0]),
    ("a ping socket", libc::SYS_socket, [libc::AF_INET as c_long, libc::SOCK_DGRAM as c_long, 1, 0, 0, 0]),
    (
        "an MPTCP socket",
        libc::SYS_socket,
        [libc::AF_INET as c_long, libc::SOCK_STREAM as c_long, 262, 0, 0, 0],
    ),
    ("iptables", libc::SYS_setsockopt, [-1, libc::SOL_IP as c_long, 64, 0, 0, 0]),
    ("memory with code", MMAP, [0, 4096, 5, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long, -1, 0]),
    ("code of memory", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as c_long, 0, 0, 0]),
    ("a process in namespaces", libc::SYS_clone, [(THREAD | libc::CLONE_NEWNS) as c_long, 0, 0, 0, 0, 0]),
    ("a tun's ioctl", libc::SYS_ioctl, [-1, libc::TUNSETIFF as c_long, 0, 0, 0, 0]),
    ("typing for others", libc::SYS_ioctl, [0, libc::TIOCSTI as c_long, 0, 0, 0, 0]),
    ("signals of a descriptor", libc::SYS_fcntl, [0, libc::F_SETOWN as c_long, 1, 0, 0, 0]),
    ("prctl", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as c_long, 1, 0, 0, 0, 0]),
    ("capset", libc::SYS_capset, [0; 6]),
    ("setuid", libc::SYS_setuid, [0; 6]),
    ("limits of another", libc::SYS_prlimit64, [1, 0, 0, 0, 0, 0]),
    ("another filter", libc::SYS_seccomp, [0; 6]),
    ("renameat2", libc::SYS_renameat2, [-1, 0, -1, 0, 0, 0]),
    ("no such call", 9999, [0; 6]),
];
/// Calls that the tunnel process may not make, in addition to those of all processes.
pub(super) const OF_TUNNEL: &[(&str, c_long, [c_long; 6])] = &[
    ("a UDP socket", libc::SYS_socket, [libc::AF_INET as c_long, libc::SOCK_DGRAM as c_long, 0, 0, 0, 0]),
    ("a pair of sockets", libc::SYS_socketpair, [libc::AF_UNIX as c_long, 1, 0, 0, 0, 0]),
    ("a mark", libc::SYS_setsockopt, [-1, libc::SOL_SOCKET as c_long, libc::SO_MARK as c_long, 0, 0, 0]),
    (
        "choosing a socket",
        libc::SYS_setsockopt,
        [-1, libc::SOL_SOCKET as c_long, libc::SO_ATTACH_REUSEPORT_CBPF as c_long, 0, 0, 0],
    ),
    ("unlinkat", libc::SYS_unlinkat, [-1, 0, 0, 0, 0, 0]),
    ("getdents64", libc::SYS_getdents64, [-1, 0, 0, 0, 0, 0]),
    ("pwrite64", libc::SYS_pwrite64, [-1, 0, 0, 0, 0, 0]),
    ("wait4", libc::SYS_wait4, [-1, 0, 0, 0, 0, 0]),
    ("kill of itself", libc::SYS_kill, [0, 0, 0, 0, 0, 0]),
    ("another descriptor", libc::SYS_fcntl, [0, libc::F_DUPFD_CLOEXEC as c_long, 0, 0, 0, 0]),
    ("a tun's owner", libc::SYS_ioctl, [-1, libc::TUNSETOWNER as c_long, 0, 0, 0, 0]),
    ("a tun that stays", libc::SYS_ioctl, [-1, libc::TUNSETPERSIST as c_long, 1, 0, 0, 0]),
    ("a tun's offloads", libc::SYS_ioctl, [-1, libc::TUNSETOFFLOAD as c_long, 0, 0, 0, 0]),
    ("a tun's carrier", libc::SYS_ioctl, [-1, libc::TUNSETCARRIER as c_long, 0, 0, 0, 0]),
    ("a tun's program", libc::SYS_ioctl, [-1, libc::TUNSETSTEERINGEBPF as c_long, 0, 0, 0, 0]),
];
const THREAD: i32 = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;
