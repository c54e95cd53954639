//! One request, its replies: a netlink socket that asks and waits.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;

use super::message::{Messages, Reply};

/// The kernel limits a datagram to the reader's buffer or 32 KiB; an answer about one device is some 2 KiB.
pub(super) const BUFFER: usize = 32 * 1024;
/// The replies are queued when the send returns: a wait at all means that something is wrong.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Datagrams looked at for one request, late replies of earlier ones included.
const MAX_DATAGRAMS: usize = 64;

/// Why a request failed; what it was for is the caller's to add.
#[derive(Debug)]
pub(super) enum Failure {
    /// A system call failed.
    Socket(io::Error),
    /// The kernel refused.
    Refused { errno: Errno, said: Option<String> },
    /// No acknowledgement, or one that could not be read.
    Unanswered,
}

/// A socket for requests, one at a time.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    /// Number of the last request.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(TIMEOUT))?;
        // the kernel's own words in a refusal; kernels before 4.12 have none
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends one request and waits until it is done. The body of the answer, if one came before the
    /// acknowledgement. `flags` are `NLM_F_*` beyond request and acknowledgement.
    pub(super) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = serialize(message, flags, self.sequence);
        retry(|| self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)).map_err(Failure::Socket)?;
        let mut answer = None;
        for _ in 0..MAX_DATAGRAMS {
            self.receive()?;
            for (header, payload) in Messages::new(&self.buffer) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match Reply::parse(header, payload) {
                    Reply::Ack => return Ok(answer),
                    Reply::Refused(errno, said) => return Err(Failure::Refused { errno, said }),
                    Reply::Answer(body) => answer = answer.or_else(|| Some(body.to_vec())),
                    Reply::Garbled => return Err(Failure::Unanswered),
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

/// The bytes of a request.
fn serialize(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Again while a signal interrupts.
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    #[test]
    fn a_request_on_the_wire() {
        let bytes = serialize(message::set_no_generated_address(5), 0, 9);
        #[rustfmt::skip]
        assert_eq!(bytes, [
            48, 0, 0, 0,  19, 0,  5, 0,  9, 0, 0, 0,  0, 0, 0, 0, // RTM_SETLINK, REQUEST | ACK, sequence 9
            0, 0, 0, 0,  5, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0, // AF_UNSPEC, index 5
            16, 0, 26, 0,  12, 0, 10, 0,  5, 0, 8, 0,  1, 0, 0, 0, // IFLA_AF_SPEC { AF_INET6 { ADDR_GEN_MODE = none } }
        ]);
    }

    #[test]
    fn interrupted_calls_are_repeated() {
        let mut left = 3;
        let outcome = retry(|| {
            left -= 1;
            if left > 0 { Err(Errno::EINTR.into()) } else { Ok(left) }
        });
        assert_eq!(outcome.unwrap(), 0);
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
