//! Helpers for the tests of this module.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::client_file::ClientFile;
use super::peers::{self, AddError, Added, AddedPeer, Ipv6Reach, NewPeerOptions};
use super::server_file::ServerFile;
use crate::config::peer_settings::PeerSettings;
use crate::config::wg_quick::Peer;
use wontun_proto::wireguard::Random;

/// A server's file with one more peer.
#[derive(Debug)]
pub(super) struct AddedOne {
    pub(super) file: ServerFile,
    pub(super) peer: Peer,
    pub(super) client: ClientFile,
}

/// Returns the options of a peer with nothing special.
pub(super) fn wanted(name: &str) -> NewPeerOptions {
    NewPeerOptions {
        name: name.parse().unwrap(),
        public_key: None,
        addresses: Vec::new(),
        sites: Vec::new(),
        full_tunnel: false,
        settings: PeerSettings::NONE,
    }
}

/// Adds one peer.
pub(super) fn add_one(
    file: &ServerFile,
    wanted: NewPeerOptions,
    random: &mut dyn Random,
) -> Result<AddedOne, AddError> {
    let Added { file, mut peers, .. } = peers::add(file, vec![wanted], Ipv6Reach::Internet, random)?;
    let AddedPeer { peer, client } = peers.remove(0);
    Ok(AddedOne { file, peer, client })
}

/// A temporary folder, removed on drop.
pub(super) struct TestFolder(PathBuf);

impl TestFolder {
    pub(super) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wontun-setup-{}-{serial}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the names of the entries, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A random source that counts up: no two keys are equal, and all runs are the same.
pub(super) struct Counting(pub(super) u64);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}
