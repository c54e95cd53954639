//! A server's folder, and the commands about it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wontun::setup::ServerFile;

use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::{BINARY, OPEN_TUN_NODE};
use crate::waiting::{Finished, PATIENCE, finish};
use crate::wireguard::site::Site;

/// A host with a folder for `wontun init`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    pub(crate) dir: PathBuf,
}

impl Server {
    /// On host `index` of `lab`; the folder is not there yet.
    pub(crate) fn new(lab: &Arc<Lab>, index: usize) -> Self {
        let site = Arc::new(Site::new(lab, index));
        let dir = site.path().join("etc");
        Self { site, dir }
    }

    /// On a host whose network nobody needs.
    pub(crate) fn alone() -> Self {
        Self::new(&Arc::new(Lab::new(1)), 0)
    }

    /// On a host whose network nobody needs, with a file.
    pub(crate) fn with_file() -> Self {
        let server = Self::alone();
        server.told(&["init", "--endpoint", "vpn.example.com"]);
        server
    }

    /// The server's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("tun0.conf")
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// What it says.
    pub(crate) fn read(&self) -> ServerFile {
        ServerFile::read(&self.file()).unwrap()
    }

    /// The public key of the peer that is called so.
    pub(crate) fn key_of(&self, name: &str) -> String {
        let file = self.read();
        let number = file.find(name).unwrap();
        file.peers().nth(number).unwrap().peer.public_key.to_string()
    }

    /// Runs `wontun args…` about the folder.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        finish(self.site.command(BINARY).args(args).env("WONTUN_DIR", &self.dir), PATIENCE)
    }

    /// Runs `wontun args…`, which must succeed, and returns its standard output.
    pub(crate) fn told(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code(), 0, "{args:?}: {run:?}");
        run.stdout
    }

    /// Runs `wontun args…`, which must fail with this code, one line with `part` in it, and the file as it was.
    pub(crate) fn refused(&self, args: &[&str], code: i32, part: &str) -> String {
        let before = std::fs::read(self.file()).ok();
        let mut run = self.run(args);
        assert_eq!(run.code(), code, "{args:?}: {run:?}");
        // The tests may run in a container.
        let lines = run.stderr.split_inclusive('\n').filter(|line| !line.contains("is on no volume"));
        run.stderr = lines.collect();
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {run:?}");
        assert!(run.stderr.starts_with("wontun: ") && run.stderr.contains(part), "{args:?}: {part}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
        assert_eq!(std::fs::read(self.file()).ok(), before, "{args:?} changed the file");
        run.stderr
    }

    /// How `wontun serve args…` is started.
    pub(crate) fn launch(&self, args: &[&str]) -> Launch<'_> {
        let args = [&["serve", "--log-level", "debug"], args].concat();
        self.site.launch(Path::new(BINARY), &args).env("WONTUN_DIR", self.dir.to_str().unwrap())
    }

    /// Starts `wontun serve args…`, up and ready.
    pub(crate) fn serve(&self, args: &[&str]) -> Daemon {
        let daemon = self.launch(args).spawn();
        daemon.wait_for(" ready mode=");
        daemon
    }

    /// Starts it as another user, whose the folder is too, as with systemd's DynamicUser and StateDirectory. Also gives the
    /// program's copy that this user may run.
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

/// A client with its file, up and ready, on host `index` of `lab`.
pub(crate) fn client(lab: &Arc<Lab>, index: usize, text: &str) -> (Site, Daemon) {
    let site = Site::new(lab, index);
    let file = site.write("wg0.conf", text);
    let daemon = site.launch(Path::new(BINARY), &["--config", file.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    (site, daemon)
}

/// The value of `key` in a file.
pub(crate) fn value<'text>(text: &'text str, key: &str) -> &'text str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {key} in:\n{text}"))
}

/// The addresses of a client's file.
pub(crate) fn addresses(text: &str) -> Vec<IpAddr> {
    let items = value(text, "Address").split(", ");
    items.map(|item| item.split('/').next().unwrap().parse().unwrap()).collect()
}
