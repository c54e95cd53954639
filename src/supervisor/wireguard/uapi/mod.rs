//! wg(8)'s socket: connections, requests, and the sign to end. Requests come from root or our own
//! user, and are read here; answers with keys and counters are written by the tunnel process, which
//! gets the connection for that.

mod connections;
mod requests;

pub(super) use connections::Uapi;
