//! A table that enforces what peers may reach, and who may open connections to them.
//!
//! The table is `wontun-peers-NAME`, with the name that the tunnel was started with, of the family
//! inet; `table.rs` describes it. It exists if a peer has rules or port forwards, or if peers may
//! reach the Internet only; isolation alone is a rule of the [guard](super::guard).
//!
//! Packets of known connections pass. So connections that the rules do not allow, and that began
//! before, are removed from the kernel's connection tracking (`conntrack.rs`): the next packet is
//! examined as that of a new one.

mod conntrack;
mod lists;
mod table;

use std::hash::{BuildHasher as _, RandomState};

use tracing::{debug, info, warn};

use super::error::LinkError;
use super::interfaces::index_of;
use super::nft::{Counted, Family, Nft, Table};
use super::request_error::RequestError;
use crate::config::access::AccessRules;

const REMEDY: &str = "check that the kernel has nf_tables with connection tracking (modprobe nf_tables nft_ct nft_fib_inet \
     nft_nat), and reload";

/// The table of one tunnel. Dropping it removes the table.
#[derive(Debug)]
pub(crate) struct AccessTable {
    /// The tunnel's name, which the table's name contains.
    tunnel: String,
    /// The current name of the tunnel's device.
    device: String,
    /// The nf_tables socket; opened on first use.
    nft: Option<Nft>,
    /// The rules that were applied last.
    rules: Option<AccessRules>,
    /// The table that was installed; it is in place unless another program has removed it.
    installed: Option<Installed>,
    /// The packets that the rules have denied, as last read.
    denied: Counted,
    hasher: RandomState,
}

/// An installed table, which may be too large to keep.
#[derive(Debug)]
struct Installed {
    /// The table without its rules and elements.
    outline: Table,
    digest: u64,
}

impl AccessTable {
    /// Returns the name of the table of the tunnel called `name`.
    pub(crate) fn table_of(name: &str) -> String {
        table::name(name)
    }

    /// Creates the table of the device called `name` in this thread's network namespace. The device
    /// need not exist yet. Changes nothing in the kernel.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            tunnel: name.to_owned(),
            device: name.to_owned(),
            nft: None,
            rules: None,
            installed: None,
            denied: Counted::default(),
            hasher: RandomState::new(),
        }
    }

    /// Sets the new name of the tunnel's device, and puts its index into the table.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub(crate) fn set_device(&mut self, device: &str) -> Result<(), LinkError> {
        device.clone_into(&mut self.device);
        match &self.rules {
            Some(rules) if self.installed.is_some() => {
                let wanted = self.table(rules)?;
                self.install(wanted).map(drop).map_err(|failure| self.install_error(failure))
            }
            _ => Ok(()),
        }
    }

    fn table(&self, rules: &AccessRules) -> Result<Table, LinkError> {
        let index = index_of(&self.device)
            .map_err(|failure| LinkError::new(format!("find the device {}", self.device), failure, ""))?;
        Ok(table::table(&self.tunnel, index, rules))
    }

    /// Returns the rules that were applied last.
    pub(crate) const fn rules(&self) -> Option<&AccessRules> {
        self.rules.as_ref()
    }

    /// Returns true if the table was installed, and not removed by [`Self::apply`].
    pub(crate) const fn is_installed(&self) -> bool {
        self.installed.is_some()
    }

    /// Installs the table for these rules, replacing one that a killed run left behind, and ends
    /// the connections that they do not allow. Without rules the table is removed.
    ///
    /// # Errors
    /// The kernel refuses the table, or the privilege is missing. The table is as it was before.
    pub(crate) fn apply(&mut self, rules: AccessRules) -> Result<(), LinkError> {
        if rules.needs_no_table() {
            self.rules = Some(rules);
            if self.installed.is_some() {
                self.remove();
            }
            return Ok(());
        }
        let wanted = self.table(&rules)?;
        let changed = self.install(wanted).map_err(|failure| self.install_error(failure))?;
        self.rules = Some(rules);
        if changed {
            self.end_denied_connections();
        }
        Ok(())
    }

    /// Installs the table unless it is in place. Returns true if it has changed.
    fn install(&mut self, wanted: Table) -> Result<bool, RequestError> {
        let digest = self.hasher.hash_one(&wanted);
        if let Some(installed) = self.installed.as_ref().filter(|installed| installed.digest == digest) {
            let outline = installed.outline.clone();
            if self.nft()?.is_intact(&outline)? {
                return Ok(false);
            }
        }
        let outline = wanted.outline();
        self.replace(wanted)?;
        self.installed = Some(Installed { outline, digest });
        Ok(true)
    }

    /// Replaces the table. Its counter continues.
    fn replace(&mut self, mut wanted: Table) -> Result<(), RequestError> {
        self.count();
        wanted.counters.iter_mut().for_each(|counter| counter.start = self.denied);
        self.nft()?.replace(&wanted)
    }

    /// Reads the counter. If another program has removed it, the last values are kept.
    pub(crate) fn count(&mut self) {
        let Some(installed) = &self.installed else { return };
        let outline = installed.outline.clone();
        match self.nft().and_then(|nft| nft.counted(&outline, table::DENIED)) {
            Ok(counted) => self.denied = counted.unwrap_or(self.denied),
            Err(failure) => debug!("cannot read a counter of {}: {}", outline.name, failure.description()),
        }
    }

    /// Returns the number of packets that the rules have denied until [`Self::count`] was called
    /// last; `None` if there are no rules.
    pub(crate) fn denied(&self) -> Option<u64> {
        self.installed.as_ref().map(|_| self.denied.packets)
    }

    /// Removes what the rules do not allow from the kernel's connection tracking.
    fn end_denied_connections(&self) {
        let Some(rules) = &self.rules else { return };
        match conntrack::end_denied(rules) {
            Ok(0) => {}
            Ok(connections) => info!(connections, "ended connections that the peers' rules do not allow"),
            Err(failure) => warn!(
                "cannot end connections that the peers' rules do not allow: {}: those that exist may continue \
                 (modprobe nf_conntrack_netlink)",
                failure.description()
            ),
        }
    }

    /// Restores the table if another program has deleted or changed it, and returns its name then.
    ///
    /// # Errors
    /// The kernel refuses it: no rule is enforced.
    pub(crate) fn repair(&mut self) -> Result<Option<String>, LinkError> {
        let Some(installed) = &self.installed else { return Ok(None) };
        let outline = installed.outline.clone();
        let name = outline.name.clone();
        match self.nft().and_then(|nft| nft.is_intact(&outline)) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(failure) => debug!("cannot compare {name}: {}", failure.description()),
        }
        let Some(rules) = &self.rules else { return Ok(None) };
        let wanted = self.table(rules)?;
        self.replace(wanted).map_err(|failure| {
            LinkError::new(format!("restore the nftables table {name}"), failure, REMEDY)
        })?;
        self.end_denied_connections();
        Ok(Some(format!("inet {name}")))
    }

    /// Returns true if the table is in place unchanged, or is not wanted.
    pub(crate) fn is_intact(&mut self) -> bool {
        let Some(installed) = &self.installed else { return true };
        let outline = installed.outline.clone();
        self.nft().is_ok_and(|nft| nft.is_intact(&outline).unwrap_or(true))
    }

    fn install_error(&self, failure: RequestError) -> LinkError {
        LinkError::new(format!("install the nftables table {}", table::name(&self.tunnel)), failure, REMEDY)
    }

    fn remove(&mut self) {
        self.count();
        let name = table::name(&self.tunnel);
        if let Err(failure) = self.nft().and_then(|nft| nft.delete(Family::Inet, &name)) {
            debug!("cannot remove {name}: {}", failure.description());
        }
        self.installed = None;
    }

    fn nft(&mut self) -> Result<&mut Nft, RequestError> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open().map_err(RequestError::opening)?)),
        }
    }
}

impl Drop for AccessTable {
    fn drop(&mut self) {
        if self.installed.is_some() {
            self.remove();
        }
    }
}
