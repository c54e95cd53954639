//! Manages the resolver process: passes on requests of the tunnel process, and restarts it when it
//! ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use tracing::warn;

use crate::config::TunName;
use crate::process::Nursery;
use crate::resolver::{NameServers, Resolver, ResolverError, Servers, TunnelServers, open_resolv_conf};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Purpose of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupTarget {
    /// The server, in plain mode.
    Server,
    /// The endpoint of this peer.
    Peer(PublicKey),
    /// The prefix of the network's NAT64.
    Nat64,
}

/// Maximum number of pending requests: the process answers one after the other.
const MAX_PENDING: usize = 32;
/// Minimum interval between two restarts by [`Lookups::take_pending`].
const MIN_RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before the process is restarted; doubled each time, up to [`MAX_RESTART_DELAY`].
const RESTART_DELAY: Duration = Duration::from_millis(500);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(60);

/// The resolver process and its pending requests.
#[derive(Debug)]
pub(super) struct Lookups {
    resolver: Option<Resolver>,
    /// Pending requests in order, which is that of the answers.
    pending: VecDeque<LookupTarget>,
    /// Name servers apart from those of the system.
    servers: Servers,
    /// /etc/resolv.conf, for a resolver process that may not open it.
    resolv_conf: Option<File>,
    /// Tunnel whose own name servers in that file are not queried.
    tunnel: Option<TunName>,
    is_sandboxed: bool,
    stderr: OwnedFd,
    /// Time of the next restart; `None` if no process is needed, or it runs.
    restart_at: Option<Instant>,
    delay: Duration,
    /// Time of the last restart by [`Self::take_pending`].
    restarted_at: Option<Instant>,
}

impl Lookups {
    /// Takes over the process, if names may have to be looked up.
    pub(super) fn new(
        resolver: Option<Resolver>,
        servers: NameServers,
        tunnel: Option<TunName>,
        is_sandboxed: bool,
        stderr: OwnedFd,
    ) -> Self {
        let resolv_conf = resolver.as_ref().and_then(|_| open_resolv_conf());
        Self {
            resolver,
            pending: VecDeque::new(),
            servers: Servers { first: servers, behind: TunnelServers::default() },
            resolv_conf,
            tunnel,
            is_sandboxed,
            stderr,
            restart_at: None,
            delay: RESTART_DELAY,
            restarted_at: None,
        }
    }

    /// Sets the name servers behind the tunnel, which the system's resolver asks from now on: the
    /// names of endpoints must not depend on them.
    pub(super) fn set_tunnel_servers(&mut self, servers: &[IpAddr]) {
        self.servers.behind = TunnelServers::first_of(servers);
    }

    /// Returns true if helper processes use the sandbox.
    pub(super) const fn is_sandboxed(&self) -> bool {
        self.is_sandboxed
    }

    /// Returns the standard error of helper processes.
    pub(super) fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr.as_fd()
    }

    /// Returns the descriptor that becomes readable with answers.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.resolver.as_ref().map(|resolver| resolver.as_fd())
    }

    /// Requests the addresses of `host`. Queries to name servers carry `mark`.
    ///
    /// # Errors
    /// A text for the log: too many requests are pending, or there is no process at the moment.
    pub(super) fn request(
        &mut self,
        target: LookupTarget,
        host: &str,
        port: u16,
        mark: Option<NonZeroU32>,
    ) -> Result<(), String> {
        let resolver = self.resolver.as_ref().ok_or("the resolver process is being restarted")?;
        if self.pending.len() >= MAX_PENDING {
            return Err("too many look-ups are pending".to_owned());
        }
        let (servers, resolv_conf) = (&self.servers, self.resolv_conf.as_ref());
        let pending = resolver.request(host, port, mark, servers, resolv_conf, self.tunnel.as_ref());
        pending.map_err(|error| error.to_string())?;
        self.pending.push_back(target);
        Ok(())
    }

    /// Returns the next answer. If the process has ended, answers all pending requests with an
    /// error, and schedules its restart.
    pub(super) fn poll_answer(
        &mut self,
        now: Instant,
    ) -> Vec<(LookupTarget, Result<Vec<SocketAddr>, String>)> {
        let Some(resolver) = &mut self.resolver else { return Vec::new() };
        match resolver.poll_answer() {
            Ok(None) => Vec::new(),
            Ok(Some(answer)) => {
                self.delay = RESTART_DELAY;
                let target = self.pending.pop_front();
                target.map(|target| (target, answer.map_err(|error| error.to_string()))).into_iter().collect()
            }
            Err(error) => self.handle_end(now, &error),
        }
    }

    fn handle_end(
        &mut self,
        now: Instant,
        error: &io::Error,
    ) -> Vec<(LookupTarget, Result<Vec<SocketAddr>, String>)> {
        let delay = self.delay.as_secs_f32();
        warn!(%error, "the resolver process ended: restarting it in {delay} s");
        self.resolver = None;
        self.restart_at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_RESTART_DELAY);
        self.pending.drain(..).map(|target| (target, Err("the resolver process ended".to_owned()))).collect()
    }

    /// Drops the pending requests and starts another process, without waiting for it.
    ///
    /// # Errors
    /// The process could not be started; it is restarted later.
    pub(super) fn cancel(&mut self, nursery: &mut Nursery, now: Instant) -> Result<(), ResolverError> {
        if self.resolver.take().is_none() {
            return Ok(());
        }
        self.pending.clear();
        self.restart_at = Some(now);
        self.restart(nursery, now).map_or(Ok(()), Err)
    }

    /// Takes the pending requests, and restarts the process, which may wait for a name server of a
    /// network that the host has left. Does nothing if that was done within the last second. Also
    /// returns the error if the process could not be started; it is restarted later.
    pub(super) fn take_pending(
        &mut self,
        nursery: &mut Nursery,
        now: Instant,
    ) -> (Vec<LookupTarget>, Option<ResolverError>) {
        let is_recent = self.restarted_at.is_some_and(|at| now.since(at) < MIN_RESTART_INTERVAL);
        if self.pending.is_empty() || is_recent {
            return (Vec::new(), None);
        }
        self.restarted_at = Some(now);
        let pending = self.pending.drain(..).collect();
        (pending, self.cancel(nursery, now).err())
    }

    /// Returns true if requests are pending.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns the time at which [`Self::restart`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.restart_at
    }

    /// Restarts the process if that is due. Returns the error if that fails.
    pub(super) fn restart(&mut self, nursery: &mut Nursery, now: Instant) -> Option<ResolverError> {
        if self.restart_at.is_none_or(|at| now < at) {
            return None;
        }
        match Resolver::start(nursery, self.is_sandboxed, self.stderr.as_fd()) {
            Ok(resolver) => {
                (self.resolver, self.restart_at) = (Some(resolver), None);
                None
            }
            Err(error) => {
                self.restart_at = Some(now + self.delay);
                self.delay = (self.delay * 2).min(MAX_RESTART_DELAY);
                Some(error)
            }
        }
    }
}
