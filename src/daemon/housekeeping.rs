//! Handles signals and deadlines, and logs the summary.

use std::time::Duration;

use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::budget::Progress;
use super::core::{Core, StopReason};
use super::error::{DaemonError, system};
use super::protocol::Protocol;
use crate::messages::FromTunnel;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;

/// Time that the supervisor has to end the tunnel after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn drain_signals(&mut self, mode: &impl Protocol) -> Result<Progress, DaemonError> {
        loop {
            let signal = self.signals.poll_signal().map_err(system("reading signals"))?;
            match signal {
                None => return Ok(Progress::Drained),
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.request_stop(signal),
                Some(Signal::SIGUSR1) => self.report_summary(mode),
                // the supervisor reloads the file
                Some(_) => {}
            }
        }
    }

    /// Logs one line with all counters.
    pub(super) fn report_summary(&self, mode: &impl Protocol) {
        let mut counters = self.totals();
        counters.set_drops(DropReason::Unsent, mode.lost_packets());
        info!(
            tx_packets = counters.tx.packets,
            tx_bytes = counters.tx.bytes,
            rx_packets = counters.rx.packets,
            rx_bytes = counters.rx.bytes,
            drops = counters.drop_summary().to_string(),
            "summary"
        );
    }

    /// Asks the supervisor to end the tunnel, and sets a deadline after which it ends without it.
    pub(super) fn request_stop(&mut self, signal: Signal) {
        if self.stop_at.is_none() {
            self.stop_at = Some((self.now + STOP_TIMEOUT, signal));
            self.send(&FromTunnel::StopRequested);
        }
    }

    /// Ends the tunnel if the supervisor was asked to and has not.
    fn handle_stop_timeout(&mut self) {
        if let Some((at, signal)) = self.stop_at
            && self.now >= at
            && self.stop.is_none()
        {
            warn!("the supervisor does not respond: stopping without it");
            self.stop = Some(StopReason::Signal(signal));
        }
    }

    /// Returns the time at which [`Self::handle_timeouts`] must be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.health_requests.deadline(), self.stop_at.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// Handles deadlines that have passed.
    pub(super) fn handle_timeouts(&mut self, mode: &impl Protocol) {
        self.handle_stop_timeout();
        self.drain_health(mode);
    }
}
