//! The plain protocol: an IP packet is the whole payload of a UDP datagram, and a client makes itself known
//! with the six bytes `hello?`.
//!
//! A server takes the first sender of a `hello?` as its one peer and answers nothing. A client says `hello?`
//! every second until it hears anything from the server, then once a keepalive interval, and every second again
//! when the server seems gone. Both work against a peer that knows no more than "say `hello?` once".
//! Nothing is encrypted or authenticated: whoever can forge the peer's address can forge its packets.

use std::net::SocketAddr;
use std::time::Duration;

use crate::counters::DropReason;
use crate::packet::{carried, udp};
use crate::time::Instant;

/// The datagram that opens a tunnel, and keeps it open through NAT.
pub const HELLO: &[u8] = b"hello?";

/// Pause between two `hello?` while the server has not been heard.
pub const HELLO_RETRY: Duration = Duration::from_secs(1);

/// How long a client sends data and hears nothing before it takes the server for gone.
pub const UNANSWERED: Duration = Duration::from_secs(2);

/// A pause in sending after which the count of [`UNANSWERED`] begins anew: what came before it is another matter.
const PAUSE: Duration = Duration::from_secs(10);

/// A silent peer that used to repeat its `hello?` gives up its place after this many keepalive intervals.
pub const SILENT_INTERVALS: u32 = 3;

/// How long a client says `hello?` in vain before it asks for another look at the server's address; doubled
/// each time, up to [`LOOK_AGAIN_MAX`].
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Which side of the tunnel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says `hello?` to an address that it was given.
    Client,
    /// Learns its peer from a `hello?`.
    Server,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// An IP packet for the tun: the whole datagram.
    Packet,
    /// The peer's `hello?`; nothing to do.
    Hello,
    /// A `hello?` whose sender may become the peer: [`Plain::set_peer`] makes it so.
    NewPeer,
}

/// One plain tunnel's state.
#[derive(Debug)]
pub struct Plain {
    role: Role,
    /// Zero: no `hello?` once the server answered, and a peer's silence never costs it its place.
    keepalive: Duration,
    peer: Option<Peer>,
    /// Client: when the next `hello?` is due.
    hello_due: Option<Instant>,
    /// Client: whether the server has been heard since it was last taken for gone.
    heard: bool,
    /// Client: whether this endpoint was ever heard.
    answered: bool,
    /// Client: when data was first sent that nothing came back after.
    unanswered_since: Option<Instant>,
    /// Client: when data was last sent.
    last_sent: Instant,
    /// Client: data has gone unanswered for [`UNANSWERED`].
    unanswered: bool,
    /// Client: when to ask for another look at the server's address, and the pause after that.
    look_again: Option<(Instant, Duration)>,
    events: Events,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    endpoint: SocketAddr,
    last_heard: Instant,
    /// Whether it has said `hello?` more than once: one that never repeats it may rightly be silent for long.
    repeats_hello: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Events {
    hello: bool,
    answered: bool,
    look_again: bool,
}

/// News for whoever runs the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Client: the server is heard, for the first time or after a silence.
    Answered,
    /// Client: the server has been silent for long; its name or our way to it may have changed.
    LookAgain,
}

impl Plain {
    /// A client without a server yet ([`Self::set_peer`] gives it one), or a server without a peer.
    /// `keepalive` is the time between two `hello?` of an answered client; zero turns them off.
    pub const fn new(role: Role, keepalive: Duration) -> Self {
        Self {
            role,
            keepalive,
            peer: None,
            hello_due: None,
            heard: false,
            answered: false,
            unanswered_since: None,
            last_sent: Instant::from_boot(Duration::ZERO),
            unanswered: false,
            look_again: None,
            events: Events { hello: false, answered: false, look_again: false },
        }
    }

    /// Where packets go, once known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.map(|peer| peer.endpoint)
    }

    /// Time since the peer was last heard, or became known.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.peer.map(|peer| now.since(peer.last_heard))
    }

    /// Makes `endpoint` the peer. A client says `hello?` to it at once and until it answers; a client whose
    /// server did not move goes on as it was.
    pub fn set_peer(&mut self, endpoint: SocketAddr, now: Instant) {
        let moved = self.peer() != Some(endpoint);
        if !moved && self.role == Role::Client {
            return;
        }
        self.peer = Some(Peer { endpoint, last_heard: now, repeats_hello: false });
        self.answered = false;
        self.unanswered = false;
        if self.role == Role::Client {
            self.search(now);
        }
    }

    /// Takes a datagram that came in from `from`.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Datagram, DropReason> {
        let hello = datagram == HELLO;
        let keepalive = self.keepalive;
        let Some(peer) = self.peer.as_mut() else {
            let opens = hello && self.role == Role::Server;
            return if opens { Ok(Datagram::NewPeer) } else { Err(DropReason::Stranger) };
        };
        if from != peer.endpoint {
            let replaces = hello && self.role == Role::Server && peer.gives_way_to(from.ip(), keepalive, now);
            return if replaces { Ok(Datagram::NewPeer) } else { Err(DropReason::Stranger) };
        }
        peer.last_heard = now;
        peer.repeats_hello |= hello;
        if self.role == Role::Client {
            self.handle_heard(now);
        }
        if hello {
            Ok(Datagram::Hello)
        } else if datagram.is_empty() {
            Err(DropReason::Empty)
        } else {
            carried::check(datagram).map(|()| Datagram::Packet)
        }
    }

    /// Takes a packet from the tun; `Ok` means that it goes to the peer as it is.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        carried::check(packet)?;
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
            if now.since(since) >= UNANSWERED {
                self.unanswered = true;
                if self.heard {
                    self.search(now);
                }
            }
        }
        Ok(())
    }

    /// Client: whether the server has been heard, and was not lost since.
    pub const fn is_heard(&self) -> bool {
        self.heard
    }

    /// Client: whether data was sent and this endpoint has never answered anything, so that another address of the
    /// same server may be worth a try. An unanswered `hello?` says nothing: a server has no answer to it.
    pub const fn is_endpoint_doubtful(&self) -> bool {
        self.unanswered && !self.answered
    }

    /// The peer's host said that nobody listens on its port.
    pub fn handle_refused(&mut self, now: Instant) {
        // while searching, `hello?` is due every second as it is: a refusal must not speed that up
        if self.role == Role::Client && self.heard {
            self.search(now + HELLO_RETRY);
        }
    }

    /// To be called at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hello_due.is_some_and(|due| now >= due) {
            self.events.hello = true;
            self.hello_due = self.next_hello(now);
        }
        if let Some((due, pause)) = self.look_again
            && now >= due
        {
            self.events.look_again = true;
            let pause = (pause * 2).min(LOOK_AGAIN_MAX);
            self.look_again = Some((now + pause, pause));
        }
    }

    /// A datagram for the peer, if one is due.
    pub const fn poll_transmit(&mut self) -> Option<&'static [u8]> {
        if std::mem::replace(&mut self.events.hello, false) { Some(HELLO) } else { None }
    }

    /// What has happened since the last call; to be called until it gives `None`.
    pub const fn poll_event(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.events.answered, false) {
            Some(Event::Answered)
        } else if std::mem::replace(&mut self.events.look_again, false) {
            Some(Event::LookAgain)
        } else {
            None
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look_again = self.look_again.map(|(due, _)| due);
        [self.hello_due, look_again].into_iter().flatten().min()
    }

    /// The server is not heard (any more): `hello?` from `first` on, every second.
    fn search(&mut self, first: Instant) {
        self.heard = false;
        self.unanswered_since = None;
        self.hello_due = Some(first);
        self.look_again = Some((first + LOOK_AGAIN, LOOK_AGAIN));
    }

    fn handle_heard(&mut self, now: Instant) {
        self.unanswered_since = None;
        self.unanswered = false;
        self.answered = true;
        if !self.heard {
            self.heard = true;
            self.events.answered = true;
            self.look_again = None;
            self.hello_due = self.next_hello(now);
        }
    }

    fn next_hello(&self, now: Instant) -> Option<Instant> {
        if !self.heard {
            Some(now + HELLO_RETRY)
        } else if self.keepalive.is_zero() {
            None
        } else {
            Some(now + self.keepalive)
        }
    }
}

impl Peer {
    /// Whether a `hello?` from `rival` takes this peer's place: it is the same host behind a new port (a client
    /// that restarted behind NAT), or this one used to repeat its `hello?` and has fallen silent.
    fn gives_way_to(&self, rival: std::net::IpAddr, keepalive: Duration, now: Instant) -> bool {
        let silent = self.repeats_hello
            && !keepalive.is_zero()
            && now.since(self.last_heard) >= keepalive * SILENT_INTERVALS;
        silent || rival == self.endpoint.ip()
    }
}

#[cfg(test)]
mod tests;
