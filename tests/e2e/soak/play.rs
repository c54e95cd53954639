//! The tunnel under test, and the execution of each event.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wontun_proto::wireguard::PublicKey;

use super::clock::{self, Clock};
use super::end::End;
use super::event::{Event, MOVED_CLIENT, Side};
use super::figures::AppliedEvent;
use super::traffic::Traffic;
use super::{AGAIN, NAMES};
use crate::daemon::read_all;
use crate::descriptors::{allow_descriptors, allow_no_descriptor};
use crate::lab::Lab;
use crate::mounts::Folder;
use crate::setup::server::{Server, addresses};
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::site::Site;

/// A session is replaced after 120 seconds, and expires after 180.
const OLD_SESSION: u32 = 181;
const DEAD_SESSION: u32 = 200;

/// A server with its clients, and the traffic between them.
#[derive(Debug)]
pub(super) struct Soak<'traffic> {
    pub(super) server: End,
    pub(super) clients: Vec<End>,
    traffic: &'traffic Traffic,
    pub(super) played: Vec<AppliedEvent>,
    /// The clients' inner addresses.
    pub(super) inner: Vec<IpAddr>,
    folder: Server,
    began: Instant,
    /// Directory of `clock.c` and its input.
    _clocks: Folder,
}

impl<'traffic> Soak<'traffic> {
    /// Starts a server and its clients on the hosts of `lab`. The server's directory is a small
    /// file system of its own.
    pub(super) fn start(lab: &Arc<Lab>, traffic: &'traffic Traffic, began: Instant) -> Self {
        let folder = Server::new(lab, 0);
        let path = folder.dir.display();
        folder.site.shell(&format!("mkdir {path}; mount -t tmpfs -o size=256k,mode=700 none {path}"));
        let clocks = Folder::new();
        let library = clock::build(clocks.path());
        let clock = |name: &str| Clock::new(&library, clocks.path().join(name));
        let endpoint = lab.host(0).v4.to_string();
        let args = ["serve", "--endpoint", &endpoint];
        let server = End::start("server", &folder.site, clock("server"), &args, &folder.dir, began);
        let (mut clients, mut inner) = (Vec::new(), Vec::new());
        for (index, name) in NAMES.into_iter().enumerate() {
            let site = Arc::new(Site::new(lab, index + 1));
            let text = folder.output(&["peer", "add", name]);
            let file = site.write("tun0.conf", &text);
            let args = ["--config", file.to_str().unwrap()];
            inner.push(addresses(&text)[0]);
            clients.push(End::start(name, &site, clock(name), &args, &PathBuf::new(), began));
        }
        Self { server, clients, traffic, played: Vec::new(), inner, folder, began, _clocks: clocks }
    }

    fn end(&mut self, who: Side) -> &mut End {
        match who {
            Side::Server => &mut self.server,
            Side::Client(client) => &mut self.clients[client],
        }
    }

    pub(super) fn ends(&self) -> Vec<&End> {
        [&self.server].into_iter().chain(&self.clients).collect()
    }

    /// Executes `event`, and waits until everything flows again.
    pub(super) fn play(&mut self, event: Event) {
        let from = self.began.elapsed();
        eprintln!("soak: {:7.1} s {event}", from.as_secs_f64());
        let restored = self.does(event);
        let (datagrams, streams) = self.traffic.await_again(&event.to_string(), restored);
        let (kind, what, disturbed) = (event.kind(), event.to_string(), event.disturbs());
        self.played.push(AppliedEvent { kind, what, disturbed, from, restored, datagrams, streams });
        self.server.check();
        self.clients.iter_mut().for_each(End::check);
    }

    /// Takes a sample of each process.
    pub(super) fn measure(&mut self) {
        self.server.measure();
        self.clients.iter_mut().for_each(End::measure);
    }

    /// Executes the event, and returns the time when everything was restored.
    fn does(&mut self, event: Event) -> Duration {
        match event {
            Event::Rekey(client) => self.rekey(client),
            Event::Sleep(client) => self.clients[client].clock.sleep(DEAD_SESSION),
            Event::WallClock(who, seconds) => {
                self.end(who).clock.step_wall(seconds);
                // the timestamps must keep increasing
                if let Side::Client(client) = who {
                    self.rekey(client);
                }
            }
            Event::ClockBack(client) => return self.set_clock_back(client),
            Event::Guest => self.have_guest(),
            Event::Renew(client) => self.renew(client),
            Event::Reload(who) => self.end(who).reload(),
            Event::Kill(Side::Server) => return self.server.kill(|_| {}),
            Event::Kill(Side::Client(client)) => {
                let since_boot = if self.clients[client].killed.is_multiple_of(2) { 5 } else { 10_000_000 };
                return self.clients[client].kill(|clock| clock.reboot(since_boot));
            }
            Event::Cable(who, millis) => self.flap(who, "eth0", millis),
            Event::Device(who, millis) => self.flap(who, "tun0", millis),
            Event::Roam(client) => self.roam(client),
            Event::DiskFull => self.fill_disk(),
            Event::Descriptors(Side::Server) => return self.exhaust_server(),
            Event::Descriptors(Side::Client(client)) => self.exhaust_client(client),
        }
        self.began.elapsed()
    }

    /// Returns the time of the server's last handshake with a client, by the server's clock.
    fn handshake(&self, client: usize) -> Duration {
        let key = self.clients[client].site.wg(&["show", "tun0", "public-key"]);
        let key: PublicKey = key.trim().parse().unwrap();
        let key: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut socket = UnixStream::connect(self.server.site.socket("tun0")).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        // wg(8) omits the nanoseconds
        socket.write_all(b"get=1\n\n").unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = read_all(socket);
        let peer = answer.split("public_key=").find(|peer| peer.starts_with(&key));
        let peer = peer.unwrap_or_else(|| panic!("the server does not know {}", NAMES[client]));
        let value = |key: &str| -> u64 {
            let line = peer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {key} in the server's answer")).parse().unwrap()
        };
        Duration::from_secs(value("last_handshake_time_sec"))
            + Duration::from_nanos(value("last_handshake_time_nsec"))
    }

    /// Replaces a client's session by age.
    fn rekey(&mut self, client: usize) {
        // the time is computed from the age at each request
        const APART: Duration = Duration::from_millis(200);
        let before = self.handshake(client);
        thread::sleep(2 * APART);
        self.clients[client].clock.sleep(OLD_SESSION);
        eventually("a new session", || self.handshake(client) > before + APART);
    }

    /// Sets a client's clock back while it restarts: its state file has the later timestamps that
    /// it has sent.
    fn set_clock_back(&mut self, client: usize) -> Duration {
        // longer than the client takes to restart on a busy machine
        const STEP: i64 = 20;
        let refused = self.server.summary().dropped("old_initiation");
        self.clients[client].clock.step_wall(STEP);
        self.rekey(client);
        // the time is computed from the age at each request; a restart may take less
        let apart = Duration::from_millis(200);
        let before = self.handshake(client);
        thread::sleep(2 * apart);
        let started = self.clients[client].kill(|clock| clock.step_wall(-STEP));
        eventually("the server accepts its stamps", || self.handshake(client) > before + apart);
        assert_eq!(self.server.summary().dropped("old_initiation"), refused);
        started
    }

    fn have_guest(&mut self) {
        self.folder.output(&["peer", "add", "guest"]);
        self.folder.output(&["peer", "rename", "guest", "visitor"]);
        self.folder.output(&["peer", "remove", "visitor"]);
    }

    fn renew(&mut self, client: usize) {
        let name = NAMES[client];
        self.folder.output(&["peer", "remove", name]);
        let text = self.folder.output(&["peer", "add", name]);
        assert_eq!(addresses(&text)[0], self.inner[client], "the address that has become free");
        let end = &self.clients[client];
        end.site.write("tun0.conf", &text);
        end.reload();
    }

    fn flap(&mut self, who: Side, device: &str, millis: u64) {
        let site = Arc::clone(&self.end(who).site);
        site.ip(&["link", "set", device, "down"]);
        thread::sleep(Duration::from_millis(millis));
        site.ip(&["link", "set", device, "up"]);
    }

    fn roam(&mut self, client: usize) {
        let site = &self.clients[client].site;
        let [home, away] = [client + 2, client + 102].map(|host| format!("192.0.2.{host}/24"));
        let is_home = site.ip(&["-o", "address", "show", "dev", "eth0"]).contains(&format!(" {home} "));
        let (old, new) = if is_home { (home, away) } else { (away, home) };
        site.ip(&["address", "del", &old, "dev", "eth0"]);
        site.ip(&["address", "add", &new, "dev", "eth0"]);
    }

    /// Returns the file as the server's host sees it: the test is in another mount namespace.
    fn server_file(&self) -> String {
        self.folder.site.shell(&format!("cat {}", self.folder.file().display()))
    }

    fn fill_disk(&mut self) {
        let fill = self.folder.dir.join("fill");
        let before = self.server_file();
        self.folder.site.shell(&format!("! dd if=/dev/zero of={} bs=4k 2>/dev/null", fill.display()));
        let refused = self.folder.run(&["peer", "add", "guest"]);
        assert!(refused.code() == 1 && refused.stderr.contains("free some space"), "{refused:?}");
        assert_eq!(refused.stdout, "", "nobody gets a file of a peer that is none");
        assert_eq!(self.server_file(), before);
        let names = self.folder.site.shell(&format!("ls -A {}", self.folder.dir.display()));
        assert!(!names.contains(".new"), "{names}");
        self.server.reload();
        self.folder.site.shell(&format!("rm {}", fill.display()));
        self.have_guest();
    }

    /// The server can open no descriptors: a client that comes from another port gets no socket of
    /// its own, a file that cannot be read changes nothing, and requests for the peers are answered
    /// once that is over.
    fn exhaust_server(&mut self) -> Duration {
        let server = self.server.daemon().processes();
        let [supervisor, tunnel] =
            [server.supervisor, server.tunnel].map(|pid| (pid, allow_no_descriptor(pid)));
        let mut show = self.server.site.command("wg");
        show.args(["show", "tun0"]);
        let asked = thread::spawn(move || finish(&mut show, AGAIN));
        self.server.hup_and_see("cannot reload the configuration");
        let restored = self.clients[MOVED_CLIENT].kill(|_| {});
        self.traffic.await_again("a client from another port", restored);
        [supervisor, tunnel].iter().for_each(|(pid, allowed)| allow_descriptors(*pid, allowed));
        self.server.reload();
        self.folder.output(&["peer", "list"]);
        let answer = asked.join().unwrap();
        assert!(answer.status.success(), "who asked meanwhile: {answer:?}");
        // with a new session it has a socket of its own again
        self.play(Event::Rekey(MOVED_CLIENT));
        restored
    }

    fn exhaust_client(&mut self, client: usize) {
        let processes = self.clients[client].daemon().processes();
        let both = [processes.supervisor, processes.tunnel].map(|pid| (pid, allow_no_descriptor(pid)));
        self.flap(Side::Client(client), "eth0", 500);
        let back = self.began.elapsed();
        self.traffic.await_again("a cable out without descriptors", back);
        both.iter().for_each(|(pid, allowed)| allow_descriptors(*pid, allowed));
        self.clients[client].reload();
        self.rekey(client);
    }
}

/// Panics with a message about a missing tool; `requirements.rs` checks the others.
pub(super) fn check_tools() {
    let there = Command::new("cc").arg("--version").output().is_ok_and(|done| done.status.success());
    assert!(there, "the soak cannot run here: the tool 'cc' is missing; apt-get install gcc libc6-dev");
}
