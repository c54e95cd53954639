//! The name servers of the file.

use super::file::ConfigFile;
use super::state::WireGuard;
use crate::config::{ApplyDns, TunName};
use crate::supervisor::context::Context;
use crate::supervisor::dns::Dns;
use crate::supervisor::start::Starting;

/// Starts the process that applies name servers, if the file has some.
pub(super) fn open(name: &TunName, file: Option<&ConfigFile>, starting: &Starting) -> Dns {
    let method = file.map_or(ApplyDns::Off, |file| file.options.apply_dns);
    let entries = file.map(|file| file.configuration.interface.dns.as_slice());
    Dns::open(name, method, entries.unwrap_or_default(), starting)
}

impl WireGuard {
    /// Applies the name servers of the file, as it is now, for the device as it is now.
    pub(super) fn apply_dns(&mut self, context: &mut Context) {
        let Some(configuration) = self.source.configuration() else { return };
        self.dns.apply(
            &configuration.interface.dns,
            context.name.as_str(),
            context.link.index,
            configuration.is_full_tunnel(),
        );
        context.lookups.set_tunnel_servers(self.dns.servers());
    }
}
