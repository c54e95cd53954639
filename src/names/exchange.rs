//! A query that was forwarded to a name server.

use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::message::{self, Query, ResponseCode};
use super::transport::Transport;
use super::upstream::Upstream;
use wontun_proto::time::Instant;

/// Maximum number of servers that one query is sent to.
const MAX_ATTEMPTS: usize = 3;
/// Response codes after which the next server is asked: it fails, or refuses.
const FAILURES: [u16; 2] = [2, 5];

/// A forwarded query.
#[derive(Debug)]
pub(super) struct Exchange<C> {
    /// The client that waits for the answer.
    pub(super) client: C,
    pub(super) query: Query,
    /// The message with the identifier `id`.
    message: Vec<u8>,
    /// Identifier for the name server.
    id: u16,
    is_tcp: bool,
    transport: Transport,
    /// Time at which it was sent, and at which the next server is asked.
    sent: Instant,
    pub(super) deadline: Instant,
    /// Number of the next server.
    next: usize,
    /// True if it was sent again after its connection was closed.
    is_repeated: bool,
    /// Last answer of a server that failed.
    failure: Option<Vec<u8>>,
}

/// State of an exchange.
#[derive(Debug)]
pub(super) enum Progress {
    Pending,
    /// The answer, with the server's identifier.
    Answer(Vec<u8>),
    /// This server gave no answer.
    Failed,
}

impl<C> Exchange<C> {
    /// Sends `message`, the bytes of `query`, to the first server that accepts it. `id` is a random
    /// number.
    pub(super) fn start(
        client: C,
        query: Query,
        mut message: Vec<u8>,
        is_tcp: bool,
        id: u16,
        upstream: &mut Upstream,
        now: Instant,
    ) -> Option<Self> {
        message::set_id(&mut message, id);
        let (transport, next) = upstream.send(&message, is_tcp, 0, now)?;
        let deadline = now + transport.timeout();
        Some(Self {
            client,
            query,
            message,
            id,
            is_tcp,
            transport,
            sent: now,
            deadline,
            next,
            is_repeated: false,
            failure: None,
        })
    }

    /// Returns the descriptor and the events to wait for, if it has one.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.transport.descriptor()
    }

    /// Returns the number of the server whose connection is used, and the time of sending.
    pub(super) const fn connection(&self) -> Option<(usize, Instant)> {
        match self.transport {
            Transport::Tls(server) => Some((server, self.sent)),
            Transport::Udp(_) | Transport::Tcp(_) => None,
        }
    }

    /// Continues once the descriptor is ready. `buffer` has room for any datagram.
    pub(super) fn proceed(&mut self, buffer: &mut [u8]) -> Progress {
        match self.transport.proceed(buffer, &self.query, self.id) {
            Ok(Some(answer)) => self.receive(answer),
            Ok(None) => Progress::Pending,
            Err(_) => Progress::Failed,
        }
    }

    /// Returns true if `answer`, of the connection to the server with this number, is the one.
    pub(super) fn is_answered_by(&self, server: usize, answer: &[u8]) -> bool {
        matches!(self.transport, Transport::Tls(number) if number == server)
            && message::is_answer(answer, &self.query, self.id)
    }

    /// Handles an answer.
    pub(super) fn receive(&mut self, answer: Vec<u8>) -> Progress {
        if FAILURES.contains(&message::code(&answer)) {
            self.failure = Some(answer);
            return Progress::Failed;
        }
        Progress::Answer(answer)
    }

    /// Returns the answer for a query that no server answers.
    pub(super) fn failed(&self) -> Vec<u8> {
        let mut answer = message::error(&self.message, Some(&self.query), ResponseCode::ServerFailure);
        message::set_id(&mut answer, self.query.id);
        answer
    }

    /// Asks the next server. If there is none, returns the last answer of one that failed, or
    /// nothing.
    ///
    /// # Errors
    /// There is no further server.
    pub(super) fn ask_next(&mut self, upstream: &mut Upstream, now: Instant) -> Result<(), Option<Vec<u8>>> {
        self.send(self.next, upstream, now)
    }

    /// Asks the same server again, whose connection was closed; the next one if that was done
    /// before.
    ///
    /// # Errors
    /// As for [`Self::ask_next`].
    pub(super) fn ask_again(&mut self, upstream: &mut Upstream, now: Instant) -> Result<(), Option<Vec<u8>>> {
        let is_first = !std::mem::replace(&mut self.is_repeated, true);
        let from = if is_first { self.next.saturating_sub(1) } else { self.next };
        self.send(from, upstream, now)
    }

    fn send(&mut self, from: usize, upstream: &mut Upstream, now: Instant) -> Result<(), Option<Vec<u8>>> {
        let sent = upstream.send(&self.message, self.is_tcp, from, now);
        let Some((transport, next)) = sent.filter(|(_, next)| *next <= MAX_ATTEMPTS) else {
            return Err(self.failure.take());
        };
        (self.deadline, self.sent) = (now + transport.timeout(), now);
        (self.transport, self.next) = (transport, next);
        Ok(())
    }
}
