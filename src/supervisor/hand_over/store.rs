//! Hand-over by way of a service manager, which keeps the descriptors while it restarts the service
//! (FDSTORE=1 of `sd_notify(3)`, FileDescriptorStoreMax= in systemd.service(5)).
//!
//! SIGUSR2 requests it. A service manager cannot be asked here whether a stop is a part of a
//! restart; the unit's `ExecStop=` asks it, and sends the signal then. Without the signal a stop
//! removes the tunnel's state from the host, as ever.
//!
//! The sessions are stored after all workers have ended, as the last thing that this process does,
//! and the next one removes them from the store before it encrypts anything. So they are never in
//! the store while a tunnel runs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::messages::{Offer, PROTOCOL};
use super::predecessor::Inheritance;
use super::state::{InheritedListeners, SharedTunnel, Storing};
use super::successor::{LISTENERS, SESSIONS, create_memfd};
use crate::config::TunName;
use crate::control::fd_store::StoredDescriptors;
use crate::control::notify::Notifier;
use crate::messages::{BaseSocket, ConnectedSocket, Queue, ToTunnel};
use crate::process::{MAX_MESSAGE, decode, encode};
use crate::supervisor::context::{Context, StopReason};
use crate::supervisor::mode::Mode;

/// Prefix of all names in the store.
const PREFIX: &str = "wontun-";
/// Name of the file with the description.
const DESCRIPTION: &str = "wontun-tunnel";

/// Description of a stored tunnel. Its first field is in every version.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTunnel {
    protocol: u16,
    tun: TunName,
    offer: Offer,
    queues: Vec<Queue>,
    sockets: Vec<BaseSocket>,
    /// Connected UDP sockets, or the reason why there are no sessions.
    connected: Result<Vec<ConnectedSocket>, String>,
}

fn queue_name(number: usize) -> String {
    format!("{PREFIX}queue-{number}")
}

fn socket_name(number: usize) -> String {
    format!("{PREFIX}udp-{number}")
}

fn connected_name(number: usize) -> String {
    format!("{PREFIX}peer-{number}")
}

impl Context {
    /// Begins to pass the tunnel to the service manager, and then ends.
    pub(in crate::supervisor) fn begin_store(&mut self, mode: &impl Mode) {
        if self.hand_over.storing.is_some() || self.hand_over.successor.is_some() {
            return;
        }
        let begun = match self.service_manager.has_notifier() {
            true => self.share_tunnel(mode).and_then(|tunnel| Ok((tunnel, self.request_export()?))),
            false => Err("no service manager has started this process".to_owned()),
        };
        match begun {
            Ok((tunnel, (sessions, deadline))) => {
                self.hand_over.storing = Some(Storing { tunnel, sessions, deadline, stop: None });
            }
            Err(reason) => warn!(reason, "SIGUSR2: the tunnel is not passed to the service manager"),
        }
    }

    /// Stores everything, with the sessions that the tunnel process has written.
    pub(super) fn store_exported(
        &mut self,
        result: Result<Vec<ConnectedSocket>, String>,
        connected: Vec<OwnedFd>,
    ) {
        let Some(storing) = &self.hand_over.storing else { return };
        let result = match result {
            Ok(sockets) if sockets.len() != connected.len() => Err("descriptors are missing".to_owned()),
            result => result,
        };
        let stored = self
            .service_manager
            .notifier()
            .map_or(Ok(()), |notifier| store(notifier, &self.name, storing, result, &connected));
        match stored {
            Ok(()) => {
                info!("the tunnel was passed to the service manager");
                self.stop = Some(StopReason::HandedOver);
            }
            Err(error) => {
                // it may have some already
                if let Some(notifier) = self.service_manager.notifier() {
                    let _ = notifier.remove_stored(SESSIONS).and_then(|()| notifier.wait_until_handled());
                }
                self.abandon_store(&error.to_string());
            }
        }
    }

    /// Continues, or ends if that was requested meanwhile.
    pub(super) fn abandon_store(&mut self, reason: &str) {
        let Some(Storing { stop, .. }) = self.hand_over.storing.take() else { return };
        self.tunnel.send(&ToTunnel::Resume);
        warn!(reason, "the tunnel was not passed to the service manager");
        if let Some(signal) = stop {
            self.stop = Some(StopReason::Signal(signal));
        }
    }
}

/// Stores everything, the sessions last.
fn store(
    notifier: &Notifier,
    tun: &TunName,
    Storing { tunnel, sessions, .. }: &Storing,
    connected: Result<Vec<ConnectedSocket>, String>,
    connected_sockets: &[OwnedFd],
) -> io::Result<()> {
    let SharedTunnel { offer, listeners, queues, sockets } = tunnel;
    let has_sessions = connected.is_ok();
    let described = encode(&(
        PROTOCOL,
        tun,
        offer,
        queues.iter().map(|(described, _)| *described).collect::<Vec<_>>(),
        sockets.iter().map(|(described, _)| *described).collect::<Vec<_>>(),
        connected,
    ));
    let file = create_memfd(DESCRIPTION)?;
    let mut writer = File::from(file.try_clone()?);
    writer.write_all(&described.map_err(io::Error::other)?)?;
    notifier.store(DESCRIPTION, file.as_fd())?;
    for (name, listener) in listeners {
        notifier.store(name, listener.as_fd())?;
    }
    for (number, (_, queue)) in queues.iter().enumerate() {
        notifier.store(&queue_name(number), queue.as_fd())?;
    }
    for (number, (_, socket)) in sockets.iter().enumerate() {
        notifier.store(&socket_name(number), socket.as_fd())?;
    }
    if has_sessions {
        for (number, socket) in connected_sockets.iter().enumerate() {
            notifier.store(&connected_name(number), socket.as_fd())?;
        }
        notifier.store(SESSIONS, sessions.as_fd())?;
    }
    notifier.wait_until_handled()
}

/// Sockets of the peers, with the descriptors of the sessions and of these sockets; or the reason
/// why there are none.
type Sessions = Result<(Vec<ConnectedSocket>, Vec<OwnedFd>), String>;

/// A tunnel from the store.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `None` once it is used.
    inheritance: Option<Inheritance>,
    sessions: Option<Sessions>,
    /// Names in the store.
    names: Vec<String>,
}

impl Stored {
    /// Finds the tunnel `tun` among `descriptors`. Those of another tunnel or version are closed,
    /// and the reason is logged.
    pub(crate) fn find(mut descriptors: StoredDescriptors, tun: &TunName) -> Option<Self> {
        let names = descriptors.names(PREFIX);
        let file = descriptors.take(DESCRIPTION)?;
        let (inheritance, connected) = match read(&mut descriptors, file, tun) {
            Ok(found) => found,
            Err(reason) => {
                warn!(reason, "the tunnel of the last run is not continued");
                return None;
            }
        };
        let sessions = connected.and_then(|sockets| {
            let peers = (0..sockets.len()).map(connected_name);
            let all: Option<Vec<_>> = std::iter::once(SESSIONS.to_owned())
                .chain(peers)
                .map(|name| descriptors.take(&name))
                .collect();
            Ok((sockets, all.ok_or("descriptors are missing")?))
        });
        Some(Self { inheritance: Some(inheritance), sessions: Some(sessions), names })
    }

    /// Returns what the last run has left, once.
    pub(super) const fn take_inheritance(&mut self) -> Option<Inheritance> {
        self.inheritance.take()
    }

    /// Returns the sessions, once.
    pub(super) fn take_sessions(&mut self) -> Sessions {
        self.sessions.take().unwrap_or_else(|| Err("they were used already".to_owned()))
    }

    /// Removes everything from the store.
    ///
    /// # Errors
    /// It may still be there: the sessions must not be used.
    pub(super) fn remove(&self, notifier: Option<&Notifier>) -> io::Result<()> {
        let notifier = notifier.ok_or_else(|| io::Error::other("no service manager"))?;
        self.names.iter().try_for_each(|name| notifier.remove_stored(name))?;
        notifier.wait_until_handled()
    }
}

type Found = (Inheritance, Result<Vec<ConnectedSocket>, String>);

fn read(descriptors: &mut StoredDescriptors, file: OwnedFd, tun: &TunName) -> Result<Found, String> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let file = File::from(file);
    let length = file.metadata().ok().and_then(|file| usize::try_from(file.len()).ok());
    let bytes = length.and_then(|length| bytes.get_mut(..length)).ok_or("its description is damaged")?;
    file.read_exact_at(bytes, 0).map_err(|error| format!("its description cannot be read: {error}"))?;
    let stored: StoredTunnel = decode(bytes).map_err(|_| "it is of another version")?;
    if stored.protocol != PROTOCOL {
        return Err("it is of another version".to_owned());
    }
    if stored.tun != *tun {
        return Err(format!("it is {}, not {tun}", stored.tun));
    }
    let missing = "descriptors are missing";
    let mut queues: Vec<(Queue, OwnedFd)> = Vec::new();
    for (number, described) in stored.queues.into_iter().enumerate() {
        let queue = match descriptors.take(&queue_name(number)) {
            Some(queue) => queue,
            // the store keeps a descriptor that several workers share once
            None if !described.is_exclusive => {
                queues.first().and_then(|(_, first)| first.try_clone().ok()).ok_or(missing)?
            }
            None => return Err(missing.to_owned()),
        };
        queues.push((described, queue));
    }
    let mut sockets = Vec::new();
    for (number, described) in stored.sockets.into_iter().enumerate() {
        sockets.push((described, descriptors.take(&socket_name(number)).ok_or(missing)?));
    }
    let [take_over, health, metrics, uapi] = LISTENERS.map(|name| descriptors.take(name));
    let Offer { port, mark, addresses, metrics: address, uapi: path, .. } = stored.offer;
    let listeners = InheritedListeners { hand_over: take_over, health, metrics: address.zip(metrics) };
    let inheritance = Inheritance {
        port,
        mark: std::num::NonZeroU32::new(mark),
        addresses,
        queues,
        sockets,
        listeners,
        uapi: path.map(Into::into).zip(uapi),
    };
    Ok((inheritance, stored.connected))
}
