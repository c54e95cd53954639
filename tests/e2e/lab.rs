//! The laboratory: hosts that are network namespaces, joined by a veth pair, a bridge or a router.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::requirements;
use crate::waiting::{TIMEOUT, finish, succeed};

/// Serializes tests that move bulk data: two cores carry one such tunnel, not two.
static HEAVY: Mutex<()> = Mutex::new(());

/// Waits for the other heavy test to end. Hold the guard for the length of the test.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the numbers up to `count` of the packets without an answer in the output of ping(8), run
/// without `-q`. It is to send one more: for the answer to the last one it does not wait.
pub(crate) fn unanswered(output: &str, count: u32) -> Vec<u32> {
    let answers = output.lines().filter(|line| line.contains(" bytes from "));
    let answers = answers.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok());
    let answered: Vec<u32> = answers.collect();
    (1..=count).filter(|number| !answered.contains(number)).collect()
}

/// One host. Its first network interface is `eth0`.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    /// The outer addresses.
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

/// Hosts on one link. Host `n` has 192.0.2.(n+1) and 2001:db8::(n+1).
#[derive(Debug)]
pub(crate) struct Lab {
    hosts: Vec<Host>,
}

impl Lab {
    /// Makes `count` hosts on one link of MTU 1500: a veth pair for two, a bridge for more.
    pub(crate) fn new(count: usize) -> Self {
        Self::with_mtu(count, 1500)
    }

    /// As [`Lab::new`], with the link's MTU.
    pub(crate) fn with_mtu(count: usize, mtu: u32) -> Self {
        requirements::check();
        let mut lab = Self { hosts: Vec::new() };
        for index in 0..count {
            lab.add_host(index as u8 + 1);
        }
        if let [a, b] = lab.hosts.as_slice() {
            a.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b.name]);
        } else {
            lab.add_host(200);
            let (switch, hosts) = lab.hosts.split_last().unwrap();
            switch.ip(&["link", "add", "br0", "mtu", &mtu.to_string(), "up", "type", "bridge"]);
            for (index, host) in hosts.iter().enumerate() {
                let port = format!("port{index}");
                switch
                    .ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host.name]);
                switch.ip(&["link", "set", &port, "mtu", &mtu.to_string(), "master", "br0", "up"]);
            }
        }
        for host in lab.hosts.iter().take(count) {
            host.set_up(mtu);
        }
        for host in lab.hosts.iter().take(count) {
            host.wait_for_carrier();
        }
        lab
    }

    /// Makes two hosts with a router (host 2) between them that forwards nothing larger than `mtu`.
    /// Host 0 is 192.0.2.1 and 2001:db8::1, host 1 is 198.51.100.2 and 2001:db8:1::2; neither can
    /// see the smaller MTU on its own interface, of MTU 1500.
    pub(crate) fn routed(mtu: u32) -> Self {
        requirements::check();
        let mut lab = Self { hosts: Vec::new() };
        for index in [1, 2, 3] {
            lab.add_host(index);
        }
        lab.hosts[1].v4 = Ipv4Addr::new(198, 51, 100, 2);
        lab.hosts[1].v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
        let [a, b, router] = lab.hosts.as_slice() else { unreachable!() };
        let mtu = mtu.to_string();
        router.ip(&["link", "set", "lo", "up"]);
        router
            .shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for (host, card, net4, net6) in
            [(a, "left", "192.0.2", "2001:db8::"), (b, "right", "198.51.100", "2001:db8:1::")]
        {
            router.ip(&["link", "add", card, "type", "veth", "peer", "name", "eth0", "netns", &host.name]);
            router.ip(&["address", "add", &format!("{net4}.254/24"), "dev", card]);
            router.ip(&["address", "add", &format!("{net6}fe/64"), "dev", card, "nodad"]);
            router.ip(&["link", "set", card, "up"]);
            // The MTU is set on the routes, not on the interfaces: a veth drops packets larger than
            // its far end's MTU, without an ICMP error.
            router.ip(&["route", "change", &format!("{net4}.0/24"), "dev", card, "mtu", &mtu]);
            // IPv6 chooses the route with the better metric: this one is added beside the kernel's.
            let narrow = format!("{net6}/64");
            router.ip(&["-6", "route", "add", &narrow, "dev", card, "metric", "1", "mtu", &mtu]);
            host.set_up(1500);
            host.ip(&["route", "add", "default", "via", &format!("{net4}.254")]);
            host.ip(&["route", "add", "default", "via", &format!("{net6}fe")]);
        }
        a.wait_for_carrier();
        b.wait_for_carrier();
        lab
    }

    /// Returns host `index`, counted from 0.
    pub(crate) fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// Returns the first host; by convention it runs the server.
    pub(crate) fn server(&self) -> &Host {
        &self.hosts[0]
    }

    /// Returns the second host; by convention it runs the client.
    pub(crate) fn client(&self) -> &Host {
        &self.hosts[1]
    }

    fn add_host(&mut self, number: u8) {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        // The pid distinguishes this run from one that was killed and left its namespaces behind.
        let name = format!("wontun-e2e-{}-{serial}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        self.hosts.push(Host {
            name,
            v4: Ipv4Addr::new(192, 0, 2, number),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)),
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            // A failed test gets here too: report, and continue with the others.
            let removed = Command::new("ip").args(["netns", "delete", &host.name]).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("cannot remove the network namespace {}", host.name);
            }
        }
    }
}

impl Host {
    /// Returns the network namespace's name, for `ip link set … netns NAME`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip -n HOST args…`, which must succeed.
    pub(crate) fn ip(&self, args: &[&str]) -> String {
        succeed(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Runs a shell script on this host, which must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        succeed(self.command("sh").args(["-ec", script]))
    }

    /// Returns a command that will run on this host, without the test's own `WONTUN_*` and journald
    /// variables.
    ///
    /// `ip netns exec` makes a mount namespace, enters the network namespace and then executes the
    /// program, so the child's process id is the program's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        for (key, _) in std::env::vars_os() {
            // These two serve to run all tests with another number of workers, or without offloads.
            let is_kept = key == "WONTUN_WORKERS" || key == "WONTUN_OFFLOAD";
            if key.to_string_lossy().starts_with("WONTUN_") && !is_kept {
                command.env_remove(key);
            }
        }
        for key in ["JOURNAL_STREAM", "NOTIFY_SOCKET", "INVOCATION_ID", "RUST_LOG"] {
            command.env_remove(key);
        }
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` on a thread that has entered this host. Sockets opened there stay in this
    /// namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let outcome = thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Opens a UDP socket on this host whose reads time out after [`TIMEOUT`].
    pub(crate) fn udp(&self, address: impl Into<SocketAddr>) -> UdpSocket {
        let socket = self.bind(address.into(), UdpSocket::bind);
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket
    }

    /// Opens a TCP listener on this host.
    pub(crate) fn listen(&self, address: impl Into<SocketAddr>) -> TcpListener {
        self.bind(address.into(), TcpListener::bind)
    }

    fn bind<S: Send>(&self, address: SocketAddr, bind: fn(SocketAddr) -> io::Result<S>) -> S {
        let mut tries = 0..200;
        loop {
            match self.inside(|| bind(address)) {
                Ok(socket) => return socket,
                // a child of another test holds our sockets until it executes its program
                Err(error) if error.kind() == ErrorKind::AddrInUse && tries.next().is_some() => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("cannot bind {address} on {}: {error}", self.name),
            }
        }
    }

    /// Opens a TCP connection from this host.
    pub(crate) fn connect(&self, address: impl Into<SocketAddr>) -> TcpStream {
        let address = address.into();
        self.inside(|| TcpStream::connect_timeout(&address, TIMEOUT))
            .unwrap_or_else(|error| panic!("cannot connect to {address} from {}: {error}", self.name))
    }

    /// Returns true if one `ping` of `payload` bytes is answered within two seconds.
    pub(crate) fn ping_once(&self, address: impl Into<IpAddr>, payload: usize) -> bool {
        let mut ping = self.command("ping");
        ping.args(["-n", "-c", "1", "-W", "2", "-s", &payload.to_string(), &address.into().to_string()]);
        finish(&mut ping, TIMEOUT).status.success()
    }

    /// Panics unless a ping is answered within `limit`. Returns the time it took.
    pub(crate) fn ping_within(&self, limit: Duration, address: impl Into<IpAddr>) -> Duration {
        let (start, address) = (Instant::now(), address.into());
        while !self.ping_once(address, 56) {
            assert!(start.elapsed() < limit, "{address} does not answer a ping within {limit:?}");
        }
        start.elapsed()
    }

    /// Panics unless `address` answers a ping, now or soon.
    pub(crate) fn ping(&self, address: impl Into<IpAddr>) {
        self.ping_within(TIMEOUT, address);
    }

    /// Returns the packets that `device` received (for a tun: that the program wrote to it) and
    /// sent since it was made.
    pub(crate) fn device_packets(&self, device: &str) -> (u64, u64) {
        let text = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
        let counts = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:")));
        let counts = counts.unwrap_or_else(|| panic!("no device {device} in:\n{text}"));
        let counts: Vec<u64> = counts.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (counts[1], counts[9])
    }

    /// Returns true if this host has a network device whose name starts with `prefix`.
    pub(crate) fn has_device(&self, prefix: &str) -> bool {
        let text = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
        text.lines().any(|line| line.trim().starts_with(prefix))
    }

    /// Returns the MTU of `device`, as `ip link` shows it.
    pub(crate) fn mtu(&self, device: &str) -> u32 {
        let text = self.ip(&["-o", "link", "show", "dev", device]);
        let mut words = text.split_whitespace();
        words.find(|word| *word == "mtu").unwrap();
        words.next().unwrap().parse().unwrap()
    }

    fn set_up(&self, mtu: u32) {
        self.ip(&["link", "set", "lo", "up"]);
        self.ip(&["link", "set", "eth0", "mtu", &mtu.to_string()]);
        self.ip(&["address", "add", &format!("{}/24", self.v4), "dev", "eth0"]);
        self.ip(&["address", "add", &format!("{}/64", self.v6), "dev", "eth0", "nodad"]);
        self.ip(&["link", "set", "eth0", "up"]);
    }

    /// Waits for the carrier: before that a first packet may be lost, and a test would blame the
    /// program.
    fn wait_for_carrier(&self) {
        crate::waiting::eventually("eth0 comes up", || {
            self.ip(&["-o", "link", "show", "dev", "eth0"]).contains("LOWER_UP")
        });
    }
}
