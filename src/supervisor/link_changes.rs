//! Handles changes of the TUN device by other programs, and restores what it loses.

use tracing::{info, warn};

use super::context::Context;
use super::mode::Mode;
use super::reconcile::{HostResource, ReconcileOutcome};
use crate::messages::ToTunnel;
use crate::netlink::{ExistingLink, LinkError, LinkEvent};
use wontun_packet::ip;

/// Number of events read per turn.
const BUDGET: usize = 128;

impl Context {
    /// Reads events of the device. Several events may report one change, some with earlier values:
    /// the handler uses the state after the last event, and whether the device was down in between.
    pub(super) fn drain_link(&mut self, mode: &mut impl Mode) {
        for _ in 0..BUDGET {
            match self.link.monitor.poll_event() {
                Ok(None) => {
                    self.handle_link_events(mode);
                    return;
                }
                Ok(Some(LinkEvent::Other)) => {}
                Ok(Some(LinkEvent::RoutingLost)) => self.reconciler.schedule(HostResource::Routing),
                Ok(Some(LinkEvent::AddressLost(address))) => {
                    self.reconciler.schedule(HostResource::Settings);
                    if self.link.link.has_address(address) {
                        self.reconciler.schedule(HostResource::Addresses);
                        // when a device loses its last address of a family, the kernel removes the
                        // family's routes without reporting it
                        self.reconciler.schedule(HostResource::Routing);
                    }
                    self.tunnel.send(&ToTunnel::AddressLost(address));
                    self.paths.handle_address_lost(address, self.now);
                }
                Ok(Some(LinkEvent::HostChanged)) => self.reconciler.schedule(HostResource::Settings),
                Ok(Some(LinkEvent::Changed(state))) => self.link.pending_events.push_state(state),
                // reading the state of a deleted device fails, which is handled then
                Ok(Some(LinkEvent::Overrun)) => {
                    self.link.pending_events.is_pending = true;
                    self.reconciler.schedule_all();
                }
                Ok(Some(LinkEvent::Deleted)) => self.link.pending_events.is_pending = true,
                Ok(Some(LinkEvent::Moved(index))) => {
                    (self.link.pending_events.is_pending, self.link.pending_events.moved) =
                        (true, Some(index));
                }
                // it may be the tunnel's device that comes back
                Ok(Some(found @ (LinkEvent::OtherLink | LinkEvent::UdpTunnel))) => {
                    if found == LinkEvent::UdpTunnel {
                        self.link.handle_udp_tunnel();
                    }
                    self.link.pending_events.is_pending |= self.link.is_in_other_netns;
                }
                Err(error) => {
                    if let Some(suppressed) = self.link.log_limit.allow(self.now) {
                        warn!(%error, suppressed, "cannot read changes of the device");
                    }
                    return;
                }
            }
        }
    }

    fn handle_link_events(&mut self, mode: &mut impl Mode) {
        let events = std::mem::take(&mut self.link.pending_events);
        if !events.is_pending {
            return;
        }
        let state = match self.read_link(&events) {
            Ok(state) => state,
            Err(LinkError::NoDevice { .. }) => return self.handle_netns_left(mode, &events),
            Err(error) => {
                if let Some(suppressed) = self.link.log_limit.allow(self.now) {
                    warn!(%error, suppressed, "cannot read the device's state");
                }
                return;
            }
        };
        self.adopt_name(mode);
        let was_in_other_netns = self.link.is_in_other_netns || events.moved.is_some();
        let state = if was_in_other_netns { self.handle_netns_return(mode, state) } else { state };
        self.link.is_in_other_netns = false;
        let old_mtu = std::mem::replace(&mut self.link.mtu, state.mtu);
        let has_ipv6_again =
            state.mtu >= ip::IPV6_MIN_MTU && (events.lost_ipv6 || old_mtu < ip::IPV6_MIN_MTU);
        let was_up = std::mem::replace(&mut self.link.up, state.up);
        if old_mtu != state.mtu {
            self.link.adapt_gso_size();
        }
        let tun = &self.name;
        let mut came_up = false;
        let wants_other_mtu = self.link.wanted_mtu.is_some_and(|mtu| mtu != state.mtu);
        if self.link.is_managed && (!state.up || wants_other_mtu) {
            self.reconciler.schedule(HostResource::Device);
        }
        if !state.up {
            if was_up
                && !self.link.is_managed
                && let Some(suppressed) = self.link.log_limit.allow(self.now)
            {
                self.link.reported_down = true;
                warn!(%tun, suppressed, "{tun} is down: no packets pass until it is up again (ip link set {tun} up)");
            }
        } else if !was_up || events.went_down || was_in_other_netns || has_ipv6_again {
            if std::mem::replace(&mut self.link.reported_down, false) {
                info!(%tun, "{tun} is up again");
            }
            self.restore_addresses();
            came_up = true;
        }
        self.tunnel.set_link(self.link.message());
        if came_up {
            mode.handle_link_up(self);
        }
    }

    /// Restores the device's state and the configured MTU, if wontun manages them.
    pub(super) fn reconcile_device(&mut self, mode: &mut impl Mode, may_repair: bool) -> ReconcileOutcome {
        // its index may belong to another device
        if self.link.is_in_other_netns {
            return ReconcileOutcome::default();
        }
        match self.restore_device(mode, may_repair) {
            Ok(outcome) => ReconcileOutcome { error: self.attachment_warning(), ..outcome },
            // deleted, or moved to another network namespace
            Err(LinkError::NoDevice { .. }) => ReconcileOutcome::default(),
            Err(error) => ReconcileOutcome { error: Some(error.to_string()), ..ReconcileOutcome::default() },
        }
    }

    fn restore_device(
        &mut self,
        mode: &mut impl Mode,
        may_repair: bool,
    ) -> Result<ReconcileOutcome, LinkError> {
        if !self.link.is_managed || self.link.is_in_other_netns {
            return Ok(ReconcileOutcome::default());
        }
        let state = self.link.link.state()?;
        let mtu = self.link.wanted_mtu.filter(|mtu| *mtu != state.mtu);
        if state.up && mtu.is_none() {
            return Ok(ReconcileOutcome::default());
        }
        if !may_repair {
            return Ok(ReconcileOutcome { is_missing: true, ..ReconcileOutcome::default() });
        }
        let mut parts = Vec::new();
        if let Some(mtu) = mtu {
            self.link.link.set_mtu(mtu)?;
            parts.push(format!("MTU {mtu} instead of {}", state.mtu));
        }
        if !state.up {
            self.link.link.set_up()?;
            parts.push("up".to_owned());
        }
        self.reconciler.repairs.device += 1;
        // restores what the kernel has deleted meanwhile
        self.link.pending_events.push_state(state);
        self.handle_link_events(mode);
        Ok(ReconcileOutcome { repaired: Some(parts.join(", ")), ..ReconcileOutcome::default() })
    }

    /// Returns a warning if another process has changed the owner of the device, or has attached to
    /// it, since the start. Either takes CAP_NET_ADMIN, and cannot be undone from here.
    fn attachment_warning(&mut self) -> Option<String> {
        let (ExistingLink::Tun(then), ExistingLink::Tun(now)) =
            (self.link.tun_at_start?, self.link.link.describe().ok()?)
        else {
            return None;
        };
        if (then.owner, then.group) != (now.owner, now.group) {
            return Some(
                "another program has changed the device's owner, who may send into the tunnel".to_owned(),
            );
        }
        (then.queues < now.queues)
            .then(|| "another process has attached to the device, and receives packets from it".to_owned())
    }

    /// Restores addresses that another program has removed from the device.
    pub(super) fn reconcile_addresses(&mut self, may_repair: bool) -> ReconcileOutcome {
        // the kernel itself removes the IPv6 addresses of a device that is down; they are restored
        // when it comes up
        if !self.link.is_managed || self.link.is_in_other_netns || !self.link.up {
            return ReconcileOutcome::default();
        }
        let takes_ipv6 = self.link.mtu >= ip::IPV6_MIN_MTU;
        let outcome = match self.link.link.missing_addresses(takes_ipv6) {
            Ok(missing) if missing.is_empty() => {
                self.link.lacks_ipv6 = false;
                return ReconcileOutcome::default();
            }
            Ok(_) if !may_repair => {
                return ReconcileOutcome { is_missing: true, ..ReconcileOutcome::default() };
            }
            Ok(missing) => {
                let count = missing.len();
                let added = self.link.link.add_missing(missing);
                self.link.lacks_ipv6 = added.as_ref().is_ok_and(|added| added.len() < count);
                added
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(addresses) => {
                self.reconciler.repairs.addresses += addresses.len() as u64;
                let named = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                ReconcileOutcome {
                    repaired: (!named.is_empty()).then_some(named),
                    ..ReconcileOutcome::default()
                }
            }
            Err(error) => ReconcileOutcome { error: Some(error.to_string()), ..ReconcileOutcome::default() },
        }
    }

    /// Restores IPv6 addresses, which the kernel removes when the device goes down, or when its MTU
    /// is too small for them.
    fn restore_addresses(&mut self) {
        if !self.link.is_managed {
            return;
        }
        match self.link.link.restore() {
            Ok(configured) => self.link.warn_ipv6_disabled(&configured),
            Err(error) => {
                if let Some(suppressed) = self.link.log_limit.allow(self.now) {
                    warn!(%error, suppressed, "cannot restore the device's addresses");
                }
            }
        }
    }
}
