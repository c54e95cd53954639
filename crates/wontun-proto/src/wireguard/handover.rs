//! Records of an interface and of its peers' sessions, for a process that continues them after this
//! one: a hand-over that the peers do not notice.
//!
//! The caller writes one record of [`Interface::export`] and one of [`Interface::export_peer`] for
//! each peer, and the other process reads them in the same order into an interface that has the
//! same key and peers already. The records contain the keys of the sessions: the caller overwrites
//! its buffers, and shows them to nobody else.
//!
//! A nonce must not be used twice. So the process that exports sends nothing more in these sessions
//! unless the other process never imports them, and the one that imports skips [`COUNTER_GAP`]
//! counters. Handshakes in progress, packets that wait for one, and cookies are not handed over.
//!
//! [`Interface::export`]: super::Interface::export
//! [`Interface::export_peer`]: super::Interface::export_peer

use serde::{Deserialize, Serialize};

use super::key::PublicKey;
use super::timestamp::Timestamp;
use crate::time::Instant;

/// Maximum length of a record in bytes.
pub const MAX_RECORD: usize = 8192;
/// Number of counters that the process that imports a session skips: more than the other one had in
/// use at a time, and less than the replay window, so that late messages are still accepted.
pub const COUNTER_GAP: u64 = 4096;

/// Beginning of the interface's record.
pub(super) const MAGIC: [u8; 8] = *b"wontunHO";
/// Version of all records. Any change of a record's fields increases it.
pub(super) const FORMAT: u16 = 1;

/// Reason why sessions cannot be continued. The peers have to handshake again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The bytes are no record of an interface.
    #[error("they are not the sessions of a tunnel")]
    Unknown,
    /// The records have another version.
    #[error("they have format {found}, and this version of wontun reads format {FORMAT}")]
    Format {
        /// Version found.
        found: u16,
    },
    /// The sessions belong to another private key.
    #[error("they belong to another private key")]
    OtherKey,
    /// The sessions are from the future: another boot, or another time namespace.
    #[error("their times are those of another clock")]
    Clock,
    /// A record is damaged.
    #[error("they are damaged")]
    Malformed,
    /// Two sessions have the same index.
    #[error("two of them have the same index")]
    Index,
}

/// The record of an interface, after [`MAGIC`] and [`FORMAT`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InterfaceRecord {
    pub(super) public: PublicKey,
    pub(super) exported: Instant,
    /// The last timestamp of an initiation.
    pub(super) last_timestamp: Option<Timestamp>,
}
