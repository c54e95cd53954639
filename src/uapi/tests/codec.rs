//! Tests of the parsing of requests and the formatting of answers.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::uapi::limits::{MAX_LINE, MAX_REQUEST};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

pub(super) const KEY: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";
const OTHER: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";

/// Parses the first request of `text` in one piece.
fn parse(text: impl AsRef<[u8]>) -> Result<Request, RequestError> {
    RequestParser::default().handle_bytes(text.as_ref()).request.expect("a whole request")
}

fn changes(text: &str) -> Changes {
    match parse(format!("set=1\n{text}\n")) {
        Ok(Request::Set(changes)) => changes,
        other => panic!("{text}: {other:?}"),
    }
}

fn peer(text: &str) -> PeerChanges {
    let mut changes = changes(&format!("public_key={KEY}\n{text}"));
    assert_eq!(changes.peers.len(), 1);
    changes.peers.remove(0)
}

fn error(text: impl AsRef<[u8]>) -> RequestError {
    let error = parse([b"set=1\n", text.as_ref(), b"\n"].concat()).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

pub(super) fn public(hex: &str) -> PublicKey {
    changes(&format!("public_key={hex}\n")).peers[0].public_key
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any::<std::net::IpAddr>(), 0..=128_u8).prop_map(|(address, length)| {
        Prefix::new(address, if address.is_ipv4() { length % 33 } else { length }).unwrap()
    })
}

fn any_endpoint() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (1..=223_u8, any::<[u8; 3]>(), 1_u16..).prop_map(|(a, [b, c, d], port)| ([a, b, c, d], port).into()),
        (any::<[u16; 7]>(), 1_u16..).prop_map(|([b, c, d, e, f, g, h], port)| {
            SocketAddr::from(([0x2001, b, c, d, e, f, g, h], port))
        }),
        (any::<u16>(), 1_u32..).prop_map(|(low, scope)| {
            std::net::SocketAddrV6::new(([0xfe80, 0, 0, 0, 0, 0, 0, low]).into(), 51820, 0, scope).into()
        }),
    ]
}

fn any_peer() -> impl Strategy<Value = PeerChanges> {
    let allowed_ips =
        (any_prefix(), any::<bool>()).prop_map(|(prefix, remove)| AllowedIpChange { prefix, remove });
    (
        any::<[u8; 32]>(),
        any::<[bool; 3]>(),
        prop::option::of(prop::option::of("[a-zé]{1,8}( =[a-z]{1,8})?")),
        any::<Option<[u8; 32]>>(),
        prop::option::of(any_endpoint()),
        any::<Option<u16>>(),
        prop::collection::vec(allowed_ips, 0..4),
    )
        .prop_map(
            |(
                key,
                [remove, update_only, replace_allowed_ips],
                name,
                preshared,
                endpoint,
                keepalive,
                allowed_ips,
            )| {
                PeerChanges {
                    remove,
                    update_only,
                    name: name.map(|name| name.map(|name| name.parse().unwrap())),
                    preshared_key: preshared.map(PresharedKey::from_bytes),
                    endpoint,
                    persistent_keepalive: keepalive,
                    replace_allowed_ips,
                    allowed_ips,
                    ..PeerChanges::new(PublicKey::from_bytes(key))
                }
            },
        )
}

fn any_changes() -> impl Strategy<Value = Changes> {
    (
        any::<Option<Option<[u8; 32]>>>(),
        any::<Option<u16>>(),
        any::<Option<u32>>(),
        any::<Option<bool>>(),
        any::<bool>(),
        prop::collection::vec(any_peer(), 0..4),
    )
        .prop_map(|(key, listen_port, fwmark, kill_switch, replace_peers, peers)| Changes {
            private_key: key.map(|key| key.map(|key| PrivateKey::from_bytes(&key))),
            listen_port,
            fwmark,
            kill_switch,
            replace_peers,
            peers,
        })
}

proptest! {
    #[test]
    fn what_is_printed_is_read(changes in any_changes(), cuts in prop::collection::vec(1..40_usize, 1..8)) {
        let text = changes.to_request();
        let expected = Some(Ok(Request::Set(changes)));
        let mut parser = RequestParser::default();
        // whole, then in pieces, by the same parser
        prop_assert_eq!(&parser.handle_bytes(&text), &Progress { consumed: text.len(), request: expected.clone() });
        let mut rest = text.as_slice();
        let mut request = None;
        for &cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            let progress = parser.handle_bytes(piece);
            prop_assert_eq!(progress.consumed, piece.len());
            rest = after;
            if rest.is_empty() || progress.request.is_some() {
                request = progress.request;
                break;
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(request, expected);
        prop_assert_eq!(parser.handle_end(), None);
    }

    #[test]
    fn any_bytes_are_answered(text in prop::collection::vec(prop_oneof![
        Just(b"set=1\n".to_vec()), Just(b"\n".to_vec()), Just(format!("public_key={KEY}\n").into_bytes()),
        Just(b"allowed_ip=".to_vec()), Just(b"endpoint=[".to_vec()), prop::collection::vec(any::<u8>(), 0..20),
    ], 0..30)) {
        let text = text.concat();
        let (mut whole, mut torn) = (RequestParser::default(), RequestParser::default());
        let mut rest = text.as_slice();
        let mut expected = Vec::new();
        while !rest.is_empty() {
            let progress = whole.handle_bytes(rest);
            prop_assert!(progress.consumed > 0);
            rest = &rest[progress.consumed..];
            expected.extend(progress.request);
        }
        let found: Vec<_> = text.iter().filter_map(|&byte| torn.handle_bytes(&[byte]).request).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(whole.handle_end(), torn.handle_end());
    }
}

#[test]
fn the_example_of_the_protocols_page() {
    // https://www.wireguard.com/xplatform/
    let changes = changes(
        "private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
fwmark=0
listen_port=12912
replace_peers=true
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58
endpoint=5.152.198.39:51820
replace_allowed_ips=true
allowed_ip=192.168.4.10/32
allowed_ip=192.168.4.11/32
public_key=e818b58db5274087fcc1be5dc728cf53d3b5726b4cef6b9bab8f8f8c2452c25c
remove=true
",
    );
    assert!(changes.private_key.as_ref().is_some_and(Option::is_some));
    assert_eq!((changes.listen_port, changes.fwmark, changes.replace_peers), (Some(12912), Some(0), true));
    let [first, second, third, fourth] = changes.peers.as_slice() else { panic!("{changes:?}") };
    assert_eq!(first.public_key, public(OTHER));
    assert!(first.preshared_key.as_ref().is_some_and(|key| !key.is_none()));
    assert_eq!(first.endpoint, Some("[abcd:23::33%2]:51820".parse().unwrap()));
    assert_eq!(second.persistent_keepalive, Some(111));
    assert_eq!(third.allowed_ips.len(), 2);
    assert_eq!(
        (third.allowed_ips[1].prefix, third.allowed_ips[1].remove),
        (prefix("192.168.4.11/32"), false)
    );
    assert!(fourth.remove && !first.remove);
}

#[test]
fn operations() {
    assert_eq!([parse("get=1\n\n"), parse("status=1\n\n")], [Ok(Request::Get), Ok(Request::Status)]);
    assert_eq!(parse("reload=1\n\n"), Ok(Request::Reload));
    assert_eq!(parse("admin=1\n\n"), Ok(Request::AdminLink(None)));
    assert_eq!(parse("admin_owner=Anna\n\n"), Ok(Request::AdminLink("anna".parse().ok())));
    assert_eq!(parse("admin_tokens=1\n\n"), Ok(Request::AdminTokens));
    assert_eq!(parse("set=1\n\n"), Ok(Request::Set(Changes::default())));
    for (text, errno) in [
        ("get=2\n\n", -71),
        ("\n", -71),
        ("GET / HTTP/1.1\r\n\r\n\n", -71),
        ("get=1\nset=1\n\n", -22),
        ("status=1\nx\n\n", -22),
        ("reload=1\nx\n\n", -22),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.errno(), errno, "{text}: {error}");
        assert!(!error.is_fatal());
    }
    let error = parse("frobnicate=1\n\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1 of the request: found 'frobnicate=1', expected get=1, set=1, status=1, file=1, reload=1, admin=1 or admin_tokens=1"
    );
}

#[test]
fn a_key_of_zeroes_removes_the_private_key() {
    let zeroes = "0".repeat(64);
    assert_eq!(changes(&format!("private_key={zeroes}\n")).private_key, Some(None));
    assert_eq!(changes("").private_key, None);
    let key = changes(&format!("private_key={KEY}\n")).private_key.unwrap().unwrap();
    // clamped
    assert_eq!(key.as_bytes()[..2], [0xe8, 0x4b]);
    assert_eq!(key.as_bytes()[31], 0x7a);
    assert!(peer(&format!("preshared_key={zeroes}\n")).preshared_key.unwrap().is_none());
}

#[test]
fn the_last_of_two_values_counts_and_peers_stay_in_order() {
    let changes = changes(&format!(
        "listen_port=1\nlisten_port=2\npublic_key={KEY}\npersistent_keepalive_interval=1\n\
         persistent_keepalive_interval=0\npublic_key={OTHER}\npublic_key={KEY}\nremove=true\n"
    ));
    assert_eq!(changes.listen_port, Some(2));
    let keys: Vec<_> = changes.peers.iter().map(|peer| peer.public_key).collect();
    assert_eq!(keys, [public(KEY), public(OTHER), public(KEY)]);
    assert_eq!(changes.peers[0].persistent_keepalive, Some(0));
    assert!(!changes.peers[0].remove && changes.peers[2].remove);
}

#[test]
fn replacing_allowed_ips_takes_those_of_earlier_lines_too() {
    let peer = peer(
        "allowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=fd00::1/64\nallowed_ip=-10.1.2.3/16\n",
    );
    assert!(peer.replace_allowed_ips);
    let change = |text, remove| AllowedIpChange { prefix: prefix(text), remove };
    assert_eq!(peer.allowed_ips, [change("fd00::/64", false), change("10.1.0.0/16", true)]);
}

#[test]
fn endpoints() {
    for (text, expected) in [
        ("192.0.2.1:51820", "192.0.2.1:51820"),
        ("[::1]:51820", "[::1]:51820"),
        ("[fe80::1%1]:7", "[fe80::1%1]:7"),
        ("[fe80::1%lo]:7", "[fe80::1%1]:7"),
        ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
    ] {
        let endpoint = peer(&format!("endpoint={text}\n")).endpoint.unwrap();
        assert_eq!(endpoint.to_string(), expected);
    }
    for text in [
        "",
        "192.0.2.1",
        "::1",
        "[::1]",
        "::1:51820",
        "[::1]:",
        "[::1]:0",
        "192.0.2.1:65536",
        "192.0.2.1:+7",
        "vpn.example.com:51820",
        "[fe80::1%nosuch]:7",
        "[fe80::1]:7",
        "0.0.0.0:7",
        "[ff02::1]:7",
        "[::1:7",
        "%:7",
    ] {
        let error = error(format!("public_key={KEY}\nendpoint={text}\n"));
        assert!(matches!(error.kind, RequestErrorKind::Value { key: "endpoint", .. }), "{text}: {error}");
        assert_eq!((error.line, error.errno()), (3, -22));
    }
}

#[test]
fn wrong_values_are_named() {
    for (text, part) in [
        ("listen_port=65536", "listen_port: found '65536', expected a UDP port from 0 to 65535"),
        ("listen_port=", "listen_port: found nothing"),
        ("listen_port=+1", "listen_port: found '+1'"),
        ("listen_port=0x1", "found '0x1'"),
        ("fwmark=4294967296", "fwmark: found '4294967296', expected a number from 0 to 4294967295"),
        ("fwmark=-1", "found '-1'"),
        ("wontun_kill_switch=true", "wontun_kill_switch: found 'true', expected on or off"),
        ("replace_peers=false", "replace_peers: found 'false', expected true"),
        ("private_key=00", "private_key: found 2 characters, expected 64 hexadecimal digits"),
        ("public_key=00", "public_key: found 2 characters, expected 64 hexadecimal digits"),
        ("mtu=1420", "found 'mtu' as a key of the interface, expected one of private_key, listen_port"),
        ("remove=true", "found 'remove' as a key of the interface"),
        ("Listen_Port=1", "found 'Listen_Port' as a key"),
        ("=1", "found nothing as a key"),
        ("listen_port", "expected KEY=VALUE, found a line without '='"),
        ("\u{fc}=1", "found 'ü' as a key"),
    ] {
        let error = error(format!("{text}\n"));
        assert_eq!(error.line, 2);
        assert!(error.to_string().contains(part), "{error}");
    }
    for (text, part) in [
        ("remove=1", "remove: found '1', expected true"),
        ("update_only=no", "update_only: found 'no', expected true"),
        ("replace_allowed_ips=", "replace_allowed_ips: found nothing, expected true"),
        ("protocol_version=2", "protocol_version: found '2', expected 1"),
        ("persistent_keepalive_interval=off", "found 'off', expected a number of seconds from 0 to 65535"),
        ("preshared_key=", "preshared_key: found 0 characters, expected 64 hexadecimal digits"),
        ("private_key=00", "found 'private_key' as a key of a peer, expected one of public_key, remove"),
        ("allowed_ip=10.0.0.0", "allowed_ip: found '10.0.0.0', expected a network such as 10.0.0.0/8"),
        ("allowed_ip=10.0.0.0/33", "found '10.0.0.0/33'"),
        ("allowed_ip=::/129", "found '::/129'"),
        ("allowed_ip=--10.0.0.0/8", "found '--10.0.0.0/8'"),
        ("allowed_ip=10.0.0.0/8 ", "found '10.0.0.0/8 '"),
        ("allowed_ip=fe80::1%1/64", "found 'fe80::1%1/64'"),
    ] {
        let error = error(format!("public_key={KEY}\n{text}\n"));
        assert_eq!(error.line, 3);
        assert!(error.to_string().contains(part), "{error}");
    }
    peer("protocol_version=1\n");
}

#[test]
fn names_are_taken_off_again_and_have_no_escape_sequence() {
    assert_eq!(peer("update_only=true\n").name, None);
    assert_eq!(peer("name=old\nname=Anna's phone\n").name, Some(Some("Anna's phone".parse().unwrap())));
    assert_eq!(peer("name=\n").name, Some(None));
    for value in ["\u{1b}[31m", " x", "a\u{9b}31m", "abc\u{202e}gpj", &"x".repeat(65)] {
        let error = error(format!("public_key={KEY}\nname={value}\n"));
        let message = error.to_string();
        assert!(error.line == 3 && message.contains("name: found "), "{message}");
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    let message = error(b"listen_port=1\xff\x1b[31m\n").to_string();
    assert!(message.contains(r"listen_port: found '1\xff\u{1b}[31m'"), "{message}");
    let message = error(b"# h\xfcbsch\n").to_string();
    assert!(message.contains("without '='"), "there are no comments: {message}");
}

#[test]
fn no_message_has_a_secret() {
    let base64 = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    for text in [
        format!("private_key={}x\n", &KEY[1..]),
        format!("private_key={KEY}{KEY}\n"),
        format!("private_key={base64}\n"),
        format!("{KEY}=1\n"),
        format!("{base64}\n"),
        format!("listen_port={KEY}\n"),
        format!("public_key={KEY}\npreshared_key={}\n", &KEY[2..]),
        format!("public_key={KEY}\nallowed_ip={KEY}\n"),
        format!("public_key={KEY}\nendpoint={base64}\n"),
        format!("public_key={KEY}\npre shared_key {base64}=\n"),
    ] {
        let message = error(&text).to_string();
        for secret in [KEY, base64] {
            let parts = secret.as_bytes().windows(8).map(|part| std::str::from_utf8(part).unwrap());
            for part in parts {
                assert!(!message.contains(part), "{message}");
            }
        }
    }
}

#[test]
fn a_line_too_long_is_passed_over_without_being_kept() {
    let mut parser = RequestParser::default();
    assert_eq!(parser.handle_bytes(b"set=1\n").request, None);
    for _ in 0..1000 {
        assert_eq!(parser.handle_bytes(&[b'x'; 1000]).request, None);
    }
    let Some(Err(error)) = parser.handle_bytes(b"\nfwmark=1\n\n").request else { panic!("an error") };
    assert_eq!((error.line, error.kind.clone(), error.errno()), (2, RequestErrorKind::LongLine, -71));
    assert!(!error.is_fatal());
    // the same in one piece
    let text = format!("set=1\n{}\nfwmark=1\n\n", "x".repeat(1_000_000));
    assert_eq!(parser.handle_bytes(text.as_bytes()).request, Some(Err(error)));
    let longest = format!("{}\n", "x".repeat(MAX_LINE));
    assert_eq!(self::error(longest).kind, RequestErrorKind::NoValue);
}

#[test]
fn the_limit_of_a_request_holds_and_a_hundred_thousand_networks_are_below_it() {
    let line = "allowed_ip=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128\n";
    assert!(line.len() * 100_000 < MAX_REQUEST);
    let mut parser = RequestParser::default();
    parser.handle_bytes(format!("set=1\npublic_key={KEY}\n").as_bytes());
    let mut taken = 0;
    let error = loop {
        if let Some(request) = parser.handle_bytes(line.as_bytes()).request {
            break request.unwrap_err();
        }
        taken += line.len();
        assert!(taken <= MAX_REQUEST);
    };
    assert!(taken > MAX_REQUEST - 200);
    assert_eq!(error.errno(), -7);
    assert!(error.is_fatal());
}

#[test]
fn answers_are_wireguard_gos() {
    let private = PrivateKey::from_bytes(&[0x48; 32]);
    let interface = InterfaceStatus {
        private_key: Some(&private),
        listen_port: 12912,
        fwmark: 0xca6c,
        mtu: Some(1420),
        is_up: true,
        ..empty_interface()
    };
    let mut answer = Response::new(ResponseFormat::Get, &interface, [("replay", 3)]);
    let none = PresharedKey::default();
    let mut status = PeerStatus {
        public_key: &public(OTHER),
        name: None,
        preshared_key: &none,
        endpoint: Some("[fe80::1%2]:51820".parse().unwrap()),
        last_handshake: Duration::new(1_600_000_000, 5),
        earlier_handshake: Duration::ZERO,
        tx_bytes: 38333,
        rx_bytes: 2224,
        traffic: None,
        persistent_keepalive: 111,
        has_session: true,
        is_over_quota: false,
    };
    answer.peer(&status, [prefix("192.168.4.4/32"), prefix("fd00::/8")]);
    let preshared = PresharedKey::from_bytes([0xab; 32]);
    status.preshared_key = &preshared;
    status.endpoint = None;
    answer.peer(&status, []);
    let text = answer.finish();
    let text = std::str::from_utf8(&text).unwrap();
    let expected = format!(
        "private_key={}
listen_port=12912
fwmark=51820
public_key={OTHER}
preshared_key={}
protocol_version=1
endpoint=[fe80::1%2]:51820
last_handshake_time_sec=1600000000
last_handshake_time_nsec=5
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
allowed_ip=192.168.4.4/32
allowed_ip=fd00::/8
public_key={OTHER}
preshared_key={}
protocol_version=1
last_handshake_time_sec=1600000000
last_handshake_time_nsec=5
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
errno=0

",
        "48".repeat(32),
        "00".repeat(32),
        "ab".repeat(32),
    );
    assert_eq!(text, expected);
}

pub(super) const fn empty_interface() -> InterfaceStatus<'static> {
    InterfaceStatus {
        private_key: None,
        public_key: None,
        listen_port: 0,
        fwmark: 0,
        mtu: None,
        is_up: false,
        repairs: &[],
        problems: &[],
    }
}

#[test]
fn an_interface_without_anything_says_little() {
    let interface = empty_interface();
    assert_eq!(*Response::new(ResponseFormat::Get, &interface, []).finish(), b"errno=0\n\n");
    assert_eq!(*ok_response(), b"errno=0\n\n");
    assert_eq!(*error_response(-98), b"errno=-98\n\n");
}
