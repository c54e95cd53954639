//! Names of peers in the files of other programs.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use crate::server::PeerName;

/// Maximum length of an imported name in characters; leaves room for a number after it.
const MAX_IMPORTED_LENGTH: usize = 60;

/// The names in use.
#[derive(Debug, Default)]
pub(super) struct UniqueNames(HashSet<PeerName>);

impl UniqueNames {
    /// Adds a name. Returns false if it is in use.
    pub(super) fn insert(&mut self, name: PeerName) -> bool {
        self.0.insert(name)
    }

    /// Returns and adds the valid, unused name that is closest to `wanted`: without invisible
    /// characters, shortened, with a number if the name is in use. Returns `None` if no valid name
    /// remains.
    pub(super) fn unique(&mut self, wanted: &str) -> Option<PeerName> {
        let spaced = wanted.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
        let visible: String = spaced.filter(|&c| is_visible(c)).take(MAX_IMPORTED_LENGTH).collect();
        let mut text = visible.trim().trim_start_matches(['-', ' ']);
        // a combining character cannot be the first
        let base = loop {
            match text.parse::<PeerName>() {
                Ok(name) => break name,
                Err(_) => {
                    let mut rest = text.chars();
                    rest.next()?;
                    text = rest.as_str().trim_start();
                }
            }
        };
        let numbered = (2_u32..).map_while(|number| format!("{base} {number}").parse().ok());
        let name = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name))?;
        self.0.insert(name.clone());
        Some(name)
    }
}

/// Returns true if the character is visible after another one.
fn is_visible(c: char) -> bool {
    let text: String = ['a', c].iter().collect();
    matches!(c, '"' | '\'' | '\\') || text.escape_debug().eq(text.chars())
}

/// Returns the name of a peer in a comment of another program: wg-easy, wireguard-ui, the
/// wireguard-install scripts, PiVPN, linuxserver's container, WireGuard Portal, the Prometheus
/// exporter.
pub(super) fn peer_name_in_comment(comment: &str) -> Option<Cow<'_, str>> {
    let text = comment.trim_start_matches(['#', ' ', '\t']).trim_end();
    if let Some(rest) = text.strip_prefix("friendly_json") {
        return peer_name_in_json(rest.trim_start().strip_prefix('=')?).map(Cow::Owned);
    }
    plain(comment).filter(|name| !name.is_empty()).map(Cow::Borrowed)
}

/// Returns the name in the JSON that the Prometheus exporter reads as labels of a peer. The keys
/// are chosen by the user.
fn peer_name_in_json(text: &str) -> Option<String> {
    let labels: Value = serde_json::from_str(text).ok()?;
    let label = |key: &str| labels.get(key)?.as_str().filter(|name| !name.trim().is_empty());
    let name = ["name", "friendly_name", "display_name", "username"].into_iter().find_map(label);
    name.map(str::to_owned).or_else(|| {
        let parts: Vec<_> = ["first_name", "last_name"].into_iter().filter_map(label).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    })
}

fn plain(comment: &str) -> Option<&str> {
    let text = comment.trim_start_matches(['#', ' ', '\t']).trim_end();
    if let Some(rest) = text.strip_prefix("Client: ") {
        return match rest.rsplit_once(" (") {
            Some((name, id)) if id.ends_with(')') => Some(name),
            _ => Some(rest),
        };
    }
    if let Some(name) = text.strip_prefix("begin ").and_then(|rest| rest.strip_suffix(" ###")) {
        return Some(name);
    }
    if let Some(name) = text.strip_prefix("Client ").filter(|_| comment.trim_start().starts_with("###")) {
        return Some(name);
    }
    if let Some(name) = text.strip_prefix("BEGIN_PEER ") {
        return Some(name);
    }
    if let Some(rest) = text.strip_prefix("friendly_name") {
        return rest.trim_start().strip_prefix('=').map(str::trim);
    }
    if let Some(rest) = text.strip_prefix("Name:").or_else(|| text.strip_prefix("-WGP- Display name:")) {
        return Some(rest.trim());
    }
    // WireGuard Portal version 1; version 2 writes the key there
    if let Some((name, _)) = text.strip_prefix("-WGP- Peer:").and_then(|rest| rest.split_once(" / Updated:"))
    {
        return Some(name.trim());
    }
    let peer = text.strip_prefix("peer").filter(|rest| !rest.is_empty() && !rest.contains(' '))?;
    match peer.strip_prefix('_') {
        Some("") => None,
        Some(name) => Some(name),
        None => peer.bytes().all(|byte| byte.is_ascii_digit()).then_some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_of_other_programs() {
        for (comment, name) in [
            ("# Client: phone (6ad1f2c8-52b6-4f0c-9d3c-0d1d4e8f2b6a)", Some("phone")),
            ("# Client: Anna (work) (12)", Some("Anna (work)")),
            ("# Client: alone", Some("alone")),
            ("### Client laptop", Some("laptop")),
            ("# Client laptop", None),
            ("# BEGIN_PEER tablet", Some("tablet")),
            ("# END_PEER tablet", None),
            ("### begin pi ###", Some("pi")),
            ("### end pi ###", None),
            ("# friendly_name=Büro", Some("Büro")),
            ("# friendly_name = Büro ", Some("Büro")),
            ("# friendly_name =", None),
            ("# Name:         Sam's phone ", Some("Sam's phone")),
            ("# Name:", None),
            ("# Email:        sam@example.com", None),
            ("# friendly_json={\"name\":\"Bob\"}", Some("Bob")),
            (
                "#friendly_json = {\"id\":1,\"first_name\":\"Frank\",\"last_name\":\"Cats\"}",
                Some("Frank Cats"),
            ),
            ("# friendly_json={\"username\":\"frank\",\"first_name\":\"Frank\"}", Some("frank")),
            ("# friendly_json={\"name\":7}", None),
            ("# friendly_json={\"name\":", None),
            ("# friendly_json", None),
            ("# -WGP- Peer: Default Peer / Updated: 2024-01-02 / Created: 2024-01-01", Some("Default Peer")),
            ("# -WGP- Peer: AQEBAQEBAQ", None),
            ("# -WGP- Display name: Laptop", Some("Laptop")),
            ("#[disabled] ### begin pi ###", None),
            ("# peer_phone", Some("phone")),
            ("# peer1", Some("peer1")),
            ("# peers of the office", None),
            ("# peer", None),
            ("# peer_", None),
            ("# TODO", None),
            ("#", None),
        ] {
            assert_eq!(peer_name_in_comment(comment).as_deref(), name, "{comment}");
        }
    }

    #[test]
    fn names_are_made_fit_and_different() {
        let mut names = UniqueNames::default();
        let mut nearest = |wanted: &str| names.unique(wanted).map(|name| name.to_string());
        for (wanted, found) in [
            ("phone", Some("phone")),
            ("phone", Some("phone 2")),
            ("phone", Some("phone 3")),
            (" a\nb\t", Some("a b")),
            ("--x", Some("x")),
            ("tab\u{200b}let\u{202e}", Some("tablet")),
            ("O'Hara \"x\" \\", Some("O'Hara \"x\" \\")),
            ("", None),
            ("\u{200b}", None),
            ("\u{301}e\u{301}", Some("e\u{301}")),
            ("❤\u{fe0f}", Some("❤\u{fe0f}")),
        ] {
            assert_eq!(nearest(wanted).as_deref(), found, "{wanted:?}");
        }
        assert_eq!(nearest(&"é".repeat(500)).unwrap().chars().count(), MAX_IMPORTED_LENGTH);
        assert_eq!(nearest(&"é".repeat(500)).unwrap().chars().count(), MAX_IMPORTED_LENGTH + 2);
    }

    proptest! {
        #[test]
        fn a_name_is_always_one(wanted in prop::collection::vec("\\PC{0,5}|.{0,70}|phone", 0..20)) {
            let mut names = UniqueNames::default();
            let found: Vec<_> = wanted.iter().filter_map(|wanted| names.unique(wanted)).collect();
            let distinct: HashSet<_> = found.iter().collect();
            prop_assert_eq!(distinct.len(), found.len());
            for name in &found {
                prop_assert_eq!(&name.as_str().parse::<PeerName>().unwrap(), name);
            }
        }
    }
}
