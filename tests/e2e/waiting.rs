//! Bounded waits and bounded commands: no test may hang, and none sleeps where it can poll a
//! condition.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Timeout for operations that take milliseconds on an idle machine. Two busy cores shared by other
/// tests can be slow.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds. Returns false after `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Panics with `what` unless `condition` holds within [`TIMEOUT`].
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(TIMEOUT, condition), "waited {TIMEOUT:?} in vain: {what}");
}

/// Repeats `read` while it is interrupted. The kernel does not restart a read with a timeout when
/// the process was stopped and continued meanwhile (signal(7)), as by a debugger or a paused
/// virtual machine.
pub(crate) fn uninterrupted<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sets a flag when it is dropped, also by a panic: threads that run until the flag is set end with
/// the failed test, and do not block it for ever.
#[derive(Debug)]
pub(crate) struct SetAtEnd<'flag>(pub(crate) &'flag AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The exit status and output of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Returns the exit code. Panics if a signal ended the command.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }
}

/// Runs `command` to its end, at most `limit`; a command that takes longer is killed and fails the
/// test.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let status = exit_within(&mut child, limit);
    if status.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let Some(status) = status else {
        panic!("{command:?} did not end within {limit:?}\nstdout: {stdout}\nstderr: {stderr}");
    };
    Finished { status, stdout, stderr }
}

/// Runs `command` and returns its standard output. Panics with its standard error unless it
/// succeeds.
pub(crate) fn succeed(command: &mut Command) -> String {
    let finished = finish(command, Duration::from_secs(60));
    assert!(finished.status.success(), "{command:?} failed: {finished:?}");
    finished.stdout
}

/// Waits for `child` at most `limit`, in steps small enough to measure a stop of 100 ms.
pub(crate) fn exit_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
