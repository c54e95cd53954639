//! The names of the peers, for their DNS queries.

use std::net::IpAddr;

use tracing::warn;

use super::file::ConfigFile;
use super::state::WireGuard;
use crate::names::messages::ZoneSettings;
use crate::supervisor::context::Context;
use crate::supervisor::names::Names;
use crate::supervisor::start::Starting;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::time::Instant;

/// Starts the process that answers DNS queries, if the file has a domain.
pub(super) fn open(file: Option<&ConfigFile>, starting: &mut Starting) -> Names {
    Names::open(file.map(addresses).unwrap_or_default(), starting)
}

impl WireGuard {
    /// Sends the process the names of the peers. The addresses at which queries are answered, and
    /// whether they are answered at all, remain as at the start.
    pub(super) fn update_names(&mut self, now: Instant) {
        let Some(file) = self.source.file() else { return };
        let Some(zone) = file.server.zone.as_ref().filter(|_| self.names.is_open()) else { return };
        let networks = file.configuration.interface.addresses.iter();
        let networks = networks.map(|cidr| Prefix::of(cidr.address(), cidr.prefix()));
        let networks = networks.filter(|network| network.length() > 0);
        let server = self.names.addresses().iter().copied();
        let upstream = file.options.dns_upstream.iter().copied();
        let settings = ZoneSettings::new(zone.clone(), server, networks, upstream);
        self.names.send(settings, self.peers.named(), now);
    }

    /// Warns if a reload of the file has changed what remains as at the start.
    pub(super) fn warn_of_names(&self) {
        let Some(file) = self.source.file() else { return };
        if addresses(file) != self.names.addresses() {
            warn!(
                "ClientDomain, or the addresses at which DNS queries are answered, have changed: restart the tunnel"
            );
        }
    }

    /// Restarts the process, or sends it the names, if that is due.
    pub(super) fn handle_names_timeout(&mut self, context: &mut Context) {
        let now = context.now;
        let (is_sandboxed, stderr) = (context.lookups.is_sandboxed(), context.lookups.stderr());
        if self.names.handle_timeout(&mut context.nursery, is_sandboxed, stderr, now) {
            self.update_names(now);
        }
    }
}

/// Returns the addresses of the interface at which queries are answered: none without a domain, and
/// none of one link only.
fn addresses(file: &ConfigFile) -> Vec<IpAddr> {
    if file.server.zone.is_none() {
        return Vec::new();
    }
    let addresses = file.configuration.interface.addresses.iter().map(|cidr| cidr.address());
    addresses.filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()
}
