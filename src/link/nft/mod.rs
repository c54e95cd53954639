//! nf_tables: tables of ours, each put up or taken away in one transaction, and what others have there.
//!
//! Only what our tables need can be said, and only what concerns us is read.
//!
//! # Ownership
//!
//! Since Linux 6.9 a table can have the flags `owner` and `persist`: only the netlink socket that
//! created it can change or delete it, `nft flush ruleset` passes it by, and it stays when the
//! socket closes. It is an *orphan* then, which anybody may delete or replace. Each table of ours
//! is edited by one [`Nft`], which lives as long as whoever keeps the table up. Where the kernel
//! has no such flags, anybody with CAP_NET_ADMIN can delete a table: [`Watch`] reports each change
//! of the ruleset, and [`Nft::ensure`] puts back what is missing or changed.

mod batch;
mod contents;
mod found_rule;
mod listing;
mod set;
mod table;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::error;
use super::failure::Failure;
use super::socket::Requests;
use batch::Batch;
use contents::Contents;
pub(super) use found_rule::{FoundRule, Packet, ends_with_drop, may_accept};
pub(super) use listing::FoundChain;
use listing::FoundTable;
use set::Element;
pub(super) use table::{
    Chain, Comparison, DESTINATION_TRANSLATED, ESTABLISHED_OR_RELATED, Elements, End, Family, Header, Hook,
    Kind, Meta, Priority, Set, Step, Table, Verdict,
};
pub use watch::{RulesetChange, Watch};

/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`. Never the first alone: such a table goes with its
/// owner.
const OWNED: u32 = 2 | 4;
/// Sets of a table that are read at most.
const SETS: usize = 64;
/// Attempts at a change while somebody else changes the same table.
const ATTEMPTS: u32 = 4;

/// A socket to nf_tables, and the tables that it owns.
#[derive(Debug)]
pub(super) struct Nft {
    requests: Requests,
    /// `NFT_TABLE_F_*` of new tables: [`OWNED`] until the kernel turns out to be too old.
    flags: u32,
    /// Contents of the tables that were put up without ownership, by family and name.
    unowned: BTreeMap<(u8, String), Contents>,
}

/// State of a wanted table, found by [`Nft::ensure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was as wanted.
    Intact,
    /// It was missing or changed, and has been put up again.
    Repaired,
}

impl Nft {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            requests: Requests::open_protocol(NETLINK_NETFILTER)?,
            flags: OWNED,
            unowned: BTreeMap::new(),
        })
    }

    /// Puts up the table in the place of one with the same name, if there is one: there is no moment without.
    pub(super) fn replace(&mut self, table: &Table) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let before = self.generation().ok();
            self.put_up(table)?;
            // one that cannot be read is not intact
            if self.flags != 0 || self.remember(table, before).unwrap_or(false) {
                break;
            }
        }
        Ok(())
    }

    /// Remembers the contents of a table that was put up, and returns false if somebody may have
    /// changed them since then: it is not intact then. `before` is the ruleset's generation before,
    /// if the kernel tells.
    fn remember(&mut self, table: &Table, before: Option<u32>) -> Result<bool, Failure> {
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

    fn put_up(&mut self, table: &Table) -> Result<(), Failure> {
        let mut last = Failure::Unanswered;
        for _ in 0..ATTEMPTS {
            let found = self.find(table.family, &table.name)?;
            let flags = self.flags;
            let outcome = self.requests.transact(|sequence| {
                let mut batch = Batch::new(table.family, sequence);
                batch.put_up(table, found.is_some(), flags);
                batch.finish()
            });
            let errno = match outcome {
                Ok(()) => return Ok(()),
                Err(Failure::Refused { errno, said }) => {
                    last = self.explained(found, errno, said);
                    errno
                }
                Err(failure) => return Err(failure),
            };
            match errno {
                // deleted or created by somebody else since it was looked for
                Errno::ENOENT | Errno::EEXIST => {}
                // Linux before 6.9
                Errno::EOPNOTSUPP | Errno::EINVAL if flags != 0 => self.flags = 0,
                _ => return Err(last),
            }
        }
        Err(last)
    }

    /// Sees that `table` is there, as it was put up, and puts it up again if it is not.
    pub(super) fn ensure(&mut self, table: &Table) -> Result<Found, Failure> {
        if self.is_intact(table)? {
            return Ok(Found::Intact);
        }
        self.replace(table).map(|()| Found::Repaired)
    }

    /// Puts up `wanted` in the place of the table `kept`, or sees that it is there if they are the
    /// same.
    pub(super) fn keep(&mut self, kept: &mut Option<Table>, wanted: &Table) -> Result<Found, Failure> {
        let found = match kept {
            Some(kept) if kept == wanted => self.ensure(wanted)?,
            _ => self.replace(wanted).map(|()| Found::Intact)?,
        };
        *kept = Some(wanted.clone());
        Ok(found)
    }

    /// Nobody but the owner changes an owned table. The contents of one that anybody can change are
    /// compared.
    pub(super) fn is_intact(&mut self, table: &Table) -> Result<bool, Failure> {
        let Some(found) = self.find(table.family, &table.name)? else { return Ok(false) };
        if self.owns(found) {
            return Ok(true);
        }
        if self.flags != 0 {
            // orphaned, or created by somebody else: ours is owned
            return Ok(false);
        }
        match self.contents(table) {
            Ok(found) => Ok(self.unowned.get(&(table.family as u8, table.name.clone())) == Some(&found)),
            // deleted since then
            Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Reads the contents of a table, but for what rules change.
    fn contents(&mut self, table: &Table) -> Result<Contents, Failure> {
        let family = table.family as u8;
        let own = self.requests.query(|sequence| batch::get_table(table.family, &table.name, sequence))?;
        let mut contents: Contents = own.as_deref().and_then(contents::entry).into_iter().collect();
        contents.extend(self.requests.list(batch::list_chains, |chain| contents::chain_of(chain, table))?);
        let list = |sequence| batch::list_rules(family, &table.name, sequence);
        contents.extend(self.requests.list(list, contents::entry)?);
        for set in contents::fixed_sets(table) {
            let list = |sequence| batch::list_elements(family, &table.name, set, sequence);
            contents.extend(self.requests.list(list, contents::entry)?);
        }
        Ok(contents)
    }

    /// Returns the number of the ruleset's generation.
    fn generation(&mut self) -> Result<u32, Failure> {
        let answer = self.requests.query(batch::get_generation)?;
        answer.as_deref().and_then(contents::generation).ok_or(Failure::Unanswered)
    }

    fn owns(&self, found: FoundTable) -> bool {
        found.owner.is_some() && self.requests.port().ok() == found.owner
    }

    /// Says of a refusal that another process owns the table, if that is the reason.
    fn explained(&self, found: Option<FoundTable>, errno: Errno, said: Option<String>) -> Failure {
        match found {
            Some(found) if errno == Errno::EPERM && found.owner.is_some() && !self.owns(found) => {
                Failure::Refused { errno: Errno::EBUSY, said: Some(error::OWNED.to_owned()) }
            }
            _ => Failure::Refused { errno, said },
        }
    }

    /// Takes the table away, and says whether it was there.
    ///
    /// The kernel's answer is `EBUSY` where another process owns the table.
    pub(super) fn delete(&mut self, family: Family, name: &str) -> Result<bool, Failure> {
        let found = self.find(family, name)?;
        if found.is_none() {
            return Ok(false);
        }
        let outcome = self.requests.transact(|sequence| {
            let mut batch = Batch::new(family, sequence);
            batch.delete_table(name);
            batch.finish()
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(Failure::Refused { errno, said }) => Err(self.explained(found, errno, said)),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a table of that name is there.
    pub(super) fn has(&mut self, family: Family, name: &str) -> Result<bool, Failure> {
        Ok(self.find(family, name)?.is_some())
    }

    fn find(&mut self, family: Family, name: &str) -> Result<Option<FoundTable>, Failure> {
        match self.requests.query(|sequence| batch::get_table(family, name, sequence)) {
            Ok(Some(body)) => Ok(FoundTable::parse(&body)),
            Ok(None) => Err(Failure::Unanswered),
            Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The names of all tables of that family.
    pub(super) fn tables(&mut self, family: Family) -> Result<Vec<String>, Failure> {
        self.requests.list(|sequence| batch::list_tables(family, sequence), listing::table_name)
    }

    /// The chains of all tables.
    pub(super) fn chains(&mut self) -> Result<Vec<FoundChain>, Failure> {
        self.requests.list(batch::list_chains, FoundChain::parse)
    }

    /// The rules of the table that `chain` is in, as they meet `packet`.
    pub(super) fn rules(
        &mut self,
        chain: &FoundChain,
        packet: Packet<'_>,
    ) -> Result<Vec<FoundRule>, Failure> {
        let list = |sequence| batch::list_rules(chain.family, &chain.table, sequence);
        let mut rules = self.requests.list(list, |rule| FoundRule::parse(rule, packet))?;
        let sets: BTreeSet<String> = rules.iter().flat_map(FoundRule::sets).map(str::to_owned).collect();
        let mut elements = BTreeMap::new();
        for set in sets.into_iter().take(SETS) {
            let list = |sequence| batch::list_elements(chain.family, &chain.table, &set, sequence);
            let found = self.requests.list(list, Element::parse).ok().map(|elements| elements.concat());
            elements.insert(set, found);
        }
        rules.iter_mut().for_each(|rule| rule.resolve(&elements));
        Ok(rules)
    }

    /// The device that a rule of `chain` in the inet table `table` names as the one that packets
    /// come in by, the first if there are several.
    pub(super) fn input_device(&mut self, table: &str, chain: &str) -> Result<Option<String>, Failure> {
        let list = |sequence| batch::list_rules(Family::Inet as u8, table, sequence);
        let devices = self.requests.list(list, |rule| listing::input_device(rule, chain))?;
        Ok(devices.into_iter().next())
    }

    /// The rules of `chain` in the inet table `table` that drop: the address family, IPv6 or not,
    /// and the device that packets came in by, if only one's are dropped.
    pub(super) fn held_back(
        &mut self,
        table: &str,
        chain: &str,
    ) -> Result<Vec<(bool, Option<String>)>, Failure> {
        let list = |sequence| batch::list_rules(Family::Inet as u8, table, sequence);
        self.requests.list(list, |rule| listing::held_back(rule, chain))
    }
}

#[cfg(test)]
pub(super) mod tests {
    pub(in super::super) use super::batch::tests::{captured, hex};
}
