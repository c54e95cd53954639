//! Answers DNS queries of the peers, in a separate process.
//!
//! The process `names` answers for the peers' names (`phone.vpn`, and the reverse of their
//! addresses), and forwards every other query to name servers. It has no capability, key or file:
//! the supervisor opens its listening sockets on the tunnel's addresses, and sends it the names
//! ([`messages::ToNames`]). Queries and answers are hostile to it.
//!
//! | File | Content |
//! |---|---|
//! | `message.rs` | the parts of a DNS message (RFC 1035) that forwarding and caching need |
//! | `zone.rs` | the peers' names, and answers about them |
//! | `cache.rs` | answers of the name servers, until they expire |
//! | `query_limit.rs` | limit of queries per client |
//! | `upstream.rs` | the name servers that queries are forwarded to |
//! | `exchange.rs` | a query that was forwarded |
//! | `transport.rs` | its way to a name server |
//! | `tls.rs` | connections to name servers over TLS (RFC 7858) |
//! | `certificate.rs` | their authentication |
//! | `client.rs` | a connection of a client over TCP |
//! | `server.rs` | the event loop |
//! | `process.rs` | the process: start and confinement |
//! | `messages.rs` | messages between the supervisor and the process |
//! | `listeners.rs` | the sockets at which queries arrive |
//! | `handle.rs` | the supervisor's handle of the process |

mod cache;
mod certificate;
mod client;
mod exchange;
pub(crate) mod handle;
pub(crate) mod listeners;
pub mod message;
pub mod messages;
mod process;
mod query_limit;
mod server;
mod tls;
mod transport;
mod upstream;
mod zone;

pub use process::main;
pub use zone::{Zone, ZoneAnswer};

/// Role of the helper.
const ROLE: &str = "names";

#[cfg(test)]
mod tests;
