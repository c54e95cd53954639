//! Notifications about changes of the host's ruleset.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{self, MSG_TRUNC};
use socket2::{SockFilter, SockRef};

use super::constants::{NFGENMSG_LEN, NFT_MSG_NEWGEN, NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID};
use super::listing::{number, text};
use crate::interrupted::retry;
use crate::netlink::message::Messages;
use wontun_sys::bpf;

/// Size of the receive buffer, in bytes: headers, a number and a name of 16 bytes.
const BUFFER: usize = 512;
/// Maximum number of transactions read at once, of which the last is reported.
const BUDGET: usize = 128;

/// The last change of the ruleset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RulesetChange {
    /// Name and process id of the program that changed the ruleset, if the kernel reports it (since
    /// Linux 4.16).
    pub author: Option<(String, u32)>,
}

/// A non-blocking netlink socket that becomes readable after each transaction of nf_tables.
///
/// A socket filter drops all messages except the one at the end of a transaction, so that a ruleset
/// of thousands of rules causes one wake-up.
#[derive(Debug)]
pub(crate) struct NftMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl NftMonitor {
    /// Subscribes to changes of the ruleset of this thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel has no nf_tables; `EPERM` without CAP_NET_ADMIN.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        SockRef::from(&socket).attach_filter(&only(NFT_MSG_NEWGEN))?;
        let mut monitor = Self { socket, buffer: Vec::with_capacity(BUFFER) };
        monitor.subscribe()?;
        Ok(monitor)
    }

    /// Subscribes, also again.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(crate) fn subscribe(&mut self) -> io::Result<()> {
        self.socket.add_membership(libc::NFNLGRP_NFTABLES as u32)
    }

    /// Ends the subscription. Queued messages stay.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn unsubscribe(&mut self) -> io::Result<()> {
        self.socket.drop_membership(libc::NFNLGRP_NFTABLES as u32)
    }

    /// Reads all queued messages. Returns `None` if there were none.
    ///
    /// # Errors
    /// The error of the receive. Lost messages are no error, but a change of an unknown author.
    pub(crate) fn poll_change(&mut self) -> io::Result<Option<RulesetChange>> {
        let mut change = None;
        for _ in 0..BUDGET {
            self.buffer.clear();
            match retry(|| self.socket.recv_from(&mut self.buffer, MSG_TRUNC)) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok(_) => change = Some(parse(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    change = Some(RulesetChange::default());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(change)
    }
}

impl AsFd for NftMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns a classic BPF program that passes netlink messages of one type. The type follows the
/// length of 4 bytes, in host byte order; the program loads it in network byte order.
fn only(kind: u16) -> [SockFilter; 4] {
    [
        SockFilter::new(bpf::LOAD_HALF, 0, 0, 4),
        SockFilter::new(bpf::JUMP_IF_EQUAL, 0, 1, u16::from_be_bytes(kind.to_ne_bytes()).into()),
        SockFilter::new(bpf::RETURN, 0, 0, u32::MAX),
        SockFilter::new(bpf::RETURN, 0, 0, 0),
    ]
}

fn parse(datagram: &[u8]) -> RulesetChange {
    let generation = Messages::new(datagram).find(|(header, _)| header.message_type == NFT_MSG_NEWGEN);
    let author = generation.and_then(|(_, body)| {
        let attributes = body.get(NFGENMSG_LEN..)?;
        // the process chooses the name itself
        let name: String = text(attributes, NFTA_GEN_PROC_NAME)?.escape_debug().collect();
        Some((name, number(attributes, NFTA_GEN_PROC_PID)?))
    });
    RulesetChange { author }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::message::tests::{message, nla};

    fn generation(attributes: &[u8]) -> Vec<u8> {
        message(NFT_MSG_NEWGEN, 0, 0, &[&[0, 0, 0, 9][..], attributes].concat())
    }

    #[test]
    fn the_author_is_named() {
        let attributes =
            [nla(1, &9_u32.to_be_bytes()), nla(2, &4711_u32.to_be_bytes()), nla(3, b"nft\0")].concat();
        let change = parse(&generation(&attributes));
        assert_eq!(change.author, Some(("nft".to_owned(), 4711)));
        let odd = [nla(2, &1_u32.to_be_bytes()), nla(3, b"a\nb\x1b\0")].concat();
        assert_eq!(parse(&generation(&odd)).author, Some(("a\\nb\\u{1b}".to_owned(), 1)));
        assert_eq!(parse(&generation(&nla(1, &[0, 0, 0, 9]))).author, None, "Linux before 4.16");
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
