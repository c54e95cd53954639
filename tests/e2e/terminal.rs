//! A terminal: a pseudo-terminal with a program on it, and an emulator that interprets the
//! program's output.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty;
use rustix::termios::{self, Termios, Winsize};

use crate::waiting::{TIMEOUT, exit_within, holds_within, uninterrupted};

/// A program on a terminal of its own. Dropping it kills the program.
pub(crate) struct Terminal {
    program: Program,
    controller: File,
    /// The program's end, which the test reads its settings from as well.
    end: File,
    before: Termios,
    seen: Arc<Mutex<Screen>>,
    is_open: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Screen {
    emulator: vt100::Parser,
    /// Every byte that was written.
    bytes: Vec<u8>,
}

/// The terminal's state after the program's exit.
#[derive(Debug)]
pub(crate) struct FinalState {
    pub(crate) status: ExitStatus,
    pub(crate) bytes: Vec<u8>,
}

fn lock(seen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

impl Terminal {
    /// Starts `command`, whose first word is a program that makes the terminal its controlling one
    /// (`setsid --ctty`), with so many columns and rows.
    pub(crate) fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let controller = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
        pty::grantpt(&controller).unwrap();
        pty::unlockpt(&controller).unwrap();
        let name = pty::ptsname(&controller, Vec::new()).unwrap();
        let end = rustix::fs::open(
            name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let end = File::from(end.unwrap());
        rustix::io::fcntl_setfd(&controller, rustix::io::FdFlags::CLOEXEC).unwrap();
        set_size(&controller, columns, rows);
        let before = termios::tcgetattr(&end).unwrap();
        let copy = || end.try_clone().unwrap();
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let emulator = vt100::Parser::new(size(rows), size(columns), 0);
        let seen = Arc::new(Mutex::new(Screen { emulator, bytes: Vec::new() }));
        let controller = File::from(controller);
        let is_open = Arc::new(AtomicBool::new(true));
        let reader = std::thread::spawn({
            let (mut controller, seen) = (controller.try_clone().unwrap(), Arc::clone(&seen));
            let is_open = Arc::clone(&is_open);
            move || {
                let mut bytes = [0; 4096];
                while is_open.load(Ordering::Relaxed) {
                    let mut waiting = [PollFd::new(controller.as_fd(), PollFlags::POLLIN)];
                    if uninterrupted(|| Ok(poll(&mut waiting, 20_u16)?)).unwrap() == 0 {
                        continue;
                    }
                    // reading a terminal that nobody has open any more is an error
                    let Ok(count @ 1..) = controller.read(&mut bytes) else { break };
                    let mut seen = lock(&seen);
                    seen.emulator.process(&bytes[..count]);
                    seen.bytes.extend_from_slice(&bytes[..count]);
                }
            }
        });
        Self { program: Program(child), controller, end, before, seen, is_open, reader }
    }

    /// Returns the lines of the screen without trailing spaces.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = lock(&self.seen);
        let (_, columns) = seen.emulator.screen().size();
        seen.emulator.screen().rows(0, columns.get()).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen's lines satisfy `wanted`, and returns them. Panics with the lines if
    /// they do not.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        let held = holds_within(TIMEOUT, || {
            lines = self.lines();
            wanted(&lines)
        });
        assert!(held, "waited in vain: {what}; the screen:\n{}", lines.join("\n"));
        lines
    }

    /// Waits until a line of the screen contains `text`, and returns all lines.
    pub(crate) fn wait_for_text(&self, text: &str) -> Vec<String> {
        self.wait_for(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    /// Returns true if the program uses the alternate screen.
    pub(crate) fn is_alternate(&self) -> bool {
        lock(&self.seen).emulator.screen().alternate_screen()
    }

    /// Resizes the window: the kernel sends SIGWINCH.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        lock(&self.seen).emulator.screen_mut().set_size(size(rows), size(columns));
        set_size(&self.controller, columns, rows);
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.program.0.id() as i32), signal).unwrap();
    }

    /// Waits for the program's exit. It must restore the terminal.
    pub(crate) fn wait_exit(mut self) -> FinalState {
        let status = exit_within(&mut self.program.0, TIMEOUT);
        let Some(status) = status else {
            panic!("still running after {TIMEOUT:?}; the screen:\n{}", self.lines().join("\n"));
        };
        let after = termios::tcgetattr(&self.end).unwrap();
        let modes = |all: &Termios| (all.input_modes, all.output_modes, all.control_modes, all.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the terminal's settings");
        drop(self.end);
        self.reader.join().unwrap();
        let seen = lock(&self.seen);
        let screen = seen.emulator.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{}", seen.bytes.escape_ascii());
        FinalState { status, bytes: seen.bytes.clone() }
    }

    /// Closes the window, and waits for the program's exit.
    pub(crate) fn hang_up(mut self) -> ExitStatus {
        self.is_open.store(false, Ordering::Relaxed);
        self.reader.join().unwrap();
        drop(self.controller);
        exit_within(&mut self.program.0, TIMEOUT).unwrap_or_else(|| panic!("still running after {TIMEOUT:?}"))
    }
}

fn set_size(controller: &impl AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(controller, size).unwrap();
}

impl FinalState {
    /// Returns the exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", self.status.signal()))
    }

    /// Returns the output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
