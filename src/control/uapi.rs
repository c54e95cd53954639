//! What `wg(8)` says to a tunnel over its socket, and what it hears: the cross-platform configuration protocol.
//!
//! A request is lines `KEY=VALUE`, the first of which names the operation, closed by an empty line; so is an answer, whose last
//! line is `errno=`. Several requests may follow each other on one connection. The protocol is that of
//! <https://www.wireguard.com/xplatform/>; where it says nothing, wireguard-go's behaviour is taken.
//!
//! [`RequestParser`] and [`Answer`] know bytes only. A request is read to its end before any of it is acted on: one with
//! an error changes nothing, where wireguard-go has applied the lines before it.
//!
//! # Extensions
//! `status=1` is an operation of our own ([`Request::Status`]), `name` a key of a peer.
//! `wontun_kill_switch=off`, a key of the interface in `set=1`, has the tunnel remove the table of
//! its kill switch and leave it off until `wontun_kill_switch=on` or its next start: where the
//! process owns the table, nobody else may remove it. Only root and the tunnel's own user can
//! connect at all.
//!
//! # Error numbers
//! A negative errno, as wireguard-go answers and as `wg set` turns into a message. (`wg show` takes positive ones only; but
//! a well-formed `get=1` has nothing to fail with.)
//!
//! | Number | When |
//! |---|---|
//! | `-EINVAL` | a value or a key that there is none of |
//! | `-EPROTO` | a line without `=`, an unknown operation, a connection that was closed before the empty line |
//! | `-E2BIG` | a request longer than [`MAX_REQUEST`]; the connection ends |
//! | `-EOPNOTSUPP` | `wontun_kill_switch=on` for a tunnel that was started without one |
//! | `-EADDRINUSE`, `-EIO` | given by whoever applies the request: the port is taken, something else failed |

mod answer;
mod changes;
mod claim;
mod error;
mod hex;
mod limits;
mod line;
mod listener;
mod place;
mod print;
mod request;
mod secret_text;
mod stream;

pub use answer::{Answer, InterfaceStatus, PeerStatus, Report, failure, success};
pub use changes::{AllowedIpChange, Changes, PeerChanges};
pub use error::{RequestError, RequestFault};
pub(crate) use hex::decode as key_from_hex;
pub use limits::{MAX_LINE, MAX_REQUEST};
pub use listener::{MAX_CONNECTIONS, UapiListener};
pub use place::{UapiError, UapiFolders, UapiWarning, socket_name};
pub use request::{Progress, Request, RequestParser};
pub use secret_text::SecretText;
pub use stream::{Poll, UapiStream};

#[cfg(test)]
mod tests;
