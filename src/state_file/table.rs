//! The contents of a state file in memory, and which pages have to be written.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{MAX_PAGES, PAGE_LEN, Page, PageError, RECORDS_PER_PAGE};
use super::record::SavedPeer;
use wontun_proto::wireguard::{PublicKey, Timestamp};

/// Pages, and where the record of each peer is.
#[derive(Debug, Default)]
pub struct StateTable {
    pages: Vec<PageState>,
    slots: BTreeMap<PublicKey, Slot>,
    /// Slots without a record, in the pages that there are.
    free: Vec<Slot>,
    /// Pages that have to be written.
    changed: BTreeSet<usize>,
}

/// A page, and its copies in the file.
#[derive(Debug)]
struct PageState {
    page: Page,
    /// Copy that was written last: 0 or 1.
    newest: u8,
}

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    page: usize,
    record: usize,
}

/// A page to be written.
#[derive(Debug)]
pub struct PageWrite {
    /// Number of the page.
    pub number: usize,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// Contents of the copy.
    pub bytes: [u8; PAGE_LEN],
}

/// Defects of a file's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Number of pages of which both copies are damaged.
    pub damaged: usize,
    /// Version of pages in another format.
    pub version: Option<u16>,
}

impl StateTable {
    /// Reads the contents of a file. Pages without a valid copy are left out.
    pub fn parse(bytes: &[u8]) -> (Self, Defects) {
        let mut table = Self::default();
        let mut defects = Defects::default();
        let (copies, _) = bytes.as_chunks::<PAGE_LEN>();
        for (number, pair) in copies.chunks(2).take(MAX_PAGES).enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let copies: Vec<_> = pair.iter().map(|copy| Page::parse(number, copy)).collect();
            let valid = (0..).zip(&copies).filter_map(|(copy, page)| Some((copy, page.as_ref().ok()?)));
            // numbers wrap around
            let newest =
                valid.max_by(|(_, a), (_, b)| a.sequence.wrapping_sub(b.sequence).cast_signed().cmp(&0));
            if let Some((newest, page)) = newest {
                table.push(PageState { page: page.clone(), newest });
                continue;
            }
            for copy in copies {
                match copy {
                    Err(PageError::Version(version)) => defects.version = Some(version),
                    Err(PageError::Damaged) => defects.damaged += 1,
                    Err(PageError::Empty) | Ok(_) => {}
                }
            }
            // written over the first copy, of which nothing is lost
            table.push(PageState { page: Page::new(number), newest: 1 });
        }
        (table, defects)
    }

    /// Appends a page. If it has a record of a peer that another page has, too, the one with the
    /// later handshake is kept.
    fn push(&mut self, mut state: PageState) {
        let page = self.pages.len();
        for (number, record) in state.page.records.iter_mut().enumerate() {
            let slot = Slot { page, record: number };
            let Some(new) = record else {
                self.free.push(slot);
                continue;
            };
            let key = new.public_key;
            if let Some(other) = self.slots.get(&key).copied() {
                let is_later = if other.page == page {
                    false
                } else {
                    self.get(&key).is_none_or(|old| old.last_handshake < new.last_handshake)
                };
                if !is_later {
                    *record = None;
                    self.changed.insert(page);
                    self.free.push(slot);
                    continue;
                }
                self.clear(other);
            }
            self.slots.insert(key, slot);
        }
        self.pages.push(state);
    }

    fn clear(&mut self, slot: Slot) {
        if let Some(state) = self.pages.get_mut(slot.page)
            && let Some(record) = state.page.records.get_mut(slot.record)
        {
            *record = None;
            self.changed.insert(slot.page);
            self.free.push(slot);
        }
    }

    /// Returns the record of a peer.
    pub fn get(&self, key: &PublicKey) -> Option<&SavedPeer> {
        let slot = self.slots.get(key)?;
        self.pages.get(slot.page)?.page.records.get(slot.record)?.as_ref()
    }

    /// Returns all records, in the order of the keys.
    pub fn records(&self) -> impl Iterator<Item = &SavedPeer> {
        self.slots.keys().filter_map(|key| self.get(key))
    }

    /// Changes the record of a peer, which is created if there is none and room for it. Returns
    /// true if there is one.
    pub fn update(&mut self, key: &PublicKey, change: impl FnOnce(&mut SavedPeer)) -> bool {
        let slot = match self.slots.get(key) {
            Some(slot) => *slot,
            None => match self.allocate() {
                Some(slot) => slot,
                None => return false,
            },
        };
        let Some(state) = self.pages.get_mut(slot.page) else { return false };
        let Some(place) = state.page.records.get_mut(slot.record) else { return false };
        let mut record = place.unwrap_or_else(|| SavedPeer::new(*key));
        change(&mut record);
        if *place != Some(record) {
            *place = Some(record);
            self.changed.insert(slot.page);
        }
        self.slots.insert(*key, slot);
        true
    }

    fn allocate(&mut self) -> Option<Slot> {
        if self.free.is_empty() {
            let number = self.pages.len();
            if number >= MAX_PAGES {
                return None;
            }
            let page = Page::new(u32::try_from(number).ok()?);
            self.pages.push(PageState { page, newest: 1 });
            // taken from the end: the first slot is used first
            let slots = (0..RECORDS_PER_PAGE).rev();
            self.free.extend(slots.map(|record| Slot { page: number, record }));
        }
        self.free.pop()
    }

    /// Removes the records of peers for which `is_kept` returns false.
    pub fn retain(&mut self, is_kept: impl Fn(&PublicKey) -> bool) {
        let gone: Vec<_> =
            self.slots.iter().filter(|(key, _)| !is_kept(key)).map(|(key, slot)| (*key, *slot)).collect();
        for (key, slot) in gone {
            self.slots.remove(&key);
            self.clear(slot);
        }
    }

    /// Returns the timestamp that no initiation of the interface with this key exceeds.
    pub fn sent(&self, identity: &PublicKey) -> Option<Timestamp> {
        let first = &self.pages.first()?.page;
        first.sent.filter(|_| first.identity.as_ref() == Some(identity))
    }

    /// Sets the timestamp that no initiation of the interface with this key exceeds.
    pub fn set_sent(&mut self, identity: PublicKey, sent: Timestamp) {
        if self.pages.is_empty()
            && let Some(slot) = self.allocate()
        {
            self.free.push(slot);
        }
        if let Some(state) = self.pages.first_mut() {
            (state.page.identity, state.page.sent) = (Some(identity), Some(sent));
            self.changed.insert(0);
        }
    }

    /// Returns true if a page has to be written.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Returns the next page to be written, to its older copy.
    pub fn poll_write(&self) -> Option<PageWrite> {
        let number = self.changed.first().copied()?;
        let state = self.pages.get(number)?;
        let copy = usize::from(1 - state.newest.min(1));
        let offset = u64::try_from((2 * number + copy) * PAGE_LEN).ok()?;
        let page = Page { sequence: state.page.sequence.wrapping_add(1), ..state.page.clone() };
        Some(PageWrite { number, offset, bytes: page.to_bytes() })
    }

    /// Records that a page was written.
    pub fn handle_written(&mut self, number: usize) {
        if let Some(state) = self.pages.get_mut(number) {
            state.newest = 1 - state.newest.min(1);
            state.page.sequence = state.page.sequence.wrapping_add(1);
        }
        self.changed.remove(&number);
    }
}
