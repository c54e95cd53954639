//! Forwarding between the tunnel and the host's other devices, without making a router of a host
//! that was none.
//!
//! The kernel has one switch for all devices and one per input device. Where the switch for all
//! devices is off, only the switches of the tunnel and of the devices with addresses are turned on.
//! IPv6 has per-device switches since Linux 6.17 (`force_forwarding`); on older kernels, and where
//! they cannot be written, the switch for all devices of IPv6 is turned on.
//!
//! Either way a packet that neither comes from the tunnel nor goes to it would be forwarded now,
//! and was not before: [`DroppedPackets`] lists the packets that have to be dropped for that. The
//! drops end when another program turns on the switch for all devices, which is detected as
//! follows:
//!
//! - While the switch is off, by reading it. The kernel announces the change (`RTM_NEWNETCONF`). A
//!   0 written to IPv6's switch turns off those of single devices, even if it was 0 already, and
//!   the kernel does not announce that: they are turned on again with the next
//!   [`Forwarding::plan`], at the latest on SIGHUP.
//! - If wontun turned it on, the kernel does not announce a second 1. But each write to it is
//!   copied to the setting for future devices, `conf.default`: if that was set to 0 beforehand, the
//!   copy is a change.
//!
//! Each switch that was turned on is turned off at the end, unless another program has turned on
//! the switch for all devices since, or another tunnel needs it. A killed process leaves the switch
//! on and its table in place; the next run takes over from that table.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::message;
use super::socket::NetlinkSocket;

/// Forwarding settings under /proc/sys.
#[derive(Debug)]
pub(super) struct Forwarding {
    root: PathBuf,
    netlink: Option<NetlinkSocket>,
    /// State of IPv4 and of IPv6.
    families: [FamilyState; 2],
}

/// Switches that wontun has turned on for one family.
#[derive(Debug, Default)]
struct FamilyState {
    dropped: DroppedPackets,
    /// True if the switch of the tunnel's own device was turned on.
    tunnel: bool,
    /// Error number of writing the switches of single devices, after which they are not tried
    /// again.
    refused: Option<i32>,
    /// Devices whose `accept_ra` was raised to 2.
    raised_accept_ra: BTreeSet<String>,
    /// True if packets were forwarded at the last check.
    was_on: bool,
    /// True if the current plan turns on again a switch that was on before.
    is_lost: bool,
}

/// Packets that would not be forwarded without wontun, and have to be dropped unless they come from
/// the tunnel or go to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DroppedPackets {
    /// Input devices of the packets.
    pub(super) devices: BTreeSet<String>,
    /// True for all packets of the family.
    pub(super) all: bool,
}

impl DroppedPackets {
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.devices.is_empty()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.all |= other.all;
        self.devices.extend(other.devices.iter().cloned());
    }
}

/// Changes planned for one family.
#[derive(Debug)]
pub(super) enum ForwardingPlan {
    /// No change, with the outcome.
    Done(ForwardingOutcome),
    /// Turn on the switches of these devices in addition to the tunnel's.
    Devices(BTreeSet<String>),
    /// Turn on the switch for all devices.
    All,
}

/// Outcome of a plan.
#[derive(Debug)]
pub(super) enum ForwardingOutcome {
    /// Packets are forwarded as they were before.
    On,
    /// Switches were off and are on now; the message to log.
    TurnedOn(String),
    /// Another program has turned on the switch for all devices: no packets are dropped any more.
    Released,
    /// The kernel does not have the family.
    Absent,
    /// The switch is off and cannot be turned on.
    Off(io::Error),
    /// The switch cannot be read.
    Unknown(io::Error),
    /// The switches of single devices cannot be written: another plan is needed.
    Refused,
}

impl Forwarding {
    pub(super) fn new() -> Self {
        Self { root: PathBuf::from("/proc/sys"), netlink: None, families: Default::default() }
    }

    /// Returns the sysctl name of the switch for all devices, as used by sysctl(8) and `docker run
    /// --sysctl`.
    pub(super) const fn key(v6: bool) -> &'static str {
        if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" }
    }

    /// Returns true if packets of the family from the device `tunnel` are forwarded: by the switch
    /// for all devices or by its own. `None` if the switch cannot be read; false without IPv6.
    pub(super) fn is_on(&self, tunnel: &str, v6: bool) -> Option<bool> {
        match fs::read_to_string(self.path(v6, None)) {
            Ok(text) => Some(text.trim() != "0" || has_value(&self.device_switch(v6, tunnel), "1")),
            Err(error) if v6 && error.kind() == io::ErrorKind::NotFound && self.root.join("net").exists() => {
                Some(false)
            }
            Err(_) => None,
        }
    }

    /// Returns true if this process could turn on the switch for all devices.
    pub(super) fn is_writable(&self, v6: bool) -> bool {
        access(&self.path(v6, None), AccessFlags::W_OK).is_ok()
    }

    /// Returns the packets that have to be dropped because of the switches that wontun has turned
    /// on.
    pub(super) fn dropped(&self, v6: bool) -> &DroppedPackets {
        &self.state(v6).dropped
    }

    /// Returns true if a switch has to be turned off at the end.
    pub(super) fn needs_turn_off(&self) -> bool {
        self.families.iter().any(|state| state.tunnel || !state.dropped.is_empty())
    }

    /// Plans the changes by which packets of one family pass between the device `tunnel` and
    /// `devices`. [`Self::dropped`] includes them from now on: install the drops before
    /// [`Self::turn_on`].
    ///
    /// `found` are the packets dropped by this tunnel's table, left over by a killed run, and by
    /// those of other tunnels: switches that are on for these were turned on by wontun.
    ///
    /// If the setting cannot be read, as in a sandbox without /proc/sys, the kernel is asked
    /// whether it forwards packets from the device `tunnel`.
    pub(super) fn plan(
        &mut self,
        tunnel: &str,
        v6: bool,
        devices: &BTreeSet<String>,
        found: &DroppedPackets,
    ) -> ForwardingPlan {
        let is_on = match fs::read_to_string(self.path(v6, None)) {
            Ok(text) => text.trim() != "0",
            // only IPv6's setting is missing: the kernel has no IPv6
            Err(error) if v6 && error.kind() == io::ErrorKind::NotFound && self.root.join("net").exists() => {
                return ForwardingPlan::Done(ForwardingOutcome::Absent);
            }
            Err(error) => return ForwardingPlan::Done(self.query_kernel(tunnel, v6, error)),
        };
        let announces = has_value(&self.path(v6, Some("default")), "0");
        let has_own = !v6 || self.device_switch(v6, tunnel).exists();
        let (owns, refused) = (&self.state(v6).dropped, self.state(v6).refused);
        if is_on {
            if v6 && announces && (owns.all || found.all) {
                self.state_mut(v6).dropped = DroppedPackets { all: true, ..DroppedPackets::default() };
                return ForwardingPlan::Done(ForwardingOutcome::On);
            }
            let was_dropping = !owns.is_empty();
            *self.state_mut(v6) = FamilyState { was_on: true, ..FamilyState::default() };
            return ForwardingPlan::Done(if was_dropping {
                ForwardingOutcome::Released
            } else {
                ForwardingOutcome::On
            });
        }
        if let Some(code) = refused.filter(|_| !v6) {
            return ForwardingPlan::Done(ForwardingOutcome::Off(io::Error::from_raw_os_error(code)));
        }
        if v6 && (refused.is_some() || !has_own) {
            let state = self.state_mut(v6);
            state.dropped = DroppedPackets { all: true, ..DroppedPackets::default() };
            state.is_lost = state.was_on;
            return ForwardingPlan::All;
        }
        let is_off = |device: &str| has_value(&self.device_switch(v6, device), "0");
        // the switch of a device that has lost its addresses stays on
        let stays_on = |device: &&String| has_value(&self.device_switch(v6, device), "1");
        let wanted: BTreeSet<String> = devices.iter().filter(|device| is_off(device)).cloned().collect();
        let turned_on = owns.devices.iter().chain(&found.devices).filter(stays_on);
        let dropped: BTreeSet<String> = turned_on.chain(&wanted).cloned().collect();
        let is_tunnel_on = !is_off(tunnel);
        let is_lost = !is_tunnel_on || wanted.iter().any(|device| owns.devices.contains(device));
        let state = self.state_mut(v6);
        state.is_lost = state.was_on && is_lost;
        state.dropped = DroppedPackets { devices: dropped, all: false };
        if wanted.is_empty() && is_tunnel_on {
            ForwardingPlan::Done(ForwardingOutcome::On)
        } else {
            ForwardingPlan::Devices(wanted)
        }
    }

    /// Carries out the plan for one family.
    pub(super) fn turn_on(&mut self, tunnel: &str, v6: bool, plan: ForwardingPlan) -> ForwardingOutcome {
        let outcome = match plan {
            ForwardingPlan::Done(outcome) => outcome,
            ForwardingPlan::Devices(devices) => self.turn_on_devices(tunnel, v6, &devices),
            ForwardingPlan::All => self.turn_on_all(tunnel, v6),
        };
        self.state_mut(v6).was_on |= matches!(
            outcome,
            ForwardingOutcome::On | ForwardingOutcome::TurnedOn(_) | ForwardingOutcome::Released
        );
        outcome
    }

    /// Returns true if the switches turned on last had been on before, so that another program had
    /// turned them off.
    pub(super) fn take_lost(&mut self, v6: bool) -> bool {
        std::mem::take(&mut self.state_mut(v6).is_lost)
    }

    /// Returns true if packets of a family were forwarded, and now are not from the tunnel's device
    /// or from another device whose switch was turned on.
    pub(super) fn has_lost(&self, tunnel: &str) -> bool {
        [false, true].into_iter().any(|v6| {
            let state = self.state(v6);
            let mut devices = state.dropped.devices.iter().map(String::as_str).chain([tunnel]);
            state.was_on
                && has_value(&self.path(v6, None), "0")
                && (state.dropped.all
                    || devices.any(|device| has_value(&self.device_switch(v6, device), "0")))
        })
    }

    /// Returns true if packets of the family were forwarded before.
    pub(super) fn was_on(&self, v6: bool) -> bool {
        self.state(v6).was_on
    }

    fn turn_on_devices(&mut self, tunnel: &str, v6: bool, devices: &BTreeSet<String>) -> ForwardingOutcome {
        let own = self.device_switch(v6, tunnel);
        let was_off = has_value(&own, "0");
        let mut outcome = fs::write(&own, "1");
        self.state_mut(v6).tunnel |= was_off && outcome.is_ok();
        for device in devices {
            // a device may have been deleted meanwhile
            let written = fs::write(self.device_switch(v6, device), "1");
            outcome = outcome.and(written.or_else(ignore_not_found));
        }
        match outcome {
            Ok(()) => {
                let (family, between) = (if v6 { "IPv6" } else { "IPv4" }, join_devices(devices));
                ForwardingOutcome::TurnedOn(format!(
                    "{family} is forwarded between {tunnel} and {between}, not among these"
                ))
            }
            Err(error) => {
                self.turn_off_devices(tunnel, v6, &DroppedPackets::default());
                self.state_mut(v6).refused = error.raw_os_error().or(Some(0));
                if v6 { ForwardingOutcome::Refused } else { ForwardingOutcome::Off(error) }
            }
        }
    }

    fn turn_on_all(&mut self, tunnel: &str, v6: bool) -> ForwardingOutcome {
        let raised_accept_ra = self.raise_accept_ra();
        self.state_mut(v6).raised_accept_ra.extend(raised_accept_ra);
        match fs::write(self.path(v6, None), "1") {
            Ok(()) => {
                // another program's write is copied here, by which it is distinguished from ours
                let _ = fs::write(self.path(v6, Some("default")), "0");
                let key = Self::key(v6);
                ForwardingOutcome::TurnedOn(format!(
                    "turned on {key}: only packets from or to {tunnel} are forwarded"
                ))
            }
            Err(error) => {
                self.restore_accept_ra(v6);
                self.state_mut(v6).dropped = DroppedPackets::default();
                ForwardingOutcome::Off(error)
            }
        }
    }

    /// Takes over the switches that a killed run of this tunnel has turned on.
    pub(super) fn adopt(&mut self, v6: bool, found: &DroppedPackets) {
        self.state_mut(v6).dropped.merge(found);
    }

    /// Turns off the switches that wontun has turned on, except those in `others`, which other
    /// tunnels of this host need.
    pub(super) fn turn_off(&mut self, tunnel: &str, others: &[DroppedPackets; 2]) {
        for (v6, others) in [false, true].into_iter().zip(others) {
            let all = self.path(v6, None);
            let is_ours = v6 && self.state(v6).dropped.all && has_value(&self.path(v6, Some("default")), "0");
            if has_value(&all, "0") {
                self.turn_off_devices(tunnel, v6, others);
            } else if is_ours && !others.all {
                let _ = fs::write(&all, "0");
                self.restore_accept_ra(v6);
            }
            *self.state_mut(v6) = FamilyState::default();
        }
    }

    fn turn_off_devices(&mut self, tunnel: &str, v6: bool, others: &DroppedPackets) {
        let state = std::mem::take(self.state_mut(v6));
        self.state_mut(v6).was_on = state.was_on;
        let devices = state.dropped.devices.iter().filter(|device| !others.devices.contains(*device));
        for device in devices.map(String::as_str).chain(state.tunnel.then_some(tunnel)) {
            // a switch that cannot be written was not turned on, and a deleted device has none
            let _ = fs::write(self.device_switch(v6, device), "0");
        }
    }

    /// Returns the netlink socket; it is opened on the first call, since a sandbox may forbid that
    /// later.
    pub(super) fn netlink(&mut self) -> Option<&mut NetlinkSocket> {
        if self.netlink.is_none() {
            self.netlink = NetlinkSocket::open().ok();
        }
        self.netlink.as_mut()
    }

    fn query_kernel(&mut self, name: &str, v6: bool, error: io::Error) -> ForwardingOutcome {
        let asked = self.netlink().and_then(|netlink| {
            let link = netlink.request(message::get_link_by_name(name), 0).ok()??;
            message::forwards(&link, v6)
        });
        match asked {
            Some(true) => ForwardingOutcome::On,
            Some(false) => ForwardingOutcome::Off(error),
            None => ForwardingOutcome::Unknown(error),
        }
    }

    /// Raises `accept_ra` from 1 to 2 and returns the devices for which it did. A host that
    /// forwards IPv6 ignores router advertisements, and loses a default route learned from one,
    /// unless `accept_ra` is 2.
    fn raise_accept_ra(&self) -> Vec<String> {
        let Ok(devices) = fs::read_dir(self.root.join("net/ipv6/conf")) else { return Vec::new() };
        let names = devices.flatten().filter_map(|device| device.file_name().into_string().ok());
        // these two change the settings of future devices, or of none
        let names = names.filter(|name| name != "all" && name != "default");
        names
            .filter(|name| {
                let setting = self.accept_ra(name);
                // where this cannot be written, the forwarding switch cannot either
                has_value(&setting, "1") && fs::write(setting, "2").is_ok()
            })
            .collect()
    }

    fn restore_accept_ra(&mut self, v6: bool) {
        for device in std::mem::take(&mut self.state_mut(v6).raised_accept_ra) {
            let setting = self.accept_ra(&device);
            if has_value(&setting, "2") {
                let _ = fs::write(setting, "1");
            }
        }
    }

    fn accept_ra(&self, device: &str) -> PathBuf {
        self.root.join("net/ipv6/conf").join(device).join("accept_ra")
    }

    /// Returns the path of the switch for all devices, or that of `conf`, one of the kernel's two
    /// general entries.
    fn path(&self, v6: bool, conf: Option<&str>) -> PathBuf {
        match (v6, conf) {
            (false, None) => self.root.join("net/ipv4/ip_forward"),
            (false, Some(conf)) => self.root.join("net/ipv4/conf").join(conf).join("forwarding"),
            (true, conf) => self.root.join("net/ipv6/conf").join(conf.unwrap_or("all")).join("forwarding"),
        }
    }

    /// Returns the path of one device's switch, for packets that come in by it.
    fn device_switch(&self, v6: bool, device: &str) -> PathBuf {
        let (family, name) = if v6 { ("ipv6", "force_forwarding") } else { ("ipv4", "forwarding") };
        self.root.join("net").join(family).join("conf").join(device).join(name)
    }

    fn state(&self, v6: bool) -> &FamilyState {
        let [v4_state, v6_state] = &self.families;
        if v6 { v6_state } else { v4_state }
    }

    fn state_mut(&mut self, v6: bool) -> &mut FamilyState {
        let [v4_state, v6_state] = &mut self.families;
        if v6 { v6_state } else { v4_state }
    }
}

fn ignore_not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn join_devices(devices: &BTreeSet<String>) -> String {
    if devices.is_empty() {
        return "those that forward already".to_owned();
    }
    devices.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn has_value(setting: &Path, value: &str) -> bool {
    fs::read_to_string(setting).is_ok_and(|text| text.trim() == value)
}

#[cfg(test)]
mod tests;
