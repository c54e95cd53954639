//! nf_tables: wontun's tables, each installed or removed in one transaction, and reading of other
//! programs' tables.
//!
//! Only the features that wontun's tables need are encoded, and only the attributes needed are
//! parsed.
//!
//! # Ownership
//!
//! Since Linux 6.9 a table can have the flags `owner` and `persist`: only the netlink socket that
//! created it can change or delete it, `nft flush ruleset` skips it, and it stays when the socket
//! closes. It is an *orphan* then, which any process may delete or replace. Each of wontun's tables
//! is edited by one [`Nft`], which lives as long as the table's owner needs it. Where the kernel
//! has no such flags, any process with CAP_NET_ADMIN can delete a table: [`NftMonitor`] reports
//! each change of the ruleset, and [`Nft::ensure`] restores missing or changed tables.

mod attributes;
mod batch;
mod constants;
mod contents;
mod found_rule;
mod listing;
mod monitor;
mod requests;
mod set;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::error;
use super::request_error::RequestError;
use super::socket::NetlinkSocket;
use batch::Batch;
use constants::{NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST};
use contents::TableContents;
pub(super) use found_rule::{FoundRule, Packet, ends_with_drop, may_accept};
pub(super) use listing::FoundChain;
use listing::FoundTable;
pub(crate) use monitor::{NftMonitor, RulesetChange};
use set::Element;
pub(crate) use table::Counted;
pub(super) use table::{
    AddressField, Chain, ChainType, CmpOp, Counter, ESTABLISHED_OR_RELATED, Elements, Expression, Family,
    Hook, IPS_DST_NAT, Key, MAX_KEY, MetaKey, PayloadBase, Priority, RegularChain, Set, Table, Verdict,
    next_key,
};

/// Flags of an owned table. Never `NFT_TABLE_F_OWNER` alone: such a table is deleted with its
/// owner.
const OWNED: u32 = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
/// Maximum number of sets read for one table.
const SETS: usize = 64;
/// Maximum number of attempts at a change while another program changes the same table.
const ATTEMPTS: u32 = 4;

/// An nf_tables socket, which owns the tables that it creates.
#[derive(Debug)]
pub(super) struct Nft {
    netlink: NetlinkSocket,
    /// `NFT_TABLE_F_*` of new tables: [`OWNED`] until the kernel refuses it as too old.
    flags: u32,
    /// Contents of the tables installed without ownership, by family and name.
    unowned: BTreeMap<(u8, String), TableContents>,
    hasher: RandomState,
}

/// State of a wanted table, found by [`Nft::ensure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ensured {
    /// The table was as wanted.
    Intact,
    /// The table was missing or changed, and has been installed again.
    Repaired,
}

impl Nft {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: NetlinkSocket::open_protocol(NETLINK_NETFILTER)?,
            flags: OWNED,
            unowned: BTreeMap::new(),
            hasher: RandomState::new(),
        })
    }

    /// Installs the table, replacing one with the same name atomically.
    pub(super) fn replace(&mut self, table: &Table) -> Result<(), RequestError> {
        for _ in 0..ATTEMPTS {
            let before = self.generation().ok();
            self.install(table)?;
            // a table that cannot be read is not intact
            if self.flags != 0 || self.record_contents(table, before).unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }

    /// Stores the contents of a table that was installed. Returns false if another program may have
    /// changed it since then, so that it is not intact. `before` is the generation of the ruleset
    /// before the change, if the kernel reports it.
    fn record_contents(&mut self, table: &Table, before: Option<u32>) -> Result<bool, RequestError> {
        let key = (table.family as u8, table.name.clone());
        self.unowned.remove(&key);
        let contents = self.contents(table)?;
        let is_own = match before {
            Some(before) => self.generation()? == contents::next_generation(before),
            None => true,
        };
        if is_own {
            self.unowned.insert(key, contents);
        }
        Ok(is_own)
    }

    fn install(&mut self, table: &Table) -> Result<(), RequestError> {
        let mut last = RequestError::NoReply;
        for _ in 0..ATTEMPTS {
            let found = self.find(table.family, &table.name)?;
            let flags = self.flags;
            let outcome = self.netlink.transact(|sequence| {
                let mut batch = Batch::new(table.family, sequence);
                batch.create_table(table, found.is_some(), flags);
                batch.finish()
            });
            let errno = match outcome {
                Ok(()) => return Ok(()),
                Err(RequestError::Refused { errno, extack }) => {
                    last = self.explained(found, errno, extack);
                    errno
                }
                Err(failure) => return Err(failure),
            };
            match errno {
                // deleted or created by another program since the lookup
                Errno::ENOENT | Errno::EEXIST => {}
                // Linux before 6.9
                Errno::EOPNOTSUPP | Errno::EINVAL if flags != 0 => self.flags = 0,
                _ => return Err(last),
            }
        }
        Err(last)
    }

    /// Restores `table` unless it is in place unchanged.
    pub(super) fn ensure(&mut self, table: &Table) -> Result<Ensured, RequestError> {
        if self.is_intact(table)? {
            return Ok(Ensured::Intact);
        }
        self.replace(table).map(|()| Ensured::Repaired)
    }

    /// Installs `wanted`, replacing the table `current`. If both are equal, restores it only if it
    /// is missing or changed.
    pub(super) fn update(
        &mut self,
        current: &mut Option<Table>,
        wanted: &Table,
    ) -> Result<Ensured, RequestError> {
        let found = match current {
            Some(current) if current == wanted => self.ensure(wanted)?,
            _ => self.replace(wanted).map(|()| Ensured::Intact)?,
        };
        *current = Some(wanted.clone());
        Ok(found)
    }

    /// Returns true if the table is in place unchanged. Only the owner can change an owned table;
    /// the contents of an unowned one are compared.
    pub(super) fn is_intact(&mut self, table: &Table) -> Result<bool, RequestError> {
        let Some(found) = self.find(table.family, &table.name)? else { return Ok(false) };
        if self.owns(found) {
            return Ok(true);
        }
        if self.flags != 0 {
            // orphaned, or created by another program: ours is owned
            return Ok(false);
        }
        match self.contents(table) {
            Ok(found) => Ok(self.unowned.get(&(table.family as u8, table.name.clone())) == Some(&found)),
            // deleted since the lookup
            Err(RequestError::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Reads the contents of a table, except those that rules change.
    fn contents(&mut self, table: &Table) -> Result<TableContents, RequestError> {
        let family = table.family as u8;
        let hasher = self.hasher.clone();
        let entry = |body: &[u8]| contents::entry(body).map(|entry| hasher.hash_one(entry));
        let chain_of = |chain: &[u8]| contents::chain_of(chain, table).map(|entry| hasher.hash_one(entry));
        let own =
            self.netlink.request_raw(|sequence| requests::get_table(table.family, &table.name, sequence))?;
        let mut contents: TableContents = own.as_deref().and_then(entry).into_iter().collect();
        contents.extend(self.netlink.dump_raw(requests::list_chains, chain_of)?);
        let list = |sequence| requests::list_rules(family, &table.name, sequence);
        contents.extend(self.netlink.dump_raw(list, entry)?);
        for set in contents::fixed_sets(table) {
            let list = |sequence| requests::list_elements(family, &table.name, set, sequence);
            contents.extend(self.netlink.dump_raw(list, entry)?);
        }
        Ok(contents)
    }

    /// Returns the generation number of the ruleset.
    fn generation(&mut self) -> Result<u32, RequestError> {
        let answer = self.netlink.request_raw(requests::get_generation)?;
        answer.as_deref().and_then(contents::generation).ok_or(RequestError::NoReply)
    }

    fn owns(&self, found: FoundTable) -> bool {
        found.owner.is_some() && self.netlink.port().ok() == found.owner
    }

    /// Converts a refusal; if the reason is that another process owns the table, to `EBUSY` with
    /// that explanation.
    fn explained(&self, found: Option<FoundTable>, errno: Errno, extack: Option<String>) -> RequestError {
        match found {
            Some(found) if errno == Errno::EPERM && found.owner.is_some() && !self.owns(found) => {
                RequestError::Refused { errno: Errno::EBUSY, extack: Some(error::OWNED.to_owned()) }
            }
            _ => RequestError::Refused { errno, extack },
        }
    }

    /// Removes the table. Returns false if it did not exist.
    ///
    /// The error is `EBUSY` if another process owns the table.
    pub(super) fn delete(&mut self, family: Family, name: &str) -> Result<bool, RequestError> {
        let found = self.find(family, name)?;
        if found.is_none() {
            return Ok(false);
        }
        let outcome = self.netlink.transact(|sequence| {
            let mut batch = Batch::new(family, sequence);
            batch.delete_table(name);
            batch.finish()
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(RequestError::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(RequestError::Refused { errno, extack }) => Err(self.explained(found, errno, extack)),
            Err(failure) => Err(failure),
        }
    }

    /// Returns true if a table of that name exists.
    pub(super) fn has(&mut self, family: Family, name: &str) -> Result<bool, RequestError> {
        Ok(self.find(family, name)?.is_some())
    }

    fn find(&mut self, family: Family, name: &str) -> Result<Option<FoundTable>, RequestError> {
        match self.netlink.request_raw(|sequence| requests::get_table(family, name, sequence)) {
            Ok(Some(body)) => Ok(FoundTable::parse(&body)),
            Ok(None) => Err(RequestError::NoReply),
            Err(RequestError::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the names of all tables of that family.
    pub(super) fn tables(&mut self, family: Family) -> Result<Vec<String>, RequestError> {
        self.netlink.dump_raw(|sequence| requests::list_tables(family, sequence), listing::table_name)
    }

    /// Returns the chains of all tables.
    pub(super) fn chains(&mut self) -> Result<Vec<FoundChain>, RequestError> {
        self.netlink.dump_raw(requests::list_chains, FoundChain::parse)
    }

    /// Returns the rules of the table that contains `chain`, evaluated for `packet`.
    pub(super) fn rules(
        &mut self,
        chain: &FoundChain,
        packet: Packet<'_>,
    ) -> Result<Vec<FoundRule>, RequestError> {
        let list = |sequence| requests::list_rules(chain.family, &chain.table, sequence);
        let mut rules = self.netlink.dump_raw(list, |rule| FoundRule::parse(rule, packet))?;
        let sets: BTreeSet<String> = rules.iter().flat_map(FoundRule::sets).map(str::to_owned).collect();
        let mut elements = BTreeMap::new();
        for set in sets.into_iter().take(SETS) {
            let list = |sequence| requests::list_elements(chain.family, &chain.table, &set, sequence);
            let found = self.netlink.dump_raw(list, Element::parse).ok().map(|elements| elements.concat());
            elements.insert(set, found);
        }
        rules.iter_mut().for_each(|rule| rule.resolve(&elements));
        Ok(rules)
    }

    /// Returns true if a table with a chain for packets of that family that leave this host has a
    /// rule that gives packets another source address.
    pub(super) fn translates_source(&mut self, v6: bool) -> Result<bool, RequestError> {
        let chains = self.chains()?;
        let tables: BTreeSet<_> = chains
            .iter()
            .filter(|chain| chain.is_postrouting() && chain.applies_to(v6))
            .map(|chain| (chain.family, chain.table.as_str()))
            .collect();
        for (family, table) in tables {
            let list = |sequence| requests::list_rules(family, table, sequence);
            if self.netlink.dump_raw(list, listing::translates_source)?.contains(&true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns what a counter of the table has counted; `None` if it does not exist.
    pub(super) fn counted(&mut self, table: &Table, counter: &str) -> Result<Option<Counted>, RequestError> {
        let get = |sequence| requests::get_counter(table.family, &table.name, counter, sequence);
        match self.netlink.request_raw(get) {
            Ok(answer) => Ok(answer.as_deref().and_then(listing::counted)),
            Err(RequestError::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the input device that a rule of `chain` in the inet table `table` names, the first
    /// if there are several.
    pub(super) fn input_device(&mut self, table: &str, chain: &str) -> Result<Option<String>, RequestError> {
        let list = |sequence| requests::list_rules(Family::Inet as u8, table, sequence);
        let devices = self.netlink.dump_raw(list, |rule| listing::input_device(rule, chain))?;
        Ok(devices.into_iter().next())
    }

    /// Returns the packets that rules of `chain` in the inet table `table` drop: the address family
    /// (true for IPv6), and the input device, if only packets of one device are dropped.
    pub(super) fn dropped_packets(
        &mut self,
        table: &str,
        chain: &str,
    ) -> Result<Vec<(bool, Option<String>)>, RequestError> {
        let list = |sequence| requests::list_rules(Family::Inet as u8, table, sequence);
        self.netlink.dump_raw(list, |rule| listing::dropped_packets(rule, chain))
    }
}

#[cfg(test)]
pub(super) mod tests {
    pub(in super::super) use super::batch::tests::{captured, hex};
}
