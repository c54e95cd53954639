//! Libraries preloaded before the C library into a program and all that it executes, also without
//! an environment: the loader reads them from /etc/ld.so.preload, which is the test's own in the
//! program's mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::waiting::succeed;

/// A private copy of /etc with the preload file.
#[derive(Debug)]
pub(crate) struct Preload {
    folder: PathBuf,
}

impl Preload {
    /// Copies /etc and `library` into the new directory `folder`.
    pub(crate) fn new(library: &Path, folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let etc = folder.join("etc");
        succeed(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
        let name = library.file_name().unwrap().to_str().unwrap();
        std::fs::copy(library, etc.join(name)).unwrap();
        std::fs::write(etc.join("ld.so.preload"), format!("/etc/{name}\n")).unwrap();
        // a separate process writes the executable: see `Folder::install`
        let script = format!("#!/bin/sh\nmount --bind {} /etc && exec \"$@\"\n", etc.display());
        std::fs::write(folder.join("text"), script).unwrap();
        let mut install = Command::new("install");
        succeed(install.args(["-m", "755"]).arg(folder.join("text")).arg(folder.join("start")));
        Self { folder }
    }

    /// Returns the path of a file that the program finds in /etc.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join("etc").join(name)
    }

    /// Returns the words to put before a command that is to use the library.
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

/// Panics unless process `pid` has loaded the library: a static program loads none.
pub(crate) fn check(pid: nix::unistd::Pid, name: &str) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.contains(name), "process {pid} has not taken {name}:\n{maps}");
}
