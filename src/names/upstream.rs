//! The name servers that queries are forwarded to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::tls::TlsServers;
use super::transport::Transport;
use crate::config::DnsUpstreams;
use crate::resolver;
use wontun_proto::time::Instant;

/// Port of DNS.
const PORT: u16 = 53;
/// Minimum interval between two reads of this host's name servers.
const INTERVAL: Duration = Duration::from_secs(5);

/// The name servers.
#[derive(Debug)]
pub(super) struct Upstream {
    given: Given,
    /// Addresses of this server itself, which it must not ask.
    own: Vec<IpAddr>,
    /// Servers without encryption, in order of preference.
    servers: Vec<SocketAddr>,
}

#[derive(Debug)]
enum Given {
    /// Those of this host, which change with its networks. The time is that of the next read.
    Host(Instant),
    Plain(Vec<IpAddr>),
    Tls(TlsServers),
}

impl Upstream {
    /// Creates the state of these servers; `authorities` are those of the certificates of servers
    /// over TLS.
    ///
    /// # Errors
    /// TLS cannot be used, which is a defect of wontun.
    pub(super) fn new(
        servers: DnsUpstreams,
        authorities: impl FnOnce() -> RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let given = match servers {
            DnsUpstreams::Host => Given::Host(Instant::default()),
            DnsUpstreams::Plain(servers) => Given::Plain(servers),
            DnsUpstreams::Tls(servers) => Given::Tls(TlsServers::new(servers, &Arc::new(authorities()))?),
        };
        Ok(Self { given, own: Vec::new(), servers: Vec::new() })
    }

    /// Sets the addresses of this server itself. Returns true if they have changed.
    pub(super) fn set_own(&mut self, own: &[IpAddr]) -> bool {
        if self.own == own {
            return false;
        }
        own.clone_into(&mut self.own);
        match &mut self.given {
            Given::Host(due) => *due = Instant::default(),
            Given::Plain(given) => {
                let others = given.iter().filter(|server| !own.contains(server));
                self.servers = others.map(|server| SocketAddr::new(*server, PORT)).collect();
            }
            Given::Tls(_) => {}
        }
        true
    }

    /// Reads the name servers of this host again, if they are used and that is due. Returns true if
    /// they have changed.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        let Given::Host(due) = &mut self.given else { return false };
        if now < *due {
            return false;
        }
        *due = now + INTERVAL;
        let found = resolver::system_servers().into_iter().filter(|server| !self.own.contains(&server.ip()));
        let found: Vec<_> = found.collect();
        let has_changed = found != self.servers;
        self.servers = found;
        has_changed
    }

    /// Sends a query to the first server from number `from` on that can be reached. Returns its
    /// number plus one, too.
    pub(super) fn send(
        &mut self,
        message: &[u8],
        is_tcp: bool,
        from: usize,
        now: Instant,
    ) -> Option<(Transport, usize)> {
        if let Given::Tls(servers) = &mut self.given {
            let number = (from..servers.len()).find(|number| servers.send(*number, message, now))?;
            return Some((Transport::Tls(number), number + 1));
        }
        let mut numbered = self.servers.iter().enumerate().skip(from);
        numbered
            .find_map(|(number, server)| Some((Transport::open(message, is_tcp, *server).ok()?, number + 1)))
    }

    /// Returns the servers over TLS.
    pub(super) const fn tls(&self) -> Option<&TlsServers> {
        match &self.given {
            Given::Tls(servers) => Some(servers),
            Given::Host(_) | Given::Plain(_) => None,
        }
    }

    /// As [`Self::tls`], to change them.
    pub(super) const fn tls_mut(&mut self) -> Option<&mut TlsServers> {
        match &mut self.given {
            Given::Tls(servers) => Some(servers),
            Given::Host(_) | Given::Plain(_) => None,
        }
    }
}
