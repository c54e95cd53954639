//! Division of the allowed IPs into ordinary routes and policy routing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use nix::libc;

use super::desired::DesiredRouting;
use crate::config::wg_quick::Table;
use crate::netlink::nft;
use wontun_proto::allowed_ips::Prefix;

/// The main routing table.
pub(super) const MAIN: u32 = libc::RT_TABLE_MAIN as u32;
/// Maximum length of a wide prefix, which covers a large part of the internet: endpoints roam from
/// one into the next, so all prefixes of the same length are routed by policy if one has to be.
/// 0.0.0.0/1 and 128.0.0.0/1 are the common case.
const WIDE: u8 = 8;

/// IPv4 or IPv6, which the kernel routes separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(super) const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    pub(super) const fn netlink(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(super) const fn nft(self) -> nft::Family {
        match self {
            Self::V4 => nft::Family::Ip,
            Self::V6 => nft::Family::Ip6,
        }
    }
}

/// A pair of values, one for each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PerFamily<T> {
    v4: T,
    v6: T,
}

impl<T> PerFamily<T> {
    pub(super) fn new(mut make: impl FnMut(IpFamily) -> T) -> Self {
        Self { v4: make(IpFamily::V4), v6: make(IpFamily::V6) }
    }

    pub(super) const fn of(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    pub(super) const fn of_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.v4, &self.v6].into_iter()
    }
}

/// The wanted routes of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoutePlan {
    /// Routes for the ordinary table.
    pub(super) ordinary: BTreeSet<Prefix>,
    /// Routes for the policy table, which the outer packets must not use.
    pub(super) policy: BTreeSet<Prefix>,
}

impl RoutePlan {
    pub(super) fn new(wanted: &DesiredRouting, family: IpFamily) -> Self {
        let of_family = |prefix: &&Prefix| IpFamily::of(prefix.network()) == family;
        let all: BTreeSet<Prefix> = wanted.allowed_ips.iter().filter(of_family).copied().collect();
        match wanted.table {
            Table::Off => Self::default(),
            Table::Number(_) => Self { ordinary: all, policy: BTreeSet::new() },
            Table::Auto => {
                let policy = policy_prefixes(&all, &wanted.endpoints, family);
                Self { ordinary: all.difference(&policy).copied().collect(), policy }
            }
        }
    }

    /// Returns true if there are routes that the outer packets must not use.
    pub(super) fn has_policy(&self) -> bool {
        !self.policy.is_empty()
    }

    /// Returns the lengths of the prefixes routed by policy, longest first.
    pub(super) fn prefix_lengths(&self) -> Vec<u8> {
        let lengths: BTreeSet<u8> = self.policy.iter().map(|prefix| prefix.length()).collect();
        lengths.into_iter().rev().collect()
    }
}

fn policy_prefixes(all: &BTreeSet<Prefix>, endpoints: &[IpAddr], family: IpFamily) -> BTreeSet<Prefix> {
    let lengths: BTreeSet<u8> = all.iter().map(|prefix| prefix.length()).collect();
    let mut policy: BTreeSet<Prefix> = all.iter().filter(|prefix| prefix.length() == 0).copied().collect();
    for endpoint in endpoints.iter().map(IpAddr::to_canonical).filter(|e| IpFamily::of(*e) == family) {
        policy.extend(prefixes_containing(endpoint, &lengths).filter(|prefix| all.contains(prefix)));
    }
    let wide: BTreeSet<u8> =
        policy.iter().map(|prefix| prefix.length()).filter(|&length| length <= WIDE).collect();
    policy.extend(all.iter().filter(|prefix| wide.contains(&prefix.length())));
    policy
}

/// Returns the prefixes of these lengths that contain `address`.
fn prefixes_containing(address: IpAddr, lengths: &BTreeSet<u8>) -> impl Iterator<Item = Prefix> {
    lengths.iter().filter_map(move |&length| Prefix::new(address, length))
}

/// Returns true if `endpoint` lies in one of the ordinary prefixes: its packets would be routed
/// into the tunnel that they carry.
pub(super) fn is_captured(endpoint: IpAddr, ordinary: &BTreeSet<Prefix>) -> bool {
    (0..=IpFamily::of(endpoint).bits())
        .filter_map(|length| Prefix::new(endpoint, length))
        .any(|prefix| ordinary.contains(&prefix))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Cidr;

    fn prefix(text: &str) -> Prefix {
        let cidr: Cidr = text.parse().unwrap();
        Prefix::new(cidr.address(), cidr.prefix()).unwrap()
    }

    fn wanted(allowed_ips: &[&str], endpoints: &[&str]) -> DesiredRouting {
        DesiredRouting {
            allowed_ips: allowed_ips.iter().map(|text| prefix(text)).collect(),
            endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            ..DesiredRouting::default()
        }
    }

    fn policy(allowed_ips: &[&str], endpoints: &[&str], family: IpFamily) -> Vec<String> {
        let plan = RoutePlan::new(&wanted(allowed_ips, endpoints), family);
        plan.policy.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_goes_by_policy() {
        let far = ["198.51.100.7"];
        assert_eq!(policy(&["10.0.0.0/8", "fd00::/8"], &far, IpFamily::V4), [""; 0]);
        assert_eq!(policy(&["0.0.0.0/0", "::/0", "10.0.0.0/8"], &[], IpFamily::V4), ["0.0.0.0/0"]);
        assert_eq!(policy(&["0.0.0.0/0", "::/0"], &[], IpFamily::V6), ["::/0"]);
        // both halves, as the peer may roam; only the /9 that contains the endpoint
        assert_eq!(policy(&["0.0.0.0/1", "128.0.0.0/1"], &far, IpFamily::V4), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(policy(&["0.0.0.0/1", "128.0.0.0/1"], &[], IpFamily::V4), [""; 0]);
        let narrow = ["198.0.0.0/9", "10.0.0.0/9", "198.51.100.7/32", "198.51.100.8/32"];
        assert_eq!(policy(&narrow, &far, IpFamily::V4), ["198.0.0.0/9", "198.51.100.7/32"]);
        // an IPv4-mapped address, as an IPv6 socket reports it
        assert_eq!(policy(&["198.0.0.0/9"], &["::ffff:198.51.100.7"], IpFamily::V4), ["198.0.0.0/9"]);
        assert_eq!(policy(&["::ffff:0:0/96"], &["::ffff:198.51.100.7"], IpFamily::V6), [""; 0]);
    }

    #[test]
    fn a_table_of_the_users_has_no_policy() {
        let full = wanted(&["0.0.0.0/0", "10.0.0.0/8"], &["10.0.0.1"]);
        let off = DesiredRouting { table: Table::Off, ..full.clone() };
        assert_eq!(RoutePlan::new(&off, IpFamily::V4), RoutePlan::default());
        let number = DesiredRouting { table: Table::Number(NonZeroU32::MIN), ..full.clone() };
        let plan = RoutePlan::new(&number, IpFamily::V4);
        assert_eq!((plan.ordinary.len(), plan.has_policy()), (2, false));
        assert_eq!(RoutePlan::new(&full, IpFamily::V4).prefix_lengths(), [8, 0]);
    }

    proptest! {
        /// Each prefix is in exactly one of the two sets, and no endpoint lies in an ordinary one.
        #[test]
        fn every_prefix_has_one_place(
            prefixes in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 0..30),
            endpoints in prop::collection::vec(any::<[u8; 4]>(), 0..4),
        ) {
            let wanted = DesiredRouting {
                allowed_ips: prefixes.iter().map(|(a, l)| Prefix::new((*a).into(), *l).unwrap()).collect(),
                endpoints: endpoints.iter().map(|a| (*a).into()).collect(),
                ..DesiredRouting::default()
            };
            let plan = RoutePlan::new(&wanted, IpFamily::V4);
            prop_assert!(plan.ordinary.is_disjoint(&plan.policy));
            let all: BTreeSet<Prefix> = wanted.allowed_ips.iter().copied().collect();
            prop_assert_eq!(plan.ordinary.union(&plan.policy).copied().collect::<BTreeSet<_>>(), all);
            for endpoint in &wanted.endpoints {
                prop_assert!(!is_captured(*endpoint, &plan.ordinary));
                prop_assert!(!plan.ordinary.iter().any(|prefix| prefix.contains(*endpoint)));
            }
            prop_assert!(plan.ordinary.iter().all(|prefix| prefix.length() > 0));
        }
    }
}
