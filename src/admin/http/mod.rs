//! A small HTTP/1.1 server for one page: one thread, poll(2), limits on everything that a client
//! decides about.
//!
//! | File | Content |
//! |---|---|
//! | `request.rs` | a request: head (by `httparse`), body, what is refused |
//! | `host.rs` | the `Host` field: addresses of this server only |
//! | `response.rs` | a response, and the headers that all have |
//! | `connection.rs` | a connection: requests one after the other, events, time limits |
//! | `server.rs` | the listeners and all connections |

mod connection;
mod host;
mod request;
mod response;
mod server;

pub use self::host::Hosts;
pub use self::request::{MAX_BODY, MAX_HEAD, Method, Parsed, Request, Status, parse};
pub(super) use self::response::Response;
pub(super) use self::server::{ConnectionId, HttpServer, Reply, Source};
