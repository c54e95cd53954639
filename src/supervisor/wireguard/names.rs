//! The names of the peers, for their DNS queries.

use std::net::IpAddr;

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
    let upstream = file.map(|file| file.options.dns_upstream.clone()).unwrap_or_default();
    Names::open(&file.map(addresses).unwrap_or_default(), upstream, starting)
}

impl WireGuard {
    /// Sends the process the names of the peers.
    pub(super) fn update_names(&mut self, now: Instant) {
        let Some(file) = self.source.file() else { return };
        let Some(zone) = file.server.zone.as_ref() else { return };
        let networks = file.configuration.interface.addresses.iter();
        let networks = networks.map(|cidr| Prefix::of(cidr.address(), cidr.prefix()));
        let networks = networks.filter(|network| network.length() > 0);
        let settings = ZoneSettings::new(zone.clone(), self.names.addresses(), networks);
        self.names.send(settings, self.peers.named(), now);
    }

    /// Answers queries as the file says after a reload.
    pub(super) fn reload_names(&mut self, context: &mut Context) {
        let Some(file) = self.source.file() else { return };
        let (is_sandboxed, stderr) = (context.lookups.is_sandboxed(), context.lookups.stderr());
        let (addresses, now) = (addresses(file), context.now);
        self.names.set_addresses(&addresses, &mut context.nursery, is_sandboxed, stderr, now);
        self.update_names(now);
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
