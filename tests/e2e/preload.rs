//! Libraries that are put before the C library of a program and of all that it executes, also where
//! that has no environment: the loader takes them from /etc/ld.so.preload, which is the test's own
//! in a mount namespace of the program's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::waiting::succeed;

/// An /etc of the test's own.
#[derive(Debug)]
pub(crate) struct Preload {
    folder: PathBuf,
}

impl Preload {
    /// Copies /etc and `library` into the new folder `folder`.
    pub(crate) fn new(library: &Path, folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let etc = folder.join("etc");
        succeed(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
        let name = library.file_name().unwrap().to_str().unwrap();
        std::fs::copy(library, etc.join(name)).unwrap();
        std::fs::write(etc.join("ld.so.preload"), format!("/etc/{name}\n")).unwrap();
        // a process of its own writes what is executed: see `Folder::install`
        let script = format!("#!/bin/sh\nmount --bind {} /etc && exec \"$@\"\n", etc.display());
        std::fs::write(folder.join("text"), script).unwrap();
        let mut install = Command::new("install");
        succeed(install.args(["-m", "755"]).arg(folder.join("text")).arg(folder.join("start")));
        Self { folder }
    }

    /// A file that the program finds in /etc.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join("etc").join(name)
    }

    /// The words in front of a command that is to have the library.
    pub(crate) fn wrapper(&self) -> String {
        format!("unshare --mount {}", self.folder.join("start").display())
    }
}

/// Compiles `source` to the shared library `name` in `folder`.
pub(crate) fn build(folder: &Path, name: &str, source: &str) -> PathBuf {
    let (text, library) = (folder.join(format!("{name}.c")), folder.join(name));
    std::fs::write(&text, source).unwrap();
    succeed(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&text).arg("-ldl"));
    library
}

/// Panics unless process `pid` has taken the library: a static one takes none.
pub(crate) fn check(pid: nix::unistd::Pid, name: &str) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.contains(name), "process {pid} has not taken {name}:\n{maps}");
}
