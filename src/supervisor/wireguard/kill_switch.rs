//! The kill switch of a tunnel, from before anything else of the tunnel is there to after all of it
//! is gone.

use std::io;

use tracing::{info, warn};

use crate::config::{KillSwitchOptions, TunName};
use crate::link::{KillSwitch, LinkError, Pass};

/// A kill switch in place. It stays so when this is dropped, and the log says how to take it away;
/// only the tunnel's orderly end does.
#[derive(Debug)]
pub struct EngagedKillSwitch {
    name: TunName,
    keep: bool,
    /// `None` once it is taken away.
    switch: Option<KillSwitch>,
    /// The tunnel came to an orderly end.
    is_finished: bool,
}

impl EngagedKillSwitch {
    /// Puts up the kill switch of the tunnel called `name`, with everything closed. It needs
    /// nothing but the name: call it before anything that may fail.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the privilege is missing.
    pub fn engage(name: &TunName, options: &KillSwitchOptions) -> Result<Self, LinkError> {
        let KillSwitchOptions { keep, allowed } = options;
        let switch = KillSwitch::engage(name.as_str(), allowed)?;
        let shown = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let allowed = if allowed.is_empty() { "none" } else { shown.as_str() };
        info!(
            tun = %name,
            allowed,
            "the kill switch is engaged: nothing leaves this host but through the tunnel; \
             `wontun kill-switch off {name}` lets everything out"
        );
        Ok(Self { name: name.clone(), keep: *keep, switch: Some(switch), is_finished: false })
    }

    /// Lets the tunnel's own datagrams through.
    ///
    /// # Errors
    /// The kernel does not take it, and lets through what it did before.
    pub(super) fn let_through(&mut self, pass: Pass) -> io::Result<()> {
        self.switch.as_mut().map_or(Ok(()), |switch| switch.let_through(pass)).map_err(io::Error::other)
    }

    /// Puts the table up again if somebody else has deleted or changed it. Returns the table's name
    /// if so.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub(super) fn put_back(&mut self) -> io::Result<Option<String>> {
        self.switch.as_mut().map_or(Ok(None), KillSwitch::put_back).map_err(io::Error::other)
    }

    /// Switches it off until it is switched on, or the tunnel is started again.
    ///
    /// # Errors
    /// The kernel does not take it, and all is as it was.
    pub(super) fn set_engaged(&mut self, is_engaged: bool) -> io::Result<()> {
        let Some(switch) = &mut self.switch else { return Ok(()) };
        if switch.is_engaged() == is_engaged {
            return switch.put_back().map(drop).map_err(io::Error::other);
        }
        switch.set_engaged(is_engaged).map_err(io::Error::other)?;
        let name = &self.name;
        if is_engaged {
            info!(tun = %name, "the kill switch is engaged again");
        } else {
            warn!(
                tun = %name,
                "the kill switch is off, by request: it stays off until `wontun kill-switch on {name}`, or until the \
                 tunnel is started again"
            );
        }
        Ok(())
    }

    pub(super) fn is_engaged(&self) -> bool {
        self.switch.as_ref().is_some_and(KillSwitch::is_engaged)
    }

    /// The orderly end of the tunnel: takes the kill switch away, unless it is to be kept.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
        if !self.keep
            && let Some(Err(error)) = self.switch.take().map(KillSwitch::release)
        {
            let name = &self.name;
            warn!(%error, "the kill switch stays engaged: `wontun kill-switch off {name}` lets everything out");
        }
    }
}

impl Drop for EngagedKillSwitch {
    fn drop(&mut self) {
        let name = &self.name;
        let Some(switch) = self.switch.as_mut().filter(|switch| switch.is_engaged()) else { return };
        if let Err(error) = switch.close() {
            warn!(%error, "the kill switch still lets the tunnel's own datagrams through");
        }
        if self.is_finished {
            info!(
                tun = %name,
                "the kill switch stays engaged, as --kill-switch keep says: nothing leaves this host until the tunnel \
                 runs again, or `wontun kill-switch off {name}` lets it out"
            );
        } else {
            warn!(
                tun = %name,
                "the kill switch stays engaged: nothing leaves this host until the tunnel runs again, or \
                 `wontun kill-switch off {name}` lets it out"
            );
        }
    }
}
