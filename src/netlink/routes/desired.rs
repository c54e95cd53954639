//! The wanted routing.

use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::config::Cidr;
use crate::config::wg_quick::Table;
use wontun_proto::allowed_ips::Prefix;

/// The wanted routing of the host for one tunnel device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredRouting {
    /// The table for the routes.
    pub table: Table,
    /// The mark for outer packets that the user has configured.
    pub fwmark: Option<NonZeroU32>,
    /// The networks behind the tunnel.
    pub allowed_ips: Vec<Prefix>,
    /// The known addresses of the peers' endpoints.
    pub endpoints: Vec<IpAddr>,
    /// The device's addresses.
    pub addresses: Vec<Cidr>,
    /// True if DNS queries of all programs bypass a tunnel with policy routing.
    pub bypasses_dns: bool,
}
