//! The process that starts helpers (`wontun-nursery`).
//!
//! Starting a process takes privileges that a confined process has given up: another user, fork,
//! exec. So before a process gives them up, it forks this one, which has no capabilities and runs
//! as the helpers' user, reads nothing but the requests of the process that forked it, and executes
//! nothing but this program's own image. The parent of the helpers is that process, and not the
//! nursery (CLONE_PARENT).

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::channel::{Channel, ChannelError, pair};
use super::helper::{ARGV0_PREFIX, HELPER_ROLES, format_error_chain, os_error, reap, stop_helper};
use crate::privileges::{self, UserIds};
use crate::sandbox::Sandbox;
use wontun_sys::process::{self, ExecuteError, Parent};

/// Timeout for an answer of the nursery, which takes some milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of helpers whose pidfds are kept; more than there are at a time.
const MAX_HELPERS: usize = 8;
/// Path of this process's program.
const IMAGE: &str = "/proc/self/exe";

/// Reason why there is no nursery, or no helper.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NurseryError {
    /// The socket could not be created.
    #[error("cannot create a socket for the nursery process ({0}); free file descriptors (ulimit -n)")]
    Socket(#[source] io::Error),
    /// The process could not be forked.
    #[error("cannot start the nursery process ({0}); free processes (ulimit -u, pids.max)")]
    Fork(#[source] io::Error),
    /// The nursery cannot confine itself.
    #[error("the nursery process did not start: {0}")]
    Confine(String),
    /// The role is unknown.
    #[error("unknown helper process '{0}': this is a bug in wontun, please report it")]
    UnknownRole(String),
    /// The nursery has ended, or sent an invalid message.
    #[error(
        "cannot start the helper process {role}, since the nursery process has failed ({source}); \
         restart the tunnel"
    )]
    ChannelFailed {
        /// Role of the helper.
        role: String,
        /// Error of the channel.
        source: ChannelError,
    },
    /// The nursery does not answer.
    #[error(
        "the helper process {role} was not started within {} s: check that this host has free memory and CPU \
         time, and restart the tunnel", TIMEOUT.as_secs()
    )]
    TimedOut {
        /// Role of the helper.
        role: String,
    },
    /// The process of the helper could not be created.
    #[error("cannot start the helper process {role} ({source}); free processes (ulimit -u, pids.max)")]
    Clone {
        /// Role of the helper.
        role: String,
        /// Error of the kernel.
        source: io::Error,
    },
    /// This program cannot be executed again.
    #[error(
        "cannot execute the helper process {role} ({source}); the program's file must be on a filesystem that is \
         mounted without noexec, and executable for the user that runs it (chmod a+x)"
    )]
    Execute {
        /// Role of the helper.
        role: String,
        /// Error of the kernel.
        source: io::Error,
    },
}

/// A request to the nursery to start a helper. Its descriptors: the helper's end of the channel,
/// and its standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Number of the request.
    pub number: u32,
    /// Role of the helper.
    pub role: String,
}

/// A message from the nursery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNursery {
    /// The nursery is confined.
    Ready {
        /// True if it runs as another user than this process.
        has_own_user: bool,
    },
    /// The nursery cannot confine itself, and ends.
    NotReady(String),
    /// Result of a request.
    Spawned {
        /// Number of the request.
        number: u32,
        /// Process id of the helper, or the reason why it was not started.
        result: Result<i32, SpawnFailure>,
    },
}

/// Reason why a helper was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnFailure {
    /// The request is invalid.
    Refused,
    /// The process could not be created, with the kernel's error.
    Clone(i32),
    /// The process of this id, which has ended and must be reaped, could not execute the program,
    /// with the kernel's error.
    Execute(i32, i32),
}

impl SpawnFailure {
    /// Returns the error for the log. Reaps a process that could not execute the program.
    fn into_error(self, role: &str) -> NurseryError {
        let role = role.to_owned();
        match self {
            Self::Refused => NurseryError::UnknownRole(role),
            Self::Clone(errno) => NurseryError::Clone { role, source: os_error(errno) },
            Self::Execute(pid, errno) => {
                if pid > 0 {
                    reap(Pid::from_raw(pid));
                }
                NurseryError::Execute { role, source: os_error(errno) }
            }
        }
    }
}

/// A started helper.
#[derive(Debug)]
pub(crate) struct Child {
    /// Process id of the helper, a child of this process.
    pub pid: Pid,
    /// This process's end of the channel to it.
    pub socket: OwnedFd,
}

/// Handle of the nursery. Dropping it ends the nursery, but not its helpers.
#[derive(Debug)]
pub(crate) struct Nursery {
    channel: Channel<FromNursery, Spawn>,
    pid: Pid,
    next: u32,
}

impl Nursery {
    /// Starts the nursery, and waits until it is confined.
    ///
    /// Must be called while this process has one thread, no keys in memory, and the capabilities
    /// that it was started with.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(crate) fn start(is_sandboxed: bool) -> Result<Self, NurseryError> {
        Self::start_with(is_sandboxed, nursery)
    }

    /// Starts a nursery whose helpers run as this process's user, to whom their files belong.
    ///
    /// Must be called as [`Self::start`].
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(crate) fn start_as_own_user(is_sandboxed: bool) -> Result<Self, NurseryError> {
        Self::start_with(is_sandboxed, own_nursery)
    }

    fn start_with(is_sandboxed: bool, nursery: fn(OwnedFd, bool) -> i32) -> Result<Self, NurseryError> {
        let (ours, theirs) = pair().map_err(NurseryError::Socket)?;
        let channel = Channel::new(ours).map_err(NurseryError::Socket)?;
        let pid = process::fork(theirs, is_sandboxed, nursery).map_err(NurseryError::Fork)?;
        let mut nursery = Self { channel, pid, next: 0 };
        match nursery.channel.receive_until(Some(Instant::now() + TIMEOUT)) {
            Ok(Some((FromNursery::Ready { has_own_user }, _))) => {
                if !has_own_user {
                    debug!(
                        "helper processes run as this process's user: it may not switch users, or its program \
                         is not executable for others"
                    );
                }
                Ok(nursery)
            }
            Ok(Some((FromNursery::NotReady(text), _))) => Err(NurseryError::Confine(text)),
            Ok(Some(_)) => Err(NurseryError::Confine("it sent something unexpected".to_owned())),
            Ok(None) => Err(NurseryError::Confine(format!("no message within {} s", TIMEOUT.as_secs()))),
            Err(error) => Err(NurseryError::Confine(error.to_string())),
        }
    }

    /// Starts the helper `role` with `stderr` as its standard error.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(crate) fn spawn(&mut self, role: &str, stderr: BorrowedFd<'_>) -> Result<Child, NurseryError> {
        let gone = |source| NurseryError::ChannelFailed { role: role.to_owned(), source };
        if !HELPER_ROLES.contains(&role) {
            return Err(NurseryError::UnknownRole(role.to_owned()));
        }
        let (socket, theirs) = pair().map_err(NurseryError::Socket)?;
        let stderr = stderr.try_clone_to_owned().map_err(NurseryError::Socket)?;
        let number = self.next;
        self.next = number.wrapping_add(1);
        let deadline = Instant::now() + TIMEOUT;
        self.channel.send(&Spawn { number, role: role.to_owned() }, vec![theirs, stderr]).map_err(gone)?;
        loop {
            let answer = self.channel.receive_until(Some(deadline)).map_err(gone)?;
            let Some((answer, _)) = answer else {
                return Err(NurseryError::TimedOut { role: role.to_owned() });
            };
            let FromNursery::Spawned { number: answered, result } = answer else { continue };
            // answer to a request that timed out: that helper has ended, since nobody has the other
            // end of its channel
            if answered != number {
                continue;
            }
            return match result {
                Ok(pid) if pid > 0 => Ok(Child { pid: Pid::from_raw(pid), socket }),
                Ok(_) => Err(NurseryError::UnknownRole(role.to_owned())),
                Err(failure) => Err(failure.into_error(role)),
            };
        }
    }

    /// Returns the process id of the nursery.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        stop_helper(self.pid, &self.channel);
    }
}

/// Starts the helper `role` without the nursery, as this process's user: for a helper that needs
/// files of that user. It has this process's capabilities until it drops them. Must be called
/// before this process is confined.
///
/// # Errors
/// [`NurseryError`].
pub(crate) fn spawn_as_own_user(role: &str, stderr: BorrowedFd<'_>) -> Result<Child, NurseryError> {
    let (socket, theirs) = pair().map_err(NurseryError::Socket)?;
    let stderr = stderr.try_clone_to_owned().map_err(NurseryError::Socket)?;
    let image = open_image()
        .map_err(|error| NurseryError::Execute { role: role.to_owned(), source: error.into() })?;
    match spawn(&image, role, vec![theirs, stderr], Parent::Caller) {
        Ok((pid, _)) => Ok(Child { pid: Pid::from_raw(pid), socket }),
        Err(failure) => Err(failure.into_error(role)),
    }
}

/// Main function of the nursery. Returns its exit code.
fn nursery(socket: OwnedFd, is_sandboxed: bool) -> i32 {
    run(socket, is_sandboxed, UserIds::helper())
}

/// Main function of a nursery that keeps its user. Returns its exit code.
fn own_nursery(socket: OwnedFd, is_sandboxed: bool) -> i32 {
    run(socket, is_sandboxed, None)
}

fn run(socket: OwnedFd, is_sandboxed: bool, user: Option<UserIds>) -> i32 {
    let _ = prctl::set_name(c"wontun-nursery");
    let Ok(mut channel) = Channel::<Spawn, FromNursery>::new(socket) else { return 1 };
    let (image, has_own_user) = match confine(is_sandboxed, user) {
        Ok(confined) => confined,
        Err(text) => {
            let _ = channel.send_blocking(&FromNursery::NotReady(text), Vec::new());
            return 1;
        }
    };
    if channel.send_blocking(&FromNursery::Ready { has_own_user }, Vec::new()).is_err() {
        return 1;
    }
    let mut helpers = VecDeque::new();
    let code = serve(&mut channel, &image, &mut helpers);
    // The process that they were started for has ended. A helper that is stuck or stopped does not
    // notice; and the kernel delivers no PR_SET_PDEATHSIG to another user's process.
    for helper in helpers {
        process::kill(helper.as_fd());
    }
    code
}

/// Starts helpers until the channel is closed, and keeps pidfds of the latest ones.
fn serve(channel: &mut Channel<Spawn, FromNursery>, image: &OwnedFd, helpers: &mut VecDeque<OwnedFd>) -> i32 {
    loop {
        let (Spawn { number, role }, descriptors) = match channel.receive_until(None) {
            Ok(Some(request)) => request,
            Ok(None) => continue,
            Err(ChannelError::Closed) => return 0,
            Err(_) => return 1,
        };
        let result = spawn(image, &role, descriptors, Parent::CallersParent).map(|(pid, pidfd)| {
            if let Some(pidfd) = pidfd {
                // the tunnel process is the first, and stays
                if helpers.len() >= MAX_HELPERS {
                    helpers.remove(1);
                }
                helpers.push_back(pidfd);
            }
            pid
        });
        if channel.send_blocking(&FromNursery::Spawned { number, result }, Vec::new()).is_err() {
            return 1;
        }
    }
}

/// Gives up everything but the socket, the image and the ability to execute it. Returns the image,
/// and true if this process has become `user`.
fn confine(is_sandboxed: bool, user: Option<UserIds>) -> Result<(OwnedFd, bool), String> {
    let failed = |what: &'static str| move |error| format!("{what}: {error}");
    // signals of a terminal are sent to all of its processes; helpers inherit this mask
    SigSet::all().thread_block().map_err(failed("signals cannot be blocked"))?;
    let image = open_image().map_err(failed("the program's own file cannot be opened; mount /proc"))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| format!("/dev/null cannot be opened: {error}"))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .map_err(failed("/dev/null cannot be used"))?;
    drop(null);
    // so that no helper keeps a filesystem busy
    chdir("/").map_err(failed("the root folder cannot be entered"))?;
    let is_for_others = fstat(&image)
        .map(|status| Mode::from_bits_truncate(status.st_mode).contains(Mode::S_IXOTH))
        .map_err(failed("the program's own file cannot be examined"))?;
    let user = user.filter(|_| is_for_others);
    privileges::hide_memory();
    privileges::drop_everything_for_exec(user).map_err(|error| format_error_chain(&error))?;
    // after the change of user, which clears it
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("it cannot be tied to the parent's life"))?;
    if is_sandboxed {
        Sandbox::for_nursery()
            .and_then(|sandbox| sandbox.engage())
            .map_err(|error| format_error_chain(&error))?;
    }
    Ok((image, user.is_some()))
}

/// Opens the file of this program, with O_PATH, which permits only executing it.
fn open_image() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(IMAGE, flags, Mode::empty()).or_else(|error| {
        // without /proc
        process::executed_path().ok_or(error).and_then(|path| open(&path, flags, Mode::empty()))
    })
}

fn spawn(
    image: &OwnedFd,
    role: &str,
    descriptors: Vec<OwnedFd>,
    parent: Parent,
) -> Result<(i32, Option<OwnedFd>), SpawnFailure> {
    let is_helper = HELPER_ROLES.contains(&role);
    let (Ok([socket, stderr]), true) = (<[OwnedFd; 2]>::try_from(descriptors), is_helper) else {
        return Err(SpawnFailure::Refused);
    };
    let name = CString::new(format!("{ARGV0_PREFIX}{role}")).map_err(|_| SpawnFailure::Refused)?;
    let errno = |error: io::Error| error.raw_os_error().unwrap_or_default();
    match process::execute(image.as_fd(), &name, socket.as_fd(), stderr.as_fd(), parent) {
        Ok((pid, pidfd)) => Ok((pid.as_raw(), pidfd)),
        Err(ExecuteError::Clone(error)) => Err(SpawnFailure::Clone(errno(error))),
        Err(ExecuteError::Execute(pid, error)) => Err(SpawnFailure::Execute(pid.as_raw(), errno(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_helpers_is_executed() {
        let image = open_image().unwrap();
        let descriptors = || vec![image.try_clone().unwrap(), image.try_clone().unwrap()];
        for role in ["", "nursery", "tunnel ", "../sh", "a\0b"] {
            let result = spawn(&image, role, descriptors(), Parent::CallersParent);
            assert_eq!(result.unwrap_err(), SpawnFailure::Refused, "{role:?}");
        }
        let result = spawn(&image, "tunnel", Vec::new(), Parent::CallersParent);
        assert_eq!(result.unwrap_err(), SpawnFailure::Refused);
    }

    #[test]
    fn an_image_that_cannot_be_executed_is_an_error() {
        let image = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let (one, other) = pair().unwrap();
        let result = spawn(&image, "tunnel", vec![one, other], Parent::CallersParent);
        let Err(SpawnFailure::Execute(pid, errno)) = result else { panic!("{result:?}") };
        assert_eq!(errno, nix::libc::EACCES);
        let error = NurseryError::Execute { role: "tunnel".to_owned(), source: os_error(errno) }.to_string();
        assert!(error.contains("Permission denied") && error.lines().count() == 1, "{error}");
        assert!(pid > 0);
    }

    #[test]
    fn the_programs_path_is_known_without_proc() {
        let path = process::executed_path().unwrap();
        assert_eq!(path.canonicalize().unwrap(), std::env::current_exe().unwrap());
    }
}
