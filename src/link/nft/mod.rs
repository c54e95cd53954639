//! nf_tables: tables of ours, each put up or taken away in one transaction, and what others have there.
//!
//! Only what our tables need can be said, and only what concerns us is read.

mod batch;
mod listing;
mod table;

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::socket::{Failure, Requests};
use batch::Batch;
pub(super) use listing::FoundChain;
pub(super) use table::{
    Chain, Comparison, ESTABLISHED_OR_RELATED, Family, Header, Hook, Kind, Meta, Priority, Set, Step, Table,
    Verdict,
};

/// The socket to nf_tables.
#[derive(Debug)]
pub(super) struct Nft(Requests);

impl Nft {
    pub(super) fn open() -> io::Result<Self> {
        Requests::open_protocol(NETLINK_NETFILTER).map(Self)
    }

    /// Puts up the table in the place of one with the same name, if there is one: there is no moment without.
    pub(super) fn replace(&mut self, table: &Table) -> Result<(), Failure> {
        self.0.transact(|sequence| {
            let mut batch = Batch::new(table.family, sequence);
            batch.put_up(table);
            batch.finish()
        })
    }

    /// Takes the table away, and says whether it was there.
    pub(super) fn delete(&mut self, family: Family, name: &str) -> Result<bool, Failure> {
        let outcome = self.0.transact(|sequence| {
            let mut batch = Batch::new(family, sequence);
            batch.delete_table(name);
            batch.finish()
        });
        is_there(outcome)
    }

    /// Whether a table of that name is there.
    pub(super) fn has(&mut self, family: Family, name: &str) -> Result<bool, Failure> {
        is_there(self.0.transact(|sequence| (batch::get_table(family, name, sequence), sequence)))
    }

    /// The names of all tables of that family.
    pub(super) fn tables(&mut self, family: Family) -> Result<Vec<String>, Failure> {
        self.0.list(|sequence| batch::list_tables(family, sequence), listing::table_name)
    }

    /// The chains of all tables.
    pub(super) fn chains(&mut self) -> Result<Vec<FoundChain>, Failure> {
        self.0.list(batch::list_chains, FoundChain::parse)
    }

    /// Whether a rule in the table that `chain` is in accepts what comes in by `device`. That the rule is reached, and
    /// has no other condition, is not checked.
    pub(super) fn accepts_from(&mut self, chain: &FoundChain, device: &str) -> Result<bool, Failure> {
        let accepts = |rule: &[u8]| listing::accepts_from(rule, device).then_some(());
        let list = |sequence| batch::list_rules(chain.family, &chain.table, sequence);
        self.0.list(list, accepts).map(|found| !found.is_empty())
    }
}

fn is_there(outcome: Result<(), Failure>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Failure::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
pub(super) mod tests {
    pub(in super::super) use super::batch::tests::{captured, hex};
}
