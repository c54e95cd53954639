//! The name servers of the file, which the `dns` process applies to this host.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant as Clock};

use tracing::{info, warn};

use super::start::Starting;
use crate::config::{ApplyDns, TunName};
use crate::dns::handle::{DnsProcess, READY_TIMEOUT};
use crate::dns::messages::{FromDns, ToDns};
use crate::dns::{DnsSettings, resolv_conf};
use crate::logging::RateLimit;
use crate::process::ChannelError;
use wontun_proto::time::Instant;

/// Minimum interval between two log lines about restored name servers.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time for the previous name servers to come back at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The process, and what it was requested to apply.
#[derive(Debug)]
pub(super) struct Dns {
    /// Name that the tunnel was started with.
    name: TunName,
    method: ApplyDns,
    /// `None` if there is nothing to apply, or it has ended.
    process: Option<DnsProcess>,
    /// Name of its back end.
    backend: String,
    /// Settings last sent; `None` if there are none.
    settings: Option<DnsSettings>,
    /// Reason why the settings are not in effect.
    failure: Option<String>,
    /// True while an answer to [`ToDns::Apply`] is awaited.
    is_applying: bool,
    restored: RateLimit,
}

impl Dns {
    /// Starts the process if there are `entries` of `DNS =` to apply. Otherwise removes those that
    /// a killed run has left in /etc/resolv.conf.
    pub(super) fn open(name: &TunName, method: ApplyDns, entries: &[String], starting: &Starting) -> Self {
        let mut dns = Self {
            name: name.clone(),
            method,
            process: None,
            backend: String::new(),
            settings: None,
            failure: None,
            is_applying: false,
            restored: RateLimit::new(LOG_INTERVAL),
        };
        if method == ApplyDns::Off || entries.is_empty() {
            match resolv_conf::restore_previous(name) {
                Ok(true) => info!("the name servers of an earlier run were removed from /etc/resolv.conf"),
                Ok(false) => {}
                Err(error) => warn!(%error, "the name servers of an earlier run are not removed"),
            }
            return dns;
        }
        match starting.start_dns(name, method) {
            Ok(process) => dns.process = Some(process),
            Err(error) => dns.fail(error.to_string()),
        }
        dns
    }

    /// Returns the descriptor that becomes readable with messages.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|process| process.as_fd())
    }

    /// Returns the name servers of the tunnel that are this host's.
    pub(super) fn servers(&self) -> &[IpAddr] {
        self.settings.as_ref().map_or(&[], |settings| &settings.servers)
    }

    /// Returns the reason why the name servers of the file are not this host's, if that is so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn fail(&mut self, error: String) {
        warn!(
            tun = %self.name,
            error,
            "DNS: the name servers of the file are not in effect, and names are resolved as before"
        );
        self.failure = Some(error);
    }

    /// Applies the entries of `DNS =` for the device of this name and index.
    pub(super) fn apply(&mut self, entries: &[String], device: &str, index: u32, is_full_tunnel: bool) {
        if self.method == ApplyDns::Off {
            return;
        }
        let (settings, warnings) = DnsSettings::from_entries(entries, device, index, is_full_tunnel);
        if settings == self.settings {
            return;
        }
        warnings.iter().for_each(|warning| warn!(tun = %self.name, "{warning}"));
        let message = settings.clone().map_or(ToDns::Revert, ToDns::Apply);
        self.settings = settings;
        let Some(process) = &self.process else {
            if self.settings.is_some() && self.failure.is_none() {
                self.fail("DNS was added to the file of a running tunnel: restart the tunnel".to_owned());
            }
            return;
        };
        self.is_applying = matches!(message, ToDns::Apply(_));
        if let Err(error) = process.send(&message) {
            self.handle_end(&error);
        }
    }

    /// Waits until the settings are applied, for a limited time.
    pub(super) fn wait(&mut self, now: Instant) {
        let deadline = Clock::now() + READY_TIMEOUT;
        while self.is_applying {
            let Some(process) = &mut self.process else { return };
            match process.receive_until(deadline) {
                Ok(Some(message)) => self.handle(message, now),
                Ok(None) => {
                    warn!(
                        tun = %self.name,
                        "DNS: the name servers of the file are not applied after {} s; the tunnel starts meanwhile",
                        READY_TIMEOUT.as_secs()
                    );
                    return;
                }
                Err(error) => self.handle_end(&error),
            }
        }
    }

    /// Handles the messages of the process.
    pub(super) fn drain(&mut self, now: Instant) {
        while let Some(process) = &mut self.process {
            match process.receive() {
                Ok(Some(message)) => self.handle(message, now),
                Ok(None) => return,
                Err(error) => self.handle_end(&error),
            }
        }
    }

    fn handle(&mut self, message: FromDns, now: Instant) {
        match message {
            FromDns::Ready(backend) => self.backend = backend.into_string(),
            FromDns::NotReady(error) => {
                self.process = None;
                self.is_applying = false;
                self.fail(error.into_string());
            }
            FromDns::Applied(warnings) => {
                (self.is_applying, self.failure) = (false, None);
                let servers = self.settings.iter().flat_map(|settings| &settings.servers);
                let servers = servers.map(ToString::to_string).collect::<Vec<_>>().join(",");
                info!(tun = %self.name, servers, by = self.backend, "name servers applied");
                self.warn(warnings.into_vec());
            }
            FromDns::NotApplied(error) => {
                self.is_applying = false;
                self.fail(error.into_string());
            }
            FromDns::Reverted(warnings) => self.warn(warnings.into_vec()),
            FromDns::NotReverted(error) => {
                let (name, error) = (&self.name, error.into_string());
                warn!(tun = %name, error, "the previous name servers are not restored: run `wontun unlock {name}`");
            }
            FromDns::Restored(text) => {
                self.failure = None;
                if let Some(suppressed) = self.restored.allow(now) {
                    warn!(tun = %self.name, suppressed, "{}", text.into_string());
                }
            }
            FromDns::Lost(error) => self.fail(error.into_string()),
        }
    }

    fn warn(&self, warnings: Vec<String>) {
        warnings.iter().for_each(|warning| warn!(tun = %self.name, "{warning}"));
    }

    /// Handles the end of the process. It cannot be started again: this process has no longer the
    /// privileges that it needs.
    fn handle_end(&mut self, error: &ChannelError) {
        let name = self.name.clone();
        self.process = None;
        self.is_applying = false;
        self.fail(format!(
            "the dns process failed ({error}): restart the tunnel; `wontun unlock {name}` restores the previous name \
             servers once it has ended"
        ));
    }

    /// Restores the previous name servers, and ends the process.
    pub(super) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if self.settings.take().is_none() || process.send(&ToDns::Revert).is_err() {
            return;
        }
        let deadline = Clock::now() + STOP_TIMEOUT;
        loop {
            match process.receive_until(deadline) {
                Ok(Some(message @ (FromDns::Reverted(_) | FromDns::NotReverted(_)))) => {
                    self.handle(message, Instant::default());
                    return;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let name = &self.name;
                    warn!(tun = %name, "the previous name servers may not be restored: run `wontun unlock {name}`");
                    return;
                }
            }
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}
