//! Plain mode: one peer, whose packets are datagrams as they are. Where it is, is in `endpoint`;
//! who may become it, in `candidate`, and becomes it, in `adoption`; what goes to and fro, in `data_path`.

mod adoption;
mod candidate;
mod data_path;
mod endpoint;
mod lookup;
mod mode;
mod tunnel;

pub(super) use tunnel::PlainSettings;
pub use tunnel::PlainTunnel;
