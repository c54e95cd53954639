//! The cross-platform configuration protocol, which `wg(8)` uses over a unix socket.
//!
//! A request consists of lines `KEY=VALUE`, the first of which names the operation, and an empty
//! line. The answer has the same form; its last line is `errno=`. Several requests may follow each
//! other on one connection. The protocol is that of <https://www.wireguard.com/xplatform/>; where
//! that leaves something open, the behaviour follows wireguard-go.
//!
//! [`RequestParser`] and [`Response`] work on bytes only. A request is read to its end before any
//! of it is applied: a request with an error changes nothing, whereas wireguard-go has applied the
//! lines before it.
//!
//! # Extensions
//! `status=1` is an additional operation ([`Request::Status`]), `name` an additional key of a peer.
//! `reload=1` reads the configuration file again, as SIGHUP; if it is refused, the answer has
//! `error=`, the reason. `admin=1` returns links to the admin page, each in a line `admin_link=`,
//! and `admin_owner=NAME` those of an owner of peers. `wontun_kill_switch=off`, a key of the
//! interface in `set=1`, makes the tunnel remove the table of its kill switch and leave it off
//! until `wontun_kill_switch=on` or its next start: where the process owns the table, no other
//! process can remove it. `wontun_forget_timestamp=true`, a key of a peer, forgets the latest
//! timestamp of its initiations, for `wontun peer reset`. Only root and the tunnel's own user can
//! connect.
//!
//! # Error numbers
//! A negative errno, as wireguard-go answers and as `wg set` turns into a message. (`wg show`
//! accepts positive ones only; but a well-formed `get=1` cannot fail.)
//!
//! | Number | When |
//! |---|---|
//! | `-ENOENT` | `admin=1`, and no admin page is served; `file=1`, and there is no file |
//! | `-EINVAL` | an unknown key, or an invalid value; a file that `reload=1` refuses |
//! | `-EPROTO` | a line without `=`, an unknown operation, a request without its empty line |
//! | `-E2BIG` | a request longer than `MAX_REQUEST`; the connection ends |
//! | `-EOPNOTSUPP` | `wontun_kill_switch=on` for a tunnel that was started without one |
//! | `-EADDRINUSE`, `-EIO` | applying the request failed: the port is in use, another error |

mod changes;
mod claim;
pub(crate) mod client;
mod connection;
mod error;
mod folders;
mod format;
mod hex;
mod limits;
mod line;
mod listener;
mod peer_state;
mod request;
mod response;
mod secret_text;
mod status;
mod status_reader;

pub use changes::{AllowedIpChange, Changes, PeerChanges};
pub(crate) use client::ClientError;
pub use connection::{RequestPoll, UapiConnection};
pub use error::{RequestError, RequestErrorKind};
pub(crate) use folders::UapiFolders;
pub use folders::{UapiError, UapiWarning};
pub use listener::{MAX_CONNECTIONS, UapiListener};
pub(crate) use peer_state::PeerState;
pub use request::{Progress, Request, RequestParser};
pub use response::{InterfaceStatus, PeerStatus, Response, ResponseFormat, error_response, ok_response};
pub(crate) use response::{file_response, links_response, reload_refused_response};
pub(crate) use secret_text::SecretText;
pub(crate) use status::{TunnelPeer, TunnelStatus};
pub(crate) use status_reader::StatusReader;

#[cfg(test)]
mod tests;
