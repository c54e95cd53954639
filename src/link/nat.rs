//! What a server does for its peers on their way to the rest of the world: forwarding, and its own address on what
//! they send. As `iptables -t nat -A POSTROUTING -s 10.8.0.0/24 ! -o tun0 -j MASQUERADE` and its companions do, whatever
//! the outer device is called.
//!
//! One table of our own, `wontun-nat-NAME`, of the family inet:
//!
//! - `postrouting`: what leaves from the VPN's networks by another device than the tunnel gets that device's address;
//! - `forward`: TCP connections through the tunnel agree on segments that fit both ways, and what comes out of the
//!   tunnel or goes into it is accepted. That does not undo what another table drops: such are found and named.

mod foreign;
mod warning;

use std::io;

use self::foreign::look_for_drops;
pub use self::warning::NatWarning;
use super::error;
use super::forwarding::{Forwarding, Outcome};
use super::nft::{
    Chain, Comparison, Elements, Family, Found, Header, Hook, Kind, Meta, Nft, Priority, Set, Step, Table,
    Verdict,
};
use super::ranges;
use super::socket::Failure;
use crate::routing::Prefix;

const TCP: u8 = 6;
/// Where the flags are in the TCP header, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 2;
const RST: u8 = 4;

/// Forwarding and address translation for one tunnel device; the table goes when it is dropped.
#[derive(Debug)]
pub struct Nat {
    device: String,
    /// Opened when it is needed: that may load the kernel's modules.
    nft: Option<Nft>,
    /// What [`Nat::apply`] was last called for.
    networks: Vec<Prefix>,
    /// It was put up, and is there unless somebody flushed it.
    table: Option<Table>,
    forwarding: Forwarding,
    told: Vec<NatWarning>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatApplied {
    /// The sysctl settings that were off, and are on from now on, also after the tunnel's end.
    pub turned_on: Vec<&'static str>,
    /// The table that somebody else had deleted or changed, and that has been put up again.
    pub repaired: Option<String>,
    /// What could not be had, and was not said the last time.
    pub warnings: Vec<NatWarning>,
}

impl Nat {
    /// For the device called `name`, in this thread's network namespace. Changes nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            device: name.to_owned(),
            nft: None,
            networks: Vec::new(),
            table: None,
            forwarding: Forwarding::new(),
            told: Vec::new(),
        }
    }

    /// Lets the addresses in `networks` through to whatever is not the tunnel. A table that a killed run of the same
    /// device name left behind is replaced. Without networks there is nothing to do, and the table goes.
    ///
    /// What cannot be had is a warning: the tunnel itself does not need it.
    pub fn apply(&mut self, networks: &[Prefix]) -> NatApplied {
        let mut applied = NatApplied::default();
        self.networks = networks.to_vec();
        let wanted = table(&self.device, networks);
        if wanted.sets.is_empty() {
            self.take_away();
            return applied;
        }
        for v6 in [false, true].into_iter().filter(|v6| has_family(&wanted, *v6)) {
            match self.forwarding.turn_on(&self.device, v6) {
                Outcome::On | Outcome::Absent => {}
                Outcome::TurnedOn => applied.turned_on.push(Forwarding::key(v6)),
                Outcome::Off(error) => applied.warnings.push(self.no_forwarding(v6, true, &error)),
                Outcome::Unknown(error) => applied.warnings.push(self.no_forwarding(v6, false, &error)),
            }
        }
        match self.put_up(&wanted) {
            Ok(found) => {
                applied.repaired = (found == Found::Repaired).then(|| format!("inet {}", wanted.name));
                applied.warnings.extend(self.look_for_drops(&wanted));
            }
            Err(failure) => applied
                .warnings
                .push(NatWarning::Nftables { table: wanted.name, reason: failure.described() }),
        }
        let new = applied.warnings.iter().filter(|warning| !self.told.contains(warning)).cloned().collect();
        self.told = std::mem::replace(&mut applied.warnings, new);
        applied
    }

    /// Whether `networks` are what [`Nat::apply`] was last called for, so that there is nothing to do unless somebody
    /// else changed something.
    pub fn is_wanted(&self, networks: &[Prefix]) -> bool {
        self.networks == networks
    }

    /// Takes the table away, also one that a killed run left behind.
    pub fn take_away(&mut self) {
        self.table = None;
        let name = table_name(&self.device);
        if let Ok(nft) = self.nft() {
            let _ = nft.delete(Family::Inet, &name);
        }
    }

    fn no_forwarding(&self, v6: bool, off: bool, error: &io::Error) -> NatWarning {
        let (device, key) = (self.device.clone(), Forwarding::key(v6));
        NatWarning::Forwarding { device, key, off, reason: error::described(error) }
    }

    fn put_up(&mut self, wanted: &Table) -> Result<Found, Failure> {
        let mut kept = self.table.take();
        let outcome = self.nft().and_then(|nft| nft.keep(&mut kept, wanted));
        self.table = kept;
        outcome
    }

    /// Puts the table up again if somebody else has deleted or changed it. Returns the table's name if so;
    /// that it cannot be had is told by the next [`Nat::apply`].
    pub fn repair(&mut self) -> Option<String> {
        let wanted = self.table.clone()?;
        let found = self.nft().and_then(|nft| nft.ensure(&wanted)).ok()?;
        (found == Found::Repaired).then(|| format!("inet {}", wanted.name))
    }

    fn look_for_drops(&mut self, wanted: &Table) -> Vec<NatWarning> {
        let families = [false, true].map(|v6| has_family(wanted, v6));
        let device = self.device.clone();
        // who cannot be asked drops nothing that we know of
        self.nft().ok().map(|nft| look_for_drops(nft, &device, families)).unwrap_or_default()
    }

    fn nft(&mut self) -> Result<&mut Nft, Failure> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open().map_err(Failure::Socket)?)),
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        if self.table.is_some() {
            self.take_away();
        }
    }
}

fn table_name(device: &str) -> String {
    format!("wontun-nat-{device}")
}

fn has_family(table: &Table, v6: bool) -> bool {
    let family = if v6 { Family::Ip6 } else { Family::Ip };
    table.sets.iter().any(|set| set.family == family)
}

/// The table for a device and the networks behind it; without sets if there are none.
fn table(device: &str, networks: &[Prefix]) -> Table {
    let sets: Vec<Set> = [("v4", Family::Ip, false), ("v6", Family::Ip6, true)]
        .into_iter()
        .map(|(name, family, v6)| (name, family, ranges::merged(networks, v6)))
        .filter(|(_, _, ranges)| !ranges.is_empty())
        .map(|(name, family, ranges)| Set { name, family, elements: Elements::Ranges(ranges) })
        .collect();
    let translate = sets.iter().enumerate().map(|(number, set)| masquerade(device, number, set.family));
    let accept = |which| {
        let mut rule = Step::device(which, Comparison::Equal, device).to_vec();
        rule.push(Step::Decide(Verdict::Accept));
        rule
    };
    let (from, to) = (Meta::InputInterfaceName, Meta::OutputInterfaceName);
    let chains = vec![
        Chain {
            name: "forward",
            kind: Kind::Filter,
            hook: Hook::Forward,
            priority: Priority::Filter,
            policy: Verdict::Accept,
            rules: vec![clamp(device, from), clamp(device, to), accept(from), accept(to)],
        },
        Chain {
            name: "postrouting",
            kind: Kind::Nat,
            hook: Hook::Postrouting,
            priority: Priority::SourceNat,
            policy: Verdict::Accept,
            rules: translate.collect(),
        },
    ];
    Table { family: Family::Inet, name: table_name(device), sets, chains }
}

/// `ip saddr @v4 oifname != DEVICE masquerade`
fn masquerade(device: &str, set: usize, family: Family) -> Vec<Step> {
    let (offset, length) = if family == Family::Ip { (12, 4) } else { (8, 16) };
    let mut rule = vec![
        Step::LoadMeta(Meta::NetworkProtocol),
        Step::equal(&[family as u8]),
        Step::LoadHeader { header: Header::Network, offset, length },
        Step::Lookup(set),
    ];
    rule.extend(Step::device(Meta::OutputInterfaceName, Comparison::NotEqual, device));
    rule.push(Step::Masquerade);
    rule
}

/// `iifname DEVICE tcp flags syn / syn,rst tcp option maxseg size set rt mtu`, or `oifname`
fn clamp(device: &str, which: Meta) -> Vec<Step> {
    let mut rule = Step::device(which, Comparison::Equal, device).to_vec();
    rule.extend([
        Step::LoadMeta(Meta::TransportProtocol),
        Step::equal(&[TCP]),
        Step::LoadHeader { header: Header::Transport, offset: TCP_FLAGS, length: 1 },
        Step::Mask(vec![SYN | RST]),
        Step::equal(&[SYN]),
        Step::LoadSegmentSize,
        Step::ToNetworkOrder,
        Step::StoreSegmentSize,
    ]);
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::nft::tests::{captured, hex};

    /// For the rules in the comments above. The sets are compared in `nft`.
    const CAPTURED: &str = include_str!("nat_as_nft_sends_it.hex");
    const NEWCHAIN: u16 = 0xa03;
    const NEWRULE: u16 = 0xa06;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_are_nfts() {
        let networks = ["10.8.0.0/24", "10.9.0.0/16", "255.0.0.0/8", "fd08::/64"].map(prefix);
        let sent = hex(&table("tun0", &networks));
        let chains_and_rules: Vec<_> =
            sent.into_iter().filter(|(kind, _)| matches!(*kind, NEWCHAIN | NEWRULE)).collect();
        assert_eq!(chains_and_rules, captured(CAPTURED));
    }

    #[test]
    fn a_family_without_networks_is_left_alone() {
        let only_v6 = table("tun0", &[prefix("fd08::/64")]);
        assert!(has_family(&only_v6, true) && !has_family(&only_v6, false));
        assert_eq!(only_v6.chains[1].rules.len(), 1);
        assert!(only_v6.chains[1].rules[0].contains(&Step::Lookup(0)));
        assert!(table("tun0", &[]).sets.is_empty());
    }
}
