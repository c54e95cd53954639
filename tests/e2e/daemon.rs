//! A running wontun: started on a host, its log read line by line, stopped and timed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Host;
use crate::mounts::BINARY;
use crate::processes::{self, Processes};
use crate::waiting::{Finished, TIMEOUT, exit_within, finish, holds_within};

/// The command line and environment of a wontun to start.
#[derive(Debug)]
pub(crate) struct Launch<'host> {
    host: &'host Host,
    binary: PathBuf,
    prepare: String,
    wrapper: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl<'host> Launch<'host> {
    pub(crate) fn new(host: &'host Host, args: &[&str]) -> Self {
        Self {
            host,
            binary: PathBuf::from(BINARY),
            prepare: String::new(),
            wrapper: Vec::new(),
            args: args.iter().map(ToString::to_string).collect(),
            env: Vec::new(),
        }
    }

    /// Prepares `wontun plain` with `args`.
    pub(crate) fn plain(host: &'host Host, args: &[&str]) -> Self {
        Self::new(host, &[&["plain"], args].concat())
    }

    /// Sets the binary to start, a copy, instead of the one that cargo built.
    pub(crate) fn binary(mut self, binary: &Path) -> Self {
        self.binary = binary.to_owned();
        self
    }

    /// Sets shell lines to run first, as root in the program's own mount namespace (see
    /// `mounts.rs`).
    pub(crate) fn prepare(mut self, script: &str) -> Self {
        self.prepare.push_str(script);
        self
    }

    /// Sets a program that prepares something and then executes wontun, such as `setpriv …`.
    pub(crate) fn wrap(mut self, words: &str) -> Self {
        self.wrapper.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, with its standard error captured.
    pub(crate) fn spawn(self) -> Daemon {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut daemon = self.spawn_with_stderr(writer.into());
        daemon.capture(reader);
        daemon
    }

    /// Starts it with the caller's standard error; nothing is captured.
    pub(crate) fn spawn_with_stderr(self, stderr: Stdio) -> Daemon {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Daemon { child, log: Log::default(), reader: None, seen: Mutex::default() }
    }

    /// Starts it and expects it to exit by itself soon.
    pub(crate) fn run(self) -> Finished {
        self.run_within(TIMEOUT)
    }

    /// As [`Self::run`], for a command that takes long.
    pub(crate) fn run_within(self, limit: Duration) -> Finished {
        finish(&mut self.command(), limit)
    }

    fn command(&self) -> Command {
        let mut command = if self.prepare.is_empty() {
            let mut words = self.wrapper.iter().map(String::as_str).chain([self.binary.to_str().unwrap()]);
            let mut command = self.host.command(words.next().unwrap());
            command.args(words);
            command
        } else {
            let mut command = self.host.command("sh");
            command.args(["-ec", &format!("{} exec \"$@\"", self.prepare), "sh"]);
            command.args(&self.wrapper).arg(&self.binary);
            command
        };
        // nothing of the machine's own state, unless a test sets the directory
        command.env("STATE_DIRECTORY", "/nonexistent/wontun");
        // the machine's /etc/resolv.conf is not the tests'
        command.env("WONTUN_APPLY_DNS", "off");
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// Lines of the log so far, shared with the thread that reads them.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A wontun process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    /// The processes of the daemon at the last signal.
    seen: Mutex<Vec<Pid>>,
}

/// The result of a daemon's run.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) status: ExitStatus,
    /// Time from the signal (or the start of the wait) to the exit.
    pub(crate) elapsed: Duration,
    pub(crate) lines: Vec<String>,
}

impl Stopped {
    /// Returns the number of log lines that contain `needle`.
    pub(crate) fn count(&self, needle: &str) -> usize {
        self.lines.iter().filter(|line| line.contains(needle)).count()
    }

    /// Returns true if the log ends with the counters.
    pub(crate) fn ends_with_summary(&self) -> bool {
        self.lines.last().is_some_and(|line| line.contains("summary "))
    }
}

impl Daemon {
    /// Starts the server with default options plus `args`, and waits until it is ready.
    pub(crate) fn server(host: &Host, args: &[&str]) -> Self {
        let daemon = Launch::plain(host, args).spawn();
        daemon.wait_ready();
        daemon
    }

    /// Starts the client of the server on `server`'s IPv4 address with `args`, and waits until it
    /// is ready.
    pub(crate) fn client(host: &Host, server: &Host, args: &[&str]) -> Self {
        let peer = format!("{}:19988", server.v4);
        let daemon = Launch::plain(host, &[&["--peer", peer.as_str()], args].concat()).spawn();
        daemon.wait_ready();
        daemon
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Returns the process that carries packets.
    pub(crate) fn tunnel_pid(&self) -> Pid {
        processes::tunnel_pid(self.pid())
    }

    /// Returns the supervisor and its helpers.
    pub(crate) fn processes(&self) -> Processes {
        processes::processes(self.pid())
    }

    /// Returns the supervisor's child processes, its helpers.
    pub(crate) fn children(&self) -> Vec<Pid> {
        children_of(self.pid())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Returns the number of log lines that contain `needle`.
    pub(crate) fn count(&self, needle: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(needle)).count()
    }

    /// Waits for the first log line with `needle` and returns it. Panics with the whole log if it
    /// does not come.
    pub(crate) fn wait_for(&self, needle: &str) -> String {
        self.wait_for_more(needle, 0)
    }

    /// Waits for the log line with `needle` that follows `seen` earlier ones, and returns it.
    pub(crate) fn wait_for_more(&self, needle: &str, seen: usize) -> String {
        let find = || self.lines().into_iter().filter(|line| line.contains(needle)).nth(seen);
        let mut found = None;
        holds_within(TIMEOUT, || {
            found = find();
            found.is_some()
        });
        found.unwrap_or_else(|| {
            panic!("no log line ({} wanted) with {needle:?}; the log:\n{}", seen + 1, self.lines().join("\n"))
        })
    }

    pub(crate) fn wait_ready(&self) -> String {
        self.wait_for("ready role=")
    }

    /// Returns true while the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.see_helpers();
        kill(self.pid(), signal).unwrap();
    }

    /// Remembers the helpers: the daemon has ended only when they have.
    fn see_helpers(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = processes::descendants(self.pid());
    }

    fn seen_helpers(&self) -> Vec<Pid> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a summary with SIGUSR1 and reads it from the log.
    pub(crate) fn summary(&self) -> Summary {
        let seen = self.count("summary ");
        self.signal(Signal::SIGUSR1);
        Summary::parse(&self.wait_for_more("summary ", seen))
    }

    /// Sends SIGTERM and waits for the exit.
    pub(crate) fn stop(self) -> Stopped {
        let pid = self.pid();
        self.stop_by(pid, Signal::SIGTERM)
    }

    /// Sends `signal` to `pid` (this process, or the one it wraps) and waits for the exit.
    pub(crate) fn stop_by(self, pid: Pid, signal: Signal) -> Stopped {
        self.see_helpers();
        kill(pid, signal).unwrap();
        self.wait_exit()
    }

    /// Waits until the process and all its helpers have exited, at most [`TIMEOUT`].
    pub(crate) fn wait_exit(mut self) -> Stopped {
        let start = Instant::now();
        let helpers = [self.seen_helpers(), processes::descendants(self.pid())].concat();
        let Some(status) = exit_within(&mut self.child, TIMEOUT) else {
            panic!("still running after {TIMEOUT:?}; the log:\n{}", self.lines().join("\n"));
        };
        let is_left = |pid: &Pid| !processes::is_gone(*pid);
        while helpers.iter().any(is_left) {
            if start.elapsed() > TIMEOUT {
                let left: Vec<_> = helpers.iter().filter(|pid| is_left(pid)).collect();
                panic!("helpers {left:?} outlive their supervisor; the log:\n{}", self.lines().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let elapsed = start.elapsed();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        Stopped { status, elapsed, lines: self.lines() }
    }

    /// Stops the process and its helpers, so that none of them starts another one, and returns the
    /// helpers.
    fn suspend(&mut self) -> Vec<Pid> {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Vec::new();
        }
        suspend(self.pid());
        let mut helpers = Vec::new();
        loop {
            let others: Vec<_> =
                processes::descendants(self.pid()).into_iter().filter(|pid| !helpers.contains(pid)).collect();
            if others.is_empty() {
                return helpers;
            }
            others.iter().copied().for_each(suspend);
            helpers.extend(others);
        }
    }

    /// Begins to read the log from `reader`, the other end of its standard error.
    pub(crate) fn capture(&mut self, reader: PipeReader) {
        let log = self.log.clone();
        self.reader = Some(std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }));
    }
}

/// Stops a process unless it has ended.
fn suspend(pid: Pid) {
    kill(pid, Signal::SIGSTOP).ok();
    holds_within(TIMEOUT, || processes::is_suspended(pid) || processes::is_gone(pid));
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let suspended = self.suspend();
        self.child.kill().ok();
        self.child.wait().ok();
        for helper in &suspended {
            kill(*helper, Signal::SIGCONT).ok();
        }
        let helpers = [self.seen_helpers(), suspended].concat();
        // Their resources, such as the port, are then free for the next daemon.
        holds_within(TIMEOUT, || helpers.iter().all(|pid| processes::is_gone(*pid)));
        // The report of a failed test needs the program's log.
        if std::thread::panicking() {
            eprintln!("--- log of wontun, pid {}:\n{}", self.child.id(), self.lines().join("\n"));
        }
    }
}

/// Returns the children of every thread of `pid`.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let words: Vec<String> =
        lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    words.iter().map(|word| Pid::from_raw(word.parse().unwrap())).collect()
}

/// Stops a daemon up to ten times, until one stop `is_good`, and returns that, or else the fastest:
/// on a busy machine the noise of one stop is longer than [`END`], and than the time for which the
/// processes wait for their last lines. Each daemon must exit with 0.
pub(crate) fn best_stop(is_good: impl Fn(&Stopped) -> bool, mut stop: impl FnMut() -> Stopped) -> Stopped {
    let mut best: Option<Stopped> = None;
    for _ in 0..10 {
        let stopped = stop();
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        if is_good(&stopped) {
            return stopped;
        }
        if best.as_ref().is_none_or(|best| stopped.elapsed < best.elapsed) {
            best = Some(stopped);
        }
    }
    best.unwrap()
}

/// Longest time from a signal to the exit.
pub(crate) const END: Duration = Duration::from_millis(100);

/// The counters of a `summary` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) drops: BTreeMap<String, u64>,
}

impl Summary {
    pub(crate) fn parse(line: &str) -> Self {
        let number = |key: &str| -> u64 {
            let value = field(line, key).unwrap_or_else(|| panic!("no {key} in the summary: {line}"));
            value.parse().unwrap_or_else(|error| panic!("{key} is no number ({error}): {line}"))
        };
        let drops = field(line, "drops").unwrap_or_else(|| panic!("no drops in the summary: {line}"));
        let drops = drops.split_whitespace().filter(|word| *word != "none").map(|word| {
            let (reason, count) = word.split_once('=').unwrap_or_else(|| panic!("drops are no list: {line}"));
            (reason.to_owned(), count.parse().unwrap_or_else(|error| panic!("{error}: {line}")))
        });
        Self {
            tx_packets: number("tx_packets"),
            tx_bytes: number("tx_bytes"),
            rx_packets: number("rx_packets"),
            rx_bytes: number("rx_bytes"),
            drops: drops.collect(),
        }
    }

    /// Returns the number of packets dropped for `reason`.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or(0)
    }

    /// Returns the number of packets dropped for any reason.
    pub(crate) fn all_dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}

/// Returns the value of `key=value` or `key="value"` in a log line.
pub(crate) fn field<'line>(line: &'line str, key: &str) -> Option<&'line str> {
    let start = line.find(&format!(" {key}="))? + key.len() + 2;
    let value = &line[start..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(' ').next(),
    }
}

/// Reads `reader` to its end, for tests that capture output themselves.
pub(crate) fn read_all(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}
