//! Sockets that carry a mark, from the process that may set one to the process that may not.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use socket2::{Domain, Socket, Type};

/// Sockets that go with one request: UDP and TCP, over IPv4 and IPv6.
const COUNT: usize = 4;

/// Sockets that mark what they send; of a family that this host does not have there are none.
///
/// # Errors
/// There are none at all: no descriptors are left, or the privilege is missing.
pub(super) fn open(mark: NonZeroU32) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::with_capacity(COUNT);
    let mut failure = None;
    for domain in [Domain::IPV4, Domain::IPV6] {
        for kind in [Type::DGRAM, Type::STREAM] {
            let socket = Socket::new(domain, kind, None).and_then(|socket| {
                socket.set_mark(mark.get())?;
                Ok(socket.into())
            });
            match socket {
                Ok(socket) => sockets.push(socket),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
    }
    failure.filter(|_| sockets.is_empty()).map_or(Ok(sockets), Err)
}

/// Sends one whole message with `sockets`.
///
/// # Errors
/// `WouldBlock` when too many messages wait; the other side is gone.
pub(super) fn send(socket: &OwnedFd, message: &[u8], sockets: &[OwnedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(COUNT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("more sockets than fit into a message"));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// One whole message and the sockets that came with it; `None` when the other side has closed. A message too long for
/// `buffer` comes truncated, which the parsers notice: no valid message fills a buffer.
pub(super) fn receive<'a>(
    socket: &OwnedFd,
    buffer: &'a mut [u8],
) -> io::Result<Option<(&'a [u8], Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(COUNT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            // nobody sends an empty message, so that zero bytes are the end
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(received) => break received.bytes,
        }
    };
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    Ok(buffer.get(..length).map(|message| (message, sockets)))
}

#[cfg(test)]
mod tests {
    use super::super::pair;
    use super::*;

    #[test]
    fn sockets_arrive_with_their_message() {
        let (ours, theirs) = pair().unwrap();
        let sent = [Type::DGRAM, Type::STREAM].map(|kind| Socket::new(Domain::IPV4, kind, None).unwrap());
        let sent = sent.map(OwnedFd::from);
        send(&ours, b"first", &sent).unwrap();
        send(&ours, b"second", &[]).unwrap();
        drop(ours);
        let mut buffer = [0; 64];
        let (message, sockets) = receive(&theirs, &mut buffer).unwrap().unwrap();
        assert_eq!(message, b"first");
        let kinds: Vec<_> = sockets.into_iter().map(|fd| Socket::from(fd).r#type().unwrap()).collect();
        assert_eq!(kinds, [Type::DGRAM, Type::STREAM]);
        let (message, sockets) = receive(&theirs, &mut buffer).unwrap().unwrap();
        assert_eq!((message, sockets.len()), (&b"second"[..], 0));
        assert!(receive(&theirs, &mut buffer).unwrap().is_none());
    }
}
