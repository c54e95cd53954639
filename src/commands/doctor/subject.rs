//! The tunnel that is looked at.

use crate::config::wg_quick::WgQuick;
use crate::config::{FileOptions, NatMode, TunName};

/// The tunnel that is looked at.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: TunName,
    /// `None` without a valid file.
    pub(super) configuration: Option<WgQuick>,
    pub(super) options: FileOptions,
    pub(super) wants_kill_switch: bool,
    pub(super) is_running: bool,
    /// True if this process has CAP_NET_ADMIN.
    pub(super) is_privileged: bool,
}

impl Subject {
    pub(super) fn has_nat(&self) -> bool {
        let has_networks = |configuration: &WgQuick| !configuration.is_full_tunnel();
        self.options.nat == NatMode::Auto && self.configuration.as_ref().is_some_and(has_networks)
    }

    /// Returns true for each of IPv4 and IPv6 that the tunnel has addresses of.
    pub(super) fn families(&self) -> [bool; 2] {
        let addresses =
            || self.configuration.iter().flat_map(|configuration| &configuration.interface.addresses);
        [false, true].map(|v6| addresses().any(|cidr| cidr.address().is_ipv6() == v6))
    }
}
