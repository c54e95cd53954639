//! An attacker in a separate process, behind the real sandbox. The process is this test program
//! again, with the call to make in its environment.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::fcntl::AT_FDCWD;
use nix::libc::{self, c_long};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::attacks::{ATTACKS, OF_SUPERVISOR, OF_TUNNEL};
use super::*;
use wontun_sys::trap::{EXIT_FORBIDDEN, raw_call};

/// The attacker's task in the form `ROLE|ACT|FOLDER`.
const PLAN: &str = "WONTUN_TEST_SANDBOX";
/// Prefix of the attacker's last line, which contains the outcome.
const CAME: &str = "it came to: ";

/// Actions that are allowed, or that fail without ending the process; each returns its outcome.
fn acts(folder: &Path) -> HashMap<&'static str, Box<dyn Fn() -> io::Result<()>>> {
    let within = |name: &str| folder.join(name);
    let mut acts: HashMap<&'static str, Box<dyn Fn() -> io::Result<()>>> = HashMap::new();
    let (config, new, link, key) =
        (within("wontun/tun0.conf"), within("wontun/new"), within("wontun/link"), within("key"));
    acts.insert(
        "read the configuration",
        Box::new({
            let config = config.clone();
            move || fs::read(&config).map(drop)
        }),
    );
    acts.insert("read the key", Box::new(move || fs::read(&key).map(drop)));
    acts.insert(
        "list the folder",
        Box::new({
            let folder = within("wontun");
            move || fs::read_dir(&folder).map(drop)
        }),
    );
    acts.insert("write the configuration", Box::new(move || fs::write(&config, "").map(drop)));
    acts.insert("write a new file", Box::new(move || fs::write(&new, "")));
    acts.insert("read past the folder", Box::new(move || fs::read(&link).map(drop)));
    acts.insert(
        "read another file",
        Box::new({
            let other = within("other");
            move || fs::read(&other).map(drop)
        }),
    );
    acts.insert("read /etc/passwd", Box::new(|| fs::read("/etc/passwd").map(drop)));
    acts.insert("read /etc/hosts", Box::new(|| fs::read("/etc/hosts").map(drop)));
    acts.insert("list /etc", Box::new(|| fs::read_dir("/etc").map(drop)));
    acts.insert("read /proc/self/mem", Box::new(|| fs::File::open("/proc/self/mem").map(drop)));
    acts.insert("list /", Box::new(|| fs::read_dir("/").map(drop)));
    for (act, name) in
        [("remove the socket", "run/tun0.sock"), ("remove the configuration", "wontun/tun0.conf")]
    {
        let file = within(name);
        // by this call, which the standard library does not use
        let remove = move || Ok(unlinkat(AT_FDCWD, &file, UnlinkatFlags::NoRemoveDir)?);
        acts.insert(act, Box::new(remove));
    }
    for (act, name) in
        [("rename the socket", "run/wg0.sock"), ("rename the configuration", "wontun/tun0.conf")]
    {
        let (old, new) = (within(name), within(&name.replace('0', "7")));
        let rename = move || {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            Ok(rustix::fs::renameat_with(rustix::fs::CWD, &old, rustix::fs::CWD, &new, flags)?)
        };
        acts.insert(act, Box::new(rename));
    }
    acts.insert(
        "listen for health",
        Box::new(|| {
            let tun = format!("t{}", std::process::id() % 1_000_000).parse().unwrap();
            crate::control::health::HealthListener::open(&tun).map(drop)
        }),
    );
    acts.insert(
        "open UDP sockets",
        Box::new(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(socket.local_addr()?)?;
            socket.send(b"x")?;
            socket.recv(&mut [0; 1]).map(drop)
        }),
    );
    acts.insert(
        "bind TCP",
        Box::new(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
            socket.bind(&address.into())
        }),
    );
    acts.insert(
        "connect TCP",
        Box::new(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            let address: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
            socket.connect(&address.into())
        }),
    );
    acts.insert(
        "query by UDP",
        Box::new(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
            let address: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
            socket.connect(&address.into())
        }),
    );
    acts.insert(
        "start a thread",
        Box::new(|| {
            let thread =
                std::thread::Builder::new().name("another".to_owned()).spawn(|| vec![1_u8; 1 << 20])?;
            thread.join().map(drop).map_err(|_| io::Error::other("it panicked"))
        }),
    );
    acts.insert(
        "panic",
        Box::new(|| {
            std::panic::catch_unwind(|| panic!("on purpose")).map_err(|_| io::Error::other("caught"))
        }),
    );
    acts.insert("abort", Box::new(|| std::process::abort()));
    acts.insert("clone3", Box::new(|| raw_call(libc::SYS_clone3, [0; 6]).map(drop)));
    acts.insert(
        "end the resolver",
        Box::new(|| raw_call(libc::SYS_kill, [RESOLVER.into(), libc::SIGKILL.into(), 0, 0, 0, 0]).map(drop)),
    );
    acts.insert(
        "stop the resolver",
        Box::new(|| raw_call(libc::SYS_kill, [RESOLVER.into(), libc::SIGSTOP.into(), 0, 0, 0, 0]).map(drop)),
    );
    acts.insert(
        "look up localhost",
        Box::new(|| {
            use std::net::ToSocketAddrs as _;
            let found = ("localhost", 7).to_socket_addrs()?;
            if found.into_iter().all(|address| address.ip().is_loopback()) {
                Ok(())
            } else {
                Err(io::Error::other("elsewhere"))
            }
        }),
    );
    acts.insert(
        "look up nobody",
        Box::new(|| std::net::ToSocketAddrs::to_socket_addrs(&("no-such-host.invalid", 7)).map(drop)),
    );
    acts.insert("a unix socket", Box::new(|| std::os::unix::net::UnixDatagram::unbound().map(drop)));
    // performed by the attacker itself, since the socket is created before the sandbox
    acts.insert("connect a spare socket", Box::new(|| Ok(())));
    acts.insert("no such call", Box::new(|| raw_call(9999, [0; 6]).map(drop)));
    acts
}

/// A process id that is not in use.
const RESOLVER: i32 = 0x3fff_fff0;

fn sandbox(role: &str, folder: &Path) -> Sandbox {
    let mut paths = AllowedPaths::for_configuration(&folder.join("wontun/tun0.conf"), &[folder.join("key")]);
    paths.socket_folder = Some(folder.join("run"));
    match role {
        "tunnel" => Sandbox::for_tunnel(),
        "supervisor" => Sandbox::for_supervisor(&paths),
        "resolver" => Sandbox::for_resolver(),
        "look-up" => Sandbox::for_look_up(),
        "nursery" => Sandbox::for_nursery(),
        "hold" => Sandbox::for_hold(),
        "names" => Sandbox::for_names(None),
        "names over TLS" => Sandbox::for_names(Some(&[853])),
        "enroll" => Sandbox::for_enroll(),
        "resolv-conf" => Sandbox::for_resolv_conf(),
        "dns-bus" => Sandbox::for_dns_resolved(false),
        "dns-reconnect" => Sandbox::for_dns_resolved(true),
        _ => panic!("{role}"),
    }
    .unwrap()
}

/// The attacker. As an ordinary test it does nothing.
#[test]
fn attacker() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let [role, act, folder] = plan.split('|').collect::<Vec<_>>().try_into().unwrap();
    let folder = Path::new(folder);
    // created before, as by the supervisor; an inherited descriptor would be closed at exec
    let spare = crate::net::udp::UdpSocket::unbound(true).unwrap();
    if let Some(of) = role.strip_suffix("log") {
        let of = if of.is_empty() { "supervisor" } else { of.trim_end() };
        let log = sandbox(of, folder).for_log(true).unwrap();
        log.engage().unwrap();
        if act == "a unix socket once it is restricted" {
            log.restrict_further().unwrap();
        }
    } else {
        sandbox(role, folder).engage().unwrap();
    }
    let attack = ATTACKS.iter().chain(OF_SUPERVISOR).chain(OF_TUNNEL).find(|(name, ..)| *name == act);
    let mut acts = acts(folder);
    acts.extend(resolv_conf_tests::acts());
    let outcome = match (acts.get(act), attack) {
        (Some(_), _) if act == "connect a spare socket" => {
            spare.connect("127.0.0.1:0".parse().unwrap(), "127.0.0.1:9".parse().unwrap())
        }
        (Some(act), _) => act(),
        (None, Some((_, number, arguments))) => raw_call(*number, *arguments).map(drop),
        (None, None) => std::os::unix::net::UnixDatagram::unbound().map(drop),
    };
    eprintln!("{CAME}{outcome:?}");
    // skip the test harness, whose calls at the end are unknown
    std::process::exit(0);
}

/// A folder with a configuration, a key beside it, a socket and a foreign file.
pub(super) struct Stage(PathBuf);

impl Stage {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wontun-sandbox-{name}-{}", std::process::id()));
        for part in ["wontun", "run"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        for file in ["wontun/tun0.conf", "key", "other", "run/tun0.sock"] {
            fs::write(folder.join(file), "x").unwrap();
        }
        for name in ["wg0.sock", "wg7.sock"] {
            let _ = fs::remove_file(folder.join("run").join(name));
        }
        drop(std::os::unix::net::UnixListener::bind(folder.join("run/wg0.sock")).unwrap());
        let _ = fs::remove_file(folder.join("wontun/link"));
        std::os::unix::fs::symlink(folder.join("other"), folder.join("wontun/link")).unwrap();
        Self(folder)
    }

    fn attack(&self, role: &str, act: &str) -> Output {
        let folder = self.0.to_str().unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::attacker", "--nocapture", "--test-threads=1"])
            .env(PLAN, format!("{role}|{act}|{folder}"))
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap()
    }

    /// Returns the outcome that the attacker printed.
    pub(super) fn outcome(&self, role: &str, act: &str) -> String {
        let output = self.attack(role, act);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find_map(|line| line.split_once(CAME));
        line.map(|(_, outcome)| outcome.to_owned()).unwrap_or_else(|| panic!("{role}: {act}: {output:?}"))
    }

    pub(super) fn dies(&self, role: &str, act: &str, number: c_long) {
        let output = self.attack(role, act);
        assert_eq!(output.status.code(), Some(EXIT_FORBIDDEN), "{role}: {act}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!("forbids system call {number} ({})", std::env::consts::ARCH)),
            "{role}: {act}: {said}"
        );
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns true if the kernel has Landlock version 4, as needed by some tests.
pub(super) fn has_landlock() -> bool {
    raw_call(libc::SYS_landlock_create_ruleset, [0, 0, 1, 0, 0, 0]).is_ok_and(|abi| abi >= 4)
}

#[test]
fn an_attackers_calls_end_the_process() {
    let stage = Stage::new("dies");
    for (name, number, _) in ATTACKS {
        stage.dies("supervisor", name, *number);
        if *name != "clone of a process" {
            stage.dies("resolver", name, *number);
            stage.dies("look-up", name, *number);
        }
    }
    for (name, number, _) in OF_SUPERVISOR {
        stage.dies("supervisor", name, *number);
    }
    stage.dies("supervisor", "end the resolver", libc::SYS_kill);
    stage.dies("supervisor", "stop the resolver", libc::SYS_kill);
    stage.dies("log", "a unix socket once it is restricted", libc::SYS_socket);
}

#[test]
fn an_attackers_calls_end_the_nursery_and_helpers_that_are_not_confined_yet() {
    /// Calls that a helper makes, at its start or always.
    const OF_HELPERS: [&str; 7] = [
        "clone of a process",
        "a packet socket",
        "a Bluetooth socket",
        "a vsock socket",
        "an AF_ALG socket",
        "listen",
        "a socket's program",
    ];
    let stage = Stage::new("nursery");
    for (name, number, _) in ATTACKS.iter().filter(|(name, ..)| !OF_HELPERS.contains(name)) {
        stage.dies("nursery", name, *number);
    }
    const OTHERS: [&str; 4] =
        ["a process in namespaces", "typing for others", "signals of a descriptor", "limits of another"];
    let others = OF_SUPERVISOR.iter().filter(|(name, ..)| OTHERS.contains(name));
    assert_eq!(others.clone().count(), OTHERS.len());
    for (name, number, _) in others {
        stage.dies("nursery", name, *number);
    }
    for act in ["open UDP sockets", "start a thread", "read the configuration", "a unix socket", "bind TCP"] {
        assert_eq!(stage.outcome("nursery", act), "Ok(())", "{act}");
    }
    let aborted = stage.attack("nursery", "abort");
    assert_eq!(aborted.status.signal(), Some(libc::SIGABRT), "{aborted:?}");
}

#[test]
fn what_a_supervisor_does_is_allowed() {
    let stage = Stage::new("allowed");
    for act in
        ["open UDP sockets", "start a thread", "read the configuration", "read the key", "list the folder"]
    {
        assert_eq!(stage.outcome("supervisor", act), "Ok(())", "{act}");
    }
    for act in ["remove the socket", "rename the socket", "listen for health"] {
        assert_eq!(stage.outcome("supervisor", act), "Ok(())", "{act}");
    }
    assert_eq!(stage.outcome("log", "a unix socket"), "Ok(())");
    assert!(stage.outcome("supervisor", "clone3").contains("code: 38"), "ENOSYS");
    assert!(stage.outcome("supervisor", "panic").contains("caught"));
    let aborted = stage.attack("supervisor", "abort");
    assert_eq!(aborted.status.signal(), Some(libc::SIGABRT), "{aborted:?}");
}

#[test]
fn the_tunnel_process_opens_nothing() {
    let stage = Stage::new("data-plane");
    for (name, number, _) in ATTACKS.iter().chain(OF_SUPERVISOR).chain(OF_TUNNEL) {
        // calls about limits fail with ENOSYS there
        if *name != "limits of another" {
            stage.dies("tunnel", name, *number);
        }
    }
    for act in ["start a thread", "connect a spare socket"] {
        assert_eq!(stage.outcome("tunnel", act), "Ok(())", "{act}");
    }
    assert!(stage.outcome("tunnel", "panic").contains("caught"));
    for act in ["read the configuration", "read /proc/self/mem", "write a new file", "clone3"] {
        let outcome = stage.outcome("tunnel", act);
        assert!(outcome.contains("code: 38"), "{act}: {outcome}");
    }
    let aborted = stage.attack("tunnel", "abort");
    assert_eq!(aborted.status.signal(), Some(libc::SIGABRT), "{aborted:?}");
    assert_eq!(stage.outcome("tunnel log", "a unix socket"), "Ok(())");
    stage.dies("tunnel log", "a unix socket once it is restricted", libc::SYS_socket);
}

#[test]
fn a_process_that_holds_a_namespace_waits_and_does_nothing_else() {
    /// It reaps children.
    const OF_HOLD: [&str; 1] = ["wait4"];
    let stage = Stage::new("hold");
    for (name, number, _) in ATTACKS.iter().chain(OF_SUPERVISOR).chain(OF_TUNNEL) {
        if !OF_HOLD.contains(name) {
            stage.dies("hold", name, *number);
        }
    }
    let aborted = stage.attack("hold", "abort");
    assert_eq!(aborted.status.signal(), Some(libc::SIGABRT), "{aborted:?}");
}

#[test]
fn a_forbidden_file_is_refused() {
    if !has_landlock() {
        eprintln!("this kernel has no Landlock of version 4: nothing to see");
        return;
    }
    let stage = Stage::new("files");
    for act in [
        "write the configuration",
        "write a new file",
        "remove the configuration",
        "rename the configuration",
        "read past the folder",
        "read another file",
        "read /etc/passwd",
        "read /proc/self/mem",
        "list /",
        "bind TCP",
        "connect TCP",
    ] {
        let outcome = stage.outcome("supervisor", act);
        assert!(outcome.contains("code: 13") || outcome == "Err(EACCES)", "{act}: {outcome}");
    }
    for role in ["resolver", "look-up"] {
        for act in ["write the configuration", "write a new file", "read the key", "list /", "bind TCP"] {
            let outcome = stage.outcome(role, act);
            assert!(outcome.contains("code: 13"), "{role}: {act}: {outcome}");
        }
    }
    // a look-up may read the files that it needs, but not their folder with many others
    for act in ["read /etc/passwd", "list /etc"] {
        let outcome = stage.outcome("look-up", act);
        assert!(outcome.contains("code: 13"), "{act}: {outcome}");
    }
    assert_eq!(stage.outcome("look-up", "read /etc/hosts"), "Ok(())");
}

#[test]
fn names_are_looked_up_in_the_sandbox() {
    let stage = Stage::new("names");
    assert_eq!(stage.outcome("look-up", "look up localhost"), "Ok(())");
    let nobody = stage.outcome("look-up", "look up nobody");
    assert!(nobody.contains("failed to lookup address"), "{nobody}");
    for act in ["a unix socket", "open UDP sockets"] {
        assert_eq!(stage.outcome("look-up", act), "Ok(())", "{act}");
    }
    // calls that a module may try fail with ENOSYS, without further effect
    for act in ["no such call", "clone3", "clone of a process", "another filter"] {
        assert!(stage.outcome("look-up", act).contains("code: 38"), "{act}");
    }
    // the resolver process starts processes, but no threads
    for act in ["no such call", "clone3"] {
        assert!(stage.outcome("resolver", act).contains("code: 38"), "{act}");
    }
    // musl reports EAGAIN for every error of clone
    let refused = if cfg!(target_env = "musl") { libc::EAGAIN } else { libc::ENOSYS };
    for role in ["look-up", "resolver"] {
        let outcome = stage.outcome(role, "start a thread");
        assert!(outcome.contains(&format!("code: {refused},")), "{role}: {outcome}");
    }
}

/// A call listed both with and without conditions would be allowed with any arguments.
#[test]
fn no_list_takes_back_a_condition() {
    for lists in [
        calls::SUPERVISOR_ALLOWED,
        calls::SUPERVISOR_LOG_ALLOWED,
        calls::SUPERVISOR_ABSENT,
        calls::TUNNEL_ALLOWED,
        calls::TUNNEL_LOG_ALLOWED,
        calls::TUNNEL_MISSING,
        calls::RESOLVER_ALLOWED,
        calls::LOOK_UP_ALLOWED,
        calls::RESOLVER_FORBIDDEN,
        calls::NURSERY_ABSENT,
        calls::NURSERY_FORBIDDEN,
        resolv_conf_calls::RESOLV_CONF_ALLOWED,
    ] {
        let mut conditional = HashMap::new();
        // below 0 on 32-bit processors, which have no filter
        for call in lists.iter().copied().flatten().filter(|call| call.number >= 0) {
            let has_conditions = !call.forms.is_empty();
            let before = conditional.insert(call.number, has_conditions);
            assert!(before.is_none_or(|before| before && has_conditions), "call {} twice", call.number);
        }
    }
}

/// The kernel would run the filter for each of them, and the nursery's in every helper.
#[test]
fn what_packets_need_has_no_conditions() {
    for number in [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_recvmmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_epoll_pwait,
        libc::SYS_futex,
        libc::SYS_timerfd_settime,
    ] {
        let mut listed = calls::TUNNEL_ALLOWED.iter().copied().flatten().filter(|call| call.number == number);
        assert!(listed.next().is_some_and(|call| call.forms.is_empty()), "call {number}");
        let missing = calls::TUNNEL_MISSING.iter().copied().flatten();
        assert!(missing.into_iter().all(|call| call.number != number), "call {number}");
        let mut forbidden = calls::NURSERY_FORBIDDEN.iter().chain(calls::NURSERY_ABSENT).copied().flatten();
        assert!(forbidden.all(|call| call.number != number), "call {number}");
    }
}
