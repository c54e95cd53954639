//! The listeners and their connections.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::PollFlags;
use rustls::ServerConfig;

use super::connection::{Connection, Step};
use super::host::Hosts;
use super::request::Request;
use super::response::Response;
use crate::admin::messages::Exposure;
use wontun_proto::time::Instant;

/// Maximum number of connections.
const MAX_CONNECTIONS: usize = 64;
/// Maximum number of connections of one address. A further one closes that which was idle the
/// longest.
const MAX_PER_ADDRESS: usize = 24;
/// Maximum number of streams of events.
const MAX_STREAMS: usize = 8;
/// Maximum number of connections whose handshake of TLS is not complete. A further one closes that
/// which was idle the longest.
const MAX_HANDSHAKES: usize = 16;
/// Number of connections accepted per turn and listener: existing ones are served first.
const MAX_ACCEPTS: usize = 4;
/// Delay after accepting a connection failed, for example for lack of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Number of a connection.
pub(in crate::admin) type ConnectionId = u64;

/// The answer to a request.
#[derive(Debug)]
pub(in crate::admin) enum Reply {
    /// The response.
    Now(Response),
    /// The response follows by [`HttpServer::respond`].
    Later,
    /// Events follow by [`HttpServer::push`].
    Stream,
}

/// A socket that listens, without blocking.
#[derive(Debug)]
pub(in crate::admin) struct HttpListener {
    pub(in crate::admin) socket: TcpListener,
    pub(in crate::admin) exposure: Exposure,
}

/// The server.
#[derive(Debug)]
pub(in crate::admin) struct HttpServer {
    listeners: Vec<HttpListener>,
    hosts: Hosts,
    /// Settings of connections over TLS; without them there are none.
    tls: Option<Arc<ServerConfig>>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
    /// Time before which no connection is accepted.
    accept_after: Instant,
}

/// A source of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Source {
    Listener(usize),
    Connection(ConnectionId),
}

impl HttpServer {
    /// Creates the server.
    pub(in crate::admin) fn new(
        listeners: Vec<HttpListener>,
        hosts: Hosts,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let (connections, accept_after) = (BTreeMap::new(), Instant::default());
        Self { listeners, hosts, tls, connections, next: 0, accept_after }
    }

    /// Replaces the settings of connections over TLS that follow.
    pub(in crate::admin) fn set_tls(&mut self, tls: Arc<ServerConfig>) {
        self.tls = Some(tls);
    }

    /// Returns the descriptors and events to wait for.
    pub(in crate::admin) fn sources(&self, now: Instant) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let listeners = self.listeners.iter().enumerate().filter(|_| self.accept_after <= now);
        let listeners =
            listeners.map(|(index, each)| (Source::Listener(index), each.socket.as_fd(), PollFlags::POLLIN));
        let connections = self.connections.iter();
        let connections =
            connections.map(|(&id, each)| (Source::Connection(id), each.as_fd(), each.interest()));
        listeners.chain(connections).collect()
    }

    /// Returns the time at which [`Self::handle_timeouts`] must be called.
    pub(in crate::admin) fn deadline(&self, now: Instant) -> Option<Instant> {
        let accept = (self.accept_after > now).then_some(self.accept_after);
        self.connections.values().map(|each| each.deadline).chain(accept).min()
    }

    /// Does one step of a source that is ready. `handle` answers requests.
    pub(in crate::admin) fn handle_ready(
        &mut self,
        source: Source,
        events: PollFlags,
        now: Instant,
        handle: &mut impl FnMut(&Request, ConnectionId, IpAddr) -> Reply,
    ) {
        let id = match source {
            Source::Listener(index) => return self.accept(index, now),
            Source::Connection(id) => id,
        };
        let streams = self.streams();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.step(events, now, &self.hosts) {
            Step::Open => {}
            Step::Closed => {
                self.connections.remove(&id);
            }
            Step::Request(request, from) => match handle(&request, id, from) {
                Reply::Now(response) => connection.respond(&response, now),
                Reply::Later => {}
                Reply::Stream => {
                    connection.stream(now);
                    if streams >= MAX_STREAMS {
                        self.close_oldest(Connection::is_streaming);
                    }
                }
            },
        }
    }

    /// Ends connections whose time is over.
    pub(in crate::admin) fn handle_timeouts(&mut self, now: Instant) {
        self.connections.retain(|_, each| now < each.deadline || each.handle_timeout(now));
    }

    /// Answers a request that was [`Reply::Later`], if its connection is still there.
    pub(in crate::admin) fn respond(&mut self, id: ConnectionId, response: &Response, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.respond(response, now);
        }
    }

    /// Sends an event on one stream. A client that does not read is disconnected.
    pub(in crate::admin) fn push(&mut self, id: ConnectionId, event: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !(connection.is_streaming() && connection.push(event))
        {
            self.connections.remove(&id);
        }
    }

    /// Returns true if the connection is a stream that is open.
    pub(in crate::admin) fn is_streaming(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(Connection::is_streaming)
    }

    fn streams(&self) -> usize {
        self.connections.values().filter(|each| each.is_streaming()).count()
    }

    fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = self.listeners.get(index) else { return };
            let exposure = listener.exposure;
            let (stream, from) = match listener.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return,
                    _ => {
                        self.accept_after = now + ACCEPT_BACKOFF;
                        return;
                    }
                },
            };
            let from = from.ip().to_canonical();
            let is_proxy = self.hosts.is_proxy(from);
            let tls = match exposure {
                Exposure::Inside => None,
                // without a certificate nobody is served
                Exposure::Tls if self.tls.is_none() => continue,
                Exposure::Tls => self.tls.clone(),
                Exposure::Proxy if is_proxy => None,
                Exposure::Proxy => continue,
            };
            // all browsers behind a proxy have its address here
            let of_same = self.connections.values().filter(|each| each.from == from && !is_proxy);
            if of_same.count() >= MAX_PER_ADDRESS {
                self.close_oldest(|each| each.from == from);
            }
            let handshakes = self.connections.values().filter(|each| each.is_handshaking());
            if tls.is_some() && handshakes.count() >= MAX_HANDSHAKES {
                self.close_oldest(Connection::is_handshaking);
            }
            if self.connections.len() >= MAX_CONNECTIONS {
                self.close_oldest(|_| true);
            }
            if let Ok(connection) = Connection::new(stream, from, tls.as_ref(), now) {
                self.connections.insert(self.next, connection);
                self.next += 1;
            }
        }
    }

    /// Closes the connection that was idle the longest, of those that `is_meant`.
    fn close_oldest(&mut self, is_meant: impl Fn(&Connection) -> bool) {
        let oldest = self.connections.iter().filter(|(_, each)| is_meant(each));
        let oldest = oldest.min_by_key(|(_, each)| each.last_active).map(|(&id, _)| id);
        if let Some(oldest) = oldest {
            self.connections.remove(&oldest);
        }
    }
}
