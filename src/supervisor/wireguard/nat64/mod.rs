//! Networks with IPv6 only, and NAT64: a peer that has IPv4 addresses only is reached through the
//! network's translator.
//!
//! Only if there is no route to any of a peer's addresses while there is one for IPv6, the prefix
//! of the translator is asked of the network's name server. Whoever controls that could send
//! datagrams anywhere, as with any endpoint name: peers authenticate each other. A prefix is
//! forgotten with the network it belongs to.

mod adapt;
mod prefix;
mod state;

pub(super) use state::Nat64;
