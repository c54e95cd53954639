//! The WireGuard protocol, as specified by its white paper and implemented in the Linux kernel.
//!
//! [`Interface`] holds the private key and the [`Peer`]s. It is sans-IO: input is bytes and the
//! time, output is bytes and the next deadline. A handshake (Noise_IKpsk2, two messages) creates a
//! session. A session encrypts each packet under a counter of its own. Timers replace a session
//! after two minutes; after three it is dead.
//!
//! # The life of a packet
//! Each peer has a lock of its own ([`Peers`]), so that threads carry packets while another one has
//! the interface. They encrypt and decrypt without any lock.
//!
//! To a peer: [`PeerGuard::begin_send`] reserves counters of the current session, notes the timers,
//! and returns a `Sealing` and the peer's endpoint. Without the lock, `Sealing::seal` pads and
//! encrypts each packet in place. Without a session, `Interface::stage` copies the packet;
//! [`Interface::poll_transmit`] returns the initiation and, after the response, the staged packets.
//!
//! From a peer: `message::Message::parse` reads the header. [`Peer::begin_receive`] returns the
//! session of the receiver index, and [`Peer::check`] checks the replay window. Without the lock,
//! `Opening::open` decrypts the message in place and merges the ECN mark. [`Peer::accept`] records
//! the counter, and [`Peer::finish_receive`] updates endpoint, timers and transfer counters once
//! for all messages that were received together. If [`Peer::has_work`] then returns true, the
//! interface has to be told ([`Interface::queue_work`]). A caller that has the interface accepts
//! messages with [`Interface::receive`], which alone accepts the first message of a session.
//!
//! [`Interface::handle_packet`] does all of this for one outgoing packet, and
//! [`Interface::handle_datagram`] for one datagram of any type. The daemon calls the latter for
//! all datagrams but data messages.
//!
//! # The life of a handshake message
//! [`Interface::handle_datagram`] checks mac1 first, which costs a hash. `admission` then decides
//! whether the sender must prove its address with a cookie. If not, the message waits in a bounded
//! queue until [`Interface::handle_queued`] does the Curve25519 operations. Messages beyond 20 per
//! second from one source first wait in the `backlog`, from which [`Interface::handle_timeout`]
//! releases 1000 per second over all sources.

use std::time::Duration;

mod admission;
mod aead;
mod backlog;
pub mod ecn;
mod endpoint;
mod event;
mod handover;
mod index;
mod interface;
mod key;
mod keypair;
mod limits;
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
mod slots;
mod staged;
mod timers;
mod timestamp;

pub use admission::{LOAD_HOLD, LOAD_THRESHOLD, MAX_REPLIES};
pub use aead::cipher_library;
pub use backlog::{MAX_BACKLOG, MAX_BACKLOG_OF_SOURCE, RELEASE_INTERVAL, RELEASE_SIZE};
pub use ecn::{HANDSHAKE_CLASS, outer_class};
pub use endpoint::Endpoint;
pub use event::Event;
pub use handover::{COUNTER_GAP, ImportError, MAX_RECORD};
pub use index::PeerId;
pub use interface::{HandshakeProgress, HandshakeStep, HandshakeStepResult};
pub use interface::{Incoming, Interface, Outgoing, Receiving, Transmit};
pub use key::{KEY_BASE64_LEN, KEY_LEN, KeyError, PresharedKey, PrivateKey, PublicKey};
pub use keypair::{Opened, Opening, Sealing};
pub use limits::{Admission, Limits, OverQuota, QuotaLimit};
pub use mac::{COOKIE_LATENCY, COOKIE_SECRET_MAX_AGE};
pub use peer::{Accepted, CANDIDATE_PAUSE, EAGER_INTERVAL, EAGER_TIME, MAX_CANDIDATES, Peer, Transfer};
pub use peer_table::AddPeerError;
pub use queued::MAX_QUEUED;
pub use random::Random;
pub use rate_limit::{HANDSHAKE_BURST, HANDSHAKES_PER_SECOND, MAX_SOURCES};
pub use replay::REPLAY_WINDOW;
pub use slots::{PeerGuard, Peers};
pub use staged::MAX_STAGED;
pub use timestamp::{TIMESTAMP_LEN, Timestamp};
pub use wontun_packet::DropReason;

/// Number of messages after which a session is replaced.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Number of messages after which a session is dead.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which the initiator of a session replaces it.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session is dead.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Time for which initiations are repeated without a new reason.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Pause between two initiations.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum random addition to that pause, so that two peers do not keep sending at the same time.
pub const REKEY_TIMEOUT_JITTER: Duration = Duration::from_millis(333);
/// Silence after which received data is acknowledged with a keepalive.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum pause between two initiations of a peer that are answered: 50 per second, as in the
/// kernel.
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
