//! What a process confines itself to once all is open: a list of system calls (seccomp) and of files (Landlock).
//!
//! Both belong to threads and are inherited by those that are started later, and nobody can be rid of them. So the main
//! thread engages them before it starts others; only the log's thread is older, and engages them itself.
//!
//! A system call that is not on the list ends the process, with a line that tells its number
//! ([`trap`]). In the resolver process and in those that it starts for look-ups, where foreign code
//! runs (the modules of nsswitch.conf(5)), only what no look-up would do does so; all else does not
//! exist there. What Landlock refuses is an error like any other (EACCES).

mod calls;
mod error;
mod files;
mod filter;
mod report;

use std::sync::atomic::{AtomicBool, Ordering};

pub use self::error::SandboxError;
use self::files::Files;
pub use self::files::Places;
use self::filter::Filters;
pub use self::filter::Role;
pub use self::report::{Landlock, Report, State};
use crate::privileges::Identity;
use crate::sys::trap;

/// Whether Landlock is on in this process.
static ENGAGED: AtomicBool = AtomicBool::new(false);

/// Whether this process confines itself, so that a file may be refused for that reason.
pub fn is_engaged() -> bool {
    ENGAGED.load(Ordering::Relaxed)
}

/// What a process gives up once all is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The user to become.
    pub user: Option<Identity>,
    /// Whether the sandbox is engaged.
    pub is_sandboxed: bool,
}

/// A sandbox that is ready to be engaged.
#[derive(Debug)]
pub struct Sandbox {
    files: Files,
    /// `None` for a processor whose calls nobody has told.
    filters: Option<Filters>,
    /// That of the log's thread until it has found journald.
    log: Role,
}

/// The sandbox of the log's thread.
#[derive(Debug)]
pub struct LogSandbox {
    sandbox: Sandbox,
    /// What is left once journald was found.
    narrow: Option<Filters>,
}

impl Sandbox {
    /// For the threads of the tunnel process, which opens nothing.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_tunnel() -> Result<Self, SandboxError> {
        let (files, filters) = (Files::of_tunnel()?, Filters::new(Role::Tunnel)?);
        Ok(Self { files, filters, log: Role::TunnelLog })
    }

    /// For the threads of the supervisor. The `places` are looked up now, with the rights that this
    /// process has now; what is put in the place of a file among them later cannot be opened.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_supervisor(places: &Places) -> Result<Self, SandboxError> {
        let (files, filters) = (Files::of_supervisor(places)?, Filters::new(Role::Supervisor)?);
        Ok(Self { files, filters, log: Role::SupervisorLog })
    }

    /// For the resolver process, which starts others that look up names.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_resolver() -> Result<Self, SandboxError> {
        Ok(Self { files: Files::of_resolver()?, filters: Filters::new(Role::Resolver)?, log: Role::Resolver })
    }

    /// For a process that looks up one name: the files that it may read are those that have their
    /// names now.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_look_up() -> Result<Self, SandboxError> {
        Ok(Self { files: Files::of_look_up()?, filters: Filters::new(Role::LookUp)?, log: Role::LookUp })
    }

    /// For the process that starts helpers. What it may not do no helper may.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_nursery() -> Result<Self, SandboxError> {
        Ok(Self { files: Files::of_nursery()?, filters: Filters::new(Role::Nursery)?, log: Role::Nursery })
    }

    /// The same for the log's thread, which may open a socket to journald first if `to_journald`.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn of_log(&self, to_journald: bool) -> Result<LogSandbox, SandboxError> {
        let files = self.files.try_clone().map_err(SandboxError::Clone)?;
        let (filters, narrow) = if to_journald {
            (Filters::new(self.log)?, self.filters.clone())
        } else {
            (self.filters.clone(), None)
        };
        Ok(LogSandbox { sandbox: Self { files, filters, log: self.log }, narrow })
    }

    /// Confines the calling thread, and those that it starts from now on, for good. To be called without privileges, or
    /// with `no_new_privs`, which is set.
    ///
    /// # Errors
    /// [`SandboxError`]. What the kernel does not have is none.
    pub fn engage(&self) -> Result<Report, SandboxError> {
        trap::tell_forbidden_calls().map_err(SandboxError::Signal)?;
        let landlock = Landlock::new(&self.files.restrict()?);
        ENGAGED.fetch_or(matches!(landlock.state, State::On), Ordering::Relaxed);
        let seccomp = self.filters.as_ref().map_or(Ok(State::UnknownProcessor), Filters::apply)?;
        Ok(Report { seccomp, landlock })
    }
}

impl LogSandbox {
    /// As [`Sandbox::engage`], for the thread that is to write the log.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn engage(&self) -> Result<Report, SandboxError> {
        self.sandbox.engage()
    }

    /// The log is open: from now on this thread may do no more than any other of the tunnel's.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn narrow(self) -> Result<(), SandboxError> {
        self.narrow.map_or(Ok(()), |filters| filters.apply().map(drop))
    }
}

#[cfg(test)]
mod tests;
