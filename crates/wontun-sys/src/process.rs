//! Child processes: forks of this one, and new ones by `exec`.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{self, UnwindSafe};
use std::path::PathBuf;
use std::ptr;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc::{self, c_char, c_int, c_long, c_uint};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, SysconfVar, pipe2, sysconf};

/// The child's exit code when its function panicked.
const EXIT_PANIC: i32 = 101;
/// The child's exit code when its program could not be executed, as that of a shell.
const EXIT_NO_EXEC: i32 = 127;
/// The descriptor of a new process's socket.
const SOCKET: RawFd = 3;
/// The lowest descriptor number used for temporary copies, which a new process does not inherit.
const ABOVE: RawFd = 10;

/// The reason why [`execute`] did not start the program.
#[derive(Debug)]
pub enum ExecuteError {
    /// The child could not be created.
    Clone(io::Error),
    /// The program could not be executed; the child has ended, and must be reaped by its parent.
    Execute(Pid, io::Error),
}

/// Returns the number of threads of this process; `None` without /proc.
pub fn thread_count() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Returns true if the kernel gave this process privileges that its user does not have, because its
/// file has capabilities or a set-user-ID bit (`AT_SECURE`, getauxval(3)).
pub fn is_secure_execution() -> bool {
    // SAFETY: takes a number and returns one; the vector is the kernel's, and never changes.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Removes variables from the environment, for this process and its later children. While another
/// thread runs, which might be reading the environment, they are kept.
pub fn remove_variables(names: &[&str]) {
    if thread_count().is_some_and(|threads| threads != 1) {
        return;
    }
    for name in names {
        // SAFETY: no other thread reads or writes the environment, since there is none. Without
        // /proc this relies on the callers' order: the environment is read before any thread is
        // started.
        unsafe { std::env::remove_var(name) };
    }
}

/// Takes the descriptors 3 to 2 + `count`, which a service manager has passed (sd_listen_fds(3)),
/// and closes them on exec from now on. Those that are not open, or that this program has opened
/// itself, are `None`: it closes all that it opens on exec, and inherited ones are not closed.
pub fn take_passed_descriptors(count: u16) -> Vec<Option<OwnedFd>> {
    let take = |number: RawFd| {
        // SAFETY: takes two numbers and returns one.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
            return None;
        }
        // SAFETY: it is open, and nothing in this process owns it: it was inherited, and is taken
        // once, since it is closed on exec afterwards.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        Some(descriptor)
    };
    (SOCKET..SOCKET + RawFd::from(count)).map(take).collect()
}

/// Starts a child that keeps standard input, output and error and `keep`, closes every other
/// descriptor it inherited, runs `child` and exits with the returned code. The child never returns
/// into the caller's code: a panic, too, ends it. `child` is a plain function because a closure
/// could hold a descriptor that is closed; its input is `input`, which owns nothing.
///
/// In the parent `keep` is closed. The caller must wait for the child's pid.
///
/// # Errors
/// `WouldBlock` if the kernel's limit on processes is reached, `OutOfMemory`, or an error of its
/// own if this process has a second thread, whose locks would stay locked forever in the child.
pub fn fork<T: Copy + UnwindSafe>(keep: OwnedFd, input: T, child: fn(OwnedFd, T) -> i32) -> io::Result<Pid> {
    if let Some(threads) = thread_count().filter(|&threads| threads != 1) {
        return Err(io::Error::other(format!(
            "this process has {threads} threads where one is required: fork before starting any"
        )));
    }
    // SAFETY: with one thread no lock is held and no memory is half-written by another thread, so
    // the child may do everything that the parent may. Without /proc this relies on the callers'
    // order: forks precede threads.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = panic::catch_unwind(move || {
                close_all_but(keep.as_raw_fd());
                child(keep, input)
            });
            let code = match code {
                Ok(code) => code,
                Err(payload) => {
                    // Its destructor is unknown code, and might panic again.
                    std::mem::forget(payload);
                    EXIT_PANIC
                }
            };
            // SAFETY: _exit takes a number and does not return. No code of the parent's runs: no
            // destructor, no exit handler, no flush of a buffer that the parent will flush as well.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Returns the path that this program was executed by, as recorded by the kernel (`AT_EXECFN`).
pub fn executed_path() -> Option<PathBuf> {
    // SAFETY: takes a number and returns one; the vector is the kernel's, and never changes.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let start = ptr::with_exposed_provenance::<c_char>(usize::try_from(address).ok()?);
    if start.is_null() {
        return None;
    }
    // SAFETY: the kernel wrote a NUL-terminated string at the top of the stack, where nothing
    // changes it, and it stays as long as the process does.
    let path = unsafe { CStr::from_ptr(start) };
    Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

/// The parent of a new process: it must reap the process, whose `PR_SET_PDEATHSIG` refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// This process.
    Caller,
    /// The parent of this process (`CLONE_PARENT`).
    CallersParent,
}

/// Executes `image`, an open program, in a new process.
///
/// The process has `name` as its only argument (`argv[0]`) and no environment, this process's
/// standard input and output, `stderr` as standard error, `socket` as descriptor 3 and no other. It
/// inherits this process's signal mask. Besides the pid, a pidfd is returned where the kernel
/// supports it (`CLONE_PIDFD`, Linux 5.2).
///
/// # Errors
/// [`ExecuteError`].
pub fn execute(
    image: BorrowedFd<'_>,
    name: &CStr,
    socket: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
    parent: Parent,
) -> Result<(Pid, Option<OwnedFd>), ExecuteError> {
    let above = |fd: BorrowedFd<'_>| -> io::Result<OwnedFd> {
        let fd = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // above the numbers that the child uses, so that nothing is overwritten
    let prepare = || -> io::Result<_> {
        let (error_reader, error_writer) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((error_reader, above(error_writer.as_fd())?, above(image)?, above(socket)?, above(stderr)?))
    };
    let (error_reader, error_writer, image, socket, stderr) = prepare().map_err(ExecuteError::Clone)?;
    let arguments = [name.as_ptr(), ptr::null()];
    let environment = [ptr::null::<c_char>()];
    let parent = if parent == Parent::CallersParent { libc::CLONE_PARENT } else { 0 };
    let flags = c_long::from(parent | libc::CLONE_PIDFD | libc::SIGCHLD);
    let mut pidfd: c_int = -1;
    // stack, thread number and thread-local storage: none, as for fork(2)
    const NONE: c_long = 0;
    // SAFETY: without CLONE_VM and with no stack of its own the child continues on a copy of this
    // memory, as after fork(2). The C library does not know of the child, so it makes only system
    // calls, and ends in `_exit` or in another program. The kernel writes one int to `pidfd`, which
    // outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, NONE, &raw mut pidfd, NONE, NONE) };
    if pid == 0 {
        // SAFETY: all pointers are to strings and arrays of this frame, which the child has a copy
        // of; the arrays end in null. dup2, close_range, execveat, write and _exit are system calls
        // that keep no state in the C library.
        unsafe {
            let is_placed = libc::dup2(stderr.as_raw_fd(), libc::STDERR_FILENO) >= 0
                && libc::dup2(socket.as_raw_fd(), SOCKET) >= 0;
            if is_placed {
                // all open descriptors are close-on-exec already; this covers any that are not.
                // Since Linux 5.11.
                libc::syscall(
                    libc::SYS_close_range,
                    (SOCKET + 1).cast_unsigned(),
                    c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                );
                libc::syscall(
                    libc::SYS_execveat,
                    image.as_raw_fd(),
                    c"".as_ptr(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
            let errno = (*errno_location()).to_ne_bytes();
            libc::write(error_writer.as_raw_fd(), errno.as_ptr().cast(), errno.len());
            libc::_exit(EXIT_NO_EXEC)
        }
    }
    if pid < 0 {
        return Err(ExecuteError::Clone(io::Error::last_os_error()));
    }
    let pid = Pid::from_raw(libc::pid_t::try_from(pid).unwrap_or(0));
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    drop(error_writer);
    let mut errno = [0; size_of::<c_int>()];
    match fs::File::from(error_reader).read_exact(&mut errno) {
        Ok(()) => Err(ExecuteError::Execute(pid, io::Error::from_raw_os_error(c_int::from_ne_bytes(errno)))),
        // closed by the exec
        Err(_) => Ok((pid, pidfd)),
    }
}

/// Kills the process that `pidfd` refers to. Returns false if it has ended already, or if the
/// permission is missing.
pub fn kill(pidfd: BorrowedFd<'_>) -> bool {
    const NO_INFO: *const libc::siginfo_t = ptr::null();
    const NO_FLAGS: c_uint = 0;
    let pidfd = pidfd.as_raw_fd();
    // SAFETY: the descriptor is open while borrowed; no information is passed, which is allowed.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, NO_INFO, NO_FLAGS) == 0 }
}

/// Returns the address of this thread's `errno`.
fn errno_location() -> *mut c_int {
    // SAFETY: takes nothing, and returns the address of a variable of this thread.
    unsafe { libc::__errno_location() }
}

/// Takes ownership of descriptor 3, the socket of a new process ([`execute`]); `None` if it is not
/// open. Call it once, before this process opens anything.
pub fn take_inherited_socket() -> Option<OwnedFd> {
    // SAFETY: only borrowed to test whether it is open; if it is not, the error is EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(SOCKET) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, came from the process that executed this program, and no code of this
    // process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(SOCKET) })
}

/// Makes the kernel reap children that end (`SIGCHLD` ignored), because nothing waits for them.
pub fn ignore_child_exits() {
    // SAFETY: no handler of ours is replaced, and none is set. The only error is for a signal that
    // does not exist.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
}

/// Closes every descriptor above 2 except `keep`. For a child that has just been forked: their
/// owners are in the parent and are never dropped here.
fn close_all_but(keep: RawFd) {
    let keep = c_uint::try_from(keep).unwrap_or(0);
    if keep > 3 && !close_range(3, keep - 1) || !close_range(keep.max(2) + 1, c_uint::MAX) {
        close_one_by_one(keep);
    }
}

/// Closes a range of descriptors. Returns true if the kernel did: it has the call since 5.9, and a
/// sandbox may forbid it.
fn close_range(first: c_uint, last: c_uint) -> bool {
    const NO_FLAGS: c_uint = 0;
    // SAFETY: takes numbers only. The only caller is a new child, where nothing uses these
    // descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, NO_FLAGS) == 0 }
}

fn close_one_by_one(keep: c_uint) {
    /// For an unknown or absurd limit (containers have had 2^30): no program has as many open this
    /// early.
    const MOST: c_long = 65_536;
    let limit = sysconf(SysconfVar::OPEN_MAX).ok().flatten().unwrap_or(MOST).min(MOST);
    let keep = RawFd::try_from(keep).unwrap_or(-1);
    for fd in (3..RawFd::try_from(limit).unwrap_or(RawFd::MAX)).filter(|&fd| fd != keep) {
        // SAFETY: takes a number; EBADF is expected. As above, a new child, where nothing uses it.
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
