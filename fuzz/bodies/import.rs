//! `wontun import`: the result of an arbitrary file of another program is a file that the tunnel
//! accepts, or an error, and all messages about it are single lines. Shared by the fuzzer and by
//! the ordinary test that replays its corpus.

use std::path::{Path, PathBuf};

use wontun::config::wg_quick::{Hooks, parse};
use wontun::server::import::{Import, redacted};

fn check_message(message: &str) {
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// Imports one file.
///
/// # Panics
/// If an invariant is violated.
pub(crate) fn run(text: &[u8]) {
    let import = Import { source: PathBuf::from("wg0.x"), endpoint: None, listen_port: None, dns: None };
    match import.translate(text, Path::new("tun0.conf")) {
        Ok(imported) => {
            imported.notices.iter().for_each(|notice| check_message(notice));
            let file = &imported.file;
            let again =
                parse(Path::new("tun0.conf"), file.text(), Hooks::Refuse).expect("the tunnel takes it");
            assert_eq!(&again.configuration, file.configuration());
            assert!(again.configuration.interface.dns.is_empty());
            let names: Vec<_> = file.peers().filter_map(|peer| peer.name).collect();
            names.iter().for_each(|name| check_message(name.as_str()));
            let shown = redacted(file);
            if let Some(key) = again.configuration.interface.private_key.inline() {
                assert!(!shown.contains(key.to_base64().as_str()), "the private key is shown");
            }
        }
        Err(error) => check_message(&error.to_string()),
    }
}
