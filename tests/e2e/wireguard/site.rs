//! A host with its own `/run`, as each real host has: `wg` finds a tunnel by a socket in
//! `/run/wireguard`, and all hosts of the laboratory name their tunnels `wg0`.

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Launch;
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::waiting::{Finished, TIMEOUT, finish, succeed};

/// Additional tools for these tests, each with its Debian package.
const TOOLS: &[(&str, &str)] = &[
    ("wg", "wireguard-tools"),
    ("wg-quick", "wireguard-tools"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
];

/// A host, its mount namespace and a directory for its files.
#[derive(Debug)]
pub(crate) struct Site {
    lab: Arc<Lab>,
    index: usize,
    /// The process that keeps the mount namespace alive; it ends when this process does, since that
    /// closes its standard input.
    holder: Child,
    folder: Folder,
}

impl Site {
    /// Makes a site on host `index` of `lab`.
    pub(crate) fn new(lab: &Arc<Lab>, index: usize) -> Self {
        check();
        let mut command = lab.host(index).command("sh");
        command.args(["-ec", "mount -t tmpfs -o mode=755 none /run; echo ready; exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{command:?} failed");
        Self { lab: Arc::clone(lab), index, holder, folder: Folder::new() }
    }

    pub(crate) fn host(&self) -> &Host {
        self.lab.host(self.index)
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns the process whose mount namespace this is.
    pub(crate) fn holder_pid(&self) -> u32 {
        self.holder.id()
    }

    fn target(&self) -> String {
        self.holder_pid().to_string()
    }

    /// Returns a command that will run on this host with this `/run`; its process id is the
    /// program's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.host().command("nsenter");
        command.args(["--target", &self.target(), "--mount", "--net", "--", program]);
        command
    }

    /// Returns the launch of a daemon on this site.
    pub(crate) fn launch(&self, binary: &Path, args: &[&str]) -> Launch<'_> {
        let wrapper = format!("nsenter --target {} --mount --net --", self.target());
        let launch = Launch::new(self.host(), args).binary(binary).wrap(&wrapper);
        launch.env("STATE_DIRECTORY", self.state().to_str().unwrap())
    }

    /// Returns the path by which this process reaches the socket of the tunnel `name`.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/wireguard/{name}.sock", self.holder.id()))
    }

    /// Runs `wg args…`, which must succeed.
    pub(crate) fn wg(&self, args: &[&str]) -> String {
        succeed(self.command("wg").args(args))
    }

    /// Runs `wg args…`.
    pub(crate) fn try_wg(&self, args: &[&str]) -> Finished {
        finish(self.command("wg").args(args), TIMEOUT)
    }

    /// Runs a shell script here, which must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        succeed(self.command("sh").args(["-ec", script]))
    }

    /// Writes a file that only root can read into this site's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.write(name, text);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// Returns the directory for this site's files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the state directory of daemons.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Returns the processes in this host's network namespace.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let pids = succeed(Command::new("ip").args(["netns", "pids", self.host().name()]));
        let pids = pids.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        pids.filter(|pid| pid.as_raw() != self.holder.id() as i32).collect()
    }
}

impl Deref for Site {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.host()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Background processes here were started by the test.
        for pid in self.processes() {
            kill(pid, Signal::SIGKILL).ok();
        }
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// Panics with a message that names what this machine lacks.
fn check() {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        let path = std::env::var("PATH").unwrap_or_default();
        let is_there = |tool: &str| {
            path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(tool).exists())
        };
        let missing = TOOLS.iter().filter(|(tool, _)| !is_there(tool));
        missing
            .map(|(tool, package)| format!("the tool '{tool}' is missing; apt-get install {package}"))
            .collect()
    });
    assert!(missing.is_empty(), "the WireGuard tests cannot run here: {}", missing.join("; "));
}
