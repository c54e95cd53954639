use proptest::prelude::*;

use super::*;
use crate::config::peer_settings::{PeerComment, PeerSettings};

const DEFAULTS: ListDefaults = ListDefaults { full_tunnel: false, settings: PeerSettings::NONE };

fn parsed(text: &str) -> PeerList {
    parse(text.as_bytes(), &DEFAULTS, SystemTime::UNIX_EPOCH)
}

fn errors(text: &str) -> Vec<String> {
    parsed(text).errors.iter().map(ToString::to_string).collect()
}

fn described(list: &PeerList) -> Vec<String> {
    let describe = |peer: &ListedOptions| {
        let NewPeerOptions { name, addresses, sites, full_tunnel, settings, public_key } = &peer.options;
        let comments: Vec<_> = PeerComment::ALL
            .iter()
            .filter_map(|key| Some(format!("{key}={}", settings.get(*key)?)))
            .collect();
        let key = if public_key.is_some() { " key" } else { "" };
        format!("{}: {name} {addresses:?} {sites:?} {full_tunnel}{key} {}", peer.line, comments.join(" "))
    };
    list.peers.iter().map(describe).collect()
}

#[test]
fn csv_and_json_say_the_same() {
    let csv = "name,address,site,Full Tunnel,note,expires,allow,keepalive,public_key\n\
               phone,10.8.0.9,,yes,\"Anna, room 5\",1d,\"lan, dns\",off,\n\
               \n\
               router,,\"192.168.5.0/24, fd00:5::/64\",no,,,,,3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\n";
    let semicolons = csv.replace(", ", "/x/").replace(',', ";").replace("/x/", ", ");
    let json = r#"[
        {"name": "phone", "address": "10.8.0.9", "full_tunnel": true, "note": "Anna, room 5", "expires": "1d",
         "allow": ["lan", "dns"], "keepalive": 0},
        {"name": "router", "site": ["192.168.5.0/24", "fd00:5::/64"], "full-tunnel": null,
         "public_key": "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="}
    ]"#;
    let expected = described(&parsed(csv));
    assert_eq!(errors(csv), [""; 0]);
    assert!(
        expected[0].starts_with("2: phone [10.8.0.9] [] true Expires=1970-01-01 Allow=lan, dns"),
        "{expected:?}"
    );
    assert!(expected[0].ends_with("ClientKeepalive=off Note=Anna, room 5"), "{expected:?}");
    assert!(expected[1].starts_with("4: router [] ["), "{expected:?}");
    for text in [&semicolons, &format!("\u{feff}{}", csv.replace('\n', "\r\n"))] {
        assert_eq!(errors(text), [""; 0], "{text}");
        assert_eq!(described(&parsed(text)), expected, "{text}");
    }
    assert_eq!(errors(json), [""; 0]);
    let places = |list: Vec<String>| -> Vec<String> {
        list.into_iter().map(|peer| peer.split_once(": ").unwrap().1.to_owned()).collect()
    };
    assert_eq!(places(described(&parsed(json))), places(expected));
    assert_eq!(parsed(json).peers.iter().map(|peer| peer.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn all_errors_are_found_each_with_its_line() {
    let csv = "name,address,site,mtu,expires,public_key\n\
               a,10.8.0,,,,\n\
               ,,,,,\n\
               b,,192.168.5.1/24,60,soon,secret\n\
               ,10.8.0.4,,,,\n\
               c,1,2,3,4,5,6\n";
    let found = errors(csv);
    for (error, (line, part)) in found.iter().zip([
        (2, "address: found '10.8.0'"),
        (4, "write 192.168.5.0/24"),
        (4, "mtu: found '60'"),
        (4, "expires: found 'soon', expected"),
        (4, "public_key: "),
        (5, "the name is missing"),
        (6, "7 values, but the header has 6 columns"),
    ]) {
        assert!(error.starts_with(&format!("{line}: ")) && error.contains(part), "{part}: {found:?}");
    }
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(!found.concat().contains("secret"));
    for (text, error) in [
        ("", "1: no peer in the file"),
        ("name\n", "1: no peer in the file"),
        ("nmae,note\na,b\n", "1: unknown column 'nmae' (did you mean name?): expected some of name, address"),
        ("note\nb\n", "1: the header has no column 'name'"),
        ("name,Name\nb,c\n", "1: the column name is there twice"),
        ("{\"name\": \"a\"}", "1: expected a list of peers"),
        ("[\n{\"name\": \"a\",}]", "2: key must be a string"),
        ("[\n\n\"a\"]", "3: invalid type: string \"a\", expected an object such as"),
        ("[{\"name\": \"a\", \"name\": \"b\"}]", "1: name is there twice"),
        ("[{\"name\": {}}]", "1: name: expected a text"),
        ("[{\"name\": \"a\", \"mtu\": -1}]", "1: mtu: found '-1'"),
        ("[{\"name\": \"a\", \"full_tunnel\": true, \"route\": \"10.0.0.0/8\"}]", "1: route: a full tunnel"),
    ] {
        let found = errors(text);
        assert!(matches!(&found[..], [only] if only.starts_with(error)), "{text}: {found:?}");
    }
    let bytes = parse(b"name\na\n\xff\n", &DEFAULTS, SystemTime::UNIX_EPOCH);
    assert_eq!(bytes.errors, [ListError::new(3, "not UTF-8: save the file in that encoding")]);
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(name|site|,|;|\"|\n|\\[|\\]|\\{|\\}|:|1|a|ü)*") {
        let list = parsed(&text);
        prop_assert!(!list.errors.is_empty() || !list.peers.is_empty());
        let lines = text.lines().count().max(1) + 1;
        prop_assert!(list.errors.iter().all(|error| (1..=lines).contains(&error.line)), "{:?}", list.errors);
    }
}
