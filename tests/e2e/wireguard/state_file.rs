//! State files, read and written by the tests.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wontun::state_file::{PAGE_LEN, SavedEndpoint, SavedPeer, StateTable};

use super::site::Site;

/// Returns the path of the state file of `wg0` on `site`.
pub(crate) fn path(site: &Site) -> PathBuf {
    site.path().join("wg0.state")
}

/// Returns the records of a state file; none if it does not exist.
pub(crate) fn records(path: &Path) -> Vec<SavedPeer> {
    let (table, _) = StateTable::parse(&fs::read(path).unwrap_or_default());
    table.records().copied().collect()
}

/// Returns the addresses in a state file, with the peers' public keys.
pub(crate) fn addresses(path: &Path) -> Vec<(String, IpAddr)> {
    let known = records(path).into_iter();
    known.filter_map(|record| Some((record.public_key.to_string(), record.endpoint?.remote.ip()))).collect()
}

/// Returns the contents of a state file with the address of one peer.
pub(crate) fn with_address(public: &str, address: IpAddr) -> Vec<u8> {
    let mut table = StateTable::default();
    let remote = (address, 51820).into();
    table.update(&public.parse().unwrap(), |record| {
        record.set_endpoint(SavedEndpoint { remote, local: None, local_port: 1, is_named: true });
    });
    let mut bytes = vec![0; 2 * PAGE_LEN];
    while let Some(page) = table.poll_write() {
        bytes[page.offset as usize..][..PAGE_LEN].copy_from_slice(&page.bytes);
        table.handle_written(page.number);
    }
    bytes
}
