//! Tests that an edit changes nothing else in a file.

use super::*;
use crate::config::wg_quick::{KeyError, PrivateKey};
use crate::server::peers::{AddError, NewPeerError, NewPeerOptions};
use crate::server::testing::{AddedOne, Counting, TestFolder, add_one, wanted};
use proptest::prelude::*;

/// RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const BOB: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
const EVE: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn read(text: &str) -> ServerFile {
    try_read(text).unwrap()
}

fn try_read(text: &str) -> Result<ServerFile, ServerError> {
    ServerFile::parse(Path::new("tun0.conf"), Zeroizing::new(text.as_bytes().to_vec()))
}

fn text(file: &ServerFile) -> &str {
    std::str::from_utf8(file.text()).unwrap()
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn add(file: &ServerFile, text: &str) -> Result<AddedOne, AddError> {
    add_one(file, wanted(text), &mut Counting(file.text().len() as u64 * 1000))
}

fn is_error(added: Result<AddedOne, AddError>, error: &NewPeerError) -> bool {
    matches!(added, Err(AddError::Peers(errors)) if errors == [(0, error.clone())])
}

/// Returns a file as edited by hand: with hooks, comments, names above and within sections.
fn by_hand() -> String {
    format!(
        "# our server\n\n[Interface]   # home\nPrivateKey={PRIVATE}\n#ClientEndpoint=vpn.example.com:443\n\
         address = 10.8.0.1/24,fd12::1/64\nPostUp = iptables -A FORWARD -i %i -j ACCEPT\n\n\
         # Name = Bob\n[peer]\npublickey = {BOB}   # since May\nAllowedIPs = 10.8.0.2/32\n\
         AllowedIPs = 10.8.0.16/28\n# his laptop\n\n# TODO: ask Eve\n\n[Peer]\nPublicKey = {EVE}\n"
    )
}

#[test]
fn a_file_that_was_written_by_hand_is_understood() {
    let file = read(&by_hand());
    assert_eq!(file.public_key().to_string(), PUBLIC);
    assert_eq!(file.endpoint().unwrap().unwrap().to_string(), "vpn.example.com:443");
    assert_eq!(file.dns().unwrap(), None);
    let labels: Vec<_> = file.peers().map(|peer| peer.name_or_key()).collect();
    assert_eq!(labels, ["Bob", EVE]);
    assert_eq!((file.find("Bob").unwrap(), file.find(BOB).unwrap(), file.find(EVE).unwrap()), (0, 0, 1));
    let error = file.find("Carol").unwrap_err().to_string();
    assert!(error.contains("Carol") && error.contains(&format!("known: Bob, {EVE}")), "{error}");
}

#[test]
fn a_peer_goes_to_the_end_and_away_again_without_a_trace() {
    let before = by_hand();
    let file = read(&before);
    let added = add(&file, "phone").unwrap();
    let key = added.peer.public_key;
    let shared = added.client.preshared_key.unwrap().to_base64();
    assert_eq!(
        text(&added.file),
        format!(
            "{before}\n[Peer]\n# Name = phone\nPublicKey = {key}\nPresharedKey = {}\nAllowedIPs = 10.8.0.3/32, fd12::2/128\n",
            *shared
        )
    );
    assert!(!text(&added.file).contains(&*added.client.private_key.unwrap().to_base64()));
    let number = added.file.find("phone").unwrap();
    assert_eq!(text(&added.file.without_peer(number).unwrap()), before);
}

#[test]
fn removing_one_leaves_the_others_and_what_belongs_to_nobody() {
    let without_bob = read(&by_hand()).without_peer(0).unwrap();
    let expected = by_hand();
    let (start, end) = (expected.find("# Name = Bob").unwrap(), expected.find("# TODO").unwrap());
    assert_eq!(text(&without_bob), format!("{}{}", &expected[..start], &expected[end..]));
    let without_eve = read(&by_hand()).without_peer(1).unwrap();
    assert!(text(&without_eve).ends_with("# his laptop\n\n# TODO: ask Eve\n"), "{}", text(&without_eve));
    assert!(matches!(read(&by_hand()).without_peer(2), Err(ServerError::Edit(_))));
}

#[test]
fn names_change_where_they_are() {
    let file = read(&by_hand()).with_name(0, &name("Bob = old")).unwrap();
    assert_eq!(text(&file), by_hand().replace("Name = Bob", "Name = Bob = old"));
    let file = read(&by_hand()).with_name(1, &name("Eve")).unwrap();
    let expected = by_hand().replace("\n[Peer]\n", "\n[Peer]\n# Name = Eve\n");
    assert_eq!(text(&file), expected);
    assert_eq!(file.find("Eve").unwrap(), 1);
    // an invalid name counts as missing, and is replaced
    let odd = by_hand().replace("Name = Bob", "Name =\u{1b}[31m");
    assert_eq!(read(&odd).peers().next().unwrap().name, None);
    let renamed = read(&odd).with_name(0, &name("Bob")).unwrap();
    assert_eq!(text(&renamed), by_hand().replace("Name = Bob", "Name =Bob"));
    let empty = by_hand().replace("Name = Bob", "Name =");
    assert_eq!(text(&read(&empty).with_name(0, &name("Bob")).unwrap()), by_hand());
}

#[test]
fn what_clients_are_told_is_in_the_interfaces_section() {
    let file = read(&by_hand()).with_endpoint(&"192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!(text(&file), by_hand().replace("vpn.example.com:443", "192.0.2.1:51820"));
    let file = read(&by_hand()).with_dns(&ClientDns::public()).unwrap();
    assert_eq!(text(&file), by_hand().replace("# home\n", "# home\n# ClientDNS = 9.9.9.9, 2620:fe::fe\n"));
    assert_eq!(file.dns().unwrap(), Some(ClientDns::public()));
    let wrong = read(&by_hand().replace("vpn.example.com:443", "two words"));
    let error = wrong.endpoint().unwrap_err().to_string();
    assert!(error.contains("tun0.conf: ClientEndpoint: 'two words'"), "{error}");
    // a key that was pasted into the wrong line
    let key = read(&by_hand().replace("vpn.example.com:443", &format!("{BOB} ")));
    let error = key.endpoint().unwrap_err().to_string();
    assert!(
        error.ends_with("ClientEndpoint: found 44 characters, not shown since they may be a secret"),
        "{error}"
    );
    // commented-out keys of wg-quick are ignored
    let other = read(&by_hand().replace("#ClientEndpoint=", "#Endpoint = 192.0.2.7:1\n#DNS=192.0.2.8\n#"));
    assert_eq!((other.endpoint().unwrap(), other.dns().unwrap()), (None, None));
    assert!(matches!(add(&other, "phone"), Err(AddError::Server(ServerError::NoEndpoint(_)))));
}

#[test]
fn ends_of_lines_are_those_of_the_file() {
    let dos = by_hand().replace('\n', "\r\n");
    let file = add(&read(&dos), "phone").unwrap().file;
    let file = file.with_dns(&ClientDns::none()).unwrap();
    assert_eq!(text(&file).matches('\n').count(), text(&file).matches("\r\n").count());
    assert_eq!(file.find("phone").unwrap(), 2);
    // a last line without a line end gets one
    let open = by_hand().trim_end().to_owned();
    let file = add(&read(&open), "phone").unwrap().file;
    assert!(text(&file).starts_with(&format!("{open}\n\n[Peer]\n# Name = phone\n")));
    // a file without empty lines and without a final line end
    let bare = format!("[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.8.0.1/24\n[Peer]\nPublicKey={BOB}");
    let file = read(&bare).with_name(0, &name("Bob")).unwrap();
    assert!(text(&file).ends_with(&format!("[Peer]\n# Name = Bob\nPublicKey={BOB}")));
}

#[test]
fn who_cannot_be_added_is_told() {
    let file = read(&by_hand());
    assert!(is_error(add(&file, "Bob"), &NewPeerError::NameTaken(name("Bob"))));
    let with_key = |key: &str| {
        let wanted = NewPeerOptions { public_key: Some(key.parse().unwrap()), ..wanted("phone") };
        add_one(&file, wanted, &mut Counting(0))
    };
    assert!(is_error(with_key(PUBLIC), &NewPeerError::ServerKey));
    let error = with_key(BOB).unwrap_err().to_string();
    assert!(error.contains("the peer Bob has that"), "{error}");
    let full = by_hand().replace("10.8.0.16/28", "10.8.0.128/25\nAllowedIPs = 10.8.0.2/31, 10.8.0.4/30, 10.8.0.8/29, 10.8.0.16/28, 10.8.0.32/27, 10.8.0.64/26");
    let error = add(&read(&full), "phone").unwrap_err().to_string();
    assert!(error.contains("all addresses of 10.8.0.0/24 are in use"), "{error}");
    let hosts = by_hand().replace("10.8.0.1/24,fd12::1/64", "10.8.0.1");
    assert!(matches!(add(&read(&hosts), "phone"), Err(AddError::Server(ServerError::NoSubnet(_)))));
    let twins = format!("{}# Name = Bob\n", by_hand());
    assert!(matches!(read(&twins).find("Bob"), Err(ServerError::Ambiguous { .. })));
}

#[test]
fn a_client_that_keeps_its_key_and_one_that_sends_everything() {
    let file = read(&by_hand());
    let key = PrivateKey::from_bytes(&[9; 32]).public_key();
    let added = add_one(&file, NewPeerOptions { public_key: Some(key), ..wanted("phone") }, &mut Counting(0))
        .unwrap();
    assert_eq!((added.client.private_key, added.client.public_key, added.peer.public_key), (None, key, key));
    let networks: Vec<_> = added.client.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.8.0.0/24", "fd12::/64"]);
    assert_eq!(added.client.dns, ClientDns::none());
    let full = NewPeerOptions { full_tunnel: true, ..wanted("phone") };
    let added = add_one(&file, full.clone(), &mut Counting(0)).unwrap();
    let networks: Vec<_> = added.client.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["0.0.0.0/0", "::/0"]);
    assert_eq!(added.client.dns, ClientDns::public());
    let told: ClientDns = "10.8.0.1".parse().unwrap();
    let file = file.with_dns(&told).unwrap();
    assert_eq!(add_one(&file, full.clone(), &mut Counting(0)).unwrap().client.dns, told);
    assert_eq!(add(&file, "phone").unwrap().client.dns, told);
    let mut none = full;
    none.settings.client.dns = Some(ClientDns::none());
    assert_eq!(add_one(&file, none, &mut Counting(0)).unwrap().client.dns, ClientDns::none());
}

#[test]
fn keys_in_files_of_their_own_stay_there() {
    let folder = TestFolder::new();
    std::fs::write(folder.path().join("key"), format!("{PRIVATE}\n")).unwrap();
    let path = folder.path().join("tun0.conf");
    std::fs::write(&path, by_hand().replace(&format!("PrivateKey={PRIVATE}"), "PrivateKeyFile = key"))
        .unwrap();
    let file = ServerFile::read(&path).unwrap();
    assert_eq!(file.public_key().to_string(), PUBLIC);
    let added = add(&file, "phone").unwrap();
    assert!(text(&added.file).contains("PrivateKeyFile = key") && !text(&added.file).contains(PRIVATE));
    std::fs::write(folder.path().join("key"), "nonsense").unwrap();
    let error = ServerFile::read(&path).unwrap_err();
    assert!(
        matches!(error, ServerError::Load(LoadError::Key { source: KeyError::Length(8), .. })),
        "{error}"
    );
    let absent = ServerFile::read(&folder.path().join("tun1.conf")).unwrap_err();
    assert!(matches!(absent, ServerError::NoFile(_)) && absent.to_string().contains("--dir"), "{absent}");
}

#[test]
fn a_file_with_an_error_is_not_touched() {
    let error = try_read(&by_hand().replace("10.8.0.2/32", "10.8.0.2/33")).unwrap_err().to_string();
    assert!(error.starts_with("tun0.conf:12: AllowedIPs"), "{error}");
}

#[test]
fn secrets_do_not_print() {
    let shown = format!("{:?}", add(&read(&by_hand()), "phone").unwrap());
    assert!(!shown.contains(PRIVATE), "{shown}");
}

/// Generates lines that a user may have put into a file, in any order.
fn filling() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::new()),
        Just("# a comment".to_owned()),
        Just("#".to_owned()),
        Just("# [Peer]".to_owned()),
        Just("# Names = none".to_owned()),
        Just("  \t".to_owned()),
    ];
    proptest::collection::vec(line, 0..4)
        .prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
}

/// Generates a file with several peers, named above or within their section or not at all.
fn any_file() -> impl Strategy<Value = String> {
    let peer = (filling(), 0_u8..3, filling(), filling());
    (filling(), filling(), proptest::collection::vec(peer, 0..6), any::<bool>()).prop_map(
        |(a, b, peers, open)| {
            let mut text = format!("{a}[Interface]\n{b}# ClientEndpoint = vpn.example.com\n");
            text += &format!("PrivateKey = {PRIVATE}\nAddress = 10.8.0.1/24\n");
            for (number, (above, named, within, below)) in (0_u8..).zip(peers) {
                let key = PublicKey::from_bytes([number + 1; 32]);
                let [over, under] = match named {
                    0 => [String::new(), String::new()],
                    1 => [format!("# Name = peer {number}\n"), String::new()],
                    _ => [String::new(), format!("# name={number}\n")],
                };
                text += &format!(
                    "{above}{over}[Peer]\n{within}{under}PublicKey = {key}\nAllowedIPs = 10.8.0.{}\n{below}",
                    2 * number + 2
                );
            }
            if open {
                text.truncate(text.trim_end().len());
            }
            text
        },
    )
}

/// Returns the lines of `after` that are not in `before`, or `None` if lines of `before` are
/// missing or in another order.
fn new_lines<'a>(before: &str, after: &'a str) -> Option<Vec<&'a str>> {
    let mut old = before.lines().peekable();
    let mut new = Vec::new();
    for line in after.lines() {
        if old.peek() == Some(&line) {
            old.next();
        } else {
            new.push(line);
        }
    }
    old.peek().is_none().then_some(new)
}

proptest! {
    #[test]
    fn adding_only_adds_at_the_end(before in any_file()) {
        let added = add(&read(&before), "phone").unwrap();
        let after = text(&added.file).to_owned();
        prop_assert!(after.starts_with(&before));
        let number = added.file.find("phone").unwrap();
        prop_assert_eq!(number, added.file.configuration().peers.len() - 1);
        let removed = added.file.without_peer(number).unwrap();
        let expected = if before.ends_with('\n') { before } else { format!("{before}\n") };
        prop_assert_eq!(text(&removed), expected);
    }

    #[test]
    fn removing_only_takes_lines_of_that_peer(before in any_file(), number in 0_usize..6) {
        let file = read(&before);
        prop_assume!(number < file.configuration().peers.len());
        let gone = file.peer(number).unwrap().name_or_key();
        let after = file.without_peer(number).unwrap();
        let taken = new_lines(text(&after), &before);
        // the section's own two keys are gone, and none of another section
        let taken = taken.unwrap();
        prop_assert_eq!(taken.iter().filter(|line| line.contains('=') && !line.starts_with('#')).count(), 2, "{:?}", taken);
        let labels: Vec<_> = file.peers().map(|peer| peer.name_or_key()).filter(|label| *label != gone).collect();
        prop_assert_eq!(after.peers().map(|peer| peer.name_or_key()).collect::<Vec<_>>(), labels);
    }

    #[test]
    fn naming_changes_or_adds_one_line(before in any_file(), number in 0_usize..6) {
        let file = read(&before);
        prop_assume!(number < file.configuration().peers.len());
        let had_name = file.peer(number).unwrap().name.is_some();
        let after = file.with_name(number, &name("another")).unwrap();
        prop_assert_eq!(after.find("another").unwrap(), number);
        prop_assert_eq!(text(&after).lines().count(), before.lines().count() + usize::from(!had_name));
        let changed = before.lines().filter(|line| !text(&after).lines().any(|new| new == *line)).count();
        prop_assert!(changed <= usize::from(had_name));
        let again = after.with_endpoint(&"192.0.2.1".parse().unwrap()).unwrap();
        prop_assert_eq!(text(&again), text(&after).replace("vpn.example.com", "192.0.2.1:51820"));
    }
}

#[test]
fn settings_are_replaced_in_their_lines() {
    let file = read(&format!(
        "[Interface]\nPrivateKey = {PRIVATE}\n\n[Peer]\n# Name = phone\n# allow = lan\n# Note = old\n# kept = as it is\nPublicKey = {BOB}\n# Allow = dns\n"
    ));
    let mut settings = file.configuration().peers[0].settings().clone();
    assert_eq!(settings.get(PeerComment::Allow).as_deref(), Some("lan, dns"));
    settings.set(PeerComment::Allow, "server:22/tcp").unwrap();
    settings.set(PeerComment::Disabled, "yes").unwrap();
    settings.set(PeerComment::Deny, "any").unwrap();
    settings.note = None;
    let edited = file.with_settings(0, &settings).unwrap();
    assert_eq!(edited.configuration().peers[0].settings(), &settings);
    let peer = text(&edited).split_once("[Peer]\n").unwrap().1;
    assert!(
        peer.starts_with(
            "# Name = phone\n# Disabled = yes\n# Deny = any\n# Allow = lan, dns, server:22/tcp\n# kept = as it is\nPublicKey"
        ) && peer.lines().count() == 6,
        "{peer}"
    );
    let none = edited.with_settings(0, &PeerSettings::NONE).unwrap();
    assert_eq!(none.configuration().peers[0].settings, None);
    assert!(file.with_settings(1, &settings).is_err());
}

#[test]
fn an_invalid_setting_is_an_error_with_its_line() {
    let error = |comments: &str| {
        let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\n{comments}\nPublicKey = {BOB}\n");
        wg_quick::parse(Path::new("x"), text.as_bytes(), Hooks::Refuse).unwrap_err().to_string()
    };
    assert!(
        error("# Allow = 10.0.0").starts_with("x:4: the comment Allow: found '10.0.0', expected a network")
    );
    assert!(
        error("# Expires = 2026-12-31\n# Expires = 2027-12-31")
            .starts_with("x:5: the comment Expires is given twice, first at line 4")
    );
}

#[test]
fn a_misspelled_setting_is_a_warning() {
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\n# Alow = lan\nPublicKey = {BOB}\n");
    let parsed = wg_quick::parse(Path::new("x"), text.as_bytes(), Hooks::Refuse).unwrap();
    assert_eq!(parsed.warnings[0].to_string(), "x:4: the comment 'Alow' is ignored; did you mean Allow?");
}

#[test]
fn new_keys_stand_where_the_old_ones_did() {
    let keys = (EVE.parse::<PublicKey>().unwrap(), PresharedKey::from_bytes([7; 32]));
    let preshared = keys.1.to_base64().to_string();
    for (before, after) in [
        (
            format!(
                "# Name = Bob\n[peer]\npublickey = {BOB}   # since May\nAllowedIPs = 10.8.0.2/32\n# his laptop\n"
            ),
            format!(
                "# Name = Bob\n[peer]\npublickey = {EVE}   # since May\nPresharedKey = {preshared}\n\
                 AllowedIPs = 10.8.0.2/32\n# his laptop\n"
            ),
        ),
        (
            format!("[Peer]\r\nPreshared Key={PRIVATE}#old\r\nPublic Key={BOB}"),
            format!("[Peer]\r\nPreshared Key={preshared}#old\r\nPublic Key={EVE}"),
        ),
        (
            format!("[Peer]\nPublicKey = {BOB}"),
            format!("[Peer]\nPublicKey = {EVE}\nPresharedKey = {preshared}"),
        ),
        (
            format!("[Peer]\nPublicKey = {BOB}\n# Disabled = yes\n\tPresharedKeyFile = /run/bob # his\n"),
            format!("[Peer]\nPublicKey = {EVE}\n# Disabled = yes\nPresharedKey = {preshared} # his\n"),
        ),
    ] {
        let rest = format!("[Interface]\nPrivateKey = {PRIVATE}\n\n");
        let edited = read(&format!("{rest}{before}")).with_keys(0, keys.0, &keys.1).unwrap();
        assert_eq!(text(&edited), format!("{rest}{after}"));
    }
    assert!(read(&by_hand()).with_keys(2, keys.0, &keys.1).is_err());
    assert!(read(&by_hand()).with_keys(0, keys.0, &keys.1).is_err(), "another peer has the key");
}
