//! Handles messages of the supervisor: the first worker applies them in order.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::budget::Progress;
use super::core::{Core, StopReason};
use super::error::DaemonError;
use super::protocol::Protocol;
use super::sockets::Sockets;
use super::token::Token;
use crate::control::health::HealthListener;
use crate::messages::{self, FromTunnel, ToTunnel};

/// Number of messages applied per turn: one may change dozens of peers.
const BUDGET: usize = 8;
/// Number of spare UDP sockets of each address family: a used one is replaced at once, so that the
/// number of descriptors stays the same.
const SPARE_SOCKETS: usize = 4;
/// Minimum interval between two requests for sockets.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

impl Core {
    /// Answers the supervisor's probe if all threads have responded since.
    pub(super) fn answer_probe(&mut self, mode: &impl Protocol) {
        if let Some((number, probe)) = self.supervisor.probe
            && self.liveness.is_answered(probe)
        {
            self.supervisor.probe = None;
            let status = mode.status(self.now);
            self.send(&FromTunnel::Alive { probe: number, status });
        }
    }

    /// Requests spare sockets of the families that `sockets` listen on, if some are missing.
    pub(super) fn request_sockets<O: Copy + PartialEq>(&mut self, sockets: &Sockets<O>) {
        let requested = self.supervisor.sockets_requested_at;
        if requested.is_some_and(|requested| self.now.since(requested) < REQUEST_INTERVAL) {
            return;
        }
        let [ipv4, ipv6] = sockets.spares().map(|available| match available {
            Some(available) => u8::try_from(SPARE_SOCKETS.saturating_sub(available)).unwrap_or_default(),
            None => 0,
        });
        if ipv4 > 0 || ipv6 > 0 {
            self.supervisor.sockets_requested_at = Some(self.now);
            self.send(&FromTunnel::NeedSockets { ipv4, ipv6 });
        }
    }

    /// Sends queued messages and applies some of the received ones.
    ///
    /// # Errors
    /// The supervisor has ended, or a message cannot be applied.
    pub(super) fn drain_supervisor(&mut self, mode: &mut impl Protocol) -> Result<Progress, DaemonError> {
        self.supervisor.channel.flush()?;
        for _ in 0..BUDGET {
            let Some((message, descriptors)) = self.supervisor.channel.receive()? else {
                return Ok(Progress::Drained);
            };
            self.handle_message(mode, message, descriptors)?;
            if self.stop.is_some() {
                // the end of the connection, which may follow, is no error then
                return Ok(Progress::Drained);
            }
        }
        Ok(Progress::More)
    }

    /// Applies a message of the supervisor.
    ///
    /// # Errors
    /// As for [`Self::drain_supervisor`].
    pub(super) fn handle_message<M: Protocol>(
        &mut self,
        mode: &mut M,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DaemonError> {
        match message {
            ToTunnel::Sockets { port, sockets } => {
                let old = mode.sockets_mut().replace(port, sockets, descriptors)?;
                for (worker, token, socket) in mode.sockets().disconnected() {
                    self.register(worker, socket.as_ref(), token)?;
                }
                self.drain_sockets(old);
                self.request_sockets(mode.sockets());
            }
            ToTunnel::MoreSockets(sockets) => {
                let first = mode.sockets_mut().add(sockets, descriptors)?;
                for (worker, token, socket) in mode.sockets().disconnected().skip(first) {
                    self.register(worker, socket.as_ref(), token)?;
                }
            }
            ToTunnel::SpareSockets { ipv4, ipv6 } => {
                self.supervisor.sockets_requested_at = None;
                mode.sockets_mut().add_spares(ipv4.into(), ipv6.into(), descriptors)?;
                mode.handle_spares(self)?;
            }
            ToTunnel::Mark(mark) => {
                let old = mode.sockets_mut().set_mark(mark);
                self.drain_sockets(old);
                self.request_sockets(mode.sockets());
                mode.handle_mark(self);
            }
            ToTunnel::DeviceState(link) => self.handle_link(mode, link)?,
            ToTunnel::DeviceRenamed { tun, index } => (self.name, self.link.index) = (tun, index),
            ToTunnel::Health { user } => self.replace_health(descriptors, user)?,
            ToTunnel::AddressLost(address) => mode.handle_address_lost(self, address)?,
            ToTunnel::Probe(number) => {
                let probe = self.probe_threads();
                self.supervisor.probe = Some((number, probe));
            }
            ToTunnel::HostState(host) => self.supervisor.host = *host,
            ToTunnel::DeniedCounted(number) => {
                self.supervisor.answered_count = self.supervisor.answered_count.max(number);
            }
            ToTunnel::Alive(probe) => {
                self.supervisor.answered_probe = self.supervisor.answered_probe.max(probe);
                self.post_to(0, Token::Health);
            }
            ToTunnel::LogSummary => self.report_summary(mode),
            ToTunnel::Stop => {
                mode.handle_stop(self);
                self.stop = Some(StopReason::Supervisor);
            }
            ToTunnel::Export => {
                // the other process has no part of it
                mode.handle_stop(self);
                self.supervisor.export_to = descriptors.into_iter().next();
                self.stop = Some(StopReason::HandOver);
            }
            ToTunnel::Start(_)
            | ToTunnel::Queues(_)
            | ToTunnel::Run
            | ToTunnel::Resume
            | ToTunnel::Import(_)
            | ToTunnel::Proceed => {
                return Err(DaemonError::UnexpectedMessage);
            }
            ToTunnel::Change { .. }
            | ToTunnel::Excluded { .. }
            | ToTunnel::Name { .. }
            | ToTunnel::Restore { .. }
            | ToTunnel::Addresses { .. }
            | ToTunnel::PathChanged { .. }
            | ToTunnel::CandidateChecked { .. }
            | ToTunnel::Answer { .. } => mode.handle_message(self, message, descriptors)?,
        }
        Ok(())
    }

    /// Replaces the health socket by one that has the device's current name.
    fn replace_health(&mut self, descriptors: Vec<OwnedFd>, user: u32) -> Result<(), DaemonError> {
        let socket = descriptors.into_iter().next().ok_or(DaemonError::UnexpectedMessage)?;
        let health = HealthListener::from_fd(socket, user);
        self.register(0, &health, Token::Health)?;
        self.health = Some(health);
        // a client may have connected already
        self.post_to(0, Token::Health);
        Ok(())
    }

    /// Records the current state of the device.
    fn handle_link(
        &mut self,
        mode: &mut impl Protocol,
        link: messages::DeviceState,
    ) -> Result<(), DaemonError> {
        let was_away = std::mem::replace(&mut self.link.is_in_other_netns, link.is_in_other_netns);
        (self.link.mtu, self.link.is_up) = (link.mtu, link.is_up);
        if link.is_in_other_netns && !was_away {
            // deleted, which reading the tun reports, or moved to another network namespace, where
            // it still works
            for worker in 0..self.worker_count() {
                [Token::Tun, Token::SparseTun].into_iter().for_each(|token| self.post_to(worker, token));
            }
        }
        mode.handle_link(self)
    }
}
