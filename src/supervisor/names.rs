//! Manages the process that answers the peers' DNS queries.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{info, warn};

use super::start::Starting;
use crate::config::DnsUpstreams;
use crate::logging::RateLimit;
use crate::names::handle::NamesProcess;
use crate::names::listeners::NamesListeners;
use crate::names::messages::{FromNames, ZoneSettings};
use crate::process::Nursery;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::time::Instant;

/// Delay before the process is started again; doubled each time, up to [`MAX_RESTART_DELAY`].
const RESTART_DELAY: Duration = Duration::from_millis(500);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(60);
/// Minimum interval between two messages with all names.
const INTERVAL: Duration = Duration::from_millis(200);

/// Minimum interval between two log lines about name servers.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The process and its listening sockets.
#[derive(Debug)]
pub(super) struct Names {
    listeners: NamesListeners,
    upstream: DnsUpstreams,
    process: Option<NamesProcess>,
    /// Time of the next restart; `None` if no process is needed, or it runs.
    restart_at: Option<Instant>,
    delay: Duration,
    /// Time at which the process is told the names again; `None` if it knows them.
    outdated: Option<Instant>,
    /// Time at which it was told them.
    sent_at: Instant,
    /// Number of peers without a name, as reported.
    left_out: usize,
    log_limit: RateLimit,
}

impl Names {
    /// Opens sockets at `addresses`, if there are any, and starts the process. Other names than the
    /// peers' are looked up at `upstream`.
    pub(super) fn open(addresses: &[IpAddr], upstream: DnsUpstreams, starting: &mut Starting) -> Self {
        let mut names = Self {
            listeners: NamesListeners::default(),
            upstream,
            process: None,
            restart_at: None,
            delay: RESTART_DELAY,
            outdated: None,
            sent_at: Instant::default(),
            left_out: 0,
            log_limit: RateLimit::with_burst(LOG_INTERVAL, 5),
        };
        if let Err(error) = names.listeners.set(addresses) {
            warn!(
                %error,
                "the clients' DNS queries are not answered: port 53 of the tunnel's addresses cannot be opened: stop \
                 the program that has it, or allow it by `sysctl net.ipv4.ip_unprivileged_port_start=53`"
            );
        }
        let is_sandboxed = starting.is_sandboxed();
        let (lookups, nursery) = starting.lookups();
        names.start(nursery, is_sandboxed, lookups.stderr(), Instant::default());
        names
    }

    /// Answers at these addresses from now on, after a change of the file. The
    /// process is to be told the names.
    pub(super) fn set_addresses(
        &mut self,
        addresses: &[IpAddr],
        nursery: &mut Nursery,
        is_sandboxed: bool,
        stderr: BorrowedFd<'_>,
        now: Instant,
    ) {
        let before: Vec<_> = self.listeners.addresses().collect();
        if let Err(error) = self.listeners.set(addresses) {
            self.listeners.retain(addresses);
            warn!(
                %error,
                "DNS queries are not answered at new addresses of the file: port 53 cannot be opened there: restart \
                 the tunnel, or allow it by `sysctl net.ipv4.ip_unprivileged_port_start=53` and reload"
            );
        }
        if self.listeners.addresses().eq(before) {
            return;
        }
        // queries wait in the sockets until it runs again
        (self.process, self.restart_at) = (None, None);
        if self.listeners.is_empty() {
            info!("DNS queries of the peers are not answered any more");
        }
        self.start(nursery, is_sandboxed, stderr, now);
    }

    fn start(&mut self, nursery: &mut Nursery, is_sandboxed: bool, stderr: BorrowedFd<'_>, now: Instant) {
        if self.listeners.is_empty() {
            return;
        }
        match NamesProcess::start(nursery, &self.listeners, self.upstream.clone(), is_sandboxed, stderr) {
            Ok(process) => (self.process, self.restart_at) = (Some(process), None),
            Err(error) => self.handle_end(&error, now),
        }
    }

    /// Returns the descriptor that becomes readable with messages.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let process = self.process.as_ref()?;
        let flags =
            if process.is_behind() { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        Some((process.as_fd(), flags))
    }

    /// Returns the time at which it is started, or told the names, again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.restart_at, self.outdated].into_iter().flatten().min()
    }

    /// Has the process told the names again, if there is one: at most once in [`INTERVAL`].
    pub(super) fn mark_outdated(&mut self, now: Instant) {
        if self.process.is_some() && self.outdated.is_none() {
            self.outdated = Some(now.max(self.sent_at + INTERVAL));
        }
    }

    /// Sends the names of `peers` in a zone.
    pub(super) fn send<'a>(
        &mut self,
        settings: ZoneSettings,
        peers: impl IntoIterator<Item = (&'a str, Vec<IpAddr>)>,
        now: Instant,
    ) {
        (self.outdated, self.sent_at) = (None, now);
        let Some(process) = &mut self.process else { return };
        match process.set_zone(settings, peers) {
            Ok(left_out) if left_out.is_empty() => {}
            Ok(left_out) if left_out.len() == self.left_out => {}
            Ok(left_out) => {
                self.left_out = left_out.len();
                let first: Vec<_> = left_out.into_iter().take(3).collect();
                warn!(
                    peers = self.left_out,
                    "peers without a DNS name, since another one has the same or it has no letters: {}: rename them",
                    first.join(", ")
                );
            }
            Err(error) => self.handle_end(&error, now),
        }
    }

    fn handle_end(&mut self, error: &dyn std::error::Error, now: Instant) {
        let delay = self.delay.as_secs_f32();
        warn!(%error, "the process that answers DNS queries ended: restarting it in {delay} s");
        self.process = None;
        self.restart_at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_RESTART_DELAY);
    }

    /// Handles its messages.
    pub(super) fn drain(&mut self, now: Instant) {
        while let Some(process) = &mut self.process {
            let message = process.flush().and_then(|()| process.receive());
            match message {
                Ok(None) => return,
                Ok(Some(FromNames::Ready)) => {
                    self.delay = RESTART_DELAY;
                    let addresses: Vec<_> = self.listeners.addresses().collect();
                    info!(?addresses, "answering DNS queries of the peers");
                }
                Ok(Some(FromNames::Upstream { server, problem })) => {
                    let Some(suppressed) = self.log_limit.allow(now) else { continue };
                    match problem.map(ErrorMessage::into_string) {
                        Some(problem) => {
                            warn!(%server, suppressed, "names are not looked up there: {problem}");
                        }
                        None => info!(%server, suppressed, "names are looked up there again"),
                    }
                }
                Ok(Some(FromNames::NotReady(text))) => {
                    let error = std::io::Error::other(text.into_string());
                    self.handle_end(&error, now);
                }
                Err(error) => self.handle_end(&error, now),
            }
        }
    }

    /// Returns the addresses of the listeners.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.listeners.addresses()
    }

    /// Starts the process again if that is due. Returns true if it is to be told the names.
    pub(super) fn handle_timeout(
        &mut self,
        nursery: &mut Nursery,
        is_sandboxed: bool,
        stderr: BorrowedFd<'_>,
        now: Instant,
    ) -> bool {
        let is_due = self.restart_at.is_some_and(|at| at <= now);
        if is_due {
            self.start(nursery, is_sandboxed, stderr, now);
        }
        is_due || self.outdated.is_some_and(|at| at <= now)
    }
}
