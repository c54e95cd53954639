//! Memory of many peers.

use std::sync::Arc;

use nix::unistd::Pid;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::PORT;
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::lab::Lab;
use crate::processes::{descendants, is_gone};

/// Largest memory of a configured, idle peer with one allowed IP, in bytes of resident memory.
const BYTES_PER_PEER: u64 = 2048;

const PEERS: u64 = 10_000;

/// Returns the resident memory of a process and all its descendants, in kilobytes. Shared memory
/// counts for each, so that the sum grows with any of them, and does not depend on other programs.
pub(crate) fn resident_kilobytes(pid: Pid) -> u64 {
    let mut all = descendants(pid);
    // a look-up may end meanwhile
    all.retain(|pid| !is_gone(*pid));
    resident_of_one(pid) + all.into_iter().filter_map(try_resident).sum::<u64>()
}

/// Returns the resident memory of one process, in kilobytes.
pub(crate) fn resident_of_one(pid: Pid) -> u64 {
    try_resident(pid).unwrap_or_else(|| panic!("process {pid} has ended"))
}

fn try_resident(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns `settings` with so many peers that never send, each with one address of 10.64.0.0/10.
pub(crate) fn with_idle_peers(settings: &Settings, count: u64) -> Settings {
    (0..count).fold(settings.clone(), |settings, number| {
        // Any 32 bytes are a public key.
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let public = wontun_proto::wireguard::PublicKey::from_bytes(bytes).to_string();
        let allowed = format!("10.{}.{}.{}/32", 64 + (number >> 16), number >> 8 & 255, number & 255);
        settings.peer(Peer::new(&public, &[&allowed]))
    })
}

#[test]
fn ten_thousand_idle_peers_are_cheap() {
    let site = Arc::new(Site::new(&Arc::new(Lab::new(2)), 0));
    let keys = Keys::new();
    let settings = Settings::new(&keys, &["10.9.0.1/16"]).port(PORT);
    let node = Node::start(&site, Implementation::Wontun, &settings);
    let before = resident_kilobytes(node.daemon.pid());
    let many = with_idle_peers(&settings, PEERS);
    let file = site.write("many.conf", &many.setconf());
    site.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    assert_eq!(node.peers().len() as u64, PEERS);
    let after = resident_kilobytes(node.daemon.pid());
    let each = (after - before) * 1024 / PEERS;
    eprintln!("resident: {before} kB without peers, {after} kB with {PEERS}: {each} bytes each");
    assert!(each < BYTES_PER_PEER, "{each} bytes a peer");
    // They can be replaced, and do not accumulate.
    site.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    let again = resident_kilobytes(node.daemon.pid());
    assert!(again < after + after / 4, "{after} kB became {again} kB when the same peers were set again");
}
