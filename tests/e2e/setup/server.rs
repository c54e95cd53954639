//! A server's directory, and the commands about it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wontun::server::ServerFile;

use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::{BINARY, OPEN_TUN_NODE};
use crate::waiting::{Finished, SetAtEnd, TIMEOUT, finish};
use crate::wireguard::site::Site;

/// A host with a directory for `wontun init`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    pub(crate) dir: PathBuf,
}

impl Server {
    /// Uses host `index` of `lab`; the directory does not exist yet.
    pub(crate) fn new(lab: &Arc<Lab>, index: usize) -> Self {
        let site = Arc::new(Site::new(lab, index));
        let dir = site.path().join("etc");
        Self { site, dir }
    }

    /// Uses a host of its own, without a network.
    pub(crate) fn alone() -> Self {
        Self::new(&Arc::new(Lab::new(1)), 0)
    }

    /// Uses a host of its own, without a network, and makes a server's file.
    pub(crate) fn with_file() -> Self {
        let server = Self::alone();
        server.output(&["init", "--endpoint", "vpn.example.com"]);
        server
    }

    /// Returns the path of the server's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("tun0.conf")
    }

    /// Returns the text of the server's file.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// Parses the server's file.
    pub(crate) fn read(&self) -> ServerFile {
        ServerFile::read(&self.file()).unwrap()
    }

    /// Returns the public key of the peer of that name.
    pub(crate) fn key_of(&self, name: &str) -> String {
        let file = self.read();
        let number = file.find(name).unwrap();
        file.peers().nth(number).unwrap().peer.public_key.to_string()
    }

    /// Runs `wontun args…` with the directory.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        finish(self.site.command(BINARY).args(args).env("WONTUN_DIR", &self.dir), TIMEOUT)
    }

    /// Runs `wontun args…`, which must succeed, and returns its standard output.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code(), 0, "{args:?}: {run:?}");
        run.stdout
    }

    /// Runs `wontun args…`, which must fail with this code and one line that contains `part`, and
    /// leave the file unchanged.
    pub(crate) fn fails(&self, args: &[&str], code: i32, part: &str) -> String {
        let before = std::fs::read(self.file()).ok();
        let mut run = self.run(args);
        assert_eq!(run.code(), code, "{args:?}: {run:?}");
        // The tests may run in a container.
        let lines = run.stderr.split_inclusive('\n').filter(|line| !line.contains("is not on a volume"));
        run.stderr = lines.collect();
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {run:?}");
        assert!(run.stderr.starts_with("wontun: ") && run.stderr.contains(part), "{args:?}: {part}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
        assert_eq!(std::fs::read(self.file()).ok(), before, "{args:?} changed the file");
        run.stderr
    }

    /// Returns the launch of `wontun serve args…`.
    pub(crate) fn launch(&self, args: &[&str]) -> Launch<'_> {
        let args = [&["serve", "--log-level", "debug"], args].concat();
        self.site.launch(Path::new(BINARY), &args).env("WONTUN_DIR", self.dir.to_str().unwrap())
    }

    /// Starts `wontun serve args…`, and waits until it is ready.
    pub(crate) fn serve(&self, args: &[&str]) -> Daemon {
        let daemon = self.launch(args).spawn();
        daemon.wait_for(" ready mode=");
        daemon
    }

    /// Starts it as another user who owns the directory, as with systemd's DynamicUser and
    /// StateDirectory. Also returns the copy of the program that this user may run.
    pub(crate) fn serve_as_nobody(&self) -> (Daemon, PathBuf) {
        std::fs::create_dir(&self.dir).unwrap();
        std::os::unix::fs::chown(&self.dir, Some(65534), Some(65534)).unwrap();
        let copy = self.site.path().join("wontun");
        self.site.shell(&format!("{OPEN_TUN_NODE} install -m 755 {BINARY} {}", copy.display()));
        let user = "setpriv --reuid 65534 --regid 65534 --clear-groups \
                    --inh-caps +net_admin --ambient-caps +net_admin";
        let daemon = self.launch(&["--endpoint", "192.0.2.1"]).binary(&copy).wrap(user).spawn();
        daemon.wait_for(" ready mode=");
        (daemon, copy)
    }
}

/// Starts a client with its file on host `index` of `lab`, and waits until it is ready.
pub(crate) fn client(lab: &Arc<Lab>, index: usize, text: &str) -> (Site, Daemon) {
    let site = Site::new(lab, index);
    let file = site.write("wg0.conf", text);
    let daemon = site.launch(Path::new(BINARY), &["--config", file.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    (site, daemon)
}

/// Returns the value of `key` in a file.
pub(crate) fn value<'text>(text: &'text str, key: &str) -> &'text str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {key} in:\n{text}"))
}

/// Returns the addresses of a client's file.
pub(crate) fn addresses(text: &str) -> Vec<IpAddr> {
    let items = value(text, "Address").split(", ");
    items.map(|item| item.split('/').next().unwrap().parse().unwrap()).collect()
}

/// Runs `work` while `site` pings the server's address in the tunnel twenty times at least. Panics
/// unless each ping is answered.
pub(super) fn while_pings_are_answered<T>(site: &Site, work: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut count = 0;
            while count < 20 || !ended.load(Ordering::Relaxed) {
                let mut ping = site.command("ping");
                // one at a time: with several, ping(8) waits for the last only as long as the
                // others took
                let done = finish(ping.args(["-n", "-q", "-c", "1", "-W", "5", "10.8.0.1"]), TIMEOUT);
                assert!(done.status.success(), "after {count} answers: {done:?}");
                count += 1;
                thread::sleep(Duration::from_millis(50));
            }
        });
        let end = SetAtEnd(&ended);
        let result = work();
        drop(end);
        pings.join().unwrap();
        result
    })
}
