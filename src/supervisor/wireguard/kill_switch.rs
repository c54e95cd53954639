//! The kill switch of a tunnel, engaged before anything else of the tunnel exists and removed after
//! all of it is gone.

use std::io;

use tracing::{info, warn};

use crate::config::{KillSwitchOptions, TunName};
use crate::netlink::{AllowedTraffic, KillSwitch, LinkError};

/// A kill switch in place. It stays in place when this is dropped, and the log tells how to remove
/// it; only an orderly end of the tunnel removes it.
#[derive(Debug)]
pub(crate) struct EngagedKillSwitch {
    name: TunName,
    keep: bool,
    /// `None` once it is removed.
    switch: Option<KillSwitch>,
    /// True after an orderly end of the tunnel.
    is_finished: bool,
}

/// A kill switch that is engaged only after endpoint names were looked up. If the start fails
/// before that, dropping this engages it.
#[derive(Debug)]
pub(crate) struct PendingKillSwitch {
    name: TunName,
    /// `None` once it is engaged.
    options: Option<KillSwitchOptions>,
}

impl PendingKillSwitch {
    /// Plans the kill switch of the tunnel called `name`. Must be called only if nothing blocks
    /// this host's packets yet ([`EngagedKillSwitch::is_in_place`]).
    pub(crate) const fn new(name: TunName, options: KillSwitchOptions) -> Self {
        Self { name, options: Some(options) }
    }

    /// Engages it.
    ///
    /// # Errors
    /// As for [`EngagedKillSwitch::engage`].
    pub(crate) fn engage(mut self) -> Result<EngagedKillSwitch, LinkError> {
        let options = self.options.take().unwrap_or_default();
        EngagedKillSwitch::engage(&self.name, &options)
    }
}

impl Drop for PendingKillSwitch {
    fn drop(&mut self) {
        let Some(options) = self.options.take() else { return };
        // the result stays engaged when it is dropped, and logs so itself
        if let Err(error) = EngagedKillSwitch::engage(&self.name, &options) {
            warn!(%error, "the kill switch is not engaged: packets may leave this host outside the tunnel");
        }
    }
}

impl EngagedKillSwitch {
    /// Returns true if a kill switch of the tunnel called `name` is in place, by any process, or if
    /// that cannot be determined.
    pub(crate) fn is_in_place(name: &TunName) -> bool {
        KillSwitch::is_in_place(name.as_str()).unwrap_or(true)
    }

    /// Sets up the kill switch of the tunnel called `name`, with everything blocked. It needs
    /// nothing but the name: call it before anything that may fail.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the privilege is missing.
    pub(crate) fn engage(name: &TunName, options: &KillSwitchOptions) -> Result<Self, LinkError> {
        let KillSwitchOptions { keep, allowed } = options;
        let switch = KillSwitch::engage(name.as_str(), allowed)?;
        let shown = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let allowed = if allowed.is_empty() { "none" } else { shown.as_str() };
        info!(
            tun = %name,
            allowed,
            "the kill switch is engaged: packets leave this host only through the tunnel; `wontun kill-switch \
             off {name}` removes it"
        );
        Ok(Self { name: name.clone(), keep: *keep, switch: Some(switch), is_finished: false })
    }

    /// Makes it accept the tunnel's own datagrams.
    ///
    /// # Errors
    /// The kernel rejects the change, and the rules stay as they were.
    pub(super) fn allow_tunnel(&mut self, traffic: AllowedTraffic) -> io::Result<()> {
        self.switch.as_mut().map_or(Ok(()), |switch| switch.allow(traffic)).map_err(io::Error::other)
    }

    /// Changes the name of the tunnel's device to `device`.
    ///
    /// # Errors
    /// The kernel rejects it: nothing leaves by the device.
    pub(super) fn set_device(&mut self, device: &TunName) -> io::Result<()> {
        let outcome = self.switch.as_mut().map_or(Ok(()), |switch| switch.set_device(device.as_str()));
        outcome.map_err(io::Error::other)
    }

    /// Restores the table if another program has deleted or changed it. Returns the table's name if
    /// so.
    ///
    /// # Errors
    /// The kernel rejects it.
    pub(super) fn repair(&mut self) -> io::Result<Option<String>> {
        self.switch.as_mut().map_or(Ok(None), KillSwitch::repair).map_err(io::Error::other)
    }

    /// Switches it on, or off until it is switched on or the tunnel is restarted.
    ///
    /// # Errors
    /// The kernel rejects it, and nothing has changed.
    pub(super) fn set_engaged(&mut self, is_engaged: bool) -> io::Result<()> {
        let Some(switch) = &mut self.switch else { return Ok(()) };
        if switch.is_engaged() == is_engaged {
            return switch.repair().map(drop).map_err(io::Error::other);
        }
        switch.set_engaged(is_engaged).map_err(io::Error::other)?;
        let name = &self.name;
        if is_engaged {
            info!(tun = %name, "the kill switch is engaged again");
        } else {
            warn!(
                tun = %name,
                "the kill switch is off, by request: it stays off until `wontun kill-switch on {name}`, or \
                 until the tunnel is restarted"
            );
        }
        Ok(())
    }

    pub(super) fn is_engaged(&self) -> bool {
        self.switch.as_ref().is_some_and(KillSwitch::is_engaged)
    }

    /// Handles the orderly end of the tunnel: removes the kill switch, unless it is to be kept.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
        if !self.keep
            && let Some(Err(error)) = self.switch.take().map(KillSwitch::remove)
        {
            let name = &self.name;
            warn!(%error, "the kill switch stays engaged: `wontun kill-switch off {name}` removes it");
        }
    }
}

impl Drop for EngagedKillSwitch {
    fn drop(&mut self) {
        let name = &self.name;
        let Some(switch) = self.switch.as_mut().filter(|switch| switch.is_engaged()) else { return };
        if let Err(error) = switch.block_tunnel() {
            warn!(%error, "the kill switch still accepts the tunnel's own datagrams");
        }
        if self.is_finished {
            info!(
                tun = %name,
                "the kill switch stays engaged (--kill-switch keep): no packets leave this host until the \
                 tunnel is started again, or `wontun kill-switch off {name}` removes it"
            );
        } else {
            warn!(
                tun = %name,
                "the kill switch stays engaged: no packets leave this host until the tunnel is started again, \
                 or `wontun kill-switch off {name}` removes it"
            );
        }
    }
}
