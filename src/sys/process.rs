//! A child process without `exec`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::panic::{self, UnwindSafe};

use nix::libc::{self, c_uint};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, SysconfVar, sysconf};

/// The child's exit code when its function panicked.
const EXIT_PANIC: i32 = 101;

/// The threads of this process; `None` where /proc is absent and nobody can tell.
pub fn thread_count() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Returns whether the kernel gave this process rights that its user does not have, since its file
/// has capabilities or a set-user-ID bit (`AT_SECURE`, getauxval(3)).
pub fn is_secure() -> bool {
    // SAFETY: takes a number and returns one; the vector is the kernel's, and never changes.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes variables out of the environment: neither this process nor a child of it sees them again. While another thread
/// runs, which might be reading the environment, they stay.
pub fn remove_variables(names: &[&str]) {
    if thread_count().is_some_and(|threads| threads != 1) {
        return;
    }
    for name in names {
        // SAFETY: no other thread reads or writes the environment, since there is none. Where /proc is absent the
        // callers' order holds: the environment is read before any thread is started.
        unsafe { std::env::remove_var(name) };
    }
}

/// Starts a child that keeps standard input, output and error and `keep`, closes every other descriptor it
/// inherited, runs `child` and exits with what that returns. The child never returns into the caller's code:
/// a panic, too, ends it. `child` is a plain function because a closure could hold a descriptor that is closed; what it
/// is to know is `told`, which owns nothing.
///
/// In the parent `keep` is closed. The child's pid is the caller's to wait for.
///
/// # Errors
/// `WouldBlock` as the kernel gives it for a limit on processes, `OutOfMemory`, or an error of its own when
/// this process has a second thread, whose locks would stay locked for ever in the child.
pub fn fork<T: Copy + UnwindSafe>(keep: OwnedFd, told: T, child: fn(OwnedFd, T) -> i32) -> io::Result<Pid> {
    if let Some(threads) = thread_count().filter(|&threads| threads != 1) {
        return Err(io::Error::other(format!(
            "this process has {threads} threads where one is required: fork before starting any"
        )));
    }
    // SAFETY: with one thread no lock is held and no memory is half-written by somebody else, so that the child
    // may do all that the parent may. Where /proc is absent the callers' order holds: forks precede threads.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = panic::catch_unwind(move || {
                close_all_but(keep.as_raw_fd());
                child(keep, told)
            });
            let code = match code {
                Ok(code) => code,
                Err(payload) => {
                    // Its destructor is foreign code, and might panic again.
                    std::mem::forget(payload);
                    EXIT_PANIC
                }
            };
            // SAFETY: _exit takes a number and does not return. Nothing of the parent's is run: no destructor,
            // no exit handler, no flush of a buffer that the parent will flush as well.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Has the kernel forget children that end (SIGCHLD ignored): nobody waits for them.
pub fn forget_children() {
    // SAFETY: no handler of ours is replaced, and none is set. The only error is for a signal that
    // does not exist.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
}

/// Closes every descriptor above 2 except `keep`. For a child that has just been forked: whoever owned them
/// lives in the parent and is never dropped here.
fn close_all_but(keep: RawFd) {
    let keep = c_uint::try_from(keep).unwrap_or(0);
    if keep > 3 && !close_range(3, keep - 1) || !close_range(keep.max(2) + 1, c_uint::MAX) {
        close_one_by_one(keep);
    }
}

/// Whether the kernel closed them: it has the call since 5.9, and a sandbox may forbid it.
fn close_range(first: c_uint, last: c_uint) -> bool {
    const NO_FLAGS: c_uint = 0;
    // SAFETY: takes numbers only. The only caller is a fresh child, where nobody will use these descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, NO_FLAGS) == 0 }
}

fn close_one_by_one(keep: c_uint) {
    /// Where the limit is unknown or absurd (containers have had 2^30): no program has as many open this early.
    const MOST: i64 = 65_536;
    let limit = sysconf(SysconfVar::OPEN_MAX).ok().flatten().unwrap_or(MOST).min(MOST);
    let keep = RawFd::try_from(keep).unwrap_or(-1);
    for fd in (3..RawFd::try_from(limit).unwrap_or(RawFd::MAX)).filter(|&fd| fd != keep) {
        // SAFETY: takes a number; EBADF is expected. As above, a fresh child, where nobody will use it.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || wait.recv());
        assert!(thread_count().unwrap() >= 2);
        let error = fork(fs::File::open("/dev/null").unwrap().into(), (), |_, ()| 0).unwrap_err();
        assert!(error.to_string().contains("threads where one is required"), "{error}");
        drop(done);
        let _ = second.join().unwrap();
    }
}
