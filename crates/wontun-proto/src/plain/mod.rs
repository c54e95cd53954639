//! The plain protocol: an IP packet is the whole payload of a UDP datagram, and a client announces
//! itself with the six bytes `hello?`.
//!
//! A server accepts the first sender of a `hello?` as its only peer and sends no reply. A client
//! sends `hello?` every second until it receives anything from the server, then once per keepalive
//! interval, and every second again when the server seems gone. Both interoperate with a peer that
//! only implements "send `hello?` once". Nothing is encrypted or authenticated: an attacker who can
//! forge the peer's address can forge its packets.

use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::{inner, udp};

/// The datagram that opens a tunnel, and keeps it open through NAT.
pub const HELLO: &[u8] = b"hello?";

/// Pause between two `hello?` while nothing has been received from the server.
pub const HELLO_RETRY: Duration = Duration::from_secs(1);

/// Time for which a client sends data and receives nothing before it considers the server gone.
pub const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause in sending after which [`UNANSWERED_TIMEOUT`] is measured from the next packet on.
const PAUSE: Duration = Duration::from_secs(10);

/// Keepalive intervals of silence after which a peer that used to repeat its `hello?` can be
/// replaced.
pub const SILENT_INTERVALS: u32 = 3;

/// Time for which a client sends `hello?` without an answer before it reports
/// `Event::EndpointStale`; doubled each time, up to [`STALE_AFTER_MAX`].
const STALE_AFTER: Duration = Duration::from_secs(5);
const STALE_AFTER_MAX: Duration = Duration::from_secs(60);

/// The side of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends `hello?` to a configured address.
    Client,
    /// Learns its peer from a `hello?`.
    Server,
}

/// The contents of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// An IP packet for the TUN device: the whole datagram.
    Packet,
    /// The peer's `hello?`; no action is needed.
    Hello,
    /// A `hello?` of a sender that may become the peer: the caller confirms it with
    /// [`Plain::set_peer`].
    NewPeer,
}

/// State of one plain tunnel.
#[derive(Debug)]
pub struct Plain {
    role: Role,
    /// Pause between two `hello?` of an answered client. Zero: a client sends none once the server
    /// has answered, and a silent peer is never replaced.
    keepalive: Duration,
    peer: Option<PlainPeer>,
    /// Client: time of the next `hello?`.
    hello_due: Option<Instant>,
    /// Client: something was received from the server since it was last considered gone.
    is_reachable: bool,
    /// Client: something was received from this endpoint.
    answered: bool,
    /// Client: time of the first data since which nothing was received.
    unanswered_since: Option<Instant>,
    /// Client: time when data was last sent.
    last_sent: Instant,
    /// Client: data has gone unanswered for [`UNANSWERED_TIMEOUT`].
    unanswered: bool,
    /// Client: time of the next `Event::EndpointStale`, and the pause before the one after it.
    stale_at: Option<(Instant, Duration)>,
    events: Events,
}

#[derive(Clone, Copy, Debug)]
struct PlainPeer {
    endpoint: SocketAddr,
    last_received: Instant,
    /// The peer has sent `hello?` more than once. One that never repeats it may be silent for long.
    repeats_hello: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Events {
    hello: bool,
    answered: bool,
    is_stale: bool,
}

/// An event for the caller of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Client: something was received from the server, for the first time or after a silence.
    Answered,
    /// Client: the server has been silent for long; its name may have another address, or the local
    /// route to it may have changed.
    EndpointStale,
}

impl Plain {
    /// Returns a client without a server yet ([`Self::set_peer`] sets it), or a server without a
    /// peer. `keepalive` is the time between two `hello?` of an answered client; zero disables
    /// them.
    pub const fn new(role: Role, keepalive: Duration) -> Self {
        Self {
            role,
            keepalive,
            peer: None,
            hello_due: None,
            is_reachable: false,
            answered: false,
            unanswered_since: None,
            last_sent: Instant::from_boot(Duration::ZERO),
            unanswered: false,
            stale_at: None,
            events: Events { hello: false, answered: false, is_stale: false },
        }
    }

    /// Returns the endpoint of the peer, once known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.map(|peer| peer.endpoint)
    }

    /// Returns the time since something was last received from the peer, or since it became known.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.peer.map(|peer| now.since(peer.last_received))
    }

    /// Sets the peer to `endpoint`. A client sends `hello?` to it at once and until it answers. A
    /// client whose server has the same endpoint already continues unchanged.
    pub fn set_peer(&mut self, endpoint: SocketAddr, now: Instant) {
        let moved = self.peer() != Some(endpoint);
        if !moved && self.role == Role::Client {
            return;
        }
        self.peer = Some(PlainPeer { endpoint, last_received: now, repeats_hello: false });
        self.answered = false;
        self.unanswered = false;
        if self.role == Role::Client {
            self.restart_hello(now);
        }
    }

    /// Handles a datagram received from `from`.
    ///
    /// # Errors
    /// Returns the reason to drop it: the sender is not the peer, the datagram is empty, or it is
    /// not a valid IP packet.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Datagram, DropReason> {
        let hello = datagram == HELLO;
        let keepalive = self.keepalive;
        let Some(peer) = self.peer.as_mut() else {
            let is_accepted = hello && self.role == Role::Server;
            return if is_accepted { Ok(Datagram::NewPeer) } else { Err(DropReason::UnknownSource) };
        };
        if from != peer.endpoint {
            let replaces =
                hello && self.role == Role::Server && peer.is_replaceable_by(from.ip(), keepalive, now);
            return if replaces { Ok(Datagram::NewPeer) } else { Err(DropReason::UnknownSource) };
        }
        peer.last_received = now;
        peer.repeats_hello |= hello;
        if self.role == Role::Client {
            self.handle_received(now);
        }
        if hello {
            Ok(Datagram::Hello)
        } else if datagram.is_empty() {
            Err(DropReason::Empty)
        } else {
            inner::validate(datagram).map(|()| Datagram::Packet)
        }
    }

    /// Handles a packet from the TUN device; on `Ok` the caller sends it to the peer unchanged.
    ///
    /// # Errors
    /// Returns the reason to drop it: it is not a valid IP packet, no peer is known, or it is a
    /// datagram of the tunnel itself.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        inner::validate(packet)?;
        let endpoint = self.peer().ok_or(DropReason::NoPeer)?;
        if udp::is_addressed_to(packet, endpoint) {
            return Err(DropReason::OwnTun);
        }
        if self.role == Role::Client {
            if now.since(self.last_sent) >= PAUSE {
                self.unanswered_since = None;
            }
            self.last_sent = now;
            let since = *self.unanswered_since.get_or_insert(now);
            if now.since(since) >= UNANSWERED_TIMEOUT {
                self.unanswered = true;
                if self.is_reachable {
                    self.restart_hello(now);
                }
            }
        }
        Ok(())
    }

    /// Client: returns true if something was received from the server, and it is not considered
    /// gone.
    pub const fn is_reachable(&self) -> bool {
        self.is_reachable
    }

    /// Client: returns true if data was sent and this endpoint has never answered, so that another
    /// address of the same server may be worth trying. An unanswered `hello?` does not count: a
    /// server does not reply to it.
    pub const fn is_endpoint_suspect(&self) -> bool {
        self.unanswered && !self.answered
    }

    /// Client: returns true if data was sent and nothing was received since.
    pub const fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Handles a report that the peer's port is closed.
    pub fn handle_refused(&mut self, now: Instant) {
        // while searching, `hello?` is sent every second anyway: a refusal must not increase that
        // rate
        if self.role == Role::Client && self.is_reachable {
            self.restart_hello(now + HELLO_RETRY);
        }
    }

    /// Handles a change of the network path to the peer. A client sends `hello?` at once and until
    /// it is answered: its server learns its new address from that.
    pub fn handle_path_changed(&mut self, now: Instant) {
        if self.role == Role::Client && self.peer.is_some() {
            self.restart_hello(now);
        }
    }

    /// Handles the timers that are due. The caller calls this at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hello_due.is_some_and(|due| now >= due) {
            self.events.hello = true;
            self.hello_due = self.next_hello(now);
        }
        if let Some((due, pause)) = self.stale_at
            && now >= due
        {
            self.events.is_stale = true;
            let pause = (pause * 2).min(STALE_AFTER_MAX);
            self.stale_at = Some((now + pause, pause));
        }
    }

    /// Returns a datagram for the peer, if one is due.
    pub const fn poll_transmit(&mut self) -> Option<&'static [u8]> {
        if std::mem::replace(&mut self.events.hello, false) { Some(HELLO) } else { None }
    }

    /// Returns the next event; the caller repeats the call until it returns `None`.
    pub const fn poll_event(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.events.answered, false) {
            Some(Event::Answered)
        } else if std::mem::replace(&mut self.events.is_stale, false) {
            Some(Event::EndpointStale)
        } else {
            None
        }
    }

    /// Returns the time of the next [`Self::handle_timeout`], if any.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stale_at = self.stale_at.map(|(due, _)| due);
        [self.hello_due, stale_at].into_iter().flatten().min()
    }

    /// Starts sending `hello?` every second, from `first` on: nothing is received from the server,
    /// or nothing any more.
    fn restart_hello(&mut self, first: Instant) {
        self.is_reachable = false;
        self.unanswered_since = None;
        self.hello_due = Some(first);
        self.stale_at = Some((first + STALE_AFTER, STALE_AFTER));
    }

    fn handle_received(&mut self, now: Instant) {
        self.unanswered_since = None;
        self.unanswered = false;
        self.answered = true;
        if !self.is_reachable {
            self.is_reachable = true;
            self.events.answered = true;
            self.stale_at = None;
            self.hello_due = self.next_hello(now);
        }
    }

    fn next_hello(&self, now: Instant) -> Option<Instant> {
        if !self.is_reachable {
            Some(now + HELLO_RETRY)
        } else if self.keepalive.is_zero() {
            None
        } else {
            Some(now + self.keepalive)
        }
    }
}

impl PlainPeer {
    /// Returns true if a `hello?` from `candidate` replaces this peer: it is the same host behind a
    /// new port (a client that restarted behind NAT), or this peer used to repeat its `hello?` and
    /// has fallen silent.
    fn is_replaceable_by(&self, candidate: std::net::IpAddr, keepalive: Duration, now: Instant) -> bool {
        let silent = self.repeats_hello
            && !keepalive.is_zero()
            && now.since(self.last_received) >= keepalive * SILENT_INTERVALS;
        silent || candidate == self.endpoint.ip()
    }
}

#[cfg(test)]
mod tests;
