//! Start and end of a helper: a process of this program that has one task and no capabilities, and
//! communicates with the process that had it started.

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

use crate::privileges::{self, PrivilegeError, UserIds};
use wontun_sys::process;

/// Roles of all helpers.
pub(super) const HELPER_ROLES: [&str; 7] =
    ["tunnel", "resolver", "dns", "names", "admin", "editor", "enroll"];
/// Prefix of the role in a helper's `argv[0]`.
pub(super) const ARGV0_PREFIX: &str = "wontun: ";
/// Time that a helper has to end after its socket is closed, in milliseconds. It takes less than
/// one.
const EXIT_TIMEOUT_MILLIS: u32 = 1_000;

/// Reason why a helper cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It has, or may have, privileges that it must not have.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The kernel refused to set an attribute of the process.
    #[error("{what} cannot be set; the sandbox (seccomp) must allow prctl and rt_sigprocmask")]
    Attribute {
        /// Description of the attribute.
        what: &'static str,
        /// Error of the kernel.
        source: Errno,
    },
}

/// Returns the role of this process and its end of the channel if it is a helper: `argv[0]` is
/// exactly `wontun: ROLE`, and descriptor 3 is a unix socket that preserves message boundaries.
///
/// Must be called once, at the start of `main`: it takes the descriptor.
pub fn helper_role() -> Option<(String, OwnedFd)> {
    let name = std::env::args_os().next()?.into_string().ok()?;
    let role = name.strip_prefix(ARGV0_PREFIX)?;
    let socket = process::take_inherited_socket()?;
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    let is_ours = address.family() == Some(AddressFamily::Unix)
        && getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket);
    is_ours.then(|| (role.to_owned(), socket))
}

/// Makes this process the helper `role`. Must be a helper's first action.
///
/// The process is called `wontun-ROLE`, writes no core files, cannot be debugged by other processes
/// of its user, ends with its parent and has no capabilities, which is verified. All signals are
/// blocked: a helper reads the signals that it handles from a descriptor, and a Ctrl-C, which is
/// sent to all processes of a terminal, is handled by the supervisor.
///
/// # Errors
/// [`HelperError`]. The process must not continue then.
pub(crate) fn prepare_helper(role: &str) -> Result<(), HelperError> {
    prepare_helper_as(role, None)
}

/// As [`prepare_helper`], for a helper that was started with this program's privileges: it becomes
/// `user` if there is one.
///
/// # Errors
/// [`HelperError`]. The process must not continue then.
pub(crate) fn prepare_helper_as(role: &str, user: Option<UserIds>) -> Result<(), HelperError> {
    let refused = |what| move |source| HelperError::Attribute { what, source };
    SigSet::all().thread_block().map_err(refused("the signal mask"))?;
    // a failure to set the name is harmless
    let _ = std::ffi::CString::new(format!("wontun-{role}")).map(|name| prctl::set_name(&name));
    privileges::hide_memory();
    privileges::drop_everything(user)?;
    // after the last change of credentials, which clears it; if the parent has died already, it has
    // closed the socket, so there is no race
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused("the signal at the parent's death"))?;
    Ok(())
}

/// Ends the helper `pid` by shutting down `socket`, and reaps it. Every helper ends when its socket
/// is closed: killing it would take its user, and a system call that the sandbox forbids.
pub(crate) fn stop_helper(pid: Pid, socket: &impl AsFd) {
    let has_ended = || waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive);
    if has_ended() {
        // another part of the program may have reaped it: the number may be another process's by
        // now
        return;
    }
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
    for _ in 0..EXIT_TIMEOUT_MILLIS {
        if has_ended() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reaps a child that has ended, or is about to.
pub(super) fn reap(pid: Pid) {
    for _ in 0..EXIT_TIMEOUT_MILLIS {
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Formats an error and its causes, separated by `: `.
pub(crate) fn format_error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Returns the system error of that number.
pub(super) fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
