//! Plain mode: one peer, with packets carried unencrypted in datagrams. `endpoint` holds the peer's
//! endpoint, `candidate` the senders that may become the peer, `adoption` the change of the peer,
//! `data_path` the packets.

mod adoption;
mod candidate;
mod data_path;
mod endpoint;
mod lookup;
mod protocol;
mod tunnel;

pub(super) use tunnel::PlainSettings;
pub use tunnel::PlainTunnel;
