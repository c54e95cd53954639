//! What is not packets: signals, and the device's own state.

use nix::sys::signal::Signal;
use tracing::{debug, info, warn};

use super::core::{Core, IPV6_MIN_MTU, LinkNews, Stop, system};
use super::{BUDGET, DeviceError, Mode, Progress, Token};
use crate::counters::DropReason;
use crate::io::signal::reap_children;
use crate::link::{LinkError, LinkEvent};

impl Core {
    pub(super) fn drain_signals(&mut self, mode: &mut impl Mode) -> Result<Progress, DeviceError> {
        loop {
            let signal = self.signals.poll_signal().map_err(system("reading signals"))?;
            match signal {
                None => return Ok(Progress::Drained),
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => {
                    self.stop = Some(Stop::Signal(signal));
                }
                Some(Signal::SIGUSR1) => self.report_summary(mode),
                Some(Signal::SIGHUP) => {
                    self.tell_reloading();
                    mode.reload(self)?;
                    self.tell_reloaded(mode);
                }
                Some(Signal::SIGCHLD) => reap_children(),
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

    /// Several events tell of one change, some with values of before it: what counts is how the device is once they
    /// are all read, and whether it was down in between.
    pub(super) fn drain_link(&mut self, mode: &mut impl Mode) -> Result<Progress, DeviceError> {
        for _ in 0..BUDGET {
            match self.link.monitor.poll_event() {
                Ok(None) => {
                    let LinkNews { routing_lost, host_changed, .. } = self.link.news;
                    self.handle_link_news(mode)?;
                    // of a device that is down the kernel itself deletes the routes
                    if routing_lost && self.link.up {
                        mode.handle_routing_lost(self);
                    }
                    if host_changed {
                        mode.handle_host_changed(self);
                    }
                    return Ok(Progress::Drained);
                }
                Ok(Some(LinkEvent::Other)) => {}
                Ok(Some(LinkEvent::RoutingLost)) => self.link.news.routing_lost = true,
                Ok(Some(LinkEvent::AddressLost(address))) => {
                    self.link.news.host_changed = true;
                    mode.handle_address_lost(self, address)?;
                }
                Ok(Some(LinkEvent::HostChanged)) => self.link.news.host_changed = true,
                Ok(Some(LinkEvent::Changed(state))) => self.link.news.push_state(state),
                // a deleted device has no state to read, which says as much
                Ok(Some(LinkEvent::Overrun)) => {
                    self.link.news.any = true;
                    (self.link.news.routing_lost, self.link.news.host_changed) = (true, true);
                }
                Ok(Some(LinkEvent::Deleted)) => self.link.news.any = true,
                Err(error) => {
                    if let Some(suppressed) = self.link.quiet.allow(self.now) {
                        warn!(%error, suppressed, "changes of the device are not heard");
                    }
                    return Ok(Progress::Drained);
                }
            }
        }
        Ok(Progress::More)
    }

    fn handle_link_news(&mut self, mode: &mut impl Mode) -> Result<(), DeviceError> {
        let news = std::mem::take(&mut self.link.news);
        if !news.any {
            return Ok(());
        }
        let state = match self.link.link.state() {
            Ok(state) => state,
            Err(LinkError::NoDevice { .. }) => {
                self.handle_link_gone();
                return Ok(());
            }
            Err(error) => {
                if let Some(suppressed) = self.link.quiet.allow(self.now) {
                    warn!(%error, suppressed, "the device's state cannot be read");
                }
                return Ok(());
            }
        };
        let was_away = std::mem::replace(&mut self.link.away, false);
        let old_mtu = std::mem::replace(&mut self.link.mtu, state.mtu);
        let has_ipv6_again = state.mtu >= IPV6_MIN_MTU && (news.shrank || old_mtu < IPV6_MIN_MTU);
        let was_up = std::mem::replace(&mut self.link.up, state.up);
        if old_mtu != state.mtu {
            self.link.fit_super_packets();
        }
        let tun = &self.name;
        if !state.up {
            if was_up && let Some(suppressed) = self.link.quiet.allow(self.now) {
                self.link.told_down = true;
                warn!(%tun, suppressed, "{tun} is down, no packet passes until it is up again (ip link set {tun} up)");
            }
        } else if !was_up || news.fell || was_away || has_ipv6_again {
            if std::mem::replace(&mut self.link.told_down, false) {
                info!(%tun, "{tun} is up again");
            }
            self.restore_addresses();
            return mode.handle_link(self, true);
        }
        mode.handle_link(self, false)
    }

    /// The kernel forgets a device's IPv6 addresses when it goes down, or when its MTU is too small for them.
    fn restore_addresses(&mut self) {
        if !self.link.configured {
            return;
        }
        match self.link.link.restore() {
            Ok(configured) => self.link.warn_ipv6_disabled(&configured),
            Err(error) => {
                if let Some(suppressed) = self.link.quiet.allow(self.now) {
                    warn!(%error, suppressed, "the addresses that the device lost are not back");
                }
            }
        }
    }

    /// Deleted, which reading the tun tells, or moved to another network namespace, where it still works.
    fn handle_link_gone(&mut self) {
        self.link.away = true;
        (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Tun));
        debug!(tun = %self.name, "the device is no longer in this network namespace");
    }
}
