//! One end of the tunnel: a process that can be killed and started again, with its own clocks and
//! resource usage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::clock::Clock;
use crate::daemon::{Daemon, Summary};
use crate::descriptors::open_descriptors;
use crate::mounts::BINARY;
use crate::wireguard::memory::resident_kilobytes;
use crate::wireguard::site::Site;

/// Resource usage of a process at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Time since the start of the soak.
    pub(super) at: Duration,
    /// Resident memory, in kilobytes.
    pub(super) resident: u64,
    /// Open descriptors.
    pub(super) descriptors: usize,
}

/// One end, which always runs except while it is killed and started again.
#[derive(Debug)]
pub(super) struct End {
    pub(super) name: &'static str,
    pub(super) site: Arc<Site>,
    pub(super) clock: Clock,
    args: Vec<String>,
    folder: PathBuf,
    daemon: Option<Daemon>,
    began: Instant,
    /// Samples of the current process.
    pub(super) samples: Vec<Sample>,
    /// Number of earlier processes.
    pub(super) killed: u32,
}

impl End {
    /// Starts `wontun args…` with `folder` as the server's.
    pub(super) fn start(
        name: &'static str,
        site: &Arc<Site>,
        clock: Clock,
        args: &[&str],
        folder: &Path,
        began: Instant,
    ) -> Self {
        let mut end = Self {
            name,
            site: Arc::clone(site),
            clock,
            args: args.iter().map(ToString::to_string).collect(),
            folder: folder.to_owned(),
            daemon: None,
            began,
            samples: Vec::new(),
            killed: 0,
        };
        end.spawn();
        end.await_ready();
        end
    }

    fn spawn(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let launch = self.site.launch(Path::new(BINARY), &args).wrap(&self.clock.wrapper());
        self.daemon = Some(launch.env("WONTUN_DIR", self.folder.to_str().unwrap()).spawn());
    }

    fn await_ready(&self) {
        self.daemon().wait_for(" ready mode=");
        [self.pid(), self.daemon().tunnel_pid()].into_iter().for_each(Clock::check);
    }

    pub(super) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(super) fn pid(&self) -> Pid {
        self.daemon().pid()
    }

    /// Kills the process with SIGKILL, and starts another. Returns the time of its start. `between`
    /// runs while it is dead.
    pub(super) fn kill(&mut self, between: impl FnOnce(&mut Clock)) -> Duration {
        self.check();
        let pid = self.pid();
        let stopped = self.daemon.take().unwrap().stop_by(pid, Signal::SIGKILL);
        assert_eq!(stopped.status.code(), None, "{stopped:?}");
        between(&mut self.clock);
        self.samples.clear();
        self.killed += 1;
        self.spawn();
        let started = self.began.elapsed();
        self.await_ready();
        started
    }

    /// Panics if the process has ended, or has logged an error that a tunnel cannot continue from.
    pub(super) fn check(&mut self) {
        let daemon = self.daemon.as_mut().unwrap();
        assert!(daemon.is_running(), "{} has ended", self.name);
        for word in [" ERROR ", "panicked"] {
            assert_eq!(daemon.count(word), 0, "{}: {word}", self.name);
        }
    }

    /// Makes the process read its file again, which must succeed.
    pub(super) fn reload(&self) {
        self.hup_and_see("reloaded the configuration");
    }

    /// Sends SIGHUP and waits for that line.
    pub(super) fn hup_and_see(&self, line: &str) {
        let seen = self.daemon().count(line);
        self.daemon().signal(Signal::SIGHUP);
        self.daemon().wait_for_more(line, seen);
    }

    pub(super) fn summary(&self) -> Summary {
        self.daemon().summary()
    }

    /// Takes a sample.
    pub(super) fn measure(&mut self) {
        let pid = self.pid();
        let all = self.daemon().processes().all().into_iter();
        let descriptors = all.map(|pid| open_descriptors(pid).len()).sum();
        self.samples.push(Sample {
            at: self.began.elapsed(),
            resident: resident_kilobytes(pid),
            descriptors,
        });
    }
}
