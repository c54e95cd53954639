//! Running in the background, as `wg-quick` expects of a userspace implementation: the command
//! returns once the tunnel can be configured, and the tunnel continues to run without a terminal.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use wontun_sys::process;

/// Runs `child` in a new process and waits until it reports readiness ([`detach`]) or ends. Returns
/// the exit code of the command: 0, or that of the child. Call it while this process has one
/// thread.
///
/// # Errors
/// The process cannot be started.
pub fn start(child: fn(OwnedFd) -> i32) -> io::Result<i32> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    let pid = process::fork(theirs, child, |ready, child| child(ready))?;
    let mut word = [0; 1];
    if File::from(ours).read(&mut word)? > 0 {
        return Ok(0);
    }
    // it ended without reporting readiness, and has printed the error itself
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, code) => Ok(code),
        status => Err(io::Error::other(format!("the process of the tunnel ended at once ({status:?})"))),
    }
}

/// Detaches from the terminal and reports to the process waiting in [`start`] that the tunnel is
/// ready.
///
/// # Errors
/// Errors of the system.
pub fn detach(ready: OwnedFd) -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    File::from(ready).write_all(b"!")
}
