//! Invitations: peers whose key is a one-time key, which a device replaces by its own.

use std::num::NonZeroU16;

/// UDP port on the server's addresses in the tunnel at which devices are enrolled. Nothing else is
/// reached with a one-time key.
pub const RESPONDER_PORT: NonZeroU16 = match NonZeroU16::new(41_820) {
    Some(port) => port,
    None => NonZeroU16::MIN,
};
