//! The side of the running process: offers the tunnel to the process that takes it over, and
//! continues if that process ends or hangs before it has done so.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use tracing::{debug, info, warn};

use super::listener::{Listener, PeerProcess};
use super::messages::{FromSuccessor, ModeOffer, Offer, PROTOCOL, ToSuccessor};
use super::state::{Phase, SharedTunnel, Successor};
use crate::config::TunName;
use crate::control::health;
use crate::messages::{ConnectedSocket, Queue, ToTunnel};
use crate::process::{Channel, ChannelError, MAX_DESCRIPTORS};
use crate::supervisor::context::{Context, StopReason};
use crate::supervisor::mode::Mode;
use wontun_proto::time::Instant;

/// Maximum time for which packets wait; a hand-over takes some milliseconds.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the file with the sessions in /proc and in a service manager's store.
pub(super) const SESSIONS: &str = "wontun-sessions";
/// Names of the listening sockets in a service manager's store, in the order of an offer.
pub(super) const LISTENERS: [&str; 4] =
    ["wontun-take-over", "wontun-health", "wontun-metrics", "wontun-uapi"];

impl Context {
    /// Accepts a connection of a process that is to take the tunnel over. That of another user than
    /// root and this process's is closed.
    pub(in crate::supervisor) fn accept_successor(&mut self) {
        let Some(listener) = &self.hand_over.listener else { return };
        let (socket, process) = match listener.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "cannot accept a process that is to take the tunnel over");
                return;
            }
        };
        if !process.is_trusted() {
            let PeerProcess { pid, uid } = process;
            warn!(pid, uid, "a process of another user asks for this tunnel, and does not get it");
            return;
        }
        match Channel::new(socket) {
            Ok(channel) => {
                self.hand_over.successor = Some(Successor { channel, process, phase: Phase::Connected });
            }
            Err(error) => debug!(%error, "cannot accept a process that is to take the tunnel over"),
        }
    }

    /// Handles messages of the process that takes the tunnel over, and its end.
    pub(in crate::supervisor) fn drain_successor(&mut self, mode: &impl Mode) {
        while let Some(successor) = &mut self.hand_over.successor {
            let received = successor.channel.flush().and_then(|()| successor.channel.receive());
            let result = match received {
                Ok(None) => return,
                Ok(Some((message, _))) => self.handle_successor(mode, message),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = result {
                self.abandon(&reason);
            }
            if self.stop == Some(StopReason::HandedOver) {
                return;
            }
        }
    }

    /// Handles a message. After an error the connection is closed, with this reason.
    fn handle_successor(&mut self, mode: &impl Mode, message: FromSuccessor) -> Result<(), String> {
        let Some(Successor { phase, .. }) = &self.hand_over.successor else { return Ok(()) };
        match (message, phase) {
            (FromSuccessor::Hello { protocol, tun }, Phase::Connected) => {
                let messages = self.offer(mode, protocol, &tun)?;
                self.send_successor(messages)?;
                self.set_phase(Phase::Offered);
            }
            (FromSuccessor::Freeze, Phase::Offered) => self.freeze()?,
            (FromSuccessor::Adopt, Phase::Frozen { .. }) => {
                // sent, it cannot be taken back
                self.send_successor(vec![(ToSuccessor::Committed, Vec::new())])?;
                self.stop = Some(StopReason::HandedOver);
                let pid = self.hand_over.successor.as_ref().map(|successor| successor.process.pid);
                info!(pid, "the tunnel was handed over to another process");
            }
            _ => return Err("it sent a message out of order".to_owned()),
        }
        Ok(())
    }

    /// Returns the messages of an offer.
    ///
    /// # Errors
    /// The reason why there is none.
    fn offer(
        &self,
        mode: &impl Mode,
        protocol: u16,
        tun: &TunName,
    ) -> Result<Vec<(ToSuccessor, Vec<OwnedFd>)>, String> {
        if protocol != PROTOCOL {
            return Err(format!(
                "it expects version {protocol} of the hand-over, and this process has version {PROTOCOL}: stop \
                 this process first"
            ));
        }
        if self.hand_over.name.as_ref() != Some(tun) {
            return Err(format!("this process runs another tunnel than {tun}"));
        }
        let SharedTunnel { offer, listeners, queues, sockets } = self.share_tunnel(mode)?;
        let descriptors = listeners.into_iter().map(|(_, descriptor)| descriptor).collect();
        let mut messages = vec![(ToSuccessor::Offer(Box::new(offer)), descriptors)];
        messages.extend(split(queues, ToSuccessor::Queues));
        messages.extend(split(sockets, ToSuccessor::Sockets));
        messages.push((ToSuccessor::Complete, Vec::new()));
        Ok(messages)
    }

    /// Returns the tunnel's description, with duplicates of its descriptors.
    ///
    /// # Errors
    /// The reason why it cannot be handed over.
    pub(super) fn share_tunnel(&self, mode: &impl Mode) -> Result<SharedTunnel, String> {
        let hand_over = &self.hand_over;
        let tun = hand_over.name.as_ref().ok_or("no file describes the tunnel: stop this process first")?;
        if self.name != *tun {
            return Err(format!("the device {tun} was renamed: stop this process first"));
        }
        if self.link.is_in_other_netns {
            return Err(format!("{tun} is in another network namespace: stop this process first"));
        }
        let shared = |error: std::io::Error| format!("its descriptors cannot be duplicated: {error}");
        let ModeOffer { port, mark, addresses, sockets, uapi } = mode.offer()?;
        let (uapi, uapi_socket) = uapi.unzip();
        let listener = hand_over.listener.as_ref().map(Listener::share).transpose().map_err(shared)?;
        let health = hand_over.health.as_ref().map(OwnedFd::try_clone).transpose().map_err(shared)?;
        let metrics = hand_over.metrics.as_ref();
        let metrics_socket = metrics.map(|(_, socket)| socket.try_clone()).transpose().map_err(shared)?;
        let has_health = health.is_some();
        let metrics = metrics.map(|(address, _)| *address);
        let listeners = [listener, health, metrics_socket, uapi_socket];
        let listeners = LISTENERS.into_iter().zip(listeners).filter_map(|(name, it)| Some((name, it?)));
        let share = |(described, queue): &(Queue, OwnedFd)| Ok((*described, queue.try_clone()?));
        let queues = hand_over.queues.iter().map(share).collect::<Result<_, _>>().map_err(shared)?;
        let offer = Offer { port, mark, addresses, has_health, metrics, uapi };
        Ok(SharedTunnel { offer, listeners: listeners.collect(), queues, sockets })
    }

    /// Makes the tunnel process stop all workers and write the sessions.
    fn freeze(&mut self) -> Result<(), String> {
        let (sessions, deadline) = self.request_export()?;
        self.set_phase(Phase::Freezing { sessions, deadline });
        Ok(())
    }

    /// Makes the tunnel process write the sessions to a file. Returns it, and the time by which
    /// they must have been taken over.
    pub(super) fn request_export(&mut self) -> Result<(OwnedFd, Instant), String> {
        let failed = |error: std::io::Error| format!("the sessions cannot be written: {error}");
        let sessions = create_memfd(SESSIONS).map_err(|error| failed(error.into()))?;
        let file = sessions.try_clone().map_err(failed)?;
        self.tunnel.send_with(&ToTunnel::Export, vec![file]);
        Ok((sessions, self.now + FREEZE_TIMEOUT))
    }

    /// Passes the sessions on, which the tunnel process has written.
    pub(in crate::supervisor) fn handle_exported(&mut self, result: Result<Vec<ConnectedSocket>, String>) {
        let connected = self.tunnel.take_descriptors();
        if self.hand_over.storing.is_some() {
            self.store_exported(result, connected);
            return;
        }
        let Some(successor) = &mut self.hand_over.successor else { return };
        // otherwise it was told to continue, or is compromised
        let Phase::Freezing { deadline, .. } = &successor.phase else { return };
        let deadline = *deadline;
        let Phase::Freezing { sessions, .. } =
            std::mem::replace(&mut successor.phase, Phase::Frozen { deadline })
        else {
            return;
        };
        let is_whole = result.as_ref().is_ok_and(|sockets| sockets.len() == connected.len());
        let descriptors =
            if is_whole { std::iter::once(sessions).chain(connected).collect() } else { Vec::new() };
        let result = match result {
            Ok(_) if !is_whole => Err("its tunnel process sent something unexpected".to_owned()),
            result => result,
        };
        if let Err(reason) = self.send_successor(vec![(ToSuccessor::Sessions(result), descriptors)]) {
            self.abandon(&reason);
        }
    }

    /// Ends a hand-over that takes too long.
    pub(in crate::supervisor) fn handle_hand_over_timeout(&mut self) {
        if self.hand_over.deadline().is_some_and(|deadline| self.now >= deadline) {
            self.abandon("it took too long");
            self.abandon_store("it took too long");
        }
    }

    fn send_successor(&mut self, messages: Vec<(ToSuccessor, Vec<OwnedFd>)>) -> Result<(), String> {
        let Some(successor) = &mut self.hand_over.successor else { return Ok(()) };
        let mut send =
            |(message, descriptors): (ToSuccessor, _)| successor.channel.send(&message, descriptors);
        messages.into_iter().try_for_each(&mut send).map_err(|error: ChannelError| error.to_string())
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(successor) = &mut self.hand_over.successor {
            successor.phase = phase;
        }
    }

    /// Closes the connection to the process that was to take the tunnel over, and continues.
    fn abandon(&mut self, reason: &str) {
        let Some(mut successor) = self.hand_over.successor.take() else { return };
        // it may be gone
        let _ = successor.channel.send(&ToSuccessor::Refused(reason.to_owned()), Vec::new());
        let pid = successor.process.pid;
        match successor.phase {
            Phase::Connected => debug!(pid, reason, "a process does not take the tunnel over"),
            Phase::Offered => warn!(pid, reason, "a process was to take the tunnel over, and has not"),
            Phase::Freezing { .. } | Phase::Frozen { .. } => {
                self.tunnel.send(&ToTunnel::Resume);
                warn!(pid, reason, "a process was to take the tunnel over, and has not: this one continues");
            }
        }
        if !matches!(successor.phase, Phase::Connected)
            && let Some(health) = &self.hand_over.health
        {
            // the other process may have made itself the one that `wontun reload` finds
            let _ = rustix::net::listen(health, health::BACKLOG);
        }
    }
}

/// Splits descriptors with their descriptions into messages.
fn split<T>(
    mut rest: Vec<(T, OwnedFd)>,
    message: fn(Vec<T>) -> ToSuccessor,
) -> Vec<(ToSuccessor, Vec<OwnedFd>)> {
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (described, descriptors) = rest.drain(..rest.len().min(MAX_DESCRIPTORS)).unzip();
        messages.push((message(described), descriptors));
    }
    messages
}

/// Creates a file in memory that can be sealed, and not executed where the kernel supports that
/// (Linux 6.3).
pub(super) fn create_memfd(name: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        result => result,
    }
}
