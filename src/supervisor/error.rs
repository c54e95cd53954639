//! Errors of the supervisor.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::hand_over::TakeOverError;
use super::sockets::SocketsError;
use crate::config::{PeerAddress, TunName};
use crate::exit::{self, ExitCode};
use crate::metrics::MetricsError;
use crate::net::tun::TunError;
use crate::netlink::LinkError;
use crate::process::{ChannelError, NurseryError};
use crate::resolver::ResolverError;
use crate::state_file::OpenError;
use crate::uapi::UapiError;

/// Reason why a tunnel does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    /// The TUN device could not be opened.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The UDP sockets could not be opened.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The device could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The socket for metrics could not be opened.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The helper processes could not be started.
    #[error(transparent)]
    Nursery(#[from] NurseryError),
    /// The resolver process could not be started.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The server's address is routed into the tunnel's own tun.
    #[error(
        "--peer {peer} routes into {tun} itself, so the tunnel would carry its own datagrams: give the server's \
         address outside the tunnel, or another --address"
    )]
    PeerInTunnel {
        /// Server address as given.
        peer: PeerAddress,
        /// Name of the device.
        tun: TunName,
    },
    /// The server's address is a local one.
    #[error("--peer {0} is this host's own address and port: give the server's")]
    PeerIsSelf(SocketAddr),
    /// The socket for wg(8) could not be opened.
    #[error(transparent)]
    Uapi(#[from] UapiError),
    /// The state file that the user names cannot be used.
    #[error(
        "--state {}: {source}: expected a file that this process may create or write, for itself alone; \
         or leave the option out, or use --state off",
        path.display()
    )]
    StateFile {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        source: OpenError,
    },
    /// A system call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// Description of the operation.
        what: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The tunnel could not be taken over from the process that runs it.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The tunnel process does not become ready.
    #[error(
        "the tunnel process did not become ready: the host is overloaded, or this is a bug in wontun; start \
         wontun again"
    )]
    NotReady,
    /// The tunnel process has ended with an error, which it has logged itself.
    #[error("the tunnel process ended with exit code {0}: start wontun again")]
    TunnelExited(i32),
    /// The tunnel process was killed by a signal.
    #[error("the tunnel process was ended by {0}: start wontun again")]
    TunnelKilled(Signal),
    /// The tunnel process violates the protocol.
    #[error(
        "the tunnel process violated the protocol, which is a bug in wontun or an attack: {0}; start wontun \
         again, and please report it"
    )]
    Channel(#[source] ChannelError),
}

impl ExitCode for SupervisorError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Tun(error) => error.exit_code(),
            Self::Sockets(error) => error.exit_code(),
            Self::Link(error) => error.exit_code(),
            Self::Metrics(error) => error.exit_code(),
            Self::Uapi(error) => error.exit_code(),
            Self::TakeOver(error) => error.exit_code(),
            Self::PeerInTunnel { .. } | Self::PeerIsSelf(_) | Self::StateFile { .. } => exit::CONFIG,
            Self::TunnelExited(code) => u8::try_from(*code).unwrap_or(exit::FAILURE),
            Self::Nursery(_)
            | Self::Resolver(_)
            | Self::System { .. }
            | Self::NotReady
            | Self::TunnelKilled(_)
            | Self::Channel(_) => exit::FAILURE,
        }
    }

    fn is_reported(&self) -> bool {
        let reported = [exit::FAILURE, exit::UNAVAILABLE].map(i32::from);
        matches!(self, Self::TunnelExited(code) if reported.contains(code))
    }
}

/// Returns a function that adds a description of the operation to an error.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { what, source }
}
