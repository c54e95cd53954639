//! The MTU of a WireGuard device.

/// Minimum of IPv4 (RFC 791), and the largest packet that fits as a data message into a UDP
/// datagram.
pub(crate) const WIREGUARD_MTU: std::ops::RangeInclusive<u32> = 68..=65_475;
