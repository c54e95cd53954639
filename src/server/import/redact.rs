//! Prints a file without its secrets.

use crate::config::wg_quick::{Field, PublicKey};
use crate::server::ServerFile;
use wontun_proto::wireguard::KEY_BASE64_LEN;

const HIDDEN: &str = "(hidden)";

/// Returns the text of a file without its secrets. Hides the values of `PrivateKey` and
/// `PresharedKey` and anything else that may be a key and is not a known public key, in comments
/// too.
pub fn redacted(file: &ServerFile) -> String {
    let peers = file.configuration().peers.iter().map(|peer| peer.public_key);
    let known: Vec<_> = peers.chain([*file.public_key()]).collect();
    let text = String::from_utf8_lossy(file.text());
    text.split_inclusive('\n').map(|line| shown(line, &known)).collect()
}

fn shown(line: &str, known: &[PublicKey]) -> String {
    if let Some((name, value)) = line.split_once('=') {
        let bare = name.trim_start_matches(['#', ' ', '\t']).trim();
        if [Field::PrivateKey, Field::PresharedKey]
            .iter()
            .any(|field| field.name().eq_ignore_ascii_case(bare))
        {
            return format!("{name}= {HIDDEN}{}", if value.ends_with('\n') { "\n" } else { "" });
        }
    }
    let mut shown = String::with_capacity(line.len());
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut rest = line;
    while let Some(start) = rest.find(is_base64) {
        let (before, word) = rest.split_at(start);
        let (word, behind) = word.split_at(word.find(|c| !is_base64(c)).unwrap_or(word.len()));
        let is_known = || word.parse().is_ok_and(|key: PublicKey| known.contains(&key));
        shown.push_str(before);
        shown.push_str(if word.len() < KEY_BASE64_LEN - 1 || is_known() { word } else { HIDDEN });
        rest = behind;
    }
    shown + rest
}
