//! Export and import of sessions.

use super::Interface;
use crate::time::Instant;
use crate::wireguard::handover::{FORMAT, ImportError, InterfaceRecord, MAGIC};
use crate::wireguard::peer::PeerRecord;
use crate::wireguard::{MAX_RECORD, PeerId};

impl Interface {
    /// Writes the record of the interface into `out`, which should hold [`MAX_RECORD`] bytes, and
    /// returns its length; `None` without a private key or without room.
    pub fn export(&self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let record = InterfaceRecord {
            public: *self.public_key()?,
            exported: now,
            last_timestamp: self.timestamps.last(),
        };
        let (magic, rest) = out.split_first_chunk_mut::<{ MAGIC.len() }>()?;
        let (format, rest) = rest.split_first_chunk_mut::<2>()?;
        *magic = MAGIC;
        *format = FORMAT.to_le_bytes();
        let len = postcard::to_slice(&record, rest).ok()?.len();
        Some(MAGIC.len() + 2 + len)
    }

    /// Writes the record of a peer into `out`, which should hold [`MAX_RECORD`] bytes, and returns
    /// its length; `None` without the peer or without room. It contains the keys of the sessions.
    pub fn export_peer(&self, id: PeerId, out: &mut [u8]) -> Option<usize> {
        let record = self.peers.lock(id)?.to_record();
        postcard::to_slice(&record, out).ok().map(|bytes| bytes.len())
    }

    /// Checks the record of the interface whose sessions are to be continued: it must have this
    /// one's private key, and its clock.
    ///
    /// # Errors
    /// [`ImportError`]: no sessions can be imported.
    pub fn import(&mut self, record: &[u8], now: Instant) -> Result<(), ImportError> {
        let rest = record.strip_prefix(&MAGIC).ok_or(ImportError::Unknown)?;
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(ImportError::Unknown)?;
        let found = u16::from_le_bytes(*format);
        if found != FORMAT {
            return Err(ImportError::Format { found });
        }
        let record: InterfaceRecord = parse(rest)?;
        if self.public_key() != Some(&record.public) {
            return Err(ImportError::OtherKey);
        }
        if record.exported > now {
            return Err(ImportError::Clock);
        }
        if let Some(last) = record.last_timestamp {
            self.timestamps.skip_to(last);
        }
        Ok(())
    }

    /// Continues the sessions of a peer, and returns its id; `None` if there is no such peer. The
    /// endpoint is adopted unless another one has been configured since.
    ///
    /// # Errors
    /// [`ImportError`]: nothing has changed.
    pub fn import_peer(&mut self, record: &[u8], now: Instant) -> Result<Option<PeerId>, ImportError> {
        if record.len() > MAX_RECORD {
            return Err(ImportError::Malformed);
        }
        let record: PeerRecord = parse(record)?;
        let Some(id) = self.peers.by_key(record.public_key()) else { return Ok(None) };
        match self.peers.lock(id) {
            Some(mut peer) => {
                peer.adopt_record(record, &mut self.indices, self.peers.peers().ended(), now)?;
            }
            None => return Ok(None),
        }
        self.queue_work(id, now);
        Ok(Some(id))
    }
}

/// Decodes a record, which must take up all of `bytes`.
fn parse<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ImportError> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        _ => Err(ImportError::Malformed),
    }
}
