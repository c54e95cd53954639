//! A program of another vendor that runs on a host until it is stopped.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::waiting::{TIMEOUT, exit_within, holds_within};
use crate::wireguard::site::Site;

/// Time for a program to start, or to do a thing, on a slow machine.
const SLOW: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills it; its children end with the [`Site`].
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts the program in the foreground, with its output in a file.
    pub(crate) fn start(site: &Site, name: &str, arguments: &[&str]) -> Self {
        let log = site.path().join(format!("{}.log", name.replace('/', "-")));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = site.command(name);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, name: name.to_owned(), log }
    }

    /// Waits until `condition` holds. Panics with the program's output if it exits before.
    pub(crate) fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let holds = holds_within(SLOW, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} has ended with {ended:?}:\n{}", self.name, self.output());
            condition()
        });
        assert!(holds, "waited {SLOW:?} in vain: {what}");
    }

    /// Returns the program's output.
    pub(crate) fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for the exit.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let status = exit_within(&mut self.child, TIMEOUT);
        assert!(status.is_some(), "{} does not end:\n{}", self.name, self.output());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- output of {}:\n{}", self.name, self.output());
        }
    }
}

/// Starts a D-Bus of the site's own that allows everything to everybody and starts no services.
pub(crate) fn start_dbus(site: &Site) -> Program {
    let configuration = site.write(
        "dbus.conf",
        r#"<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#,
    );
    site.shell("mkdir -p /run/dbus");
    let file = format!("--config-file={}", configuration.display());
    let mut dbus = Program::start(site, "dbus-daemon", &[&file, "--nofork", "--nopidfile"]);
    dbus.wait_until("D-Bus listens", || site.shell("ls /run/dbus").contains("system_bus_socket"));
    dbus
}
