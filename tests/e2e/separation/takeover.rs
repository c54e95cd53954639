//! An attacker has taken over the process that reads datagrams and packets: the test makes its
//! first thread try to change the host or to read foreign data. Each attempt must fail, and the
//! tunnel continues.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::unistd::Pid;

use super::host_state::{host_state, is_as_before};
use super::inject::{Outcome, TakenOver};
use crate::daemon::Daemon;
use crate::descriptors::open_descriptors;
use crate::lab::Lab;
use crate::tunnel::{CLIENT_V4, Mode, SERVER_V4};
use crate::wireguard::kill_switch::{Stage, reaches_the_world, start};

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;
/// Any protocol.
const ANY: u64 = 0;

/// Requests that change a TUN device, from linux/if_tun.h, and those about links that a TUN queue
/// answers (linux/sockios.h).
const TUN_REQUESTS: &[(&str, u64)] = &[
    ("TUNSETNOCSUM", 0x4004_54c8),
    ("TUNSETDEBUG", 0x4004_54c9),
    ("TUNSETIFF", 0x4004_54ca),
    ("TUNSETPERSIST", 0x4004_54cb),
    ("TUNSETOWNER", 0x4004_54cc),
    ("TUNSETLINK", 0x4004_54cd),
    ("TUNSETGROUP", 0x4004_54ce),
    ("TUNSETOFFLOAD", 0x4004_54d0),
    ("TUNSETTXFILTER", 0x4004_54d1),
    ("TUNSETSNDBUF", 0x4004_54d4),
    ("TUNATTACHFILTER", 0x4010_54d5),
    ("TUNDETACHFILTER", 0x4010_54d6),
    ("TUNSETVNETHDRSZ", 0x4004_54d8),
    ("TUNSETQUEUE", 0x4004_54d9),
    ("TUNSETIFINDEX", 0x4004_54da),
    ("TUNSETVNETLE", 0x4004_54dc),
    ("TUNSETVNETBE", 0x4004_54de),
    ("TUNSETSTEERINGEBPF", 0x8004_54e0),
    ("TUNSETFILTEREBPF", 0x8004_54e1),
    ("TUNSETCARRIER", 0x4004_54e2),
    ("TUNGETDEVNETNS", 0x54e3),
    ("SIOCSIFHWADDR", 0x8924),
    ("SIOCSIFFLAGS", 0x8914),
    ("SIOCSIFADDR", 0x8916),
    ("SIOCADDRT", 0x890b),
    ("SIOCGSKNS", 0x894c),
];

/// Socket options that redirect traffic, or run an attacker's programs in the kernel.
const SOCKET_OPTIONS: &[(&str, i32, i32)] = &[
    ("SO_MARK", libc::SOL_SOCKET, libc::SO_MARK),
    ("SO_ATTACH_FILTER", libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    ("SO_ATTACH_BPF", libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
    ("SO_ATTACH_REUSEPORT_EBPF", libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
    ("SO_BINDTODEVICE", libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    ("SO_RCVBUFFORCE", libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
    ("SO_SNDBUFFORCE", libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
    ("SO_DEBUG", libc::SOL_SOCKET, libc::SO_DEBUG),
    ("IP_TRANSPARENT", libc::SOL_IP, libc::IP_TRANSPARENT),
    ("IPV6_TRANSPARENT", libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    ("IPT_SO_SET_REPLACE", libc::SOL_IP, 64),
];

/// Files that a tunnel has no need of, and the flags to open them with.
const FILES: &[(&str, i32)] = &[
    ("/etc/passwd", libc::O_RDONLY),
    ("/etc/shadow", libc::O_RDONLY),
    ("/proc/self/mem", libc::O_RDWR),
    ("/proc/self/maps", libc::O_RDONLY),
    ("/proc/1/environ", libc::O_RDONLY),
    ("/proc/sys/net/ipv4/ip_forward", libc::O_WRONLY),
    ("/proc/sys/net/ipv4/ip_forward", libc::O_RDONLY),
    ("/dev/net/tun", libc::O_RDWR),
    ("/dev/null", libc::O_RDONLY),
    ("/", libc::O_RDONLY | libc::O_DIRECTORY),
    ("/tmp", libc::O_TMPFILE | libc::O_RDWR),
];

/// A child of the test that is not confined.
struct Unconfined(Child);

impl Unconfined {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        let pid = Pid::from_raw(self.0.id() as i32);
        crate::waiting::eventually("sleep(1) sleeps", || {
            std::fs::read_to_string(format!("/proc/{pid}/syscall"))
                .is_ok_and(|text| text.starts_with(&format!("{} ", libc::SYS_clock_nanosleep)))
        });
        pid
    }
}

impl Drop for Unconfined {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The control: the same actions succeed in a process that is not confined.
#[test]
fn an_ordinary_process_can_be_made_to_do_it() {
    let child = Unconfined::start();
    let pid = child.pid();
    let mut process = TakenOver::new(pid);
    assert_eq!(process.call(libc::SYS_getpid, &[]), Outcome::Done(pid.as_raw().into()));
    assert_eq!(process.call(libc::SYS_read, &[u64::MAX, 0, 0]), Outcome::Failed(Errno::EBADF));
    for path in ["/etc/passwd", "/proc/self/mem", "/dev/null"] {
        let name = process.text(path);
        let file = process.must_succeed(path, libc::SYS_openat, &[AT_FDCWD, name, libc::O_RDONLY as u64]);
        process.must_succeed("close", libc::SYS_close, &[file as u64]);
    }
    for (domain, kind) in [
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_UNIX, libc::SOCK_STREAM),
        (libc::AF_NETLINK, libc::SOCK_RAW),
    ] {
        process.must_succeed("socket", libc::SYS_socket, &[domain as u64, kind as u64, ANY]);
    }
    process.must_succeed("kill", libc::SYS_kill, &[std::process::id().into(), 0]);
    process.must_succeed("umask", libc::SYS_umask, &[0o22]);
    process.release();
    assert!(!crate::processes::is_gone(pid));
}

/// Returns a netlink message that sets the first link down.
fn link_message() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(32_u32.to_ne_bytes()); // length
    bytes.extend(libc::RTM_NEWLINK.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port
    bytes.extend([0; 4]); // family, padding, type
    bytes.extend(1_i32.to_ne_bytes()); // loopback
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend((libc::IFF_UP as u32).to_ne_bytes());
    bytes
}

/// Returns the kernel's netlink address.
fn netlink_address() -> Vec<u8> {
    let mut bytes = (libc::AF_NETLINK as u16).to_ne_bytes().to_vec();
    bytes.extend([0; 10]);
    bytes
}

/// Returns the descriptors of the process whose target has this prefix.
fn descriptors(pid: Pid, target: &str) -> Vec<u64> {
    let is_such = |number: &u64| {
        std::fs::read_link(format!("/proc/{pid}/fd/{number}"))
            .is_ok_and(|link| link.to_str().unwrap().starts_with(target))
    };
    open_descriptors(pid).into_iter().filter(is_such).collect()
}

pub(super) fn tries_sockets(process: &mut TakenOver) {
    for (what, domain, kind, protocol) in [
        ("NETLINK_ROUTE", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        ("NETLINK_NETFILTER", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        ("NETLINK_GENERIC", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC),
        ("TCP", libc::AF_INET, libc::SOCK_STREAM, 0),
        ("UDP", libc::AF_INET, libc::SOCK_DGRAM, 0),
        ("UDP over IPv6", libc::AF_INET6, libc::SOCK_DGRAM, 0),
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("ping", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ("unix stream", libc::AF_UNIX, libc::SOCK_STREAM, 0),
        ("unix datagram", libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("kernel cipher", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    ] {
        process.must_fail(what, libc::SYS_socket, &[domain as u64, kind as u64, protocol as u64]);
    }
    for number in open_descriptors(process.pid) {
        let (message, address) = (process.put(&link_message()), process.put(&netlink_address()));
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
        let arguments = [number, message, 32, flags, address, 12];
        // the channel to the supervisor ignores addresses, and has its own test
        if number != 3 {
            process.must_fail(&format!("a message to netlink by {number}"), libc::SYS_sendto, &arguments);
        }
    }
}

pub(super) fn tries_files(process: &mut TakenOver, configuration: Option<&str>) {
    let own = configuration.map(|path| (path, libc::O_RDONLY));
    for (path, flags) in FILES.iter().copied().chain(own) {
        let name = process.text(path);
        process.must_fail(path, libc::SYS_open, &[name, flags as u64, 0o600]);
        let name = process.text(path);
        process.must_fail(path, libc::SYS_openat, &[AT_FDCWD, name, flags as u64, 0o600]);
        let (name, how) = (process.text(path), process.put(&[0; 24]));
        process.must_fail(path, libc::SYS_openat2, &[AT_FDCWD, name, how, 24]);
    }
    let name = process.text("/tmp/wontun-takeover");
    process.must_fail("mkdir", libc::SYS_mkdir, &[name, 0o700]);
    let name = process.text("/tmp/wontun-takeover");
    process.must_fail("mknod", libc::SYS_mknod, &[name, u64::from(libc::S_IFIFO | 0o600), 0]);
    let name = process.text("/tmp");
    process.must_fail("chdir", libc::SYS_chdir, &[name]);
    let name = process.text("/tmp");
    process.must_fail("chroot", libc::SYS_chroot, &[name]);
}

pub(super) fn tries_processes(process: &mut TakenOver, supervisor: Pid) {
    let target = supervisor.as_raw() as u64;
    process.must_fail("kill", libc::SYS_kill, &[target, 0]);
    process.must_fail("kill of all", libc::SYS_kill, &[-1_i64 as u64, 0]);
    process.must_fail("tkill", libc::SYS_tkill, &[target, 0]);
    process.must_fail("tgkill", libc::SYS_tgkill, &[target, target, 0]);
    process.must_fail("pidfd_open", libc::SYS_pidfd_open, &[target, 0]);
    process.must_fail("prlimit", libc::SYS_prlimit64, &[target, libc::RLIMIT_NOFILE.into(), 0, 0]);
    process.must_fail("ptrace", libc::SYS_ptrace, &[libc::PTRACE_ATTACH as u64, target, 0, 0]);
    process.must_fail("ptrace (seize)", libc::SYS_ptrace, &[libc::PTRACE_SEIZE as u64, target, 0, 0]);
    // any page of the supervisor
    let maps = std::fs::read_to_string(format!("/proc/{supervisor}/maps")).unwrap();
    let page = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
    for (what, call) in
        [("process_vm_readv", libc::SYS_process_vm_readv), ("process_vm_writev", libc::SYS_process_vm_writev)]
    {
        let buffer = process.put(&[0; 16]);
        let vector = |address: u64| [address.to_ne_bytes(), 16_u64.to_ne_bytes()].concat();
        let (near, far) = (process.put(&vector(buffer)), process.put(&vector(page)));
        process.must_fail(what, call, &[target, near, 1, far, 1, 0]);
    }
    let (program, vector) = (process.text("/bin/true"), process.put(&[0; 8]));
    process.must_fail("execve", libc::SYS_execve, &[program, vector, vector]);
    let (program, vector) = (process.text("/bin/true"), process.put(&[0; 8]));
    process.must_fail("execveat", libc::SYS_execveat, &[AT_FDCWD, program, vector, vector, 0]);
}

pub(super) fn tries_to_start_others(process: &mut TakenOver) {
    process.must_fail("fork", libc::SYS_fork, &[]);
    process.must_fail("vfork", libc::SYS_vfork, &[]);
    process.must_fail("clone", libc::SYS_clone, &[libc::SIGCHLD as u64, 0]);
    let mut request = [0_u8; 88];
    request[32..40].copy_from_slice(&(libc::SIGCHLD as u64).to_ne_bytes());
    let request = process.put(&request);
    process.must_fail("clone3", libc::SYS_clone3, &[request, 88]);
}

pub(super) fn tries_rights(process: &mut TakenOver) {
    for (what, call) in [("setuid", libc::SYS_setuid), ("setgid", libc::SYS_setgid)] {
        process.must_fail(what, call, &[0]);
    }
    process.must_fail("setresuid", libc::SYS_setresuid, &[0, 0, 0]);
    process.must_fail("setresgid", libc::SYS_setresgid, &[0, 0, 0]);
    process.must_fail("setgroups", libc::SYS_setgroups, &[0, 0]);
    // _LINUX_CAPABILITY_VERSION_3, this process; all capabilities
    let header = process.put(&[&0x2008_0522_u32.to_ne_bytes()[..], &[0; 4]].concat());
    let data = process.put(&[0xff; 24]);
    process.must_fail("capset", libc::SYS_capset, &[header, data]);
    let ambient = [libc::PR_CAP_AMBIENT as u64, libc::PR_CAP_AMBIENT_RAISE as u64, 12, 0, 0];
    process.must_fail("PR_CAP_AMBIENT", libc::SYS_prctl, &ambient);
    process.must_fail("PR_SET_DUMPABLE", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS] {
        process.must_fail("unshare", libc::SYS_unshare, &[flag as u64]);
        process.must_fail("setns", libc::SYS_setns, &[2, flag as u64]);
    }
    let (none, place) = (process.text("none"), process.text("/tmp"));
    let kind = process.text("tmpfs");
    process.must_fail("mount", libc::SYS_mount, &[none, place, kind, 0, 0]);
    let place = process.text("/tmp");
    process.must_fail("umount", libc::SYS_umount2, &[place, libc::MNT_DETACH as u64]);
    process.must_fail("pivot_root", libc::SYS_pivot_root, &[0, 0]);
    let attributes = process.put(&[0; 128]);
    // BPF_MAP_CREATE
    process.must_fail("bpf", libc::SYS_bpf, &[0, attributes, 128]);
    let parameters = process.put(&[0; 128]);
    process.must_fail("io_uring_setup", libc::SYS_io_uring_setup, &[8, parameters]);
    let attributes = process.put(&[0; 128]);
    let anywhere = -1_i64 as u64;
    process.must_fail("perf_event_open", libc::SYS_perf_event_open, &[attributes, 0, anywhere, anywhere, 0]);
    process.must_fail("userfaultfd", libc::SYS_userfaultfd, &[0]);
    let name = process.text("wontun");
    process.must_fail("sethostname", libc::SYS_sethostname, &[name, 6]);
    process.must_fail("init_module", libc::SYS_init_module, &[0, 0, 0]);
    process.must_fail("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0]);
    process.must_fail("keyctl", libc::SYS_keyctl, &[0, 0, 0, 0, 0]);
    process.must_fail("open_by_handle_at", libc::SYS_open_by_handle_at, &[2, 0, 0]);
    process.must_fail("clock_settime", libc::SYS_clock_settime, &[0, 0]);
}

fn tries_devices(process: &mut TakenOver) {
    let queues = descriptors(process.pid, "/dev/net/tun");
    assert!(!queues.is_empty(), "no queue");
    for queue in &queues {
        for (name, request) in TUN_REQUESTS {
            // those with a number as the argument (persist, owner), and those with a pointer
            process.must_fail(name, libc::SYS_ioctl, &[*queue, *request, 1]);
            let memory = process.put(&[1; 64]);
            process.must_fail(name, libc::SYS_ioctl, &[*queue, *request, memory]);
        }
    }
    let sockets = descriptors(process.pid, "socket:");
    assert!(sockets.len() > 1, "no UDP socket");
    for socket in sockets {
        for (name, request) in TUN_REQUESTS {
            let memory = process.put(&[1; 64]);
            process.must_fail(name, libc::SYS_ioctl, &[socket, *request, memory]);
        }
        for (name, level, option) in SOCKET_OPTIONS {
            // a device's name, a number, and the length and address of a program
            let program = process.put(&[6, 0, 0, 0, 0xff, 0xff, 0, 0]);
            let mut value = *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0";
            if *name == "SO_ATTACH_FILTER" {
                value = [1_u64.to_ne_bytes(), program.to_ne_bytes()].concat().try_into().unwrap();
            } else if *name != "SO_BINDTODEVICE" {
                value[..4].copy_from_slice(&1_u32.to_ne_bytes());
            }
            let length = if *name == "SO_ATTACH_FILTER" || *name == "SO_BINDTODEVICE" { 16 } else { 4 };
            let value = process.put(&value);
            let arguments = [socket, *level as u64, *option as u64, value, length];
            process.must_fail(name, libc::SYS_setsockopt, &arguments);
        }
    }
}

/// Tries other ways to make system calls: 32-bit calls in a 64-bit process, and numbers of the x32
/// ABI.
pub(super) fn tries_other_numbers(process: &mut TakenOver) {
    /// `__X32_SYSCALL_BIT`.
    const X32: c_long = 0x4000_0000;
    for call in [libc::SYS_socket, libc::SYS_open, libc::SYS_kill] {
        process.must_fail("a call of x32", X32 + call, &[16, 3, 0]);
    }
    process.must_fail("a call that does not exist", 100_000, &[]);
}

/// Takes over the process of `daemon` that carries packets, and tries everything.
fn tries_everything(daemon: &Daemon, configuration: Option<&str>) {
    let processes = daemon.processes();
    let mut process = TakenOver::new(processes.tunnel);
    // the control: seccomp allows this call, and the kernel answers
    assert_eq!(process.call(libc::SYS_read, &[u64::MAX, 0, 0]), Outcome::Failed(Errno::EBADF));
    tries_sockets(&mut process);
    tries_files(&mut process, configuration);
    tries_processes(&mut process, processes.supervisor);
    tries_to_start_others(&mut process);
    tries_rights(&mut process);
    process.must_fail("PR_SET_PDEATHSIG", libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, 0]);
    tries_devices(&mut process);
    tries_other_numbers(&mut process);
    assert_eq!(process.call(libc::SYS_read, &[u64::MAX, 0, 0]), Outcome::Failed(Errno::EBADF));
    process.release();
    assert_eq!(daemon.processes(), processes, "a process was replaced");
}

/// A client with default routes and a kill switch, and a server with NAT: much could be changed.
#[test]
fn a_taken_over_tunnel_changes_nothing_of_a_client_with_default_routes() {
    let stage = Stage::new();
    let client = stage.client();
    let mut daemon = start(client, &stage.plan.client, &["--kill-switch", "--workers", "2"]);
    reaches_the_world(&stage);
    let before = host_state(client);
    tries_everything(&daemon, Some(client.path().join("wg0.conf").to_str().unwrap()));
    is_as_before(client, &before);
    reaches_the_world(&stage);
    assert!(daemon.is_running());
    assert_eq!(daemon.stop().status.code(), Some(0));
}

#[test]
fn a_taken_over_tunnel_changes_nothing_of_a_server_with_nat() {
    let lab = Arc::new(Lab::new(2));
    let mut plan = crate::tunnel::Plan::new(Mode::WireGuard).args("--workers 2");
    plan.server = plan.server.args("--nat auto --metrics 192.0.2.1:9586");
    let mut tunnel = plan.start_on(&lab);
    tunnel.client_site.ping(SERVER_V4);
    let before = host_state(&tunnel.server_site);
    let file = tunnel.server_site.path().join("tun0.conf");
    tries_everything(&tunnel.server, Some(file.to_str().unwrap()));
    is_as_before(&tunnel.server_site, &before);
    tunnel.client_site.ping(SERVER_V4);
    assert!(tunnel.server.is_running());
    assert_eq!(tunnel.server.stop().status.code(), Some(0));
}

#[test]
fn a_taken_over_tunnel_changes_nothing_in_plain_mode() {
    let lab = Arc::new(Lab::new(2));
    let tunnel = crate::tunnel::Plan::new(Mode::Plain).args("--workers 2").start_on(&lab);
    for (daemon, site) in [(&tunnel.server, &tunnel.server_site), (&tunnel.client, &tunnel.client_site)] {
        tunnel.client_site.ping(SERVER_V4);
        let before = host_state(site);
        tries_everything(daemon, None);
        is_as_before(site, &before);
        tunnel.server_site.ping(IpAddr::from(CLIENT_V4));
    }
}

/// The resolver parses answers from unknown senders. For getaddrinfo(3) it may open network
/// sockets, one for the kernel's addresses and routes, and files such as /etc/hosts. None of these
/// lets it change the host or read the configuration.
#[test]
fn a_taken_over_resolver_changes_nothing_and_reads_no_keys() {
    let stage = Stage::new();
    let client = stage.client();
    let mut daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    let before = host_state(client);
    let processes = daemon.processes();
    let mut process = TakenOver::new(processes.resolver.expect("a resolver"));
    for (what, domain, kind, protocol) in [
        ("NETLINK_NETFILTER", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        ("NETLINK_GENERIC", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC),
        ("NETLINK_XFRM", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_XFRM),
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("kernel cipher", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    ] {
        process.must_fail(what, libc::SYS_socket, &[domain as u64, kind as u64, protocol as u64]);
    }
    // getaddrinfo(3) needs this socket: the kernel accepts its message, and refuses the request
    let arguments = [libc::AF_NETLINK as u64, libc::SOCK_RAW as u64, libc::NETLINK_ROUTE as u64];
    let socket = process.must_succeed("NETLINK_ROUTE", libc::SYS_socket, &arguments) as u64;
    let (message, address) = (process.put(&link_message()), process.put(&netlink_address()));
    process.call(libc::SYS_sendto, &[socket, message, 32, libc::MSG_DONTWAIT as u64, address, 12]);
    is_as_before(client, &before);
    process.must_succeed("close", libc::SYS_close, &[socket]);
    let configuration = client.path().join("wg0.conf");
    for (path, flags) in [
        (configuration.to_str().unwrap(), libc::O_RDONLY),
        ("/etc/shadow", libc::O_RDONLY),
        ("/etc/hosts", libc::O_RDWR),
        ("/etc/resolv.conf", libc::O_RDWR),
        ("/proc/self/mem", libc::O_RDWR),
        ("/proc/1/environ", libc::O_RDONLY),
        ("/proc/sys/net/ipv4/ip_forward", libc::O_WRONLY),
        ("/dev/net/tun", libc::O_RDWR),
        ("/run/wireguard/wg0.sock", libc::O_RDWR),
        ("/tmp", libc::O_TMPFILE | libc::O_RDWR),
    ] {
        let name = process.text(path);
        process.must_fail(path, libc::SYS_openat, &[AT_FDCWD, name, flags as u64, 0o600]);
    }
    tries_processes(&mut process, processes.supervisor);
    tries_processes(&mut process, processes.tunnel);
    tries_rights(&mut process);
    tries_other_numbers(&mut process);
    process.release();
    is_as_before(client, &before);
    reaches_the_world(&stage);
    assert!(daemon.is_running());
    assert_eq!(daemon.processes(), processes, "a process was replaced");
    assert_eq!(daemon.stop().status.code(), Some(0));
}
