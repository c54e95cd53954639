//! The netfilter tables of policy routing, equivalent to those of wg-quick(8).
//!
//! - `preraw`: drops packets to the tunnel's own addresses that another host on the link sends by
//!   another device than the tunnel.
//! - `postmangle`, `premangle`: store the mark of the outer packets in their connection and set it
//!   on the answers. With the mark, the kernel's reverse path filter (strict `rp_filter`, and
//!   `net.ipv4.conf.all.src_valid_mark`) finds the route of the outer packets for the return path;
//!   without it, it would find the tunnel and drop the answers.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use nix::libc;

use super::plan::{IpFamily, PerFamily};
use super::warning::RouteWarning;
use crate::netlink::nft::{
    AddressField, Chain, ChainType, CmpOp, Ensured, Expression, Hook, MetaKey, Nft, Priority, Table, Verdict,
};
use crate::netlink::request_error::RequestError;
use wontun_packet::transport::UDP;

/// The address type of this host's own addresses.
const RTN_LOCAL: u32 = libc::RTN_LOCAL as u32;

/// The nf_tables tables of policy routing, one per family.
#[derive(Debug)]
pub(super) struct Filters {
    /// The nf_tables socket; opened on first use, since that may load kernel modules.
    nft: Option<Nft>,
    /// The tunnel's name, which the tables' name contains.
    tunnel: String,
    /// The current name of the tunnel's device.
    device: String,
    states: PerFamily<TableState>,
}

/// State of a table.
#[derive(Debug, Default, PartialEq, Eq)]
enum TableState {
    #[default]
    Absent,
    /// A killed run may have left a table.
    Stale,
    /// The table was installed; it is in place unless another program has removed it.
    Up(Table),
}

impl Filters {
    pub(super) fn new(device: &str) -> Self {
        Self { nft: None, tunnel: device.to_owned(), device: device.to_owned(), states: PerFamily::default() }
    }

    /// Sets the new name of the device, which [`Self::install`] puts into the tables.
    pub(super) fn set_device(&mut self, device: &str) {
        device.clone_into(&mut self.device);
    }

    /// Marks the tables as possibly left over by a killed run.
    pub(super) fn mark_stale(&mut self) {
        self.states = PerFamily::new(|_| TableState::Stale);
    }

    /// Installs the table of one family, unless it is in place.
    pub(super) fn install(
        &mut self,
        family: IpFamily,
        addresses: &[IpAddr],
        mark: NonZeroU32,
    ) -> Option<RouteWarning> {
        let table = table(&self.tunnel, &self.device, family, addresses, mark.get());
        let up = TableState::Up(table.clone());
        let known = *self.states.of(family) == up;
        let outcome = self
            .nft()
            .map_err(RequestError::Socket)
            .and_then(|nft| if known { nft.ensure(&table).map(drop) } else { nft.replace(&table) });
        match outcome {
            Ok(()) => {
                *self.states.of_mut(family) = up;
                None
            }
            Err(failure) => Some(RouteWarning::Nftables {
                table: table.name,
                family: family.name(),
                reason: failure.description(),
            }),
        }
    }

    /// Restores the tables that another program has deleted or changed, and returns their
    /// names. A failure is reported by the next [`Filters::install`].
    pub(super) fn repair(&mut self) -> Vec<String> {
        let mut repaired = Vec::new();
        for family in IpFamily::BOTH {
            let TableState::Up(table) = self.states.of(family) else { continue };
            let table = table.clone();
            let found = self.nft().map_err(RequestError::Socket).and_then(|nft| nft.ensure(&table));
            if matches!(found, Ok(Ensured::Repaired)) {
                repaired.push(format!("{} {}", family.nft().name(), table.name));
            }
        }
        repaired
    }

    /// Returns true if all tables are in place unchanged.
    pub(super) fn are_intact(&mut self) -> bool {
        IpFamily::BOTH.into_iter().all(|family| {
            let TableState::Up(table) = self.states.of(family) else { return true };
            let table = table.clone();
            self.nft().is_ok_and(|nft| nft.is_intact(&table).unwrap_or(true))
        })
    }

    /// Removes the table of one family, if it may exist.
    pub(super) fn remove(&mut self, family: IpFamily) {
        if std::mem::take(self.states.of_mut(family)) != TableState::Absent {
            let name = table_name(&self.tunnel);
            if let Ok(nft) = self.nft() {
                let _ = nft.delete(family.nft(), &name);
            }
        }
    }

    fn nft(&mut self) -> io::Result<&mut Nft> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open()?)),
        }
    }
}

/// Returns the name of the tables: `wontun-` and the tunnel's name.
pub(super) fn table_name(tunnel: &str) -> String {
    format!("wontun-{tunnel}")
}

/// Builds the table for one family; `addresses` are those of the device.
fn table(tunnel: &str, device: &str, family: IpFamily, addresses: &[IpAddr], mark: u32) -> Table {
    let own = addresses.iter().filter(|address| IpFamily::of(**address) == family);
    let udp = [Expression::LoadMeta(MetaKey::L4Proto), Expression::equal(&[UDP])];
    let (kind, policy) = (ChainType::Filter, Verdict::Accept);
    let chain = |name, hook, priority, rules| Chain { name, kind, hook, priority, policy, rules };
    let save = [
        Expression::LoadMeta(MetaKey::Mark),
        Expression::equal(&mark.to_ne_bytes()),
        Expression::LoadMeta(MetaKey::Mark),
        Expression::StoreCtMark,
    ];
    let restore = [Expression::LoadCtMark, Expression::StoreMeta(MetaKey::Mark)];
    Table {
        family: family.nft(),
        name: table_name(tunnel),
        sets: vec![],
        counters: vec![],
        chains: vec![
            chain(
                "preraw",
                Hook::Prerouting,
                Priority::Raw,
                own.map(|address| drop_outside_tunnel(device, *address)).collect(),
            ),
            chain("premangle", Hook::Prerouting, Priority::Mangle, vec![[&udp[..], &restore].concat()]),
            chain("postmangle", Hook::Postrouting, Priority::Mangle, vec![[&udp[..], &save].concat()]),
        ],
        regular: vec![],
    }
}

/// Builds `iifname != DEVICE ip daddr ADDRESS fib saddr type != local drop`.
fn drop_outside_tunnel(device: &str, address: IpAddr) -> Vec<Expression> {
    let (is_v6, bytes) = match address {
        IpAddr::V4(address) => (false, address.octets().to_vec()),
        IpAddr::V6(address) => (true, address.octets().to_vec()),
    };
    let length = if is_v6 { 16 } else { 4 };
    let mut rule = Expression::device(MetaKey::IifName, CmpOp::Neq, device).to_vec();
    rule.extend([
        Expression::address(AddressField::Destination, is_v6, length),
        Expression::equal(&bytes),
        Expression::LoadSourceAddressType,
        Expression::Compare(CmpOp::Neq, RTN_LOCAL.to_ne_bytes().to_vec()),
        Expression::Verdict(Verdict::Drop),
    ]);
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nft::tests::{captured, hex};

    /// The bytes that nft(8) sends for wg-quick's rules: all for IPv4, one rule for IPv6.
    const CAPTURED: &str = include_str!("filter_as_nft_sends_it.hex");

    fn of_family(family: &str) -> Vec<(u16, String)> {
        captured(CAPTURED).into_iter().filter(|(_, body)| body.starts_with(family)).collect()
    }

    fn ours(family: IpFamily) -> Vec<(u16, String)> {
        let addresses = ["10.8.0.2".parse().unwrap(), "fd08::2".parse().unwrap()];
        hex(&table("tun0", "tun0", family, &addresses, 51_820))
    }

    #[test]
    fn the_bytes_are_nfts() {
        assert_eq!(ours(IpFamily::V4), of_family("02"));
        let v6 = ours(IpFamily::V6);
        let captured = of_family("0a");
        assert_eq!(captured.len(), 3);
        assert!(captured.iter().all(|message| v6.contains(message)), "{v6:?}");
    }
}
