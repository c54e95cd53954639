//! The mode's part of a hand-over: what it offers to the process that takes the tunnel over, and
//! what it sets up after it has taken the tunnel over itself.

use std::net::IpAddr;
use std::num::NonZeroU32;

use tracing::warn;

use super::state::WireGuard;
use crate::config::Cidr;
use crate::supervisor::context::Context;
use crate::supervisor::error::SupervisorError;
use crate::supervisor::hand_over::ModeOffer;

impl WireGuard {
    /// Returns the resources for the process that takes the tunnel over.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub(super) fn offer_resources(&self) -> Result<ModeOffer, String> {
        let shared = |error: std::io::Error| format!("its sockets cannot be duplicated: {error}");
        let configuration = self.source.configuration();
        let configuration = configuration.ok_or("no file describes the tunnel: stop this process first")?;
        let addresses = configuration.interface.addresses.iter();
        self.admin.share();
        Ok(ModeOffer {
            port: self.sockets.port(),
            mark: self.mark.map_or(0, NonZeroU32::get),
            addresses: addresses.map(|cidr| (cidr.address(), cidr.prefix())).collect(),
            sockets: self.sockets.share().map_err(shared)?,
            uapi: self.uapi.share().map_err(shared)?,
        })
    }

    /// Makes the host's state that the other process has left in place this one's, and adapts it to
    /// the file, which may have changed since that process read it.
    pub(super) fn settle_after_take_over(&mut self, context: &mut Context) {
        self.uapi.keep();
        self.settle_state();
        if let Err(error) = self.settle_device(context) {
            warn!(%error, "cannot adapt the device to the file");
        }
        if let Err(error) = self.open_routes(context) {
            warn!(%error, "cannot adapt the host's routes to the file");
        }
        let name = context.name.clone();
        if let Err(error) = self.firewall.set_up(&name, self.source.file()) {
            warn!(%error, "cannot adapt the tunnel's tables to the file");
        }
        self.enforce_rules_after_take_over(context);
        self.update_firewall();
        self.warn_of_other_family();
        self.settle_port(context);
        // the other process has left its own in place
        self.apply_dns(context);
        context.link.adapt_gso_size();
    }

    fn settle_device(&mut self, context: &mut Context) -> Result<(), SupervisorError> {
        let Some(configuration) = self.source.configuration() else { return Ok(()) };
        let interface = &configuration.interface;
        let link = &mut context.link;
        if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != link.mtu) {
            link.link.set_mtu(mtu)?;
        }
        // set already: the addresses that the other process had
        let configured = link.link.replace_addresses(&interface.addresses)?;
        link.warn_ipv6_disabled(&configured);
        link.record_state()?;
        context.tunnel.set_link(context.link.message());
        Ok(())
    }

    /// Changes the port if the file has another one now.
    fn settle_port(&mut self, context: &mut Context) {
        let wanted = self.source.configuration().and_then(|file| file.interface.listen_port);
        if let Some(port) = wanted.map(std::num::NonZeroU16::get).filter(|port| *port != self.sockets.port())
            && let Err(error) = self.listen(context, port)
        {
            warn!(%error, port, "cannot change the port to the file's");
        }
    }
}

/// Converts the addresses of an offer.
pub(super) fn addresses(offered: Vec<(IpAddr, u8)>) -> Vec<Cidr> {
    offered.into_iter().filter_map(|(address, prefix)| Cidr::new(address, prefix)).collect()
}
