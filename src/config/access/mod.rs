//! Access of a server's peers, and to them: the rules of
//! [`PeerSettings`] and the server's policy, with names and groups resolved.
//!
//! The same rules have two uses: `netlink::AccessTable` makes an nf_tables table of them, and
//! [`AccessRules::decide`] says what they decide about a connection.
//!
//! A connection has to pass two lists: that of its source, if that is a peer, and that of its
//! destination, if that is a peer. In each the first rule that matches decides, and the last rule
//! matches everything. Packets of a connection that exists are not examined again.

mod decide;
mod explain;
mod groups;
mod owners;
mod resolve;
mod rule;
mod rules;

pub(crate) use decide::{Connection, Host};
pub(crate) use explain::{Decision, Reason};
pub(crate) use groups::{lan, not_internet};
pub(crate) use resolve::UnknownPeer;
pub(crate) use rule::{Remote, Rule};
pub(crate) use rules::{AccessRules, Forwarding, ListNumber};

#[cfg(test)]
mod tests;
