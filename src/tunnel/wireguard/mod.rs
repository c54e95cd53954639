//! The WireGuard protocol, as its white paper and the Linux kernel have it.
//!
//! [`Interface`] owns our key and the [`Peer`]s; bytes and the time go in, bytes and the next deadline come out.
//! A handshake by Noise_IKpsk2 (two messages) gives a session; a session carries packets, each sealed under a
//! counter of its own; timers see to it that a session is replaced after two minutes and dead after three.
//!
//! # The life of a packet
//! Out: [`Interface::handle_packet`] pads it, seals it where it lies, and names the peer's endpoint. Without a
//! session it is staged, and [`Interface::poll_transmit`] gives first the initiation, then, when the response
//! came, what was staged. In: [`Interface::handle_datagram`] finds the peer by the index in the message, opens the
//! packet where it lies, and moves the peer's endpoint to where it came from.
//!
//! # The life of a handshake message
//! mac1 is checked first, which costs a hash. Then `admission` decides whether the sender has to prove its address
//! with a cookie; if not, the message waits in a bounded queue until [`Interface::handle_queued`] does the curve work.
//! What goes beyond the twenty a second of its source waits in the `backlog` before, from which
//! [`Interface::handle_timeout`] lets out a thousand a second, of all sources together.

use std::time::Duration;

mod admission;
mod aead;
mod backlog;
mod ecn;
mod endpoint;
mod event;
mod index;
mod interface;
mod key;
mod keypair;
mod mac;
pub mod message;
mod noise;
pub mod padding;
mod peer;
mod peer_table;
mod queued;
mod random;
mod rate_limit;
mod replay;
mod staged;
mod timers;
mod timestamp;

pub use crate::counters::DropReason;
pub use admission::{LOAD_HOLD, LOAD_THRESHOLD, MAX_REPLIES};
pub use aead::cipher_library;
pub use backlog::{MAX_BACKLOG, MAX_BACKLOG_OF_SOURCE, RELEASE_INTERVAL, RELEASED};
pub use ecn::{HANDSHAKE_CLASS, outer_class};
pub use endpoint::Endpoint;
pub use event::Event;
pub use index::PeerId;
pub use interface::{Incoming, Interface, Outgoing, Transmit};
pub use key::{KEY_LEN, KEY_TEXT_LEN, KeyError, PresharedKey, PrivateKey, PublicKey};
pub use keypair::{Opened, Opening, Sealing};
pub use mac::{COOKIE_LATENCY, COOKIE_SECRET_MAX_AGE};
pub use peer::{Accepted, CANDIDATE_PAUSE, MAX_CANDIDATES, Peer, Transfer};
pub use peer_table::AddPeerError;
pub use queued::MAX_QUEUED;
pub use random::Random;
pub use rate_limit::{BURST, MAX_SOURCES, PER_SECOND};
pub use replay::WINDOW;
pub use staged::MAX_STAGED;

/// Messages after which a session is replaced.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Messages after which a session is dead.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which its initiator replaces a session.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session is dead.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// How long initiations are repeated without a new reason.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Pause between two initiations.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most that is added to that pause, so that two peers do not speak at the same time again and again.
pub const REKEY_TIMEOUT_JITTER: Duration = Duration::from_millis(333);
/// After so long a silence data is acknowledged with a keepalive.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Least pause between two initiations of a peer that we answer: fifty a second, as the kernel has it.
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
