//! The beginning and the end of a helper: a process of this program that does one thing, has no
//! capability, and talks to the process that had it started.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, Shutdown, SockType, getsockname, getsockopt, shutdown, sockopt};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::privileges::{self, PrivilegeError};
use crate::sys::process;

/// Helpers that there are: nobody starts another.
pub(super) const HELPERS: [&str; 2] = ["tunnel", "resolver"];
/// In front of the role in a helper's `argv[0]`.
pub(super) const PREFIX: &str = "wontun: ";
/// Time that a helper may take to end once its socket has, in milliseconds. It takes less than one.
const END_MILLIS: u32 = 1_000;

/// Why a helper cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It has, or may have, rights that it should not.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The kernel refuses to set an attribute of the process.
    #[error("{what} cannot be set; the sandbox (seccomp) must allow prctl and rt_sigprocmask")]
    Attribute {
        /// The attribute.
        what: &'static str,
        /// The kernel's error.
        source: Errno,
    },
}

/// Returns the role of this process and its end of the channel if it is a helper: `argv[0]` is
/// exactly `wontun: ROLE`, and descriptor 3 is a unix socket that keeps boundaries of messages.
///
/// To be called first of all in `main`, once: it takes the descriptor.
pub fn helper_role() -> Option<(String, OwnedFd)> {
    let name = std::env::args_os().next()?.into_string().ok()?;
    let role = name.strip_prefix(PREFIX)?;
    let socket = process::take_socket()?;
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    let is_ours = address.family() == Some(AddressFamily::Unix)
        && getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket);
    is_ours.then(|| (role.to_owned(), socket))
}

/// Makes this process the helper `role`. It is to be a helper's first act.
///
/// The process is called `wontun-ROLE`, writes no core files, cannot be debugged by others of its
/// user, ends with its parent and has no capability, which is read back. Every signal is blocked:
/// a helper reads those that it acts on from a descriptor, and a Ctrl-C, which goes to all
/// processes of a terminal, is the supervisor's to act on.
///
/// # Errors
/// [`HelperError`]. The process must not go on then.
pub fn prepare_helper(role: &str) -> Result<(), HelperError> {
    let refused = |what| move |source| HelperError::Attribute { what, source };
    SigSet::all().thread_block().map_err(refused("the signal mask"))?;
    // what it is called is of no importance to it
    let _ = std::ffi::CString::new(format!("wontun-{role}")).map(|name| prctl::set_name(&name));
    privileges::hide_memory();
    privileges::drop_everything(None)?;
    // after the last change of rights, which takes it back. A parent that is gone already has
    // closed the socket, so that no race is left open here.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused("the signal at the parent's death"))?;
    Ok(())
}

/// Ends a helper whose socket is `socket`, and collects it. It ends at the end of its socket, which
/// every helper listens to: to kill it takes its user, and a system call that the sandbox forbids.
pub fn end_helper(pid: Pid, socket: &impl AsFd) {
    let has_ended = || waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive);
    if has_ended() {
        // Perhaps another part of the program has collected it: its number may be another's.
        return;
    }
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
    for _ in 0..END_MILLIS {
        if has_ended() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Collects a child that has ended, or is about to.
pub(super) fn collect(pid: Pid) {
    for _ in 0..END_MILLIS {
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns an error and its causes, `: ` between them.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Returns the system's error of that number.
pub(super) fn system(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
