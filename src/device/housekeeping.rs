//! What is not packets: signals, and the summary.

use nix::sys::signal::Signal;
use tracing::info;

use super::Mode;
use super::budget::Progress;
use super::core::Core;
use super::error::{DeviceError, system};
use crate::counters::DropReason;

impl Core {
    pub(super) fn drain_signals(&mut self, mode: &impl Mode) -> Result<Progress, DeviceError> {
        loop {
            let signal = self.signals.poll_signal().map_err(system("reading signals"))?;
            match signal {
                None => return Ok(Progress::Drained),
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.request_stop(signal),
                Some(Signal::SIGUSR1) => self.report_summary(mode),
                // the supervisor reads the file again
                Some(_) => {}
            }
        }
    }

    /// One line of all that was counted.
    pub(super) fn report_summary(&self, mode: &impl Mode) {
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
}
