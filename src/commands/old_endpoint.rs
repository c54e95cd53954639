//! Message about the clients whose files have another endpoint than the server.

use std::fmt::Write as _;

use crate::server::{Folder, KeptKeys, ServerFile};

/// Returns a line for each client, at most `limit`, with what to do, after one with the reason;
/// nothing without clients.
pub(super) fn clients_with_old_endpoint(folder: &Folder, file: &ServerFile, limit: usize) -> String {
    let mut text = String::new();
    let count = file.peers().count();
    if count == 0 {
        return text;
    }
    let kept = KeptKeys::of(folder);
    text.push_str("  clients that need a new file, or the new Endpoint in theirs:\n");
    for peer in file.peers().take(limit) {
        let name = peer.name_or_key();
        let key = if kept.has(&peer.peer.public_key) { "" } else { ", without its private key" };
        // writing to memory does not fail
        let _ = writeln!(text, "    {name}: 'wontun peer show {name} --file' prints it{key}");
    }
    if count > limit {
        let _ = writeln!(text, "    and {} more: 'wontun peer list' lists all", count - limit);
    }
    text
}
