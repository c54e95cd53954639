//! Errors of the supervisor.

use std::io;
use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::sockets::SocketsError;
use crate::config::{PeerAddress, TunName};
use crate::control::uapi::UapiError;
use crate::io::tun::TunError;
use crate::link::LinkError;
use crate::metrics::MetricsError;
use crate::process::{ChannelError, NurseryError};
use crate::resolver::ResolverError;

/// Why a tunnel does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// No TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UDP sockets.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The device could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No socket for metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The helper processes could not be started.
    #[error(transparent)]
    Nursery(#[from] NurseryError),
    /// The resolver process could not be started.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The server's address lies behind our own tun.
    #[error(
        "--peer {peer} routes into {tun} itself, so the tunnel would carry its own datagrams: give the server's address outside the tunnel, or another --address"
    )]
    PeerInTunnel {
        /// The server, as given.
        peer: PeerAddress,
        /// Our device.
        tun: TunName,
    },
    /// The server's address is our own.
    #[error("--peer {0} is this host's own address and port: give the server's")]
    PeerIsSelf(SocketAddr),
    /// No socket for wg(8).
    #[error(transparent)]
    Uapi(#[from] UapiError),
    /// A call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// The action.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The tunnel process does not come up.
    #[error(
        "the tunnel process does not get ready: the machine is overloaded, or this is a fault in wontun; start it again"
    )]
    NotReady,
    /// The tunnel process has ended with an error, which it has told itself.
    #[error("the tunnel process ended with exit code {0}: start wontun again")]
    TunnelExited(i32),
    /// Somebody, or the kernel, has ended the tunnel process.
    #[error("the tunnel process was ended by {0}: start wontun again")]
    TunnelKilled(Signal),
    /// The tunnel process does not keep to the protocol.
    #[error(
        "the tunnel process is not to be trusted any more, which is a fault in wontun or an attack: {0}; start wontun again, and please report it"
    )]
    Channel(#[source] ChannelError),
}

/// Turns a call's error into one that says what was tried.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { what, source }
}
