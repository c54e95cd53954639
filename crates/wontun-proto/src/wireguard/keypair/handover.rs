//! Sessions as records, for a process that continues them.

use serde::{Deserialize, Serialize};

use super::{EndedSessions, Keypair, Keypairs};
use crate::time::Instant;
use crate::wireguard::REJECT_AFTER_TIME;
use crate::wireguard::handover::{COUNTER_GAP, ImportError};
use crate::wireguard::noise::SessionKeys;
use crate::wireguard::replay::ReplayWindow;

/// A session.
#[derive(Serialize, Deserialize)]
pub(in super::super) struct SessionRecord {
    keys: SessionKeys,
    pub(in super::super) local_index: u32,
    remote_index: u32,
    created: Instant,
    is_initiator: bool,
    may_send: bool,
    /// Counter of the next message.
    next_counter: u64,
    /// Newest received counter plus one, and the ring of the replay window.
    window: (u64, Vec<u64>),
}

impl Keypair {
    fn to_record(&self) -> SessionRecord {
        SessionRecord {
            keys: self.keys.bytes.clone(),
            local_index: self.local_index,
            remote_index: self.remote_index,
            created: self.created,
            is_initiator: self.is_initiator,
            may_send: self.may_send,
            next_counter: self.next_counter,
            window: self.window.to_parts(),
        }
    }

    fn from_record(
        record: &SessionRecord,
        ended: &EndedSessions,
        now: Instant,
    ) -> Result<Box<Self>, ImportError> {
        let (next, ring) = &record.window;
        let window = ReplayWindow::from_parts(*next, ring).ok_or(ImportError::Malformed)?;
        if record.created > now {
            return Err(ImportError::Clock);
        }
        let (local, remote) = (record.local_index, record.remote_index);
        let keypair = Self::new(&record.keys, local, remote, record.is_initiator, ended, record.created);
        let mut keypair = keypair.ok_or(ImportError::Malformed)?;
        keypair.next_counter = record.next_counter.saturating_add(COUNTER_GAP);
        keypair.window = window;
        keypair.may_send = record.may_send;
        Ok(keypair)
    }
}

impl Keypairs {
    /// Returns the current, the previous and the next session as records.
    pub(in super::super) fn to_records(&self) -> [Option<SessionRecord>; 3] {
        let sessions = [&self.current, &self.previous, &self.next];
        sessions.map(|keypair| keypair.as_ref().map(|keypair| keypair.to_record()))
    }

    /// Returns the sessions of `records`, without those that are dead by now. The caller enters
    /// their indices.
    pub(in super::super) fn from_records(
        records: &[Option<SessionRecord>; 3],
        ended: &EndedSessions,
        now: Instant,
    ) -> Result<Self, ImportError> {
        let session = |record: &Option<SessionRecord>| {
            let alive = record.as_ref().filter(|record| now.since(record.created) < REJECT_AFTER_TIME);
            alive.map(|record| Keypair::from_record(record, ended, now)).transpose()
        };
        let [current, previous, next] = records;
        Ok(Self { current: session(current)?, previous: session(previous)?, next: session(next)? })
    }

    /// Returns the local indices of the sessions.
    pub(in super::super) fn local_indices(&self) -> impl Iterator<Item = u32> {
        let sessions = [&self.current, &self.previous, &self.next];
        sessions.into_iter().flatten().map(|keypair| keypair.local_index)
    }
}
