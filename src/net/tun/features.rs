//! The features of the kernel's TUN driver.

use nix::libc;

use super::TunError;
use super::open::{node_error, open_node};
use crate::config::TunName;

/// Features that a start uses where they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// True if a device can have several queues.
    pub has_many_queues: bool,
    /// True if packets can have a virtio-net header, which offloads need.
    pub has_offloads: bool,
}

/// Returns the features of the driver. Creates no device.
///
/// # Errors
/// The node is missing, not permitted, or has no driver, with the remedy.
pub(crate) fn features() -> Result<Features, TunError> {
    let features = open_node().and_then(wontun_sys::tun::features);
    let features = features.map_err(|error| node_error(error, &TunName::default()))?;
    let has = |flag: libc::c_int| u32::try_from(flag).is_ok_and(|flag| features & flag != 0);
    Ok(Features { has_many_queues: has(libc::IFF_MULTI_QUEUE), has_offloads: has(libc::IFF_VNET_HDR) })
}
