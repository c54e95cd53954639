//! The socket for wg(8) and its connections.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::PollFlags;

use crate::config::TunName;
use crate::supervisor::mode::EventSource;
use crate::uapi::{UapiConnection, UapiError, UapiListener};
use wontun_proto::time::Instant;

/// The socket, if there is one, and its connections.
#[derive(Debug, Default)]
pub(in crate::supervisor::wireguard) struct Uapi {
    pub(super) listener: Option<UapiListener>,
    /// Connections by number, which is counted up: the first is the oldest.
    pub(super) clients: BTreeMap<u32, Client>,
    pub(super) next: u32,
    /// Time at which accepting is tried again.
    pub(super) retry_at: Option<Instant>,
}

/// A client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UapiConnection,
    /// Change whose acknowledgement triggers the answer.
    pub(super) change: Option<u32>,
}

impl Uapi {
    pub(in crate::supervisor::wireguard) fn new(listener: Option<UapiListener>) -> Self {
        Self { listener, ..Self::default() }
    }

    /// Returns the time at which accepting is tried again.
    pub(in crate::supervisor::wireguard) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns a number that no connection has.
    pub(in crate::supervisor::wireguard) const fn next_number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// Returns the folder of the socket's file.
    pub(in crate::supervisor::wireguard) fn folder(&self) -> Option<PathBuf> {
        Some(self.listener.as_ref()?.path().parent()?.to_owned())
    }

    /// Returns the path of the socket and a duplicate of it, for another process; `None` if there
    /// is none, or if its path is no text.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(in crate::supervisor::wireguard) fn share(&self) -> io::Result<Option<(String, OwnedFd)>> {
        let listener = self.listener.as_ref();
        let path = listener.and_then(|listener| Some((listener, listener.path().to_str()?.to_owned())));
        path.map(|(listener, path)| Ok((path, listener.share()?))).transpose()
    }

    /// Makes this process the only one that uses the socket.
    pub(in crate::supervisor::wireguard) fn keep(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.keep();
        }
    }

    /// Renames the socket's file for the tunnel name `tun`.
    ///
    /// # Errors
    /// Another process holds the name, or the folder cannot be used.
    pub(in crate::supervisor::wireguard) fn rename(&mut self, tun: &TunName) -> Result<(), UapiError> {
        self.listener.as_mut().map_or(Ok(()), |listener| listener.rename(tun))
    }

    /// Returns the descriptors to wait for.
    pub(in crate::supervisor::wireguard) fn descriptors(
        &self,
    ) -> Vec<(EventSource, BorrowedFd<'_>, PollFlags)> {
        let mut descriptors = Vec::new();
        if let Some(listener) = &self.listener {
            if self.retry_at.is_none() {
                descriptors.push((EventSource::Uapi, listener.as_fd(), PollFlags::POLLIN));
            }
            descriptors
                .extend(listener.watch().map(|watch| (EventSource::UapiWatch, watch, PollFlags::POLLIN)));
        }
        for (number, Client { stream, .. }) in &self.clients {
            // while it waits for an answer, only a hang-up is of interest
            let flags = match (stream.wants_write(), stream.is_awaiting_response()) {
                (true, _) => PollFlags::POLLOUT,
                (false, true) => PollFlags::empty(),
                (false, false) => PollFlags::POLLIN,
            };
            descriptors.push((EventSource::UapiClient(*number), stream.as_fd(), flags));
        }
        descriptors
    }
}

impl Client {
    /// Closes the connection, also for the tunnel process.
    pub(super) fn end(self) {
        let _ = rustix::net::shutdown(self.stream.as_fd(), rustix::net::Shutdown::Both);
    }
}
