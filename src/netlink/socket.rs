//! A netlink socket that sends requests and waits for the replies.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;

use super::message::{Messages, Reply};
use super::request_error::{Refusal, RequestError};
use crate::interrupted::retry;

/// Size of the receive buffer, in bytes. The kernel limits a datagram to the reader's buffer or 32
/// KiB; an answer about one device has about 2 KiB.
pub(super) const BUFFER: usize = 32 * 1024;
/// Receive timeout. The replies are queued when the send returns, so any wait indicates an error.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of datagrams read for one request, including late replies to earlier ones.
const MAX_DATAGRAMS: usize = 64;
/// Maximum number of datagrams that a receive buffer may hold.
const MAX_STALE: usize = 4096;
/// Maximum number of requests in one send: their replies must fit into the socket's receive buffer,
/// where each takes about 1 KiB of the default 208 KiB.
const MAX_PIPELINED: usize = 64;
/// Maximum size that certainly fits into the default send buffer of 208 KiB, in bytes.
const LARGE_REQUEST: usize = 64 * 1024;
/// Maximum number of attempts at a dump that changes while it is read.
const DUMP_ATTEMPTS: usize = 4;

/// The available sockets by protocol, once no others can be opened: [`seal`].
static SEALED: OnceLock<Vec<Sealed>> = OnceLock::new();
/// First sequence number of the next `NetlinkSocket`: those that share a socket must not take each
/// other's answers.
static NEXT_SEQUENCE: AtomicU32 = AtomicU32::new(0);
/// Number of requests before the sequence numbers overlap those of the next `NetlinkSocket`.
const SEQUENCES_PER_SOCKET: u32 = 1 << 20;

/// A protocol and its socket, or the error of opening it.
type Sealed = (isize, Result<Arc<Socket>, Errno>);

/// A netlink socket for requests, one at a time.
#[derive(Debug)]
pub(super) struct NetlinkSocket {
    socket: Arc<Socket>,
    /// Sequence number of the last request.
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket for links, addresses, routes and rules.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_protocol(NETLINK_ROUTE)
    }

    /// Opens a socket for one of the kernel's `NETLINK_*` protocols.
    pub(super) fn open_protocol(protocol: isize) -> io::Result<Self> {
        let socket = match SEALED.get() {
            None => Arc::new(open(protocol)?),
            Some(sealed) => match sealed.iter().find(|(known, _)| *known == protocol) {
                Some((_, socket)) => socket.clone()?,
                None => return Err(Errno::EPERM.into()),
            },
        };
        let sequence = NEXT_SEQUENCE.fetch_add(SEQUENCES_PER_SOCKET, Ordering::Relaxed);
        Ok(Self { socket, sequence, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends one request and waits for its acknowledgement. Returns the body of the answer, if one
    /// came before. `flags` are `NLM_F_*` in addition to request and acknowledgement.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<Vec<u8>>, RequestError> {
        self.request_raw(|sequence| serialize(message, NLM_F_ACK | flags, sequence))
    }

    /// Like [`Self::request`], for a request that `build` encodes with the given sequence number.
    pub(super) fn request_raw(
        &mut self,
        build: impl FnOnce(u32) -> Vec<u8>,
    ) -> Result<Option<Vec<u8>>, RequestError> {
        let sequence = self.next_sequence();
        self.send(&build(sequence))?;
        let mut answer = None;
        self.replies(MAX_DATAGRAMS, |header, reply| {
            if header.sequence_number != sequence {
                return ControlFlow::Continue(());
            }
            match reply {
                Reply::Ack => ControlFlow::Break(Ok(answer.take())),
                Reply::Refused(errno, extack) => {
                    ControlFlow::Break(Err(RequestError::Refused { errno, extack }))
                }
                Reply::Answer(body) => {
                    answer.get_or_insert_with(|| body.to_vec());
                    ControlFlow::Continue(())
                }
                Reply::Done(_) | Reply::Malformed => ControlFlow::Break(Err(RequestError::NoReply)),
            }
        })?
    }

    /// Requests a dump and passes each entry, a message body, to `keep`. Returns the values that
    /// `keep` returned.
    pub(super) fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        keep: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, RequestError> {
        self.dump_raw(|sequence| serialize(message.clone(), NLM_F_DUMP, sequence), keep)
    }

    /// Like [`Self::dump`], for a request that `build` encodes with the given sequence number.
    pub(super) fn dump_raw<T>(
        &mut self,
        build: impl Fn(u32) -> Vec<u8>,
        keep: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, RequestError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(&build(sequence))?;
            let mut entries = Vec::new();
            let mut interrupted = false;
            // a dump may be long, and the kernel continues only as it is read: the timeout bounds
            // it
            self.replies(usize::MAX, |header, reply| {
                if header.sequence_number != sequence {
                    return ControlFlow::Continue(());
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match reply {
                    Reply::Answer(body) => {
                        entries.extend(keep(body));
                        ControlFlow::Continue(())
                    }
                    Reply::Ack | Reply::Done(Ok(())) => ControlFlow::Break(Ok(())),
                    Reply::Refused(errno, extack) => {
                        ControlFlow::Break(Err(RequestError::Refused { errno, extack }))
                    }
                    Reply::Done(Err(errno)) => {
                        ControlFlow::Break(Err(RequestError::Refused { errno, extack: None }))
                    }
                    Reply::Malformed => ControlFlow::Break(Err(RequestError::NoReply)),
                }
            })??;
            if !interrupted {
                return Ok(entries);
            }
        }
        Err(RequestError::NoReply)
    }

    /// Sends many requests, several at a time. Returns the outcome of each, in their order.
    pub(super) fn request_all(
        &mut self,
        messages: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<Result<(), Refusal>>, RequestError> {
        let mut outcomes = Vec::new();
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            let mut count = 0;
            for (message, flags) in messages.by_ref().take(MAX_PIPELINED) {
                bytes.extend(serialize(message, NLM_F_ACK | flags, self.next_sequence()));
                count += 1;
            }
            self.send(&bytes)?;
            let mut batch = vec![None; count];
            let mut missing = count;
            self.replies(count.saturating_add(MAX_DATAGRAMS), |header, reply| {
                let slot = header.sequence_number.wrapping_sub(first);
                let slot = usize::try_from(slot).ok().and_then(|slot| batch.get_mut(slot));
                let Some(slot @ None) = slot else { return ControlFlow::Continue(()) };
                *slot = Some(match reply {
                    Reply::Ack => Ok(()),
                    Reply::Refused(errno, extack) => Err(Refusal { errno, extack }),
                    Reply::Answer(_) => return ControlFlow::Continue(()),
                    Reply::Done(_) | Reply::Malformed => {
                        return ControlFlow::Break(Err(RequestError::NoReply));
                    }
                });
                missing = missing.saturating_sub(1);
                if missing == 0 { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
            })??;
            outcomes.extend(batch.into_iter().flatten());
        }
        Ok(outcomes)
    }

    /// Sends the requests that `build` encodes, numbered from the given sequence number, and waits
    /// until the last of them, whose number `build` returns, is acknowledged. The first refusal of
    /// any is the outcome of all.
    pub(super) fn transact(&mut self, build: impl FnOnce(u32) -> (Vec<u8>, u32)) -> Result<(), RequestError> {
        let first = self.next_sequence();
        let (bytes, last) = build(first);
        self.sequence = last;
        if bytes.len() > LARGE_REQUEST {
            // the message is sent as a whole or not at all
            let size = bytes.len().saturating_mul(2);
            let _ = setsockopt(&self.socket, SndBufForce, &size);
        }
        self.send(&bytes)?;
        drop(bytes);
        let span = last.wrapping_sub(first);
        let outcome = self.replies(MAX_DATAGRAMS.saturating_add(span as usize), |header, reply| {
            if header.sequence_number.wrapping_sub(first) > span {
                return ControlFlow::Continue(());
            }
            match reply {
                Reply::Refused(errno, extack) => {
                    ControlFlow::Break(Err(RequestError::Refused { errno, extack }))
                }
                Reply::Ack if header.sequence_number == last => ControlFlow::Break(Ok(())),
                Reply::Ack | Reply::Answer(_) => ControlFlow::Continue(()),
                Reply::Done(_) | Reply::Malformed => ControlFlow::Break(Err(RequestError::NoReply)),
            }
        });
        let outcome = outcome.and_then(|outcome| outcome);
        if outcome.is_err() {
            self.drain();
        }
        outcome
    }

    /// Discards received datagrams: of a transaction that was refused, each message may have been
    /// answered, and the answers may have overflown the receive buffer.
    fn drain(&mut self) {
        for _ in 0..MAX_STALE {
            self.buffer.clear();
            match retry(|| self.socket.recv_from(&mut self.buffer, MSG_TRUNC | MSG_DONTWAIT)) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(_) => return,
            }
        }
    }

    /// Returns the socket's netlink port id, by which the kernel names the owner of a table.
    pub(super) fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address)?;
        Ok(address.port_number())
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<(), RequestError> {
        retry(|| self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0))
            .map(drop)
            .map_err(RequestError::Socket)
    }

    /// Passes received messages to `handle` until it returns an outcome.
    fn replies<T>(
        &mut self,
        datagrams: usize,
        mut handle: impl FnMut(NetlinkHeader, Reply<'_>) -> ControlFlow<T>,
    ) -> Result<T, RequestError> {
        for _ in 0..datagrams {
            self.receive()?;
            for (header, payload) in Messages::new(&self.buffer) {
                if let ControlFlow::Break(outcome) = handle(header, Reply::parse(header, payload)) {
                    return Ok(outcome);
                }
            }
        }
        Err(RequestError::NoReply)
    }

    /// Receives one datagram of the kernel into the buffer. A datagram of another sender, and one
    /// that is too long, leaves the buffer empty.
    fn receive(&mut self) -> Result<(), RequestError> {
        self.buffer.clear();
        let (length, sender) =
            retry(|| self.socket.recv_from(&mut self.buffer, MSG_TRUNC)).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::WouldBlock => RequestError::NoReply,
                    _ => RequestError::Socket(error),
                }
            })?;
        if sender.port_number() != 0 || length > self.buffer.len() {
            self.buffer.clear();
        }
        Ok(())
    }
}

fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket2::SockRef::from(&socket).set_read_timeout(Some(TIMEOUT))?;
    // the kernel's explanation of a refusal; kernels before 4.12 have none
    let _ = socket.set_cap_ack(true);
    let _ = socket.set_ext_ack(true);
    // the kernel filters dumps; before 4.20 it sends all entries, and the caller filters them
    let _ = socket.set_netlink_get_strict_chk(true);
    Ok(socket)
}

/// Opens a socket of each of `protocols`. From now on, opening a socket in this process returns one
/// of these, or the error of opening it; other protocols are refused. For a sandbox that forbids
/// opening sockets. Users of the same socket have to take turns.
pub(super) fn seal(protocols: &[isize]) {
    SEALED.get_or_init(|| {
        let opened = |protocol| {
            let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw);
            open(protocol).map(Arc::new).map_err(errno)
        };
        protocols.iter().map(|protocol| (*protocol, opened(*protocol))).collect()
    });
}

/// Encodes a request.
fn serialize(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    #[test]
    fn a_request_on_the_wire() {
        let bytes = serialize(message::set_no_generated_address(5), NLM_F_ACK, 9);
        #[rustfmt::skip]
        assert_eq!(bytes, [
            48, 0, 0, 0,  19, 0,  5, 0,  9, 0, 0, 0,  0, 0, 0, 0, // RTM_SETLINK, REQUEST | ACK, sequence 9
            0, 0, 0, 0,  5, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0, // AF_UNSPEC, index 5
            16, 0, 26, 0,  12, 0, 10, 0,  5, 0, 8, 0,  1, 0, 0, 0, // IFLA_AF_SPEC { AF_INET6 { ADDR_GEN_MODE = none } }
        ]);
    }

    /// Needs neither a privilege nor a network: every namespace has a loopback device.
    #[test]
    fn the_kernel_answers() {
        let mut requests = NetlinkSocket::open().unwrap();
        let body = requests.request(message::get_link_by_name("lo"), 0).unwrap().unwrap();
        assert_eq!(message::link_header(&body).unwrap().index, 1);
        assert!(message::link_state(&body).unwrap().mtu > 0);
        let refused = requests.request(message::get_link_by_name("no-such-link"), 0);
        assert!(matches!(refused, Err(RequestError::Refused { errno: Errno::ENODEV, .. })), "{refused:?}");
        assert!(
            requests.request(message::get_link(1), 0).unwrap().is_some(),
            "the next request is undisturbed"
        );
    }
}
