//! A table that lets nothing out but by the tunnel, for hosts that would rather be silent than talk past it.
//!
//! It is `wontun-lock-NAME`, of the family inet, with one chain. Its hook is postrouting, the last place where a packet
//! of this host or a forwarded one passes, when the device that it leaves by is certain; its priority is behind
//! everybody else's. What is not known of here does not get out. What gets out:
//!
//! - by the loopback device, and by the tunnel, whether it exists or not;
//! - with our mark: the datagrams of the tunnel and the resolver's questions;
//! - answers that came out of the tunnel, to hosts that this one is the router of (since Linux 5.7);
//! - what a host needs to have a network at all: DHCP's questions, and IPv6's for routers and neighbours.
//!
//! The policy to drop is not enough. When one transaction replaces a chain, the kernel takes the old one off its hook
//! before it gives the new one its policy, while the new one's rules count from the first moment: so the last rule
//! drops, too.
//!
//! Nothing here belongs to a process: the table stays when we die, whatever of, and is taken away by
//! [`KillSwitch::release`] or by `wontun unlock`.

use std::num::NonZeroU32;

use nix::errno::Errno;

use super::error::LinkError;
use super::nft::{
    Chain, Comparison, ESTABLISHED_OR_RELATED, Family, Found, Header, Hook, Kind, Meta, Nft, Priority, Step,
    Table, Verdict,
};
use super::socket::Failure;

const PREFIX: &str = "wontun-lock-";
const REMEDY: &str = "see that the kernel has nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; modprobe nf_tables \
                      nft_ct)";
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Source and destination port, as they stand in the header: RFC 2131, section 4.1; RFC 8415, section 7.2.
const DHCP: [u8; 4] = [0, 68, 0, 67];
const DHCPV6: [u8; 4] = [2, 34, 2, 35];
/// Router solicitation to neighbour advertisement: RFC 4861, section 4.
const DISCOVERY: [u8; 2] = [133, 136];

/// The kill switch of one tunnel device, which is engaged. Dropping it leaves it so.
#[derive(Debug)]
pub struct KillSwitch {
    nft: Nft,
    device: String,
    /// What was put up last.
    table: Table,
}

impl KillSwitch {
    /// What the tunnel's sockets are to be marked with where nothing else asks for a mark: wg-quick's.
    pub const MARK: NonZeroU32 = NonZeroU32::new(51_820).unwrap();

    /// Drops everything from now on that would leave this host past the device called `name`, which need not exist
    /// yet, but for what carries `mark`. In the place of one that an earlier run left: there is no moment without.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the privilege is missing.
    pub fn engage(name: &str, mark: Option<NonZeroU32>) -> Result<Self, LinkError> {
        let action = || format!("put up the kill switch of {name}");
        let mut nft = open(action)?;
        let table = table(name, mark);
        nft.replace(&table).map_err(|failure| LinkError::new(action(), failure, REMEDY))?;
        Ok(Self { nft, device: name.to_owned(), table })
    }

    /// Lets through what carries `mark`, instead of the mark before. Also puts the table up again if somebody has taken
    /// it away.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`]; the mark before is still let through.
    pub fn let_through(&mut self, mark: Option<NonZeroU32>) -> Result<(), LinkError> {
        let action = || format!("change the kill switch of {}", self.device);
        let wanted = table(&self.device, mark);
        let outcome = self
            .nft
            .has(wanted.family, &wanted.name)
            .and_then(|there| if there && self.table == wanted { Ok(()) } else { self.nft.replace(&wanted) });
        outcome.map_err(|failure| LinkError::new(action(), failure, REMEDY))?;
        self.table = wanted;
        Ok(())
    }

    /// Puts the table up again if somebody else has deleted or changed it. Returns the table's name if so.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`].
    pub fn repair(&mut self) -> Result<Option<String>, LinkError> {
        let found = self.nft.ensure(&self.table).map_err(|failure| {
            LinkError::new(format!("put back the kill switch of {}", self.device), failure, REMEDY)
        })?;
        Ok((found == Found::Repaired).then(|| format!("inet {}", self.table.name)))
    }

    /// Lets everything out again.
    ///
    /// # Errors
    /// Netlink fails; then nothing is let out.
    pub fn release(mut self) -> Result<(), LinkError> {
        remove(&mut self.nft, &self.device).map(drop)
    }

    /// Whether the kill switch of the device called `name` is engaged, by whomever.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn is_engaged(name: &str) -> Result<bool, LinkError> {
        let action = || format!("look for a kill switch of {name}");
        let found = open(action)?.has(Family::Inet, &table_name(name));
        found.map_err(|failure| LinkError::new(action(), failure, REMEDY))
    }

    /// The names of the devices whose kill switches are engaged.
    ///
    /// # Errors
    /// Netlink fails.
    pub fn all() -> Result<Vec<String>, LinkError> {
        let action = || "look for kill switches".to_owned();
        let tables = open(action)?.tables(Family::Inet);
        let tables = tables.map_err(|failure| LinkError::new(action(), failure, REMEDY))?;
        Ok(tables.iter().filter_map(|table| table.strip_prefix(PREFIX)).map(str::to_owned).collect())
    }

    /// Takes away the kill switch of the device called `name`, whoever engaged it, and says whether there was one.
    ///
    /// # Errors
    /// The privilege is missing, or netlink fails.
    pub fn unlock(name: &str) -> Result<bool, LinkError> {
        remove(&mut open(|| format!("take away the kill switch of {name}"))?, name)
    }
}

fn open(action: impl Fn() -> String) -> Result<Nft, LinkError> {
    Nft::open().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno @ Errno::EPROTONOSUPPORT) => {
            LinkError::new(action(), Failure::Refused { errno, said: None }, REMEDY)
        }
        _ => LinkError::new(action(), Failure::Socket(error), REMEDY),
    })
}

fn remove(nft: &mut Nft, device: &str) -> Result<bool, LinkError> {
    let outcome = nft.delete(Family::Inet, &table_name(device));
    outcome.map_err(|f| LinkError::new(format!("take away the kill switch of {device}"), f, REMEDY))
}

fn table_name(device: &str) -> String {
    format!("{PREFIX}{device}")
}

fn table(device: &str, mark: Option<NonZeroU32>) -> Table {
    let leaves_by = |name| Step::device(Meta::OutputInterfaceName, Comparison::Equal, name).to_vec();
    let marked = |mark: NonZeroU32| vec![Step::LoadMeta(Meta::Mark), Step::equal(&mark.get().to_ne_bytes())];
    let mut answer = Step::device(Meta::InputInterfaceName, Comparison::Equal, device).to_vec();
    answer.extend([
        Step::LoadConnectionState,
        Step::Mask(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
        Step::Compare(Comparison::NotEqual, vec![0; 4]),
    ]);
    let [first, last] = DISCOVERY;
    let mut discovery = transport(Family::Ip6, ICMPV6, 1);
    discovery
        .extend([Step::Compare(Comparison::Least, vec![first]), Step::Compare(Comparison::Most, vec![last])]);
    let ports = |family, ports: [u8; 4]| {
        let mut rule = transport(family, UDP, 4);
        rule.push(Step::equal(&ports));
        rule
    };
    let mut rules = vec![leaves_by("lo"), leaves_by(device)];
    rules.extend(mark.map(marked));
    rules.extend([answer, ports(Family::Ip, DHCP), ports(Family::Ip6, DHCPV6), discovery]);
    for rule in &mut rules {
        rule.push(Step::Decide(Verdict::Accept));
    }
    rules.push(vec![Step::Decide(Verdict::Drop)]);
    let leaving = Chain {
        name: "leaving",
        kind: Kind::Filter,
        hook: Hook::Postrouting,
        priority: Priority::Last,
        policy: Verdict::Drop,
        rules,
    };
    Table { family: Family::Inet, name: table_name(device), sets: vec![], chains: vec![leaving] }
}

/// Goes on for packets of one family and protocol, with the first bytes of what the IP header is in front of.
fn transport(family: Family, protocol: u8, length: u32) -> Vec<Step> {
    vec![
        Step::LoadMeta(Meta::NetworkProtocol),
        Step::equal(&[family as u8]),
        Step::LoadMeta(Meta::TransportProtocol),
        Step::equal(&[protocol]),
        Step::LoadHeader { header: Header::Transport, offset: 0, length },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::nft::tests::{captured, hex};

    /// What nft(8) sends for
    ///
    /// ```text
    /// chain leaving { type filter hook postrouting priority 2147483647; policy drop;
    ///     oifname "lo" accept
    ///     oifname "tun0" accept
    ///     meta mark 51820 accept
    ///     iifname "tun0" ct state & 6 != 0 accept
    ///     meta nfproto ipv4 udp sport 68 udp dport 67 accept
    ///     meta nfproto ipv6 udp sport 546 udp dport 547 accept
    ///     meta nfproto ipv6 icmpv6 type 133-136 accept
    ///     drop
    /// }
    /// ```
    const CAPTURED: &str = include_str!("kill_switch_as_nft_sends_it.hex");

    #[test]
    fn the_bytes_are_nfts() {
        let sent = hex(&table("tun0", Some(KillSwitch::MARK)));
        assert_eq!(sent[1..], captured(CAPTURED));
    }

    #[test]
    fn without_a_mark_there_is_no_rule_for_one() {
        let [with, without] = [Some(KillSwitch::MARK), None].map(|mark| table("tun0", mark));
        let mut rules = with.chains[0].rules.clone();
        rules.remove(2);
        assert_eq!(without.chains[0].rules, rules);
    }
}
