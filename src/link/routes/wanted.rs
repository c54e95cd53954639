//! The routing that is wanted.

use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::config::Cidr;
use crate::config::wg_quick::Table;
use crate::routing::Prefix;

/// What is wanted of the host's routing for one tunnel device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where the routes go.
    pub table: Table,
    /// What the user wants outer packets to be marked with.
    pub fwmark: Option<NonZeroU32>,
    /// The networks behind the tunnel.
    pub allowed_ips: Vec<Prefix>,
    /// Where the peers are now, as far as is known.
    pub endpoints: Vec<IpAddr>,
    /// The device's addresses.
    pub addresses: Vec<Cidr>,
    /// Questions to name servers, whoever asks, pass a tunnel with policy routing by.
    pub passes_dns: bool,
}
