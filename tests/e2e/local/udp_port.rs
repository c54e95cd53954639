//! The UDP port belongs to the tunnel: no process of another user binds it, however often peers
//! move.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use socket2::{Domain, Protocol, Socket, Type};
use wontun_proto::wireguard::PublicKey;

use crate::bare::{HELLO, PORT as PLAIN_PORT, RawPeer};
use crate::daemon::{Daemon, Launch};
use crate::lab::{Host, Lab, heavy};
use crate::mounts::{BINARY, Folder};
use crate::waiting::{TIMEOUT, exit_within, holds_within};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, PORT, Plan};
use crate::wireguard::probe::Probe;
use crate::wireguard::settings::Keys;
use crate::wireguard::site::Site;

/// Environment variable with the port to attack, for this program started as another user.
const ATTACK: &str = "E2E_UDP_PORT_ATTACK";
/// Endpoint moves of a WireGuard peer; each makes a connected socket.
const MOVES: u32 = 1000;
/// Endpoint moves of a plain peer, of which a server accepts 16 a second.
const PLAIN_MOVES: usize = 50;

/// Pause of the attacker after each address has been tried: the moves need the processors, too.
const PAUSE: Duration = Duration::from_micros(20);

/// A process of uid 65534 without capabilities that tries to bind the port, many thousand times a
/// second.
struct Attacker {
    child: Child,
    _folder: Folder,
}

impl Attacker {
    fn start(host: &Host, port: u16) -> Self {
        let folder = Folder::new();
        let program = folder.install(&std::env::current_exe().unwrap(), None);
        let mut command = host.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs"]);
        command.arg(program).args(["--exact", "--nocapture", "local::udp_port::no_user_takes_the_port"]);
        command.env(ATTACK, port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // it reports once it has tried everything
        let mut said = Vec::new();
        let stdout = child.stdout.as_mut().unwrap();
        while !said.ends_with(b"attacking\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).expect("the attacker has ended");
            said.extend(byte);
        }
        Self { child, _folder: folder }
    }

    /// Stops the attacker, and returns its report.
    fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        exit_within(&mut self.child, TIMEOUT).expect("the attacker does not end");
        let line = said.lines().find(|line| line.starts_with("result: "));
        line.unwrap_or_else(|| panic!("the attacker says nothing: {said}")).to_owned()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the attacker: it binds every address of the host in turn, with every kind of sharing, and
/// reads.
fn attack(port: u16) {
    static ENDS: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        ENDS.store(true, Ordering::Relaxed);
    });
    let v4 = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1)].map(IpAddr::from);
    let own6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, own6].map(IpAddr::from);
    let addresses = v4.into_iter().chain(v6).map(|address| (address, true));
    let addresses: Vec<_> = addresses.chain([(Ipv6Addr::UNSPECIFIED.into(), false)]).collect();
    let new = |(address, only_v6): (IpAddr, bool)| {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(only_v6).unwrap();
        }
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket
    };
    let mut sockets: Vec<_> = addresses.iter().map(|address| new(*address)).collect();
    let (mut tries, mut taken, mut heard) = (0_u64, Vec::new(), 0);
    let mut bound: Vec<std::net::UdpSocket> = Vec::new();
    prctl::set_timerslack(1).unwrap();
    while !ENDS.load(Ordering::Relaxed) {
        for (socket, address) in sockets.iter_mut().zip(&addresses) {
            tries += 1;
            if bound.len() < 64 && socket.bind(&SocketAddr::new(address.0, port).into()).is_ok() {
                taken.push(address.0);
                bound.push(std::mem::replace(socket, new(*address)).into());
            }
        }
        heard += bound.iter().filter(|socket| socket.recv_from(&mut [0; 2048]).is_ok()).count();
        if tries == addresses.len() as u64 {
            println!("attacking");
        }
        thread::sleep(PAUSE);
    }
    assert!(tries > 0);
    println!("result: bound {taken:?}, received {heard} datagrams");
}

const FAILED: &str = "result: bound [], received 0 datagrams";

/// Returns true if `host` has a connected socket to this remote address in /proc/net/udp.
fn has_socket_to(host: &Host, remote: SocketAddr) -> bool {
    let mut text = String::new();
    let file = match remote.ip() {
        IpAddr::V4(address) => {
            write!(text, "{:08X}", u32::from_ne_bytes(address.octets())).unwrap();
            "udp"
        }
        IpAddr::V6(address) => {
            for word in address.octets().chunks(4) {
                write!(text, "{:08X}", u32::from_ne_bytes(word.try_into().unwrap())).unwrap();
            }
            "udp6"
        }
    };
    write!(text, ":{:04X}", remote.port()).unwrap();
    let table = host.inside(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))).unwrap();
    table.lines().any(|line| line.split_whitespace().nth(2) == Some(&text))
}

/// wg(8)'s requests, without a process for each.
struct Uapi(UnixStream);

impl Uapi {
    fn open(site: &Site) -> Self {
        Self(UnixStream::connect(site.socket("wg0")).unwrap())
    }

    fn set(&mut self, lines: &str) {
        self.0.write_all(format!("set=1\n{lines}\n").as_bytes()).unwrap();
        let mut answer = [0; 9];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"errno=0\n\n", "{lines}");
    }
}

/// A WireGuard peer that moves.
struct Mover {
    uapi: Uapi,
    keys: Keys,
    server_public: String,
}

impl Mover {
    fn new(site: &Site, plan: &Plan) -> Self {
        let server_public = plan.server_keys.public.clone();
        Self { uapi: Uapi::open(site), keys: plan.client_keys.clone(), server_public }
    }

    /// Completes a handshake from `from`, which is on the client's host, and pings. The server
    /// knows only the peer's key, so the handshake makes a connected socket at once, however soon
    /// it follows the last one.
    fn move_to(&mut self, lab: &Lab, from: SocketAddr, server: SocketAddr) {
        let public: PublicKey = self.keys.public.parse().unwrap();
        let hex = public.as_bytes().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.uapi.set(&format!("public_key={hex}\nremove=true\n"));
        self.uapi.set(&format!("public_key={hex}\nallowed_ip=10.9.0.2/32\n"));
        let socket = lab.client().udp(from);
        let mut probe =
            Probe::new(socket, &self.keys, &self.server_public, server, Ipv4Addr::new(10, 9, 0, 2));
        probe.shake_hands();
        probe.ping(1);
        let moved = holds_within(TIMEOUT, || has_socket_to(lab.server(), from));
        assert!(moved, "the move to {from} made no connected socket");
    }
}

/// Runs `work` beside an attacker of `port`. The attacker must not succeed, whatever the result of
/// the work.
fn beside_an_attacker(lab: &Lab, port: u16, work: impl FnOnce()) {
    let attacker = Attacker::start(lab.server(), port);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    assert_eq!(attacker.stop(), FAILED);
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

#[test]
fn no_user_takes_the_port() {
    if let Ok(port) = std::env::var(ATTACK) {
        attack(port.parse().unwrap());
        return;
    }
    let _guard = heavy();
    let lab = Arc::new(Lab::new(2));
    lab.client().ip(&["route", "add", "local", "198.18.0.0/16", "dev", "lo"]);
    lab.server().ip(&["route", "add", "198.18.0.0/16", "via", "192.0.2.2"]);
    let plan = Plan::new(&lab, Outer::V4);
    let node = Node::start(&plan.server_site, Implementation::Wontun, &plan.server);
    let mut mover = Mover::new(&node.site, &plan);
    beside_an_attacker(&lab, PORT, || {
        for number in 0..MOVES {
            if number % 8 == 7 {
                let from = (lab.client().v6, 40_000 + number as u16).into();
                mover.move_to(&lab, from, (lab.server().v6, PORT).into());
            } else {
                let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 1, 0)) + number);
                mover.move_to(&lab, (from, 40_000).into(), (lab.server().v4, PORT).into());
            }
        }
    });
}

#[test]
fn no_user_takes_the_port_of_a_plain_tunnel() {
    let _guard = heavy();
    let lab = Lab::new(2);
    let (server, client) = (lab.server(), lab.client());
    for (to, own) in
        [(IpAddr::from(server.v4), IpAddr::from(client.v4)), (server.v6.into(), client.v6.into())]
    {
        let daemon = Daemon::server(server, &[]);
        beside_an_attacker(&lab, PLAIN_PORT, || {
            for port in (30_000..).take(PLAIN_MOVES) {
                let bare = RawPeer::new(client, own, port);
                let moved = holds_within(TIMEOUT, || {
                    bare.send(HELLO, (to, PLAIN_PORT));
                    has_socket_to(server, (own, port).into())
                });
                assert!(moved, "the server does not follow: {:?}", daemon.lines());
            }
        });
    }
}

/// With `--user`, the sockets opened before the change of the user and those opened afterwards have
/// one owner.
#[test]
fn peers_have_sockets_of_their_own_after_a_change_of_the_user() {
    for user in ["65534", "12345:12345"] {
        let lab = Arc::new(Lab::new(2));
        let plan = Plan::new(&lab, Outer::V4);
        let file = plan.server_site.write("wg0.conf", &plan.server.wg_quick());
        let args = ["--config", file.to_str().unwrap(), "--user", user];
        let daemon = plan.server_site.launch(BINARY.as_ref(), &args).spawn();
        daemon.wait_for(" ready mode=");
        let mut mover = Mover::new(&plan.server_site, &plan);
        for server_port in [PORT, PORT + 1] {
            if server_port != PORT {
                plan.server_site.wg(&["set", "wg0", "listen-port", &server_port.to_string()]);
            }
            for port in [40_000, 40_001] {
                mover.move_to(&lab, (lab.client().v4, port).into(), (lab.server().v4, server_port).into());
                mover.move_to(&lab, (lab.client().v6, port).into(), (lab.server().v6, server_port).into());
            }
        }
    }
}

/// A process that already has the port keeps it, even if it shares it with all processes of its
/// user, which is wontun's user too.
#[test]
fn a_port_that_is_taken_is_refused_however_it_is_shared() {
    let lab = Lab::new(2);
    for address in [SocketAddr::from(([0, 0, 0, 0], PLAIN_PORT)), (lab.server().v4, PLAIN_PORT).into()] {
        let _taken = lab.server().inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket
        });
        let run = Launch::plain(lab.server(), &[]).run();
        assert!(run.code() == 69 && run.stderr.contains("UDP port 19988 is in use"), "{run:?}");
    }
}
