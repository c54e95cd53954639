//! The host's routes to what the peers may be sent, where they are ours to set.

use super::WireGuard;
use crate::device::core::Core;

impl WireGuard {
    /// The routes follow the peers' allowed IPs and endpoints.
    pub(super) fn update_routes(&mut self, _core: &mut Core) {}

    /// A device that was down has lost its routes.
    pub(super) fn restore_routes(&mut self, _core: &mut Core) {}
}
