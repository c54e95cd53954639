//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2). `nix` offers both, but allocates
//! for the first and supports only the control messages that it knows for the second.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use socket2::SockAddr;

/// Bytes for the control messages of one received message: address and interface (40 bytes),
/// traffic class (24), and the length of coalesced datagrams (24).
const CONTROL: usize = 128;
/// Length of the longest socket address that is used: `struct sockaddr_in6`.
const NAME: usize = size_of::<libc::sockaddr_in6>();
const NAME_LEN: libc::socklen_t = 28;
const _: () = assert!(NAME == NAME_LEN as usize);
/// Maximum messages per system call; callers with more make several calls.
pub const MAX_MESSAGES_PER_CALL: usize = 32;

/// The metadata that the kernel returns for one datagram, or for several that it coalesced.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct RecvMeta {
    control: [u8; CONTROL],
    name: [u8; NAME],
    control_len: usize,
    name_len: usize,
    length: usize,
}

impl Default for RecvMeta {
    fn default() -> Self {
        Self { control: [0; CONTROL], name: [0; NAME], control_len: 0, name_len: 0, length: 0 }
    }
}

impl RecvMeta {
    /// Returns the number of bytes received.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Returns the sender's address in the kernel's format: `struct sockaddr_in` or `sockaddr_in6`.
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.name_len).unwrap_or_default()
    }

    /// Returns the control messages, in the layout that cmsg(3) describes.
    pub fn control(&self) -> &[u8] {
        self.control.get(..self.control_len).unwrap_or_default()
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct SendMessage<'a> {
    /// The destination; `None` on a connected socket.
    pub name: Option<&'a SockAddr>,
    /// The payload, as consecutive pieces.
    pub pieces: &'a [IoSlice<'a>],
    /// Control messages in the layout that cmsg(3) describes; may be empty.
    pub control: &'a [u8],
}

/// Receives without blocking: at most one message for each of `metas` and for each piece of `slot`
/// bytes of `buffer`, in order. Returns the number of messages, at least one.
///
/// # Errors
/// The errors of recvmmsg(2): `EAGAIN` if nothing is pending, and the errors of datagrams sent
/// earlier.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    slot: usize,
    metas: &mut [RecvMeta],
) -> io::Result<usize> {
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES_PER_CALL];
    let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_MESSAGES_PER_CALL];
    let mut count = 0;
    let places = headers.iter_mut().zip(&mut pieces).zip(metas.iter_mut()).zip(buffer.chunks_exact_mut(slot));
    for (((header, piece), meta), room) in places {
        let iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let header = &mut header.write(empty_header()).msg_hdr;
        header.msg_iov = piece.write(iov);
        header.msg_iovlen = 1;
        header.msg_name = meta.name.as_mut_ptr().cast();
        header.msg_namelen = NAME_LEN;
        header.msg_control = meta.control.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
        count += 1;
    }
    // SAFETY: the descriptor is open while borrowed. Each of the first `count` headers points to a
    // piece, a name and a control buffer, with their lengths, that are borrowed mutably for the
    // call and do not overlap; no timeout is given.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (header, meta) in headers.iter().zip(metas).take(received.min(count as usize)) {
        // SAFETY: the first `count` were written above.
        let header = unsafe { header.assume_init_ref() };
        meta.length = header.msg_len as usize;
        meta.name_len = (header.msg_hdr.msg_namelen as usize).min(NAME);
        #[allow(clippy::useless_conversion, reason = "musl's field has 32 bits")]
        let control_len = usize::try_from(header.msg_hdr.msg_controllen).unwrap_or(CONTROL);
        meta.control_len = control_len.min(CONTROL);
    }
    Ok(received)
}

/// Sends at most [`MAX_MESSAGES_PER_CALL`] of `messages` without blocking, in order, and returns
/// the number sent, at least one.
///
/// # Errors
/// The errors of sendmmsg(2) for the first message: neither it nor the others were sent.
pub fn send(socket: impl AsFd, messages: &[SendMessage<'_>]) -> io::Result<usize> {
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES_PER_CALL];
    let mut count = 0;
    for (header, message) in headers.iter_mut().zip(messages) {
        let header = &mut header.write(empty_header()).msg_hdr;
        // an IoSlice has the layout of an iovec, which std guarantees
        header.msg_iov = message.pieces.as_ptr().cast_mut().cast();
        header.msg_iovlen = message.pieces.len() as _;
        if let Some(name) = message.name {
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        if !message.control.is_empty() {
            header.msg_control = message.control.as_ptr().cast_mut().cast();
            header.msg_controllen = message.control.len() as _;
        }
        count += 1;
    }
    // SAFETY: the descriptor is open while borrowed. The first `count` headers point to data that
    // `messages` borrow, with their lengths; the kernel only reads it, though the structure's
    // pointers are mutable.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid value of this structure of numbers and pointers.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn many_go_out_and_come_in_with_one_call_each() {
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let name = SockAddr::from(far.local_addr().unwrap());
        let pieces = [[IoSlice::new(b"one"), IoSlice::new(b"!")], [IoSlice::new(b""), IoSlice::new(b"two")]];
        let messages =
            pieces.each_ref().map(|pieces| SendMessage { name: Some(&name), pieces, control: &[] });
        assert_eq!(send(&near, &messages).unwrap(), 2);

        let (mut buffer, mut metas) = ([0; 32], [RecvMeta::default(); 3]);
        assert_eq!(receive(&far, &mut buffer, 8, &mut metas).unwrap(), 2);
        assert_eq!((&buffer[..4], &buffer[8..11]), (&b"one!"[..], &b"two"[..]));
        assert_eq!(metas.map(|meta| meta.length()), [4, 3, 0]);
        let port = near.local_addr().unwrap().port().to_be_bytes();
        assert_eq!(metas[1].name()[2..8], [&port[..], &[127, 0, 0, 1]].concat());
        assert!(metas[1].control().is_empty());
        let empty = receive(&far, &mut buffer, 8, &mut metas).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn more_than_there_is_room_for_waits() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        for byte in 0..5_u8 {
            far.send_to(&[byte; 9], far.local_addr().unwrap()).unwrap();
        }
        let (mut buffer, mut metas) = ([9; 16], [RecvMeta::default(); 9]);
        assert_eq!(receive(&far, &mut buffer, 8, &mut metas).unwrap(), 2);
        assert_eq!((buffer, metas[0].length()), ([[0; 8], [1; 8]].concat().try_into().unwrap(), 8));
        assert_eq!(receive(&far, &mut buffer, 16, &mut metas).unwrap(), 1);
    }
}
