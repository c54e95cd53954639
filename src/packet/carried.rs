//! What a tunnel carries, in either direction and whatever the protocol.

use super::{icmpv6, ip};
use crate::counters::DropReason;

/// What may cross the tunnel, either way. A router advertisement or a redirect from the peer could turn this
/// host's routes, and a tunnel, which has no link addresses, needs nothing of the kind.
///
/// # Errors
/// The reason why it is not.
pub fn check(packet: &[u8]) -> Result<(), DropReason> {
    match ip::well_formed(packet) {
        None => Err(DropReason::Malformed),
        Some(ip::Version::V6) if icmpv6::is_neighbour_discovery(packet) => {
            Err(DropReason::NeighbourDiscovery)
        }
        Some(_) => Ok(()),
    }
}
