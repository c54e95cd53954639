//! A process that only writes: it has the connection to the bus that root may change links by, and
//! reads nothing of it.
//!
//! A connection keeps the user that opened it, and root may do anything on the bus, such as start
//! programs. So the `dns` process, which reads messages that any user can send, does not have it.
//! It asks this process, which can encode a few calls.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::calls::{LinkSettings, Service};
use super::connection::connect_and_greet;
use crate::dns::DnsSettings;
use crate::privileges::{self, UserIds};
use crate::process::{Channel, ChannelError, pair};
use crate::sandbox::Sandbox;
use wontun_sys::process;

/// Time for writing one request: the bus reads at once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A request to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SetterRequest {
    /// Sets the settings of their link.
    Set(Service, DnsSettings),
    /// Removes the settings of their link.
    Revert(Service, DnsSettings),
}

/// Handle of the process, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Setter(Channel<(), SetterRequest>);

impl Setter {
    /// Starts the process, which connects to the bus as this process's user. Must be called while
    /// this process has one thread and its privileges.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn start(is_sandboxed: bool) -> io::Result<Self> {
        let (ours, theirs) = pair()?;
        let channel = Channel::new(ours)?;
        process::fork(theirs, is_sandboxed, main)?;
        Ok(Self(channel))
    }

    /// Sends a request. Its effect shows at the link.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn send(&self, request: &SetterRequest) -> Result<(), ChannelError> {
        self.0.try_send(request, &[])
    }
}

/// Main function of the process. Returns its exit code.
fn main(socket: OwnedFd, is_sandboxed: bool) -> i32 {
    let _ = prctl::set_name(c"wontun-dns-set");
    let Ok(mut bus) = connect_and_greet().map(UnixStream::from) else { return 1 };
    if bus.set_write_timeout(Some(TIMEOUT)).is_err() {
        return 1;
    }
    privileges::hide_memory();
    if privileges::drop_everything(UserIds::helper()).is_err()
        || prctl::set_pdeathsig(Signal::SIGKILL).is_err()
        || (is_sandboxed && Sandbox::for_dns_setter().and_then(|sandbox| sandbox.engage()).is_err())
    {
        return 1;
    }
    let Ok(channel) = Channel::new(socket) else { return 1 };
    i32::from(serve(channel, &mut bus).is_err())
}

/// Serves requests until either end is closed.
fn serve(mut channel: Channel<SetterRequest, ()>, bus: &mut UnixStream) -> io::Result<()> {
    loop {
        let mut descriptors =
            [PollFd::new(channel.as_fd(), PollFlags::POLLIN), PollFd::new(bus.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::NONE)?;
        let is_ready = descriptors.map(|polled| polled.any() == Some(true));
        if let [_, true] = is_ready {
            discard(bus)?;
        }
        while let [true, _] = is_ready {
            match channel.receive() {
                Ok(Some((request, _))) => bus.write_all(&encode(&request)?)?,
                Ok(None) => break,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

fn encode(request: &SetterRequest) -> io::Result<Vec<u8>> {
    let bytes = match request {
        SetterRequest::Set(service, settings) => LinkSettings::from(settings).encode_set(*service),
        SetterRequest::Revert(service, settings) => LinkSettings::from(settings).encode_revert(*service),
    };
    bytes.map_err(io::Error::other)
}

/// Reads once, and forgets it.
fn discard(bus: &mut UnixStream) -> io::Result<()> {
    match bus.read(&mut [0; 4096]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
