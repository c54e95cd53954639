//! One request, its replies: a netlink socket that asks and waits.

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
use nix::libc::MSG_TRUNC;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;

use super::failure::{Failure, Refusal};
use super::message::{Messages, Reply};
use crate::io::interrupted::retry;

/// The kernel limits a datagram to the reader's buffer or 32 KiB; an answer about one device is some 2 KiB.
pub(super) const BUFFER: usize = 32 * 1024;
/// The replies are queued when the send returns: a wait at all means that something is wrong.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Datagrams looked at for one request, late replies of earlier ones included.
const MAX_DATAGRAMS: usize = 64;
/// Requests in one send: their replies must fit into the socket's receive buffer, where each takes about 1 KiB
/// of the 208 KiB that it has by default.
const PIPELINE: usize = 64;
/// What the default send buffer of 208 KiB surely takes, in bytes.
const LARGE: usize = 64 * 1024;
/// A list that changes while it is read is read again, this many times at most.
const DUMP_ATTEMPTS: usize = 4;

/// The sockets that there are, by their protocol, once no others can be opened: [`seal`].
static SEALED: OnceLock<Vec<Sealed>> = OnceLock::new();
/// Where the next socket's numbers begin: those who share one must not take each other's answers for their own.
static FIRST: AtomicU32 = AtomicU32::new(0);
/// Requests that a socket makes before its numbers meet the next one's.
const NUMBERS: u32 = 1 << 20;

/// A protocol and its socket, or why there is none.
type Sealed = (isize, Result<Arc<Socket>, Errno>);

/// A socket for requests, one at a time.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Arc<Socket>,
    /// Number of the last request.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// A socket for links, addresses, routes and rules.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_protocol(NETLINK_ROUTE)
    }

    /// A socket for one of the kernel's `NETLINK_*` protocols.
    pub(super) fn open_protocol(protocol: isize) -> io::Result<Self> {
        let socket = match SEALED.get() {
            None => Arc::new(open(protocol)?),
            Some(sealed) => match sealed.iter().find(|(known, _)| *known == protocol) {
                Some((_, socket)) => socket.clone()?,
                None => return Err(Errno::EPERM.into()),
            },
        };
        let sequence = FIRST.fetch_add(NUMBERS, Ordering::Relaxed);
        Ok(Self { socket, sequence, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends one request and waits until it is done. The body of the answer, if one came before the
    /// acknowledgement. `flags` are `NLM_F_*` beyond request and acknowledgement.
    pub(super) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.query(|sequence| serialize(message, NLM_F_ACK | flags, sequence))
    }

    /// As [`Self::ask`], for a request that `build` writes with the sequence number it is given.
    pub(super) fn query(&mut self, build: impl FnOnce(u32) -> Vec<u8>) -> Result<Option<Vec<u8>>, Failure> {
        let sequence = self.next_sequence();
        self.send(&build(sequence))?;
        let mut answer = None;
        self.replies(MAX_DATAGRAMS, |header, reply| {
            if header.sequence_number != sequence {
                return ControlFlow::Continue(());
            }
            match reply {
                Reply::Ack => ControlFlow::Break(Ok(answer.take())),
                Reply::Refused(errno, said) => ControlFlow::Break(Err(Failure::Refused { errno, said })),
                Reply::Answer(body) => {
                    answer.get_or_insert_with(|| body.to_vec());
                    ControlFlow::Continue(())
                }
                Reply::Done(_) | Reply::Garbled => ControlFlow::Break(Err(Failure::Unanswered)),
            }
        })?
    }

    /// Asks for a list and shows each of its entries, a message body, to `keep`; what that returns is the outcome.
    pub(super) fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        keep: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        self.list(|sequence| serialize(message.clone(), NLM_F_DUMP, sequence), keep)
    }

    /// As [`Self::dump`], for a request that `build` writes with the sequence number it is given.
    pub(super) fn list<T>(
        &mut self,
        build: impl Fn(u32) -> Vec<u8>,
        keep: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(&build(sequence))?;
            let mut entries = Vec::new();
            let mut interrupted = false;
            // a list may be long, and the kernel goes on only as it is read: the time-out bounds it
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
                    Reply::Refused(errno, said) => ControlFlow::Break(Err(Failure::Refused { errno, said })),
                    Reply::Done(Err(errno)) => {
                        ControlFlow::Break(Err(Failure::Refused { errno, said: None }))
                    }
                    Reply::Garbled => ControlFlow::Break(Err(Failure::Unanswered)),
                }
            })??;
            if !interrupted {
                return Ok(entries);
            }
        }
        Err(Failure::Unanswered)
    }

    /// Sends many requests, several at a time; the outcome of each, in their order.
    pub(super) fn ask_all(
        &mut self,
        messages: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<Result<(), Refusal>>, Failure> {
        let mut outcomes = Vec::new();
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            let mut count = 0;
            for (message, flags) in messages.by_ref().take(PIPELINE) {
                bytes.extend(serialize(message, NLM_F_ACK | flags, self.next_sequence()));
                count += 1;
            }
            self.send(&bytes)?;
            let mut batch = vec![None; count];
            let mut missing = count;
            self.replies(count.saturating_add(MAX_DATAGRAMS), |header, reply| {
                let place = header.sequence_number.wrapping_sub(first);
                let place = usize::try_from(place).ok().and_then(|place| batch.get_mut(place));
                let Some(place @ None) = place else { return ControlFlow::Continue(()) };
                *place = Some(match reply {
                    Reply::Ack => Ok(()),
                    Reply::Refused(errno, said) => Err(Refusal { errno, said }),
                    Reply::Answer(_) => return ControlFlow::Continue(()),
                    Reply::Done(_) | Reply::Garbled => return ControlFlow::Break(Err(Failure::Unanswered)),
                });
                missing = missing.saturating_sub(1);
                if missing == 0 { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
            })??;
            outcomes.extend(batch.into_iter().flatten());
        }
        Ok(outcomes)
    }

    /// Sends requests that `build` writes, numbered from the sequence number it is given, and waits until the last
    /// of them, whose number it returns, is acknowledged; the first refusal of any is the outcome of all.
    pub(super) fn transact(&mut self, build: impl FnOnce(u32) -> (Vec<u8>, u32)) -> Result<(), Failure> {
        let first = self.next_sequence();
        let (bytes, last) = build(first);
        self.sequence = last;
        if bytes.len() > LARGE {
            // it goes in one piece or not at all
            let room = bytes.len().saturating_mul(2);
            let _ = setsockopt(&self.socket, SndBufForce, &room);
        }
        self.send(&bytes)?;
        let span = last.wrapping_sub(first);
        self.replies(MAX_DATAGRAMS.saturating_add(span as usize), |header, reply| {
            if header.sequence_number.wrapping_sub(first) > span {
                return ControlFlow::Continue(());
            }
            match reply {
                Reply::Refused(errno, said) => ControlFlow::Break(Err(Failure::Refused { errno, said })),
                Reply::Ack if header.sequence_number == last => ControlFlow::Break(Ok(())),
                Reply::Ack | Reply::Answer(_) => ControlFlow::Continue(()),
                Reply::Done(_) | Reply::Garbled => ControlFlow::Break(Err(Failure::Unanswered)),
            }
        })?
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

    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        retry(|| self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)).map(drop).map_err(Failure::Socket)
    }

    /// Shows the messages that come in to `handle` until it has its outcome.
    fn replies<T>(
        &mut self,
        datagrams: usize,
        mut handle: impl FnMut(NetlinkHeader, Reply<'_>) -> ControlFlow<T>,
    ) -> Result<T, Failure> {
        for _ in 0..datagrams {
            self.receive()?;
            for (header, payload) in Messages::new(&self.buffer) {
                if let ControlFlow::Break(outcome) = handle(header, Reply::parse(header, payload)) {
                    return Ok(outcome);
                }
            }
        }
        Err(Failure::Unanswered)
    }

    /// One datagram of the kernel's into the buffer; anybody else's, and one that is too long, leaves it empty.
    fn receive(&mut self) -> Result<(), Failure> {
        self.buffer.clear();
        let (length, sender) =
            retry(|| self.socket.recv_from(&mut self.buffer, MSG_TRUNC)).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::WouldBlock => Failure::Unanswered,
                    _ => Failure::Socket(error),
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
    // the kernel's own words in a refusal; kernels before 4.12 have none
    let _ = socket.set_cap_ack(true);
    let _ = socket.set_ext_ack(true);
    // lists are filtered by the kernel; those before 4.20 send all, and the caller filters
    let _ = socket.set_netlink_get_strict_chk(true);
    Ok(socket)
}

/// Opens a socket of each of `protocols`. From now on in this process, whoever opens one gets that, or the error that it
/// met; another protocol's is refused. For a sandbox that forbids to open any. Those who share one are to take turns.
pub(super) fn seal(protocols: &[isize]) {
    SEALED.get_or_init(|| {
        let opened = |protocol| {
            let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw);
            open(protocol).map(Arc::new).map_err(errno)
        };
        protocols.iter().map(|protocol| (*protocol, opened(*protocol))).collect()
    });
}

/// The bytes of a request.
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

    /// Reading needs neither a privilege nor a network: every namespace has a loopback device.
    #[test]
    fn the_kernel_answers() {
        let mut requests = Requests::open().unwrap();
        let body = requests.ask(message::get_link_by_name("lo"), 0).unwrap().unwrap();
        assert_eq!(message::link_header(&body).unwrap().index, 1);
        assert!(message::link_state(&body).unwrap().mtu > 0);
        let refused = requests.ask(message::get_link_by_name("no-such-link"), 0);
        assert!(matches!(refused, Err(Failure::Refused { errno: Errno::ENODEV, .. })), "{refused:?}");
        assert!(requests.ask(message::get_link(1), 0).unwrap().is_some(), "the next request is undisturbed");
    }
}
