//! A stub resolver (RFC 1034 and 1035) that queries name servers over given sockets.
//!
//! It queries each server in turn for both kinds of address, over UDP from one port chosen by the
//! kernel, with an ID from the system's random number generator; it ignores datagrams that do not
//! come from that server with that ID and question. A truncated answer is requested again over TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use socket2::{Domain, Socket, Type};

use super::messages::Servers;
use super::system_files::{self, ResolvConf};
use crate::net::random::SystemRandom;
use wontun_proto::wireguard::Random as _;

/// Maximum length of an answer in bytes: without EDNS a server sends 512 bytes over UDP, and
/// answers of interest are short over TCP too.
const MAX_ANSWER: usize = 4096;

/// The remedy if all name servers are on this host.
const LOCAL_SERVER_HINT: &str = " (it is on this host, and its own queries are routed into the tunnel, which is not up yet: give \
                                a name server that is reachable outside the tunnel with --resolver ADDRESS)";

/// Minimum timeout for an answer over TCP, if the one over UDP came late.
const MIN_TCP_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns true if name servers should be queried for that name: not for an address, a local name,
/// or an internationalized name that is not converted to ASCII.
pub(super) fn is_for_dns(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_local = || name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("local"));
    name.contains('.') && name.is_ascii() && host.parse::<IpAddr>().is_err() && !is_local()
}

/// Looks up `host` in /etc/hosts, or else with the name servers: `servers` before and after those
/// of the system. Returns at least one address; those with a route come first, and of these IPv6.
/// `resolv_conf` is the contents of /etc/resolv.conf if this process may not read it.
///
/// # Errors
/// A message for the user.
pub(super) fn look_up(
    host: &str,
    servers: &Servers,
    sockets: Vec<OwnedFd>,
    resolv_conf: Option<&str>,
) -> Result<Vec<IpAddr>, String> {
    let listed = system_files::hosts(host);
    let mut sockets = Sockets::new(sockets);
    let mut found =
        if listed.is_empty() { sockets.query_system_servers(host, servers, resolv_conf)? } else { listed };
    found.sort_by_cached_key(|address| (!sockets.has_route(*address), address.is_ipv4()));
    Ok(found)
}

/// The sockets for queries.
#[derive(Debug, Default)]
struct Sockets {
    udp: Vec<(Domain, UdpSocket)>,
    /// TCP sockets, each usable for one connection.
    tcp: Vec<(Domain, Socket)>,
}

/// Reason why a server gave no addresses.
#[derive(Debug, PartialEq, Eq)]
enum QueryError {
    /// An error of this server: the next one may succeed.
    Server(String),
    /// The name has no addresses: other servers would say the same.
    Name(&'static str),
}

impl Sockets {
    fn new(given: Vec<OwnedFd>) -> Self {
        let mut sockets = Self::default();
        for socket in given.into_iter().map(Socket::from) {
            let Ok(domain) = socket.domain() else { continue };
            if !socket.r#type().is_ok_and(|kind| kind == Type::DGRAM) {
                sockets.tcp.push((domain, socket));
                continue;
            }
            // reports a closed port at once, instead of a timeout
            let _ = if domain == Domain::IPV4 {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)
            };
            sockets.udp.push((domain, socket.into()));
        }
        sockets
    }

    fn query_system_servers(
        &mut self,
        host: &str,
        servers: &Servers,
        resolv_conf: Option<&str>,
    ) -> Result<Vec<IpAddr>, String> {
        let Servers { first, behind } = servers;
        let conf = ResolvConf::read(first.as_slice(), behind.as_slice(), resolv_conf);
        self.query_all(host, &conf)
            .map_err(|error| if conf.is_local_only { format!("{error}{LOCAL_SERVER_HINT}") } else { error })
    }

    fn query_all(&mut self, host: &str, conf: &ResolvConf) -> Result<Vec<IpAddr>, String> {
        let mut last = String::new();
        for _ in 0..conf.attempts {
            for &server in &conf.servers {
                match self.query(host, server, conf.timeout) {
                    Ok(addresses) => return Ok(addresses),
                    Err(QueryError::Name(why)) => return Err(why.to_owned()),
                    Err(QueryError::Server(why)) => last = format!("name server {}: {why}", server.ip()),
                }
            }
        }
        Err(last)
    }

    fn query(
        &mut self,
        host: &str,
        server: SocketAddr,
        timeout: Duration,
    ) -> Result<Vec<IpAddr>, QueryError> {
        let mut queries = Queries::new(host)?;
        let deadline = Instant::now() + timeout;
        let asked = self.query_udp(&mut queries, server, deadline).and_then(|()| {
            if queries.0.iter().any(|query| query.is_truncated) {
                self.query_tcp(&mut queries, server, deadline)
            } else {
                Ok(())
            }
        });
        queries.outcome(asked)
    }

    /// Queries over UDP, until both queries are answered.
    fn query_udp(&self, queries: &mut Queries, server: SocketAddr, deadline: Instant) -> io::Result<()> {
        let place = self.udp.iter().find(|(domain, _)| *domain == Domain::for_address(server));
        let (_, socket) = place.ok_or_else(no_socket)?;
        for query in &queries.0 {
            socket.send_to(&query.bytes, server)?;
        }
        let mut buffer = [0; MAX_ANSWER];
        while queries.0.iter().any(|query| query.answer.is_none()) {
            socket.set_read_timeout(Some(remaining(deadline)?))?;
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) if is_same(from, server) => {
                    queries.handle_packet(buffer.get(..length).unwrap_or_default());
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Queries again over TCP: connecting, sending and receiving together end at `deadline`, or a
    /// second from now if that is later.
    fn query_tcp(&mut self, queries: &mut Queries, server: SocketAddr, deadline: Instant) -> io::Result<()> {
        let place = self.tcp.iter().position(|(domain, _)| *domain == Domain::for_address(server));
        let (_, socket) = self.tcp.swap_remove(place.ok_or_else(no_socket)?);
        let deadline = deadline.max(Instant::now() + MIN_TCP_TIMEOUT);
        socket.connect_timeout(&server.into(), remaining(deadline)?)?;
        let mut stream = DeadlineStream { stream: TcpStream::from(socket), deadline };
        for query in &queries.0 {
            let length = u16::try_from(query.bytes.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &query.bytes].concat())?;
        }
        for _ in 0..queries.0.len() {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer)?;
            queries.handle_packet(&answer);
        }
        Ok(())
    }

    /// Returns true if there is a route to `address`. The UDP socket cannot be used for queries
    /// afterwards.
    fn has_route(&self, address: IpAddr) -> bool {
        let discard = SocketAddr::new(address, 9);
        let mut sockets = self.udp.iter().filter(|(domain, _)| *domain == Domain::for_address(discard));
        sockets.any(|(_, socket)| socket.connect(discard).is_ok())
    }
}

/// Returns the time until `deadline`.
///
/// # Errors
/// It has passed.
fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

/// A connection with one deadline for all reads and writes together, however few bytes each of them
/// transfers.
struct DeadlineStream {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(remaining(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn no_socket() -> io::Error {
    io::Error::other("this host does not support its address family, or has no socket for it")
}

/// Compares addresses without scope and flow label: a link-local address is returned with the scope
/// it was sent with.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// The two queries for a name.
#[derive(Debug)]
struct Queries([Query; 2]);

#[derive(Debug)]
struct Query {
    id: u16,
    kind: TYPE,
    bytes: Vec<u8>,
    /// Response code of the server, and the addresses in the answer.
    answer: Option<(RCODE, Vec<IpAddr>)>,
    /// True if the answer was truncated.
    is_truncated: bool,
}

impl Queries {
    fn new(host: &str) -> Result<Self, QueryError> {
        let host = host.strip_suffix('.').unwrap_or(host);
        Ok(Self([Query::new(host, TYPE::A)?, Query::new(host, TYPE::AAAA)?]))
    }

    /// Accepts the packet if it answers one of the queries.
    fn handle_packet(&mut self, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else { return };
        let asked = |query: &&mut Query| {
            packet.has_flags(PacketFlag::RESPONSE)
                && packet.id() == query.id
                && query.matches(&packet.questions)
        };
        let Some(query) = self.0.iter_mut().find(asked) else { return };
        let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
            RData::A(v4) => Some(IpAddr::V4(v4.address.into())),
            RData::AAAA(v6) => Some(IpAddr::V6(v6.address.into())),
            _ => None,
        });
        query.is_truncated = packet.has_flags(PacketFlag::TRUNCATION);
        query.answer = Some((packet.rcode(), addresses.collect()));
    }

    /// Returns the result; `asked` tells whether the exchange with the server was complete.
    fn outcome(self, asked: io::Result<()>) -> Result<Vec<IpAddr>, QueryError> {
        let answers: Vec<_> = self.0.into_iter().filter_map(|query| query.answer).collect();
        let addresses: Vec<IpAddr> = answers.iter().flat_map(|(_, addresses)| addresses).copied().collect();
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        if answers.iter().any(|(code, _)| *code == RCODE::NameError) {
            return Err(QueryError::Name("there is no such name"));
        }
        asked.map_err(|error| match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => QueryError::Server("no answer".to_owned()),
            _ => QueryError::Server(error.to_string()),
        })?;
        match answers.iter().find(|(code, _)| *code != RCODE::NoError) {
            Some((code, _)) => Err(QueryError::Server(format!("it says {code:?}"))),
            None => Err(QueryError::Name("the name has no address")),
        }
    }
}

impl Query {
    fn new(host: &str, kind: TYPE) -> Result<Self, QueryError> {
        let mut id = [0; 2];
        let random = SystemRandom::open().map_err(|error| QueryError::Server(error.to_string()));
        random?.fill(&mut id);
        let id = u16::from_ne_bytes(id);
        let name = Name::new(host).map_err(|_| QueryError::Name("it is not a valid DNS name"))?;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
        let bytes = packet.build_bytes_vec().map_err(|error| QueryError::Server(error.to_string()))?;
        Ok(Self { id, kind, bytes, answer: None, is_truncated: false })
    }

    /// Returns true if the questions match this query.
    fn matches(&self, questions: &[Question<'_>]) -> bool {
        let own = Packet::parse(&self.bytes);
        let [theirs] = questions else { return false };
        theirs.qtype == self.kind.into()
            && own.is_ok_and(|own| own.questions.first().is_some_and(|own| own.qname == theirs.qname))
    }
}

#[cfg(test)]
mod tests;
