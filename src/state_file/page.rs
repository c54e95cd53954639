//! The format of a page.
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 8 | `wontunst` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | length of a record, 256 |
//! | 12 | 4 | number of the page |
//! | 16 | 8 | sequence number: of two copies, the one with the greater number is the newer |
//! | 24 | 32 | public key of the interface, or zeroes; in page 0 only |
//! | 56 | 12 | TAI64N that no initiation sent so far exceeds, or zeroes; in page 0 only |
//! | 224 | 32 | SHA-256 of the page's other bytes |
//! | 256 | 3840 | fifteen records |
//!
//! Numbers are little-endian; TAI64N is as in an initiation. Other bytes are reserved, and zero.

use ring::digest::{Context, SHA256};

use super::record::{RECORD_LEN, SavedPeer, get, set};
use wontun_proto::wireguard::{KEY_LEN, PublicKey, TIMESTAMP_LEN, Timestamp};

/// Length of a page in bytes: a block of a file system, so that writing one copy does not touch the
/// other.
pub const PAGE_LEN: usize = 4096;
/// Number of records in a page.
pub const RECORDS_PER_PAGE: usize = (PAGE_LEN - HEADER_LEN) / RECORD_LEN;
/// Maximum number of pages of a file, for 65,550 peers.
pub(super) const MAX_PAGES: usize = 4370;
const MAGIC: [u8; 8] = *b"wontunst";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 256;
const VERSION_AT: usize = 8;
const RECORD_LEN_AT: usize = 10;
const NUMBER_AT: usize = 12;
const SEQUENCE_AT: usize = 16;
const IDENTITY_AT: usize = 24;
const SENT_AT: usize = 56;
const CHECKSUM_AT: usize = 224;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Number of the page in the file.
    pub(super) number: u32,
    /// Sequence number of this copy.
    pub(super) sequence: u64,
    /// Public key of the interface.
    pub(super) identity: Option<PublicKey>,
    /// Timestamp that no initiation sent so far exceeds.
    pub(super) sent: Option<Timestamp>,
    /// The records; `None` for an empty slot.
    pub(super) records: [Option<SavedPeer>; RECORDS_PER_PAGE],
}

/// Reason why a copy of a page is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageError {
    /// Nothing was ever written there.
    Empty,
    /// It was written by another version of the format.
    Version(u16),
    /// It is damaged, or no page.
    Damaged,
}

impl Page {
    /// Returns an empty page.
    pub(super) const fn new(number: u32) -> Self {
        Self { number, sequence: 0, identity: None, sent: None, records: [None; RECORDS_PER_PAGE] }
    }

    /// Formats the page.
    pub(super) fn to_bytes(&self) -> [u8; PAGE_LEN] {
        let mut out = [0; PAGE_LEN];
        set(&mut out, 0, MAGIC);
        set(&mut out, VERSION_AT, VERSION.to_le_bytes());
        set(&mut out, RECORD_LEN_AT, u16::try_from(RECORD_LEN).unwrap_or(u16::MAX).to_le_bytes());
        set(&mut out, NUMBER_AT, self.number.to_le_bytes());
        set(&mut out, SEQUENCE_AT, self.sequence.to_le_bytes());
        set(&mut out, IDENTITY_AT, self.identity.map_or([0; KEY_LEN], |key| *key.as_bytes()));
        set(&mut out, SENT_AT, self.sent.map_or([0; TIMESTAMP_LEN], |sent| *sent.as_bytes()));
        let (_, rest) = out.split_at_mut(HEADER_LEN);
        let (slots, _) = rest.as_chunks_mut::<RECORD_LEN>();
        for (slot, record) in slots.iter_mut().zip(&self.records) {
            if let Some(record) = record {
                record.write(slot);
            }
        }
        let checksum = checksum(&out);
        set(&mut out, CHECKSUM_AT, checksum);
        out
    }

    /// Parses a copy of the page with this number.
    pub(super) fn parse(number: u32, bytes: &[u8; PAGE_LEN]) -> Result<Self, PageError> {
        if get(bytes, 0) != MAGIC {
            let is_empty = bytes.iter().all(|byte| *byte == 0);
            return Err(if is_empty { PageError::Empty } else { PageError::Damaged });
        }
        if get(bytes, CHECKSUM_AT) != checksum(bytes) {
            return Err(PageError::Damaged);
        }
        let version = u16::from_le_bytes(get(bytes, VERSION_AT));
        if version != VERSION {
            return Err(PageError::Version(version));
        }
        let record_len = u16::from_le_bytes(get(bytes, RECORD_LEN_AT));
        if usize::from(record_len) != RECORD_LEN || u32::from_le_bytes(get(bytes, NUMBER_AT)) != number {
            return Err(PageError::Damaged);
        }
        let identity: [u8; KEY_LEN] = get(bytes, IDENTITY_AT);
        let sent: [u8; TIMESTAMP_LEN] = get(bytes, SENT_AT);
        let mut page = Self {
            sequence: u64::from_le_bytes(get(bytes, SEQUENCE_AT)),
            identity: (identity != [0; KEY_LEN]).then(|| PublicKey::from_bytes(identity)),
            sent: (sent != [0; TIMESTAMP_LEN]).then(|| Timestamp::from_bytes(sent)),
            ..Self::new(number)
        };
        let (slots, _) = bytes.split_at(HEADER_LEN).1.as_chunks::<RECORD_LEN>();
        for (record, slot) in page.records.iter_mut().zip(slots) {
            *record = SavedPeer::read(slot);
        }
        Ok(page)
    }
}

/// Sets the checksum of a page, for tests: other bytes than those of a page are left alone.
pub fn seal(page: &mut [u8]) {
    if let Some(page) = page.first_chunk_mut::<PAGE_LEN>() {
        let checksum = checksum(page);
        set(page, CHECKSUM_AT, checksum);
    }
}

/// Returns the checksum of a page: of all bytes but its own.
fn checksum(page: &[u8; PAGE_LEN]) -> [u8; 32] {
    let (header, rest) = page.split_at(CHECKSUM_AT);
    let mut context = Context::new(&SHA256);
    context.update(header);
    context.update(rest.get(32..).unwrap_or_default());
    get(context.finish().as_ref(), 0)
}
