//! The connection to the supervisor: what it tells is applied in order, by the first worker.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::signal::Signal;
use tracing::warn;

use super::budget::Progress;
use super::core::{Core, STOP_PATIENCE, Stop};
use super::error::DeviceError;
use super::pulse::Round;
use super::sockets::Sockets;
use super::{Mode, Token};
use crate::control::health::HealthListener;
use crate::messages::{self, FromTunnel, Host, ToTunnel};
use crate::process::Channel;
use crate::time::Instant;

/// Messages applied in one turn: one may change dozens of peers.
const BUDGET: usize = 8;
/// Spare UDP sockets of one address family: one that is used is asked for again at once, so that
/// the number of descriptors stays the same.
const SPARES: usize = 4;
/// Least time between two such requests.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(1);

/// The connection, and what is outstanding on it.
#[derive(Debug)]
pub(super) struct Supervisor {
    channel: Channel<ToTunnel, FromTunnel>,
    /// The supervisor's probe that is to be answered once the workers of the round were heard.
    probe: Option<(u64, Round)>,
    /// Number of the last probe sent.
    sent_probe: u64,
    /// Number of the last probe answered.
    answered_probe: u64,
    /// State of the host, as it was told last.
    pub(super) host: Host,
    /// When spare sockets were asked for, until some have come.
    asked_sockets: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(channel: Channel<ToTunnel, FromTunnel>) -> Self {
        Self {
            channel,
            probe: None,
            sent_probe: 0,
            answered_probe: 0,
            host: Host::default(),
            asked_sockets: None,
        }
    }

    /// Returns true if the supervisor has answered the probe of that number, or a later one.
    pub(super) const fn has_answered(&self, probe: u64) -> bool {
        self.answered_probe >= probe
    }
}

impl Core {
    /// Has the first worker's epoll report messages of the supervisor.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register_supervisor(&self) -> Result<(), DeviceError> {
        self.register_both(self.supervisor.channel.as_fd(), Token::Supervisor)
    }

    /// Sends a message to the supervisor, or keeps it until there is room. Without a supervisor the
    /// tunnel ends.
    pub(super) fn send(&mut self, message: &FromTunnel) {
        if let Err(error) = self.supervisor.channel.send(message, Vec::new()) {
            self.failure.get_or_insert(error.into());
            self.post_to(0, Token::Bell);
        }
    }

    /// Sends a liveness probe to the supervisor and returns its number.
    pub(super) fn probe_supervisor(&mut self) -> u64 {
        self.supervisor.sent_probe += 1;
        let number = self.supervisor.sent_probe;
        self.send(&FromTunnel::Probe(number));
        number
    }

    /// Answers the supervisor's probe if all workers were heard since.
    pub(super) fn answer_probe(&mut self, mode: &impl Mode) {
        if let Some((probe, round)) = self.supervisor.probe
            && self.pulse.is_complete(round)
        {
            self.supervisor.probe = None;
            let status = mode.status(self.now);
            self.send(&FromTunnel::Alive { probe, status });
        }
    }

    /// Asks for spare sockets of the families that `sockets` listen on, if some are missing.
    pub(super) fn ask_sockets<O: Copy + PartialEq>(&mut self, sockets: &Sockets<O>) {
        let asked = self.supervisor.asked_sockets;
        if asked.is_some_and(|asked| self.now.since(asked) < BETWEEN_REQUESTS) {
            return;
        }
        let [ipv4, ipv6] = sockets.spares().map(|left| match left {
            Some(left) => u8::try_from(SPARES.saturating_sub(left)).unwrap_or_default(),
            None => 0,
        });
        if ipv4 > 0 || ipv6 > 0 {
            self.supervisor.asked_sockets = Some(self.now);
            self.send(&FromTunnel::NeedSockets { ipv4, ipv6 });
        }
    }

    /// Sends what waits for room and applies some of the messages that are there.
    ///
    /// # Errors
    /// The supervisor has ended, or a message cannot be applied.
    pub(super) fn drain_supervisor(&mut self, mode: &mut impl Mode) -> Result<Progress, DeviceError> {
        self.supervisor.channel.flush()?;
        for _ in 0..BUDGET {
            let Some((message, descriptors)) = self.supervisor.channel.receive()? else {
                return Ok(Progress::Drained);
            };
            self.handle_message(mode, message, descriptors)?;
            if self.stop.is_some() {
                // the end of the connection, which may follow, is none of a fault
                return Ok(Progress::Drained);
            }
        }
        Ok(Progress::More)
    }

    /// Applies a message of the supervisor.
    ///
    /// # Errors
    /// As for [`Self::drain_supervisor`].
    pub(super) fn handle_message<M: Mode>(
        &mut self,
        mode: &mut M,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DeviceError> {
        match message {
            ToTunnel::Sockets { port, sockets } => {
                let old = mode.sockets_mut().replace(port, sockets, descriptors)?;
                for (worker, id, socket) in mode.sockets().disconnected() {
                    self.register(worker, socket.as_ref(), Token::Sock(id))?;
                }
                self.drain_last(old);
                self.ask_sockets(mode.sockets());
            }
            ToTunnel::MoreSockets(sockets) => {
                let first = mode.sockets_mut().add(sockets, descriptors)?;
                for (worker, id, socket) in mode.sockets().disconnected().skip(first) {
                    self.register(worker, socket.as_ref(), Token::Sock(id))?;
                }
            }
            ToTunnel::SpareSockets { ipv4, ipv6 } => {
                self.supervisor.asked_sockets = None;
                mode.sockets_mut().add_spares(ipv4.into(), ipv6.into(), descriptors)?;
                mode.handle_spares(self)?;
            }
            ToTunnel::Mark(mark) => {
                let old = mode.sockets_mut().set_mark(mark);
                self.drain_last(old);
                self.ask_sockets(mode.sockets());
                mode.handle_mark(self);
            }
            ToTunnel::Link(link) => self.handle_link(mode, link)?,
            ToTunnel::Device { tun, index } => (self.name, self.link.index) = (tun, index),
            ToTunnel::Health { user } => self.replace_health(descriptors, user)?,
            ToTunnel::AddressLost(address) => mode.handle_address_lost(self, address)?,
            ToTunnel::Probe(number) => {
                let round = self.ask_workers();
                self.supervisor.probe = Some((number, round));
            }
            ToTunnel::Host(host) => self.supervisor.host = *host,
            ToTunnel::Alive(probe) => {
                self.supervisor.answered_probe = self.supervisor.answered_probe.max(probe);
                self.post_to(0, Token::Health);
            }
            ToTunnel::Summary => self.report_summary(mode),
            ToTunnel::Stop => self.stop = Some(Stop::Supervisor),
            ToTunnel::Start(_) | ToTunnel::Queues(_) | ToTunnel::Run => return Err(DeviceError::Message),
            ToTunnel::Change { .. }
            | ToTunnel::Name { .. }
            | ToTunnel::Addresses { .. }
            | ToTunnel::CandidateChecked { .. }
            | ToTunnel::Answer { .. } => mode.handle_message(self, message, descriptors)?,
        }
        Ok(())
    }

    /// Listens for requests of the health by another socket, which has the device's present name.
    fn replace_health(&mut self, descriptors: Vec<OwnedFd>, user: u32) -> Result<(), DeviceError> {
        let socket = descriptors.into_iter().next().ok_or(DeviceError::Message)?;
        let health = HealthListener::from_fd(socket, user);
        self.register(0, &health, Token::Health)?;
        self.health = Some(health);
        // somebody may have asked already
        self.post_to(0, Token::Health);
        Ok(())
    }

    /// Takes note of how the device is now.
    fn handle_link(&mut self, mode: &mut impl Mode, link: messages::Link) -> Result<(), DeviceError> {
        let was_away = std::mem::replace(&mut self.link.away, link.is_away);
        (self.link.mtu, self.link.up) = (link.mtu, link.is_up);
        if link.is_away && !was_away {
            // deleted, which reading the tun tells, or moved to another network namespace, where it
            // still works
            (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Tun));
        }
        mode.handle_link(self)
    }

    /// Has the supervisor end the tunnel, and does so itself if that does not answer.
    pub(super) fn request_stop(&mut self, signal: Signal) {
        if self.stop_at.is_none() {
            self.stop_at = Some((self.now + STOP_PATIENCE, signal));
            self.send(&FromTunnel::StopRequested);
        }
    }

    /// Ends the tunnel if the supervisor was asked to and has not.
    pub(super) fn handle_stop_timeout(&mut self) {
        if let Some((at, signal)) = self.stop_at
            && self.now >= at
            && self.stop.is_none()
        {
            warn!("the supervisor does not answer: the tunnel ends without it");
            self.stop = Some(Stop::Signal(signal));
        }
    }
}
