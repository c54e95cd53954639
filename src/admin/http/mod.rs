//! A small HTTP/1.1 server for one page: one thread, poll(2), limits on everything that a client
//! decides about.
//!
//! | File | Content |
//! |---|---|
//! | `request.rs` | a request: head (by `httparse`), body, what is refused |
//! | `host.rs` | the `Host` field: addresses and given names of this server only |
//! | `proxy.rs` | requests that a proxy passes on |
//! | `transport.rs` | the bytes of a connection, as they are or over TLS |
//! | `response.rs` | a response, and the headers that all have |
//! | `connection.rs` | a connection: requests one after the other, events, time limits |
//! | `server.rs` | the listeners and all connections |

mod connection;
mod host;
mod proxy;
mod request;
mod response;
mod server;
mod transport;

pub use self::host::Hosts;
pub(super) use self::request::is_api;
pub use self::request::{MAX_BODY, MAX_HEAD, MediaType, Method, Parsed, Request, Status, parse};
pub(super) use self::response::Response;
pub(super) use self::server::{ConnectionId, HttpListener, HttpServer, Reply, Source};
