//! The side of the process that takes the tunnel over: its connection to the running one.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::listener::{self, PeerProcess};
use super::messages::{FromSuccessor, Offer, PROTOCOL, ToSuccessor};
use super::state::InheritedListeners;
use crate::config::TunName;
use crate::exit::{self, ExitCode};
use crate::messages::{BaseSocket, Queue};
use crate::process::{Channel, ChannelError};

/// Timeout for each answer of the running process.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time from the confirmation to the end of that process.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of messages of an offer.
const MAX_MESSAGES: usize = 16;

/// Reason why a running tunnel is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// It runs as another user.
    #[error(
        "--take-over: the process that runs {tun} belongs to user {uid}, who is neither root nor this user: start \
         wontun as that user, or find the process that took the name (ss -xlp)"
    )]
    OtherUser {
        /// Device of the tunnel.
        tun: TunName,
        /// User id of the process.
        uid: u32,
    },
    /// The process does not hand the tunnel over, and continues.
    #[error("--take-over: the process that runs {tun} does not hand it over: {reason}")]
    Refused {
        /// Device of the tunnel.
        tun: TunName,
        /// The reason.
        reason: String,
    },
    /// The process does not answer.
    #[error(
        "--take-over: the process that runs {tun} did not answer within {} s, and may still run: stop it, and start \
         wontun again", TIMEOUT.as_secs()
    )]
    TimedOut {
        /// Device of the tunnel.
        tun: TunName,
    },
    /// The process has ended, hands over to another one, or is a version with other messages.
    #[error(
        "--take-over: the process that runs {tun} closed the connection ({source}): stop it if it still runs, and \
         start wontun again"
    )]
    Channel {
        /// Device of the tunnel.
        tun: TunName,
        /// Error of the channel.
        source: ChannelError,
    },
    /// Any other error.
    #[error("--take-over: cannot connect to the process that runs {tun}: {source}")]
    System {
        /// Device of the tunnel.
        tun: TunName,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for TakeOverError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::OtherUser { .. } => exit::NO_PERMISSION,
            Self::Refused { .. } | Self::TimedOut { .. } | Self::Channel { .. } => exit::UNAVAILABLE,
            Self::System { .. } => exit::FAILURE,
        }
    }
}

/// The process that the tunnel is taken over from.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel<ToSuccessor, FromSuccessor>,
    process: PeerProcess,
    tun: TunName,
    /// `None` once it is used.
    inheritance: Option<Inheritance>,
}

/// Descriptors and state that the predecessor offers.
#[derive(Debug)]
pub(in crate::supervisor) struct Inheritance {
    pub(in crate::supervisor) port: u16,
    /// Mark of the sockets.
    pub(in crate::supervisor) mark: Option<NonZeroU32>,
    /// Addresses of the device, each with its prefix length.
    pub(in crate::supervisor) addresses: Vec<(IpAddr, u8)>,
    pub(in crate::supervisor) queues: Vec<(Queue, OwnedFd)>,
    pub(in crate::supervisor) sockets: Vec<(BaseSocket, OwnedFd)>,
    pub(in crate::supervisor) listeners: InheritedListeners,
    /// Path and socket for wg(8), if there is one.
    pub(in crate::supervisor) uapi: Option<(PathBuf, OwnedFd)>,
}

impl Predecessor {
    /// Connects to the process that runs the tunnel `tun`, and receives its offer. Returns `None`
    /// if no process runs it that can be taken over from.
    ///
    /// # Errors
    /// [`TakeOverError`]; that process continues.
    pub(crate) fn connect(tun: &TunName) -> Result<Option<Self>, TakeOverError> {
        let system = |source| TakeOverError::System { tun: tun.clone(), source };
        let Some((socket, process)) = listener::connect(tun).map_err(system)? else { return Ok(None) };
        if !process.is_trusted() {
            return Err(TakeOverError::OtherUser { tun: tun.clone(), uid: process.uid });
        }
        let channel = Channel::new(socket).map_err(system)?;
        let mut predecessor = Self { channel, process, tun: tun.clone(), inheritance: None };
        predecessor.send(&FromSuccessor::Hello { protocol: PROTOCOL, tun: tun.clone() })?;
        predecessor.inheritance = Some(predecessor.receive_offer()?);
        Ok(Some(predecessor))
    }

    fn receive_offer(&mut self) -> Result<Inheritance, TakeOverError> {
        let (ToSuccessor::Offer(offer), descriptors) = self.receive()? else {
            return Err(self.unexpected());
        };
        let Offer { port, mark, addresses, has_health, metrics, uapi } = *offer;
        let mut descriptors = descriptors.into_iter();
        let mut next = |is_there: bool| if is_there { descriptors.next() } else { None };
        let listeners = InheritedListeners {
            hand_over: next(true),
            health: next(has_health),
            metrics: metrics.zip(next(metrics.is_some())),
        };
        let uapi_socket = next(uapi.is_some());
        let uapi = uapi.map(PathBuf::from).zip(uapi_socket);
        let (mut queues, mut sockets) = (Vec::new(), Vec::new());
        for _ in 0..MAX_MESSAGES {
            match self.receive()? {
                (ToSuccessor::Queues(described), descriptors) if described.len() == descriptors.len() => {
                    queues.extend(described.into_iter().zip(descriptors));
                }
                (ToSuccessor::Sockets(described), descriptors) if described.len() == descriptors.len() => {
                    sockets.extend(described.into_iter().zip(descriptors));
                }
                (ToSuccessor::Complete, _) if !queues.is_empty() && !sockets.is_empty() => {
                    let mark = NonZeroU32::new(mark);
                    return Ok(Inheritance { port, mark, addresses, queues, sockets, listeners, uapi });
                }
                _ => break,
            }
        }
        Err(self.unexpected())
    }

    /// Returns the process id; 0 if it is in another PID namespace.
    pub(super) const fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Returns what the process offers, once.
    pub(in crate::supervisor) fn take_inheritance(&mut self) -> Option<Inheritance> {
        self.inheritance.take()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`TakeOverError::Channel`].
    pub(super) fn send(&mut self, message: &FromSuccessor) -> Result<(), TakeOverError> {
        self.channel.send_blocking(message, Vec::new()).map_err(|source| self.channel_error(source))
    }

    /// Receives a message and its descriptors.
    ///
    /// # Errors
    /// [`TakeOverError`]: the process refuses, has ended, or does not answer.
    pub(super) fn receive(&mut self) -> Result<(ToSuccessor, Vec<OwnedFd>), TakeOverError> {
        let tun = self.tun.clone();
        match self.channel.receive_until(Some(Instant::now() + TIMEOUT)) {
            Ok(Some((ToSuccessor::Refused(reason), _))) => Err(TakeOverError::Refused { tun, reason }),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(TakeOverError::TimedOut { tun }),
            Err(source) => Err(self.channel_error(source)),
        }
    }

    /// Waits for the end of the process. Returns false if it takes too long.
    pub(super) fn wait_for_end(mut self) -> bool {
        matches!(self.channel.receive_until(Some(Instant::now() + EXIT_TIMEOUT)), Err(ChannelError::Closed))
    }

    /// Returns the error of a message that is not expected.
    pub(super) fn unexpected(&self) -> TakeOverError {
        TakeOverError::Refused { tun: self.tun.clone(), reason: "it sent something unexpected".to_owned() }
    }

    fn channel_error(&self, source: ChannelError) -> TakeOverError {
        TakeOverError::Channel { tun: self.tun.clone(), source }
    }
}
