//! The event loop: receives queries, answers those about the VPN, and forwards the others.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cache::Cache;
use super::client::{Closed, TcpClient};
use super::exchange::{Exchange, Progress};
use super::message::{self, Query, QueryError, ResponseCode};
use super::query_limit::QueryLimit;
use super::tls::{Report, TlsServers, Turn};
use super::upstream::Upstream;
use super::zone::{Zone, ZoneAnswer};
use crate::net::random::SystemRandom;
use crate::net::timer::now;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::Random as _;

/// Maximum number of forwarded queries, and of connections.
const MAX_EXCHANGES: usize = 256;
const MAX_CLIENTS: usize = 32;
/// Number of datagrams read per turn of each socket.
const BUDGET: usize = 32;
/// Length of the largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// The listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// The client that a query came from.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Over UDP: the number of the socket, and the client's address.
    Udp(usize, SocketAddr),
    /// Over TCP: the number of the connection.
    Tcp(u64),
}

/// State of the server.
#[derive(Debug)]
pub(super) struct Server {
    listeners: Listeners,
    zone: Option<Zone>,
    upstream: Upstream,
    cache: Cache,
    limit: QueryLimit,
    exchanges: Vec<Exchange<Client>>,
    clients: Vec<TcpClient>,
    /// Number of the next connection.
    next: u64,
    random: SystemRandom,
    buffer: Vec<u8>,
}

/// A descriptor to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Channel,
    Udp(usize),
    Tcp(usize),
    Client(usize),
    Exchange(usize),
    /// The connection over TLS to the name server with this number.
    Tls(usize),
}

/// Exchanges that are over, by number, with their answers, if any.
type Answered = Vec<(usize, Option<Vec<u8>>)>;

impl Server {
    pub(super) fn new(listeners: Listeners, upstream: Upstream, random: SystemRandom) -> Self {
        Self {
            listeners,
            zone: None,
            upstream,
            cache: Cache::default(),
            limit: QueryLimit::default(),
            exchanges: Vec::new(),
            clients: Vec::new(),
            next: 0,
            random,
            buffer: vec![0; MAX_DATAGRAM],
        }
    }

    /// Replaces the names. Forwarded queries are kept.
    pub(super) fn set_zone(&mut self, zone: Zone) {
        if self.upstream.set_own(zone.server()) {
            self.cache = Cache::default();
        }
        self.zone = Some(zone);
    }

    /// Returns changes of the name servers' state since the last call, for the log.
    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        self.upstream.tls_mut().map(TlsServers::take_reports).unwrap_or_default()
    }

    /// Waits for events, and handles them. Returns true once `channel` is readable.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn turn(&mut self, channel: BorrowedFd<'_>) -> io::Result<bool> {
        let ready = self.wait(channel)?;
        let now = now()?;
        let mut has_message = false;
        let (mut closed, mut answered) = (Vec::new(), Vec::new());
        for source in &ready {
            match *source {
                Source::Channel => has_message = true,
                Source::Udp(number) => self.receive(number, now),
                Source::Tcp(number) => self.accept(number, now),
                Source::Client(number) => {
                    let Some(client) = self.clients.get_mut(number) else { continue };
                    let (key, address) = (client.number, client.address);
                    match client.proceed(now) {
                        Ok(Some(query)) => self.handle_query(Client::Tcp(key), address, query, now),
                        Ok(None) => {}
                        Err(Closed) => closed.push(key),
                    }
                }
                Source::Exchange(number) => {
                    let Some(exchange) = self.exchanges.get_mut(number) else { continue };
                    match exchange.proceed(&mut self.buffer) {
                        Progress::Pending => {}
                        Progress::Answer(answer) => answered.push((number, Some(answer))),
                        Progress::Failed => {
                            if let Err(answer) = exchange.ask_next(&mut self.upstream, now) {
                                answered.push((number, answer));
                            }
                        }
                    }
                }
                Source::Tls(number) => {
                    let turn = self.upstream.tls_mut().map(|servers| servers.proceed(number, now));
                    self.handle_tls(number, turn.unwrap_or_default(), &mut answered, now);
                }
            }
        }
        self.handle_timeouts(&mut answered, now);
        self.finish(answered, now);
        self.clients.retain(|client| now < client.deadline && !closed.contains(&client.number));
        Ok(has_message)
    }

    /// Handles answers that came over the connection to the server with this number, and asks again
    /// what was asked over one that is lost.
    fn handle_tls(&mut self, server: usize, turn: Turn, answered: &mut Answered, now: Instant) {
        let Turn { answers, is_lost } = turn;
        for answer in answers {
            let is_open = |number| !answered.iter().any(|(other, _)| *other == number);
            let mut open = self.exchanges.iter_mut().enumerate().filter(|(number, _)| is_open(*number));
            let Some((number, exchange)) =
                open.find(|(_, exchange)| exchange.is_answered_by(server, &answer))
            else {
                continue;
            };
            match exchange.receive(answer) {
                Progress::Answer(answer) => answered.push((number, Some(answer))),
                Progress::Pending | Progress::Failed => {
                    if let Err(answer) = exchange.ask_next(&mut self.upstream, now) {
                        answered.push((number, answer));
                    }
                }
            }
        }
        if is_lost {
            self.repeat(server, answered, now);
        }
    }

    /// Asks again what was asked over the connection to this server, which is closed.
    fn repeat(&mut self, server: usize, answered: &mut Answered, now: Instant) {
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            let is_open = !answered.iter().any(|(other, _)| *other == number);
            let is_affected = exchange.connection().is_some_and(|(other, _)| other == server);
            if is_open
                && is_affected
                && let Err(answer) = exchange.ask_again(&mut self.upstream, now)
            {
                answered.push((number, answer));
            }
        }
    }

    /// Asks the next server where one has not answered in time.
    fn handle_timeouts(&mut self, answered: &mut Answered, now: Instant) {
        let mut lost = self.upstream.tls_mut().map(|tls| tls.handle_timeouts(now)).unwrap_or_default();
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            if now < exchange.deadline || answered.iter().any(|(other, _)| *other == number) {
                continue;
            }
            if let Some((server, sent)) = exchange.connection()
                && self.upstream.tls_mut().is_some_and(|tls| tls.give_up(server, sent, now))
            {
                lost.push(server);
            }
            if let Err(answer) = exchange.ask_next(&mut self.upstream, now) {
                answered.push((number, answer));
            }
        }
        for server in lost {
            self.repeat(server, answered, now);
        }
    }

    fn wait(&self, channel: BorrowedFd<'_>) -> io::Result<Vec<Source>> {
        let mut sources = vec![(Source::Channel, channel, PollFlags::POLLIN)];
        let udp = self.listeners.udp.iter().enumerate();
        sources.extend(udp.map(|(number, socket)| (Source::Udp(number), socket.as_fd(), PollFlags::POLLIN)));
        if self.clients.len() < MAX_CLIENTS {
            let tcp = self.listeners.tcp.iter().enumerate();
            sources
                .extend(tcp.map(|(number, socket)| (Source::Tcp(number), socket.as_fd(), PollFlags::POLLIN)));
        }
        sources.extend(self.clients.iter().enumerate().map(|(number, client)| {
            let (fd, events) = client.descriptor();
            (Source::Client(number), fd, events)
        }));
        sources.extend(self.exchanges.iter().enumerate().filter_map(|(number, exchange)| {
            let (fd, events) = exchange.descriptor()?;
            Some((Source::Exchange(number), fd, events))
        }));
        let tls = self.upstream.tls();
        let connections = tls.into_iter().flat_map(TlsServers::descriptors);
        sources.extend(connections.map(|(number, fd, events)| (Source::Tls(number), fd, events)));
        let deadlines = self.exchanges.iter().map(|exchange| exchange.deadline);
        let deadlines = deadlines.chain(self.clients.iter().map(|client| client.deadline));
        let deadline = deadlines.chain(tls.and_then(TlsServers::deadline)).min();
        let timeout = match deadline {
            Some(deadline) => {
                let millis = deadline.since(now()?).as_micros().div_ceil(1000);
                i32::try_from(millis).unwrap_or(i32::MAX).try_into().unwrap_or(PollTimeout::ZERO)
            }
            None => PollTimeout::NONE,
        };
        let mut descriptors: Vec<_> =
            sources.iter().map(|(_, fd, events)| PollFd::new(*fd, *events)).collect();
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = sources.iter().zip(&descriptors).filter(|(_, polled)| polled.any() == Some(true));
        Ok(ready.map(|((source, ..), _)| *source).collect())
    }

    fn receive(&mut self, number: usize, now: Instant) {
        for _ in 0..BUDGET {
            let Some(socket) = self.listeners.udp.get(number) else { return };
            match socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let query = self.buffer.get(..length).unwrap_or_default().to_vec();
                    self.handle_query(Client::Udp(number, from), from, query, now);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // also errors of earlier answers, which the kernel reports here
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self, number: usize, now: Instant) {
        let Some(Ok((socket, from))) = self.listeners.tcp.get(number).map(TcpListener::accept) else {
            return;
        };
        if let Ok(client) = TcpClient::new(self.next, socket, from, now) {
            self.next += 1;
            self.clients.push(client);
        }
    }

    /// Answers a query, or forwards it. Those of other hosts than the VPN's are ignored.
    fn handle_query(&mut self, client: Client, from: SocketAddr, bytes: Vec<u8>, now: Instant) {
        let Some(zone) = &self.zone else { return };
        if !zone.is_client(from.ip()) {
            return;
        }
        let query = match Query::parse(&bytes) {
            Ok(query) => query,
            Err(QueryError::Ignored) => return,
            Err(QueryError::Code(code)) => {
                return self.answer(client, None, &message::error(&bytes, None, code), now);
            }
        };
        if !self.limit.allows(from.ip(), now) {
            let refused = message::error(&bytes, Some(&query), ResponseCode::Refused);
            return self.answer(client, Some(&query), &refused, now);
        }
        if let ZoneAnswer::Message(answer) = zone.answer(&query) {
            return self.answer(client, Some(&query), &answer, now);
        }
        if let Some(answer) = self.cache.get(&query, now) {
            return self.answer(client, Some(&query), &answer, now);
        }
        let failed = message::error(&bytes, Some(&query), ResponseCode::ServerFailure);
        let is_tcp = matches!(client, Client::Tcp(_));
        let id = u16::from_le_bytes(self.random_bytes());
        if self.upstream.refresh(now) {
            self.cache = Cache::default();
        }
        let started = (self.exchanges.len() < MAX_EXCHANGES)
            .then(|| Exchange::start(client, query.clone(), bytes, is_tcp, id, &mut self.upstream, now));
        match started.flatten() {
            Some(exchange) => self.exchanges.push(exchange),
            None => self.answer(client, Some(&query), &failed, now),
        }
    }

    fn random_bytes<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        self.random.fill(&mut bytes);
        bytes
    }

    /// Answers the clients of exchanges that are over, and removes these.
    fn finish(&mut self, mut answered: Answered, now: Instant) {
        answered.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (number, answer) in answered {
            if number >= self.exchanges.len() {
                continue;
            }
            let exchange = self.exchanges.swap_remove(number);
            let query = &exchange.query;
            let answer = match answer {
                Some(mut answer) => {
                    self.cache.insert(query, &answer, now);
                    message::set_id(&mut answer, query.id);
                    answer
                }
                None => exchange.failed(),
            };
            self.answer(exchange.client, Some(query), &answer, now);
        }
    }

    fn answer(&mut self, client: Client, query: Option<&Query>, answer: &[u8], now: Instant) {
        match client {
            Client::Udp(number, to) => {
                let Some(socket) = self.listeners.udp.get(number) else { return };
                let too_long = query.filter(|query| answer.len() > query.max_udp);
                // a client that cannot be reached costs its answer
                let _ = match too_long {
                    Some(query) => socket.send_to(&message::truncated(answer, query), to),
                    None => socket.send_to(answer, to),
                };
            }
            Client::Tcp(key) => {
                let Some(at) = self.clients.iter().position(|client| client.number == key) else { return };
                if self.clients.get_mut(at).is_some_and(|client| client.answer(answer, now) == Err(Closed)) {
                    self.clients.swap_remove(at);
                }
            }
        }
    }
}
