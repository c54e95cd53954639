//! The state file: arbitrary bytes are read, what was read is unchanged after being written and
//! read again. Shared by the fuzzer and by the ordinary test that replays its corpus.

use wontun::state_file::{PAGE_LEN, RECORDS_PER_PAGE, SavedPeer, StateTable};

fn records(table: &StateTable) -> Vec<SavedPeer> {
    table.records().copied().collect()
}

/// Writes the changed pages of `table` to `bytes`, the contents of the file.
fn write(table: &mut StateTable, bytes: &mut Vec<u8>) {
    while let Some(page) = table.poll_write() {
        let offset = usize::try_from(page.offset).expect("a file is smaller than the memory");
        bytes.resize(bytes.len().max(offset + PAGE_LEN), 0);
        let place = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..PAGE_LEN));
        place.expect("it was made large enough").copy_from_slice(&page.bytes);
        table.handle_written(page.number);
    }
}

/// Reads bytes as a file: as they are, or, if the first is odd, with a checksum that matches.
///
/// # Panics
/// If the contents violate an invariant.
pub(crate) fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if first & 1 == 1 {
        for page in bytes.chunks_exact_mut(PAGE_LEN) {
            wontun::state_file::seal(page);
        }
    }
    let (mut table, _) = StateTable::parse(&bytes);
    let before = records(&table);
    assert!(before.len() <= bytes.len().div_ceil(PAGE_LEN) * RECORDS_PER_PAGE);
    // all pages are written over their older copies
    for record in &before {
        table.update(&record.public_key, |record| record.traffic.total.sent ^= 1);
    }
    write(&mut table, &mut bytes);
    let (mut again, _) = StateTable::parse(&bytes);
    assert_eq!(records(&again), records(&table));
    again.retain(|_| false);
    write(&mut again, &mut bytes);
    assert_eq!(records(&StateTable::parse(&bytes).0), []);
}
