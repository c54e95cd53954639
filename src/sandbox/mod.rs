//! Confinement of a process once everything is open: a list of system calls (seccomp) and of files
//! (Landlock).
//!
//! Both apply to threads, are inherited by threads started later, and cannot be removed. Therefore
//! the main thread engages them before it starts others; only the log's thread is older, and
//! engages them itself.
//!
//! A system call that is not on the list ends the process, with a line that reports its number
//! ([`trap`]). In the resolver process and in those that it starts for look-ups, where foreign code
//! runs (the modules of nsswitch.conf(5)), only calls that no look-up makes do so; all others fail
//! with ENOSYS there. Accesses that Landlock refuses fail with an ordinary error (EACCES).

mod admin_calls;
mod calls;
mod dns_bus_calls;
mod enroll_calls;
mod error;
mod filter;
mod hold_calls;
mod landlock_rules;
mod names_calls;
mod numbers;
mod one_thread_calls;
mod resolv_conf_calls;
mod status;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use self::error::SandboxError;
pub(crate) use self::filter::SandboxRole;
use self::filter::SeccompFilters;
pub(crate) use self::landlock_rules::AllowedPaths;
use self::landlock_rules::LandlockRules;
pub(crate) use self::resolv_conf_calls::RESOLV_CONF_PATH;
pub(crate) use self::status::{FeatureState, LandlockState, SandboxStatus};
use crate::privileges::UserIds;
use wontun_sys::trap;

/// True if Landlock is on in this process.
static ENGAGED: AtomicBool = AtomicBool::new(false);

/// Returns true if this process has engaged Landlock, so that access to a file may be refused for
/// that reason.
pub(crate) fn is_engaged() -> bool {
    ENGAGED.load(Ordering::Relaxed)
}

/// The privileges that a process gives up once everything is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// The user to become.
    pub user: Option<UserIds>,
    /// True if the sandbox is engaged.
    pub is_sandboxed: bool,
}

/// A sandbox that is ready to be engaged.
#[derive(Debug)]
pub(crate) struct Sandbox {
    files: LandlockRules,
    /// `None` for a processor whose call numbers are unknown.
    filters: Option<SeccompFilters>,
    /// The role of the log's thread until it has found journald.
    log: SandboxRole,
}

/// The sandbox of the log's thread.
#[derive(Debug)]
pub(crate) struct LogSandbox {
    sandbox: Sandbox,
    /// The filters to add once journald was found.
    restricted: Option<SeccompFilters>,
}

impl Sandbox {
    /// Builds the sandbox for the threads of the tunnel process, which opens nothing.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_tunnel() -> Result<Self, SandboxError> {
        let (files, filters) = (LandlockRules::for_tunnel()?, SeccompFilters::new(SandboxRole::Tunnel)?);
        Ok(Self { files, filters, log: SandboxRole::TunnelLog })
    }

    /// Builds the sandbox for the threads of the supervisor. The `paths` are looked up now, with
    /// the present privileges of this process; a file that later replaces one of the files among
    /// them cannot be opened.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_supervisor(paths: &AllowedPaths) -> Result<Self, SandboxError> {
        let (files, filters) =
            (LandlockRules::for_supervisor(paths)?, SeccompFilters::new(SandboxRole::Supervisor)?);
        Ok(Self { files, filters, log: SandboxRole::SupervisorLog })
    }

    /// Builds the sandbox for the resolver process, which starts others that look up names.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_resolver() -> Result<Self, SandboxError> {
        Ok(Self {
            files: LandlockRules::for_resolver()?,
            filters: SeccompFilters::new(SandboxRole::Resolver)?,
            log: SandboxRole::Resolver,
        })
    }

    /// Builds the sandbox for a process that looks up one name: it may read the files that have
    /// their names now.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_look_up() -> Result<Self, SandboxError> {
        Ok(Self {
            files: LandlockRules::for_look_up()?,
            filters: SeccompFilters::new(SandboxRole::LookUp)?,
            log: SandboxRole::LookUp,
        })
    }

    /// Builds the sandbox for a process that only waits for signals.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_hold() -> Result<Self, SandboxError> {
        let (files, filters) = (LandlockRules::for_tunnel()?, SeccompFilters::new(SandboxRole::Hold)?);
        Ok(Self { files, filters, log: SandboxRole::Hold })
    }

    /// Builds the sandbox for the `dns` process that writes /etc/resolv.conf.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_resolv_conf() -> Result<Self, SandboxError> {
        Ok(Self {
            files: LandlockRules::for_resolv_conf()?,
            filters: SeccompFilters::new(SandboxRole::ResolvConf)?,
            log: SandboxRole::ResolvConf,
        })
    }

    /// Builds the sandbox for the process that serves the admin page: it opens nothing.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_admin() -> Result<Self, SandboxError> {
        let (files, filters) = (LandlockRules::for_tunnel()?, SeccompFilters::new(SandboxRole::Admin)?);
        Ok(Self { files, filters, log: SandboxRole::Admin })
    }

    /// Builds the sandbox for the process that changes the server's file: it may change files in
    /// that one's folder only, and read `keys`, which are files or folders.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_editor(file: &Path, keys: &[PathBuf]) -> Result<Self, SandboxError> {
        let (files, filters) = (
            LandlockRules::for_editor(&AllowedPaths::for_configuration(file, keys))?,
            SeccompFilters::new(SandboxRole::Editor)?,
        );
        Ok(Self { files, filters, log: SandboxRole::Editor })
    }

    /// Builds the sandbox for the process that starts helpers. It applies to every helper, too.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_nursery() -> Result<Self, SandboxError> {
        Ok(Self {
            files: LandlockRules::for_nursery()?,
            filters: SeccompFilters::new(SandboxRole::Nursery)?,
            log: SandboxRole::Nursery,
        })
    }

    /// Builds the sandbox for the `dns` process that is connected to the system bus. With
    /// `may_connect` it may connect again.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_dns_resolved(may_connect: bool) -> Result<Self, SandboxError> {
        let log = if may_connect { SandboxRole::DnsReconnect } else { SandboxRole::DnsBus };
        Ok(Self { files: LandlockRules::for_tunnel()?, filters: SeccompFilters::new(log)?, log })
    }

    /// Builds the sandbox for the process that sets name servers for the `dns` process.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_dns_setter() -> Result<Self, SandboxError> {
        Self::for_dns_resolved(false)
    }

    /// Builds the sandbox for the process that answers the peers' DNS queries. If `tls_ports` are
    /// given, it can reach name servers at those only, by TCP, and opens no file.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_names(tls_ports: Option<&[u16]>) -> Result<Self, SandboxError> {
        let (files, role) = match tls_ports {
            Some(ports) => (LandlockRules::for_names_over_tls(ports)?, SandboxRole::NamesOverTls),
            None => (LandlockRules::for_names()?, SandboxRole::Names),
        };
        Ok(Self { files, filters: SeccompFilters::new(role)?, log: role })
    }

    /// Builds the sandbox for the process that enrols devices: it opens no file and no socket.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    pub(crate) fn for_enroll() -> Result<Self, SandboxError> {
        let (files, filters) = (LandlockRules::for_tunnel()?, SeccompFilters::new(SandboxRole::Enroll)?);
        Ok(Self { files, filters, log: SandboxRole::Enroll })
    }

    /// Builds the same sandbox for the log's thread, which may open a socket to journald first if
    /// `to_journald` is true.
    ///
    /// # Errors
    /// No descriptor for the rules is available, or the filter cannot be created.
    pub(crate) fn for_log(&self, to_journald: bool) -> Result<LogSandbox, SandboxError> {
        let files = self.files.try_clone().map_err(SandboxError::Clone)?;
        let (filters, restricted) = if to_journald {
            (SeccompFilters::new(self.log)?, self.filters.clone())
        } else {
            (self.filters.clone(), None)
        };
        Ok(LogSandbox { sandbox: Self { files, filters, log: self.log }, restricted })
    }

    /// Confines the calling thread, and those that it starts from now on, permanently. Call it
    /// without privileges, or with `no_new_privs`, which it sets.
    ///
    /// # Errors
    /// The signal handler, the Landlock rules or the filter cannot be installed. A feature that the
    /// kernel lacks is no error.
    pub(crate) fn engage(&self) -> Result<SandboxStatus, SandboxError> {
        trap::report_forbidden_calls().map_err(SandboxError::Signal)?;
        let landlock = LandlockState::new(&self.files.restrict()?);
        ENGAGED.fetch_or(matches!(landlock.state, FeatureState::On), Ordering::Relaxed);
        let seccomp =
            self.filters.as_ref().map_or(Ok(FeatureState::UnknownProcessor), SeccompFilters::apply)?;
        Ok(SandboxStatus { seccomp, landlock })
    }
}

impl LogSandbox {
    /// Like [`Sandbox::engage`], for the thread that writes the log.
    ///
    /// # Errors
    /// As for [`Sandbox::engage`].
    pub(crate) fn engage(&self) -> Result<SandboxStatus, SandboxError> {
        self.sandbox.engage()
    }

    /// Restricts this thread to the calls of the process's other threads, once the log is open.
    ///
    /// # Errors
    /// The kernel refuses the filter.
    pub(crate) fn restrict_further(self) -> Result<(), SandboxError> {
        self.restricted.map_or(Ok(()), |filters| filters.apply().map(drop))
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod dns_bus_tests;
#[cfg(test)]
mod enroll_tests;
#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod resolv_conf_tests;
#[cfg(test)]
mod tests;
