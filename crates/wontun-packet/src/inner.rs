//! Validation of inner packets, those that enter or leave a tunnel: the same for both directions
//! and both protocols.

use super::{icmpv6, ip};
use crate::DropReason;

/// Returns `Ok` if the packet may cross the tunnel, in either direction. IPv6 neighbour discovery
/// is refused: a router advertisement or a redirect from the peer could change this host's routes,
/// and a tunnel has no link addresses, so it needs none of these messages.
///
/// # Errors
/// The reason for the drop: the packet is malformed, or is a neighbour discovery message.
pub fn validate(packet: &[u8]) -> Result<(), DropReason> {
    match ip::validate(packet) {
        None => Err(DropReason::Malformed),
        Some(ip::Version::V6) if icmpv6::is_neighbour_discovery(packet) => {
            Err(DropReason::NeighbourDiscovery)
        }
        Some(_) => Ok(()),
    }
}
