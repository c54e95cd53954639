//! nf_tables as kernels before 6.9 have it, where anybody can change a table.

use crate::daemon::Daemon;
use crate::mounts::Folder;
use crate::preload::{self, Preload};

const LIBRARY: &str = "older-nf-tables.so";

/// Which nf_tables the tunnel finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NfTables {
    /// The kernel's: since Linux 6.9 nobody but the owner changes a table.
    Kernel,
    /// Without ownership of tables.
    Older,
}

/// The library that makes the difference, in a folder of its own.
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

    /// The words in front of a command that is to have it.
    pub(super) fn wrapper(&self) -> String {
        self.preload.as_ref().map(Preload::wrapper).unwrap_or_default()
    }

    /// Panics unless the running tunnel has it, if it is to.
    pub(super) fn check(&self, daemon: &Daemon) {
        if self.preload.is_some() {
            preload::check(daemon.processes().supervisor, LIBRARY);
        }
    }
}
