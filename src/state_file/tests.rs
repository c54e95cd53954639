use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::file::{Access, OpenError, StateFile, prepare_folder};
use super::page::{PAGE_LEN, Page};
use super::record::{SavedEndpoint, SavedPeer};
use super::table::{Defects, StateTable};
use crate::traffic::{Bytes, PeriodTraffic, Traffic};
use wontun_proto::wireguard::{PublicKey, Timestamp, Transfer};

fn key(number: u16) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn endpoint(remote: &str) -> SavedEndpoint {
    let remote: std::net::SocketAddr = remote.parse().unwrap();
    let is_named = remote.is_ipv6();
    SavedEndpoint { remote, local: "192.0.2.1".parse().ok(), local_port: 51820, is_named }
}

fn fill(record: &mut SavedPeer, number: u64) {
    record.set_endpoint(endpoint(if number.is_multiple_of(2) {
        "198.51.100.7:1"
    } else {
        "[2001:db8::7]:65535"
    }));
    record.last_handshake = Duration::from_secs(1_700_000_000 + number);
    record.latest_timestamp = Some(Timestamp::from_unix(record.last_handshake));
    let bytes = |received| Bytes { received, sent: u64::MAX };
    record.traffic = Traffic {
        total: Transfer { received: number, sent: 1, packets_received: 2, packets_sent: u64::MAX },
        day: PeriodTraffic { number: 20_786, current: bytes(number), previous: bytes(1) },
        month: PeriodTraffic { number: u32::MAX, current: bytes(2), previous: bytes(number) },
    };
}

/// Applies all pending writes of `table` to `bytes`.
fn write(table: &mut StateTable, bytes: &mut Vec<u8>) -> usize {
    let mut count = 0;
    while let Some(page) = table.poll_write() {
        let offset = usize::try_from(page.offset).unwrap();
        bytes.resize(bytes.len().max(offset + PAGE_LEN), 0);
        bytes[offset..offset + PAGE_LEN].copy_from_slice(&page.bytes);
        table.handle_written(page.number);
        count += 1;
    }
    count
}

fn records(table: &StateTable) -> Vec<SavedPeer> {
    table.records().copied().collect()
}

#[test]
fn what_is_written_is_read() {
    let (mut table, mut bytes) = (StateTable::default(), Vec::new());
    for number in 0..40 {
        assert!(table.update(&key(number), |record| fill(record, number.into())));
    }
    table.set_sent(key(999), Timestamp::from_unix(Duration::from_secs(5)));
    assert_eq!(write(&mut table, &mut bytes), 3);
    let (again, defects) = StateTable::parse(&bytes);
    assert_eq!((records(&again), defects), (records(&table), Defects::default()));
    assert_eq!(again.records().count(), 40);
    assert_eq!(again.sent(&key(999)), Some(Timestamp::from_unix(Duration::from_secs(5))));
    assert_eq!(again.sent(&key(998)), None, "of another interface");
    // one peer changes one page
    assert!(table.update(&key(20), |record| fill(record, 77)));
    assert_eq!(write(&mut table, &mut bytes), 1);
    assert_eq!(records(&StateTable::parse(&bytes).0), records(&table));
    assert!(table.update(&key(20), |_| {}) && !table.is_changed());
    // a removed peer's place is used again
    table.retain(|other| *other != key(3));
    assert!(table.update(&key(50), |record| fill(record, 50)));
    write(&mut table, &mut bytes);
    assert_eq!(records(&StateTable::parse(&bytes).0), records(&table));
    assert!(table.get(&key(3)).is_none() && bytes.len() <= 6 * PAGE_LEN);
}

#[test]
fn ten_thousand_peers_fit() {
    let (mut table, mut bytes) = (StateTable::default(), Vec::new());
    for number in 0..10_000 {
        assert!(table.update(&key(number), |record| fill(record, number.into())));
    }
    write(&mut table, &mut bytes);
    assert_eq!(StateTable::parse(&bytes).0.records().count(), 10_000);
    assert!(bytes.len() < 6_000_000, "{}", bytes.len());
}

#[test]
fn an_interrupted_write_leaves_what_was_there_before() {
    let (mut table, mut bytes) = (StateTable::default(), Vec::new());
    for number in 1..5 {
        table.update(&key(1), |record| fill(record, number));
        let before = bytes.clone();
        write(&mut table, &mut bytes);
        // a disk writes sectors, in any order
        for cut in (0..PAGE_LEN).step_by(512) {
            for is_front in [true, false] {
                let offset = bytes.len().min(if number % 2 == 1 { 0 } else { PAGE_LEN });
                let mut torn = before.clone();
                torn.resize(torn.len().max(offset + PAGE_LEN), 0);
                let range = if is_front { 0..cut } else { cut..PAGE_LEN };
                torn[offset..][range.clone()].copy_from_slice(&bytes[offset..][range]);
                let (read, _) = StateTable::parse(&torn);
                let found = read.get(&key(1)).map_or(0, |record| record.traffic.total.received);
                assert!(found == number || found == number - 1, "{found}, {number}, {cut}");
            }
        }
    }
}

#[test]
fn damaged_and_foreign_pages_are_left_out() {
    let (mut table, mut bytes) = (StateTable::default(), Vec::new());
    for number in 0..30 {
        table.update(&key(number), |record| fill(record, number.into()));
    }
    write(&mut table, &mut bytes);
    bytes[300] ^= 1;
    let (mut read, defects) = StateTable::parse(&bytes);
    assert_eq!((read.records().count(), defects), (15, Defects { damaged: 1, version: None }));
    // they are replaced
    assert!(read.update(&key(100), |record| fill(record, 1)));
    write(&mut read, &mut bytes);
    let (again, defects) = StateTable::parse(&bytes);
    assert_eq!((records(&again), defects), (records(&read), Defects::default()));

    let newer = |version: u16| {
        let mut page = Page::new(0).to_bytes();
        page[8..10].copy_from_slice(&version.to_le_bytes());
        let digest = ring::digest::digest(&ring::digest::SHA256, &[&page[..224], &page[256..]].concat());
        page[224..256].copy_from_slice(digest.as_ref());
        StateTable::parse(&page).1
    };
    assert_eq!(newer(1), Defects::default());
    assert_eq!(newer(2), Defects { damaged: 0, version: Some(2) });
    let text = vec![b'x'; 2 * PAGE_LEN];
    assert_eq!(StateTable::parse(&text).1, Defects { damaged: 2, version: None });
    assert_eq!(StateTable::parse(b"short").1, Defects::default());
    // a page at another place than its own
    let page = Page::new(3).to_bytes();
    assert_eq!(StateTable::parse(&page).1, Defects { damaged: 1, version: None });
}

#[test]
fn of_two_records_of_a_peer_the_later_counts() {
    let page = |number: u32, handshakes: &[u64]| {
        let mut page = Page { sequence: 1, ..Page::new(number) };
        for (place, seconds) in page.records.iter_mut().zip(handshakes) {
            let last_handshake = Duration::from_secs(*seconds);
            *place = Some(SavedPeer { last_handshake, ..SavedPeer::new(key(1)) });
        }
        page.to_bytes()
    };
    let nothing = [0; PAGE_LEN];
    let bytes = [page(0, &[3]), nothing, page(1, &[9, 8]), nothing, page(2, &[5]), nothing].concat();
    let (mut table, _) = StateTable::parse(&bytes);
    let seconds: Vec<_> = table.records().map(|record| record.last_handshake.as_secs()).collect();
    assert_eq!(seconds, [9]);
    let mut bytes = bytes;
    assert_eq!(write(&mut table, &mut bytes), 3, "the others are removed");
    assert_eq!(records(&StateTable::parse(&bytes).0), records(&table));
}

#[test]
fn endpoints_that_are_useless_after_a_restart_are_not_kept() {
    let mut record = SavedPeer::new(key(1));
    for remote in [
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "169.254.1.1:1",
        "[fe80::1]:1",
        "[::]:1",
        "192.0.2.1:0",
    ] {
        record.set_endpoint(endpoint(remote));
        assert_eq!(record.endpoint, None, "{remote}");
    }
    let local = "fe80::1".parse().ok();
    record.set_endpoint(SavedEndpoint { local, ..endpoint("192.0.2.7:9") });
    assert_eq!(record.endpoint, Some(SavedEndpoint { local: None, ..endpoint("192.0.2.7:9") }));
}

/// A file of a version that knew no periods has zeroes there, and that version ignores them.
#[test]
fn an_older_version_reads_the_file_and_the_other_way_round() {
    let mut record = SavedPeer::new(key(1));
    fill(&mut record, 7);
    let mut bytes = [0; 256];
    record.write(&mut bytes);
    // what an older version reads
    assert_eq!(bytes[96..104], 7_u64.to_le_bytes());
    assert_eq!(bytes[120..128], u64::MAX.to_le_bytes());
    assert_eq!(bytes[200..], [0; 56], "reserved");
    // what it writes
    bytes[128..].fill(0);
    let read = SavedPeer::read(&bytes).unwrap();
    let Traffic { total, .. } = record.traffic;
    assert_eq!(read, SavedPeer { traffic: Traffic { total, ..Traffic::NONE }, ..record });
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_written_again(
        mut bytes in prop::collection::vec(any::<u8>(), 0..3 * PAGE_LEN),
        is_signed: bool,
        key_byte: u8,
    ) {
        if is_signed && let Some(page) = bytes.first_chunk_mut::<PAGE_LEN>() {
            page[..224].fill(0);
            page[..16].copy_from_slice(b"wontunst\x01\x00\x00\x01\x00\x00\x00\x00");
            // two peers with few keys
            for record in page[256..].chunks_mut(256) {
                let byte = key_byte & record[0] & 1;
                record[..32].fill(byte);
            }
            let signed = [&page[..224], &page[256..]].concat();
            page[224..256].copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &signed).as_ref());
        }
        let (mut table, _) = StateTable::parse(&bytes);
        prop_assert!(table.records().count() <= 30);
        let before = records(&table);
        table.update(&key(1), |record| fill(record, 1));
        table.retain(|other| *other != key(1));
        prop_assert_eq!(&records(&table), &before);
        write(&mut table, &mut bytes);
        prop_assert_eq!(records(&StateTable::parse(&bytes).0), before);
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wontun-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        prepare_folder(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("wg0.state")
    }

    fn open(&self) -> Result<(StateFile, StateTable), OpenError> {
        StateFile::open(&self.file(), None, Access::ReadWrite)
    }

    /// Returns the reason why it is rejected.
    fn refusal(&self) -> String {
        match self.open() {
            Err(OpenError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_file_is_for_its_owner_and_one_process_alone() {
    let folder = Folder::new("written");
    let (mut file, mut table) = folder.open().unwrap();
    assert!(matches!(folder.open(), Err(OpenError::InUse)));
    for number in 0..20 {
        table.update(&key(number), |record| fill(record, number.into()));
        file.write(&mut table).unwrap();
    }
    file.request_sync().unwrap();
    file.sync().unwrap();
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&folder.0), mode(&folder.file())), (0o700, 0o600));
    drop(file);
    // the thread that writes it through may not have ended, and a program that another test is
    // starting may hold a copy of the descriptor for a moment
    let (file, _) = loop {
        match folder.open() {
            Err(OpenError::InUse) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let read = StateFile::open(&folder.file(), None, Access::ReadOnly).unwrap();
    assert_eq!((records(&read.1), read.0.is_writable()), (records(&table), false));
    assert_eq!(records(&folder_contents(&file)), records(&table));
}

fn folder_contents(file: &StateFile) -> StateTable {
    StateTable::parse(&fs::read(file.path()).unwrap()).0
}

#[test]
fn what_others_could_have_put_there_is_refused() {
    let folder = Folder::new("refused");
    folder.open().unwrap();
    let other = folder.0.join("other");
    fs::write(&other, "").unwrap();
    fs::remove_file(folder.file()).unwrap();
    symlink(&other, folder.file()).unwrap();
    assert!(folder.refusal().contains("symbolic link"));
    fs::remove_file(folder.file()).unwrap();
    fs::hard_link(&other, folder.file()).unwrap();
    assert!(folder.refusal().contains("is not a regular file with a single link"));
    fs::remove_file(folder.file()).unwrap();
    nix::unistd::mkfifo(&folder.file(), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)
        .unwrap();
    assert!(folder.refusal().contains("is not a regular file with a single link"));
    fs::remove_file(folder.file()).unwrap();
    fs::File::create(folder.file()).unwrap().set_len(1 << 30).unwrap();
    fs::set_permissions(folder.file(), Permissions::from_mode(0o600)).unwrap();
    assert!(folder.refusal().contains("bytes"));
    fs::set_permissions(folder.file(), Permissions::from_mode(0o622)).unwrap();
    assert!(folder.refusal().contains("other users may write it"));
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(prepare_folder(&folder.0), Err(OpenError::Refused(_))));
}
