//! Clocks that can be stepped while a process runs by them. The kernel's wall clock is everybody's, and its boot clock only
//! ever goes on; a time namespace moves the latter, but only for processes that are yet to start. So a small library is put
//! before the C library (`clock.c`). libfaketime does that too, but opens a file at each look at the clock, which a
//! sandboxed process may not, and leaves the boot clock's timers alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::preload::{self, Preload};

const LIBRARY: &str = "stepped-clock.so";

/// Compiles the library into `folder`.
pub(crate) fn build(folder: &Path) -> PathBuf {
    preload::build(folder, LIBRARY, include_str!("clock.c"))
}

/// The clocks of one process at a time.
#[derive(Debug)]
pub(crate) struct Clock {
    preload: Preload,
    file: File,
    /// Seconds before or after the kernel's.
    wall: i64,
    boot: i64,
}

impl Clock {
    /// Clocks as the kernel's, with `library` and the new folder `folder`.
    pub(crate) fn new(library: &Path, folder: PathBuf) -> Self {
        let preload = Preload::new(library, folder);
        let path = preload.file("stepped-clock");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let clock = Self { preload, file, wall: 0, boot: 0 };
        clock.write();
        clock
    }

    /// The words in front of a command that is to live by these clocks.
    pub(crate) fn wrapper(&self) -> String {
        self.preload.wrapper()
    }

    /// Panics unless the process lives by stepped clocks: a static one takes no libraries.
    pub(crate) fn check(pid: Pid) {
        preload::check(pid, LIBRARY);
    }

    /// Sets the wall clock forward, or back, by so many seconds.
    pub(crate) fn step_wall(&mut self, seconds: i64) {
        self.wall += seconds;
        self.write();
    }

    /// Sets the boot clock forward by so many seconds, as the kernel does after a sleep.
    pub(crate) fn sleep(&mut self, seconds: u32) {
        self.boot += i64::from(seconds);
        self.write();
    }

    /// The boot clock of a machine that was started anew, `since_boot` seconds ago. Not for a running process.
    pub(super) fn reboot(&mut self, since_boot: u32) {
        let now = wontun::io::timer::now().unwrap().since_boot().as_secs();
        self.boot = i64::from(since_boot) - i64::try_from(now).unwrap();
        self.write();
    }

    fn write(&self) {
        let bytes = [self.wall.to_ne_bytes(), self.boot.to_ne_bytes()].concat();
        self.file.write_all_at(&bytes, 0).unwrap();
    }
}
