//! The socket for wg(8): connections, requests, and its removal as a request to end. Requests come
//! from root or the tunnel's own user, and are read here; answers with keys and counters are
//! written by the tunnel process, to which the connection is passed for that.

mod connections;
mod requests;

pub(super) use connections::Uapi;
