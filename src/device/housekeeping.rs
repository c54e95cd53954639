//! What is not packets: signals, the device's own state, and those who ask for our health.

use nix::sys::signal::Signal;
use tracing::{debug, info, warn};

use super::{BUDGET, Device, DeviceError, Progress, Token, warn_ipv6_disabled};
use crate::io::signal::reap_children;
use crate::link::{LinkError, LinkEvent};

impl Device {
    pub(super) fn drain_signals(&mut self) -> Result<Progress, DeviceError> {
        loop {
            let signal = self
                .signals
                .poll_signal()
                .map_err(|source| DeviceError::System { what: "reading signals", source })?;
            match signal {
                None => return Ok(Progress::Drained),
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.stop = Some(signal),
                Some(Signal::SIGUSR1) => self.report_summary(),
                Some(Signal::SIGHUP) => info!("SIGHUP: there is no file to read again in plain mode"),
                Some(Signal::SIGCHLD) => reap_children(),
                Some(_) => {}
            }
        }
    }

    /// One line of all that was counted.
    pub(super) fn report_summary(&self) {
        let counters = &self.peer.counters;
        info!(
            tx_packets = counters.tx.packets,
            tx_bytes = counters.tx.bytes,
            rx_packets = counters.rx.packets,
            rx_bytes = counters.rx.bytes,
            drops = counters.drop_summary().to_string(),
            "summary"
        );
    }

    /// Several events tell of one change, some with values of before it: what counts is how the device is once they
    /// are all read, and whether it was down in between.
    pub(super) fn drain_link(&mut self) -> Progress {
        for _ in 0..BUDGET {
            match self.link.monitor.poll_event() {
                Ok(None) => {
                    self.handle_link_news();
                    return Progress::Drained;
                }
                Ok(Some(LinkEvent::Other)) => {}
                Ok(Some(LinkEvent::Changed(state))) => self.link.news.push_state(state.up),
                // a deleted device has no state to read, which says as much
                Ok(Some(LinkEvent::Overrun | LinkEvent::Deleted)) => self.link.news.any = true,
                Err(error) => {
                    if let Some(suppressed) = self.quiet.link.allow(self.now) {
                        warn!(%error, suppressed, "changes of the device are not heard");
                    }
                    return Progress::Drained;
                }
            }
        }
        Progress::More
    }

    fn handle_link_news(&mut self) {
        let news = std::mem::take(&mut self.link.news);
        if !news.any {
            return;
        }
        let state = match self.link.link.state() {
            Ok(state) => state,
            Err(LinkError::NoDevice { .. }) => {
                self.handle_link_gone();
                return;
            }
            Err(error) => {
                if let Some(suppressed) = self.quiet.link.allow(self.now) {
                    warn!(%error, suppressed, "the device's state cannot be read");
                }
                return;
            }
        };
        let was_away = std::mem::replace(&mut self.link.away, false);
        let was_up = std::mem::replace(&mut self.link.up, state.up);
        let tun = &self.config.tun;
        if !state.up {
            if was_up && let Some(suppressed) = self.quiet.link.allow(self.now) {
                self.link.told_down = true;
                warn!(%tun, suppressed, "{tun} is down, no packet passes until it is up again (ip link set {tun} up)");
            }
        } else if !was_up || news.fell || was_away {
            if std::mem::replace(&mut self.link.told_down, false) {
                info!(%tun, "{tun} is up again");
            }
            self.restore_addresses();
        }
    }

    /// The kernel forgets a device's IPv6 addresses when it goes down.
    fn restore_addresses(&mut self) {
        if !self.config.configure {
            return;
        }
        match self.link.link.restore() {
            Ok(configured) => {
                warn_ipv6_disabled(&self.config.tun, &configured, &mut self.link.told_ipv6);
            }
            Err(error) => {
                if let Some(suppressed) = self.quiet.link.allow(self.now) {
                    warn!(%error, suppressed, "the addresses that the device lost are not back");
                }
            }
        }
    }

    /// Deleted, which reading the tun tells, or moved to another network namespace, where it still works.
    fn handle_link_gone(&mut self) {
        self.link.away = true;
        self.ready.insert(Token::Tun);
        debug!(tun = %self.config.tun, "the device is no longer in this network namespace");
    }

    pub(super) fn drain_health(&mut self) -> Progress {
        let Some(health) = &self.health else { return Progress::Drained };
        let tun = &self.config.tun;
        let report = if self.link.away {
            Ok(format!(
                "the loop of {tun} answers; the device is in another network namespace and not watched"
            ))
        } else if self.link.up {
            Ok(format!("{tun} is up and its loop answers"))
        } else {
            Err(format!("{tun} is down: set it up again (ip link set {tun} up)"))
        };
        for _ in 0..BUDGET {
            match health.answer(&report) {
                Ok(true) => {}
                Ok(false) => return Progress::Drained,
                // out of descriptors or memory: those who wait are served at the next request
                Err(_) => return Progress::Drained,
            }
        }
        Progress::More
    }
}
