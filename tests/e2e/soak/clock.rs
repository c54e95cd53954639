//! Clocks that can be stepped while a process runs by them. The kernel's wall clock is shared by
//! all processes, and its boot clock only advances; a time namespace shifts the latter, but only
//! for processes that are yet to start. So a small library is preloaded before the C library
//! (`clock.c`). libfaketime does that too, but opens a file at each reading of the clock, which a
//! sandboxed process may not, and does not affect the boot clock's timers.

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
    /// Offset from the kernel's clock, in seconds.
    wall: i64,
    boot: i64,
}

impl Clock {
    /// Makes clocks equal to the kernel's, with `library` and the new directory `folder`.
    pub(crate) fn new(library: &Path, folder: PathBuf) -> Self {
        let preload = Preload::new(library, folder);
        let path = preload.file("stepped-clock");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let clock = Self { preload, file, wall: 0, boot: 0 };
        clock.write();
        clock
    }

    /// Returns the words to put before a command that is to use these clocks.
    pub(crate) fn wrapper(&self) -> String {
        self.preload.wrapper()
    }

    /// Panics unless the process uses stepped clocks: a static program loads no libraries.
    pub(crate) fn check(pid: Pid) {
        preload::check(pid, LIBRARY);
    }

    /// Steps the wall clock forward, or back, by so many seconds.
    pub(crate) fn step_wall(&mut self, seconds: i64) {
        self.wall += seconds;
        self.write();
    }

    /// Steps the boot clock forward by so many seconds, as the kernel does after a suspension.
    pub(crate) fn sleep(&mut self, seconds: u32) {
        self.boot += i64::from(seconds);
        self.write();
    }

    /// Sets the boot clock of a machine that booted `since_boot` seconds ago. Not for a running
    /// process.
    pub(super) fn reboot(&mut self, since_boot: u32) {
        let now = wontun::net::timer::now().unwrap().since_boot().as_secs();
        self.boot = i64::from(since_boot) - i64::try_from(now).unwrap();
        self.write();
    }

    fn write(&self) {
        let bytes = [self.wall.to_ne_bytes(), self.boot.to_ne_bytes()].concat();
        self.file.write_all_at(&bytes, 0).unwrap();
    }
}
