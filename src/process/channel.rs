//! A connection between two processes that carries typed messages and descriptors.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::codec::{self, CodecError, MAX_MESSAGE};

/// Maximum number of descriptors per message; the kernel accepts 253 (`SCM_MAX_FD`).
pub(crate) const MAX_DESCRIPTORS: usize = 250;
/// Overhead in bytes that is added to the size of a queued message.
const OVERHEAD: usize = 128;
/// Maximum size of the queue in bytes.
const MAX_QUEUED: usize = 64 << 20;

/// Reason why a channel cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process has ended.
    #[error("the process at the other end has ended")]
    Closed,
    /// The other process sent an invalid message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The other process does not read, and the queue is full.
    #[error("the process at the other end does not read its messages")]
    Full,
    /// An error of the kernel.
    #[error("messages cannot be sent or received: {0}")]
    System(#[from] io::Error),
}

/// One end of a channel, which receives `In` and sends `Out`, both without blocking.
#[derive(Debug)]
pub(crate) struct Channel<In, Out> {
    socket: OwnedFd,
    /// Messages that the full socket did not accept, in order.
    queue: VecDeque<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)>,
    queued: usize,
    buffer: Zeroizing<Vec<u8>>,
    types: PhantomData<fn(Out) -> In>,
}

/// Creates two connected ends, both non-blocking and closed on exec.
///
/// # Errors
/// An error of the kernel, such as too many open files.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

impl<In: DeserializeOwned, Out: Serialize> Channel<In, Out> {
    /// Creates a channel from one end of [`pair`].
    ///
    /// # Errors
    /// An error of the kernel.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let buffer = Zeroizing::new(vec![0; MAX_MESSAGE + 1]);
        Ok(Self { socket, queue: VecDeque::new(), queued: 0, buffer, types: PhantomData })
    }

    /// Sends `message` with `descriptors`, or queues it until the socket has room and
    /// [`Self::flush`] is called.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn send(&mut self, message: &Out, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        let bytes = codec::encode(message)?;
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        self.queued += bytes.len() + OVERHEAD;
        if self.queued > MAX_QUEUED {
            return Err(ChannelError::Full);
        }
        self.queue.push_back((bytes, descriptors));
        self.flush()
    }

    /// Sends queued messages until the socket is full. Must be called when the descriptor becomes
    /// writable.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn flush(&mut self) -> Result<(), ChannelError> {
        while let Some((bytes, descriptors)) = self.queue.front() {
            match transmit(&self.socket, bytes, &borrowed(descriptors)) {
                Ok(()) => self.queued = self.queued.saturating_sub(bytes.len() + OVERHEAD),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
            }
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Sends `message` with `descriptors` at once or not at all.
    ///
    /// # Errors
    /// [`ChannelError`]; `WouldBlock` in [`ChannelError::System`] if the socket is full.
    pub(crate) fn try_send(&self, message: &Out, descriptors: &[OwnedFd]) -> Result<(), ChannelError> {
        if self.is_behind() {
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        }
        transmit(&self.socket, &codec::encode(message)?, &borrowed(descriptors)).map_err(
            |error| match error {
                Errno::PIPE | Errno::CONNRESET => ChannelError::Closed,
                error => io::Error::from(error).into(),
            },
        )
    }

    /// Sends `message` with `descriptors`, and waits until it is sent.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn send_blocking(
        &mut self,
        message: &Out,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        self.send(message, descriptors)?;
        while self.is_behind() {
            self.wait(PollFlags::POLLOUT, PollTimeout::NONE)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Like [`Self::send_blocking`], with descriptors that stay the caller's, and after all queued
    /// messages.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn send_borrowed(
        &mut self,
        message: &Out,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes = codec::encode(message)?;
        loop {
            self.flush()?;
            if !self.is_behind() {
                match transmit(&self.socket, &bytes, descriptors) {
                    Ok(()) => return Ok(()),
                    Err(Errno::AGAIN) => {}
                    Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
            self.wait(PollFlags::POLLOUT, PollTimeout::NONE)?;
        }
    }

    /// Sends the queued messages, waiting for room until `deadline`.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn flush_until(&mut self, deadline: Instant) -> Result<(), ChannelError> {
        self.flush()?;
        while self.is_behind() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let left = left + Duration::from_millis(1);
            self.wait(PollFlags::POLLOUT, left.try_into().unwrap_or(PollTimeout::MAX))?;
            self.flush()?;
        }
        Ok(())
    }

    /// Returns the next message and its descriptors, waiting for it until `deadline`; `None` if
    /// none has arrived by then.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn receive_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<(In, Vec<OwnedFd>)>, ChannelError> {
        loop {
            if let Some(message) = self.receive()? {
                return Ok(Some(message));
            }
            let Some(deadline) = deadline else {
                self.wait(PollFlags::POLLIN, PollTimeout::NONE)?;
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // rounded up: a timeout of 0 ms would spin until the deadline
            let left = left + Duration::from_millis(1);
            self.wait(PollFlags::POLLIN, left.try_into().unwrap_or(PollTimeout::MAX))?;
        }
    }

    fn wait(&self, events: PollFlags, timeout: PollTimeout) -> io::Result<()> {
        match poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the size of the queue in bytes.
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// Returns true if messages are queued.
    pub(crate) fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns the next message and its descriptors; `None` if there is none yet.
    ///
    /// # Errors
    /// [`ChannelError`]; the channel cannot be used any more.
    pub(crate) fn receive(&mut self) -> Result<Option<(In, Vec<OwnedFd>)>, ChannelError> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut pieces = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg(&self.socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                // reset: the process ended without reading all messages sent to it
                Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
                // nobody sends an empty message, so zero bytes mean end of file
                Ok(received) if received.bytes == 0 => return Err(ChannelError::Closed),
                Ok(received) => break received.bytes,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let bytes = self.buffer.get_mut(..length).unwrap_or_default();
        let message = codec::decode(bytes);
        zeroize::Zeroize::zeroize(bytes);
        Ok(Some((message?, descriptors)))
    }
}

impl<In, Out> AsFd for Channel<In, Out> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

fn transmit(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    fn channels() -> (Channel<String, u32>, Channel<u32, String>) {
        let (near, far) = pair().unwrap();
        (Channel::new(near).unwrap(), Channel::new(far).unwrap())
    }

    #[test]
    fn messages_keep_their_order_and_descriptors() {
        let (mut near, mut far) = channels();
        let (one, other) = pair().unwrap();
        near.send(&1, vec![one, other]).unwrap();
        near.send(&2, Vec::new()).unwrap();
        let (message, descriptors) = far.receive().unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (1, 2));
        assert!(descriptors.iter().all(|descriptor| descriptor.as_raw_fd() > 2));
        assert_eq!(far.receive().unwrap().unwrap().0, 2);
        assert!(far.receive().unwrap().is_none());
        drop(near);
        assert!(matches!(far.receive(), Err(ChannelError::Closed)));
        assert!(matches!(far.send(&String::new(), Vec::new()), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_finds_no_room_waits() {
        let (mut near, mut far) = channels();
        let text = "x".repeat(60_000);
        for _ in 0..20 {
            far.send(&text, Vec::new()).unwrap();
        }
        assert!(far.is_behind());
        for _ in 0..20 {
            let (message, _) = near.receive().unwrap().unwrap();
            assert_eq!(message, text);
            far.flush().unwrap();
        }
        assert!(!far.is_behind() && near.receive().unwrap().is_none());
    }

    #[test]
    fn waiting_is_bounded_and_ends_with_the_other_side() {
        let (mut near, mut far) = channels();
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        assert!(near.receive_until(soon()).unwrap().is_none());
        let waits = std::thread::spawn(move || {
            let message = near.receive_until(None).unwrap().unwrap().0;
            (message, near.receive_until(None).map(drop))
        });
        let text = "x".repeat(1000);
        far.send_blocking(&text, Vec::new()).unwrap();
        drop(far);
        let (message, end) = waits.join().unwrap();
        assert!(message == text && matches!(end, Err(ChannelError::Closed)));
    }

    #[test]
    fn borrowed_descriptors_follow_queued_messages() {
        let (mut near, mut far) = channels();
        let text = "x".repeat(60_000);
        while !far.is_behind() {
            far.send(&text, Vec::new()).unwrap();
        }
        let reads = std::thread::spawn(move || {
            loop {
                let (message, descriptors) = near.receive_until(None).unwrap().unwrap();
                if message == "last" {
                    return descriptors.len();
                }
            }
        });
        let (one, _other) = pair().unwrap();
        far.send_borrowed(&"last".to_owned(), &[one.as_fd(), one.as_fd()]).unwrap();
        assert_eq!(reads.join().unwrap(), 2);
    }

    #[test]
    fn what_does_not_wait_is_refused_without_room() {
        let (near, mut far) = channels();
        let refused = (0..1_000_000).find_map(|_| near.try_send(&1, &[]).err()).unwrap();
        assert!(matches!(refused, ChannelError::System(error) if error.kind() == io::ErrorKind::WouldBlock));
        assert_eq!(far.receive().unwrap().unwrap().0, 1);
        drop(far);
        assert!(matches!(near.try_send(&1, &[]), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_message_of_another_type_ends_the_channel() {
        let (near, far) = pair().unwrap();
        let mut near: Channel<u32, u32> = Channel::new(near).unwrap();
        let mut far: Channel<String, String> = Channel::new(far).unwrap();
        far.send(&"no number".to_owned(), Vec::new()).unwrap();
        assert!(matches!(near.receive(), Err(ChannelError::Codec(_))));
    }
}
