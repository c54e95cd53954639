//! Into the background, as `wg-quick` expects of a userspace implementation: the command returns once the tunnel is there
//! to be configured, and the tunnel runs on without a terminal.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use crate::sys::process;

/// Runs `child` in a process of its own and waits until that says that it is ready ([`detach`]), or ends. Gives the exit
/// code of the command: 0, or what the child ended with. To be called while this process has one thread.
///
/// # Errors
/// No process can be started.
pub fn start(child: fn(OwnedFd) -> i32) -> io::Result<i32> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    let pid = process::fork(theirs, child, |ready, child| child(ready))?;
    let mut word = [0; 1];
    if File::from(ours).read(&mut word)? > 0 {
        return Ok(0);
    }
    // it ended without a word; what was wrong, it said itself
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, code) => Ok(code),
        status => Err(io::Error::other(format!("the process of the tunnel ended at once ({status:?})"))),
    }
}

/// Leaves the terminal and tells whoever waits in [`start`] that the tunnel is ready.
///
/// # Errors
/// The system's.
pub fn detach(ready: OwnedFd) -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    File::from(ready).write_all(b"!")
}
