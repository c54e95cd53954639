//! nf_tables of kernels before 6.9, where any privileged process can change a table.

use crate::daemon::Daemon;
use crate::mounts::Folder;
use crate::preload::{self, Preload};

const LIBRARY: &str = "older-nf-tables.so";

/// The nf_tables variant that the tunnel finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NfTables {
    /// The kernel's: since Linux 6.9 only the owner can change a table.
    Kernel,
    /// Without ownership of tables.
    Older,
}

/// The preloaded library that simulates the older variant, in its own directory.
#[derive(Debug)]
pub(super) struct Library {
    preload: Option<Preload>,
    _folder: Folder,
}

impl Library {
    pub(super) fn new(nf_tables: NfTables) -> Self {
        let folder = Folder::new();
        let preload = (nf_tables == NfTables::Older).then(|| {
            let library = preload::build(folder.path(), LIBRARY, include_str!("older.c"));
            Preload::new(&library, folder.path().join("older"))
        });
        Self { preload, _folder: folder }
    }

    /// Returns the words to put before a command that is to use the library.
    pub(super) fn wrapper(&self) -> String {
        self.preload.as_ref().map(Preload::wrapper).unwrap_or_default()
    }

    /// Panics unless the running tunnel uses the library, if it should.
    pub(super) fn check(&self, daemon: &Daemon) {
        if self.preload.is_some() {
            preload::check(daemon.processes().supervisor, LIBRARY);
        }
    }
}
