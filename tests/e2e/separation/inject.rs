//! Takes over another process with ptrace: it executes the system calls that the test chooses, as
//! an attacker's code in it would.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::libc::{c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::{comm, is_gone};

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes for arguments in memory.
const ROOM: usize = 16 * 1024;
/// The number of no system call: the kernel does not restart the interrupted one.
const NO_CALL: u64 = u64::MAX;

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The kernel made it, with this result.
    Done(i64),
    /// The kernel or seccomp refused it with this error.
    Failed(Errno),
    /// Seccomp stopped the process for it.
    Forbidden,
    /// The kernel killed the process for it.
    Killed,
}

/// A process whose first thread the test controls. Dropping it releases the process.
#[derive(Debug)]
pub(super) struct TakenOver {
    pub(super) pid: Pid,
    before: user_regs_struct,
    /// Address of a `syscall`.
    instruction: u64,
    /// Address of [`ROOM`] unused bytes of the stack.
    room: u64,
    used: usize,
    memory: File,
    is_alive: bool,
}

impl TakenOver {
    /// Stops the first thread of `pid`. All calls must come from the test's thread that made this.
    pub(super) fn new(pid: Pid) -> Self {
        ptrace::seize(pid, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(pid).unwrap();
        loop {
            match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceEvent(..) => break,
                WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).unwrap(),
                other => panic!("process {pid} does not stop: {other:?}"),
            }
        }
        let before = ptrace::getregs(pid).unwrap();
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let instruction = find_instruction(&memory, &maps);
        let (stack, _) = range(maps.lines().find(|line| line.ends_with("[stack]")).unwrap());
        assert!(stack + 2 * (ROOM as u64) < before.rsp, "no room on the stack of {pid}");
        Self { pid, before, instruction, room: stack, used: 0, memory, is_alive: true }
    }

    /// Writes bytes into the memory of the process, and returns their address. They stay until the
    /// next call has been made.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u64 {
        let address = self.room + self.used as u64;
        self.used += bytes.len().next_multiple_of(16);
        assert!(self.used <= ROOM, "too many arguments");
        let written = self.memory.write_all_at(bytes, address);
        assert!(written.is_ok() || is_gone(self.pid), "{written:?}");
        address
    }

    /// Writes a text and its terminating zero byte.
    pub(super) fn text(&mut self, text: &str) -> u64 {
        self.put(&[text.as_bytes(), &[0]].concat())
    }

    /// Makes the process execute a system call, with zeros for omitted arguments.
    pub(super) fn call(&mut self, number: c_long, arguments: &[u64]) -> Outcome {
        assert!(self.is_alive, "the process was killed by an earlier call");
        let argument = |place| arguments.get(place).copied().unwrap_or(0);
        let mut registers = self.before;
        registers.rip = self.instruction;
        registers.orig_rax = NO_CALL;
        registers.rax = number as u64;
        (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2));
        (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5));
        self.used = 0;
        let is_there = ptrace::setregs(self.pid, registers).and_then(|()| ptrace::step(self.pid, None));
        assert!(is_there.is_ok() || is_there == Err(Errno::ESRCH), "{is_there:?}");
        let mut early = None;
        let stop = loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap() {
                // a signal that does not end the call, such as SIGPIPE, is not delivered to the
                // process
                WaitStatus::Stopped(_, signal) if ![Signal::SIGSYS, Signal::SIGTRAP].contains(&signal) => {
                    early = early.or_else(|| ptrace::getregs(self.pid).ok());
                    ptrace::step(self.pid, None).ok();
                }
                // the trap of the previous step, which a signal preceded
                WaitStatus::Stopped(_, Signal::SIGTRAP)
                    if ptrace::getregs(self.pid).is_ok_and(|now| now.rip == self.instruction) =>
                {
                    ptrace::step(self.pid, None).ok();
                }
                stop => break stop,
            }
        };
        match stop {
            WaitStatus::Stopped(_, Signal::SIGSYS) => Outcome::Forbidden,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                // it may be killed between two reads, with its supervisor
                let Some(registers) = early.or_else(|| ptrace::getregs(self.pid).ok()) else {
                    return Outcome::Killed;
                };
                let result = registers.rax as i64;
                if (-4095..0).contains(&result) {
                    Outcome::Failed(Errno::from_raw(-result as i32))
                } else {
                    Outcome::Done(result)
                }
            }
            WaitStatus::Signaled(..) | WaitStatus::Exited(..) => {
                self.is_alive = false;
                Outcome::Killed
            }
            other => panic!("call {number} of {} ({}): {other:?}", self.pid, comm(self.pid)),
        }
    }

    /// Panics unless the call fails.
    pub(super) fn must_fail(&mut self, what: &str, number: c_long, arguments: &[u64]) {
        match self.call(number, arguments) {
            Outcome::Failed(_) | Outcome::Forbidden => {}
            outcome => panic!("{what}: {outcome:?}, by process {} ({})", self.pid, comm(self.pid)),
        }
    }

    /// Panics unless the call succeeds. Returns its result.
    pub(super) fn must_succeed(&mut self, what: &str, number: c_long, arguments: &[u64]) -> i64 {
        match self.call(number, arguments) {
            Outcome::Done(result) => result,
            outcome => panic!("{what}: {outcome:?}, by process {} ({})", self.pid, comm(self.pid)),
        }
    }

    /// Lets the process continue where it was.
    pub(super) fn release(self) {}
}

impl Drop for TakenOver {
    fn drop(&mut self) {
        if self.is_alive {
            ptrace::setregs(self.pid, self.before).ok();
            // If it was killed meanwhile with its supervisor, its parent must be notified.
            if ptrace::detach(self.pid, None).is_err() {
                waitpid(self.pid, Some(WaitPidFlag::__WALL)).ok();
            }
        }
    }
}

fn range(line: &str) -> (u64, u64) {
    let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
    (from, to)
}

/// Returns the address of a `syscall` in the process's code.
fn find_instruction(memory: &File, maps: &str) -> u64 {
    let code = maps.lines().filter(|line| line.split(' ').nth(1).unwrap() == "r-xp");
    for line in code {
        let (from, to) = range(line);
        let mut bytes = vec![0; (to - from) as usize];
        // some of the kernel's own pages cannot be read
        if memory.read_exact_at(&mut bytes, from).is_ok()
            && let Some(at) = bytes.windows(2).position(|pair| pair == SYSCALL)
        {
            return from + at as u64;
        }
    }
    panic!("no syscall instruction in:\n{maps}")
}
