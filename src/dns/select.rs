//! The choice of a back end.

use super::resolv_conf::{self, ResolvConf};
use super::resolved::{self, Resolved};
use super::{Backend, DnsError};
use crate::config::{ApplyDns, TunName};

/// Opens the back end: systemd-resolved if there is a connection to the bus, else /etc/resolv.conf.
/// `tunnel` is the name that the tunnel was started with.
///
/// # Errors
/// [`DnsError`], with the remedy.
pub(super) fn select(
    tunnel: &TunName,
    bus: Option<resolved::Connections>,
) -> Result<Box<dyn Backend>, DnsError> {
    match bus {
        Some(bus) => Ok(Box::new(Resolved::open(bus)?)),
        None => Ok(Box::new(ResolvConf::open(tunnel)?)),
    }
}

/// Opens the connections to the system bus if `method` is systemd-resolved, or may be: while this
/// process has the privileges that wontun was started with.
///
/// With [`ApplyDns::Auto`]: if /etc/resolv.conf says that systemd-resolved answers. Where that is
/// not on the bus, as in a container that has a copy of the host's file, there are no connections.
///
/// # Errors
/// [`DnsError`], with the remedy.
pub(super) fn open_bus(
    method: ApplyDns,
    is_sandboxed: bool,
) -> Result<Option<resolved::Connections>, DnsError> {
    let opened = match method {
        ApplyDns::Auto if resolved::role() == resolved::Role::Absent => return Ok(None),
        ApplyDns::Auto | ApplyDns::Resolved => resolved::Connections::open(is_sandboxed),
        ApplyDns::File | ApplyDns::Off => return Ok(None),
    };
    match opened {
        Err(_) if method == ApplyDns::Auto && !resolv_conf::is_of_resolved() => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
