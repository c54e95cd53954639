use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const PRIVATE: &str = "gOKFoFvF83u3Kt2DJKTfbH4SfUdOZPDTyPJcY0ZdZ2Q=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const OTHER: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn read(text: &str) -> Result<Parsed, WgQuickError> {
    parse(Path::new("tun0.conf"), text.as_bytes(), Hooks::Refuse)
}

fn good(text: &str) -> WgQuick {
    read(text).unwrap_or_else(|error| panic!("{error}\n{text}")).configuration
}

/// Parses `lines` in an `[Interface]` section.
fn interface(lines: &str) -> Interface {
    good(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{lines}")).interface
}

/// Parses `lines` in a `[Peer]` section.
fn peer(lines: &str) -> Peer {
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC}\n{lines}");
    good(&text).peers.remove(0)
}

fn warnings(text: &str, hooks: Hooks) -> Vec<String> {
    let parsed = parse(Path::new("tun0.conf"), text.as_bytes(), hooks).unwrap();
    parsed.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_full_tunnel_has_all_of_a_family() {
    let is_full = |allowed: &str| {
        let peer = format!("[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = {allowed}\n");
        good(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{peer}")).is_full_tunnel()
    };
    for full in ["0.0.0.0/0", "10.0.0.0/8, ::/0", "0.0.0.0/1, 128.0.0.0/1", "8000::/1, ::/1"] {
        assert!(is_full(full), "{full}");
    }
    for split in
        ["10.0.0.0/8", "0.0.0.0/1", "0.0.0.0/1, 0.0.0.0/1", "0.0.0.0/1, 8000::/1", "0.0.0.0/2, 64.0.0.0/2"]
    {
        assert!(!is_full(split), "{split}");
    }
}

#[test]
fn a_full_tunnel_of_one_family_earns_a_warning() {
    let past = |allowed: &str, table: &str| {
        let peer = format!("[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = {allowed}\n");
        good(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{table}{peer}")).leak_warning()
    };
    for (allowed, add) in [
        ("0.0.0.0/0", Some("add ::/0")),
        ("0.0.0.0/1, 128.0.0.0/1, fd00::/8", Some("add ::/0")),
        ("::/0", Some("add 0.0.0.0/0")),
        ("2000::/3, 10.0.0.0/8", Some("add 0.0.0.0/0")),
        ("0.0.0.0/0, ::/0", None),
        ("0.0.0.0/0, ::/1, 8000::/1", None),
        ("0.0.0.0/0, 2000::/3", None),
        ("10.0.0.0/8, fd00::/8", None),
    ] {
        let said = past(allowed, "");
        assert_eq!(said.is_some(), add.is_some(), "{allowed}");
        assert!(add.is_none_or(|add| said.unwrap().contains(add)), "{allowed}: {said:?}");
    }
    for table in ["Table = off\n", "Table = 1000\n"] {
        assert_eq!(past("0.0.0.0/0", table), None, "the routes are not ours");
    }
}

#[test]
fn every_key_is_read() {
    let configuration = good(&format!(
        "# a laptop\n\
         [Interface]\n\
         PrivateKey = {PRIVATE}\n\
         ListenPort = 51820\n\
         FwMark = 0xca6c # as wg-quick's\n\
         Address = 10.8.0.2/24, fd00::2/64\n\
         Address = 10.9.0.2\n\
         MTU = 1380\n\
         Table = 1000\n\
         DNS = 10.8.0.1, example.com\n\
         \n\
         [Peer]\n\
         PublicKey = {PUBLIC}\n\
         PresharedKey = {OTHER}\n\
         AllowedIPs = 10.8.0.0/24,fd00::/64\n\
         AllowedIPs = 0.0.0.0/0\n\
         Endpoint = vpn.example.com:51820\n\
         PersistentKeepalive = 25\n\
         \n\
         [Peer]\n\
         PublicKey = {OTHER}\n\
         PresharedKeyFile = /etc/wireguard/the other's.psk"
    ));
    let interface = &configuration.interface;
    assert_eq!(interface.private_key, KeySource::Inline(PRIVATE.parse().unwrap()));
    assert_eq!(interface.listen_port, NonZeroU16::new(51_820));
    assert_eq!(interface.fwmark, NonZeroU32::new(0xca6c));
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.8.0.2/24", "fd00::2/64", "10.9.0.2/32"]);
    assert_eq!((interface.mtu, interface.dns.len()), (Some(1380), 2));
    assert_eq!(interface.table, Table::Number(NonZeroU32::new(1000).unwrap()));
    let [first, second] = configuration.peers.as_slice() else { panic!("two peers") };
    assert_eq!(first.public_key, PUBLIC.parse().unwrap());
    assert_eq!(first.preshared_key, Some(KeySource::Inline(OTHER.parse().unwrap())));
    let allowed_ips: Vec<_> = first.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(allowed_ips, ["10.8.0.0/24", "fd00::/64", "0.0.0.0/0"]);
    assert_eq!(first.endpoint.as_ref().unwrap().to_string(), "vpn.example.com:51820");
    assert_eq!(first.persistent_keepalive, NonZeroU16::new(25));
    assert_eq!(second.preshared_key, Some(KeySource::File("/etc/wireguard/the other's.psk".into())));
    assert_eq!((second.allowed_ips.len(), &second.endpoint, second.persistent_keepalive), (0, &None, None));
}

#[test]
fn what_wg_and_wg_quick_take_is_taken() {
    let expected = good(&format!(
        "[Interface]\nPrivateKey={PRIVATE}\nAddress=10.0.0.1/8,fd00::1/64\nListenPort=7\n\
         [Peer]\nPublicKey={PUBLIC}\nAllowedIPs=10.1.0.0/16,10.2.0.0/16\n"
    ));
    for text in [
        // CRLF, other case, a byte order mark
        format!(
            "\u{feff}[INTERFACE]\r\nprivatekey = {PRIVATE}\r\nADDRESS = 10.0.0.1/8 , fd00::1/64\r\n\
             listenport\t=7\r\n[peer]\r\nPublickey = {PUBLIC}\r\nallowedips = 10.1.0.0/16 , 10.2.0.0/16"
        ),
        // the peer first, comments anywhere, spaces in names and values, Address split by spaces,
        // empty values
        format!(
            "#[Interface]\n [ Peer ] # one\nPublic Key = {PUBLIC}#{OTHER}\nAllowedIPs = 10.1.0.0 / 16\n\
             AllowedIPs = 10.2.0.0/16, 10.1.0.0/16\n\x0b\n[Interface]#\n  Address = 10.0.0.1/8  fd00::1/64,\n\
             Address =\nListenPort = 0 7\nMTU =\nTable=\nDNS=\nPrivateKey = {}\t{}\nFwMark = off\n#",
            &PRIVATE[..9],
            &PRIVATE[9..]
        ),
    ] {
        assert_eq!(good(&text), expected, "{text}");
    }
    let latin1 = b"[Interface] # caf\xe9\nPrivateKeyFile = key\n";
    assert!(parse(Path::new("f"), latin1, Hooks::Refuse).is_ok());
}

#[test]
fn values_mean_what_they_mean_to_wg() {
    assert_eq!(interface("ListenPort = 0").listen_port, None);
    for off in ["off", "OFF", "0", "0x0", "00"] {
        assert_eq!(interface(&format!("FwMark = {off}")).fwmark, None, "{off}");
    }
    assert_eq!(interface("FwMark = 0xFFFFffff").fwmark, NonZeroU32::new(u32::MAX));
    for (text, table) in [("auto", Table::Auto), ("OFF", Table::Off)] {
        assert_eq!(interface(&format!("Table = {text}")).table, table);
    }
    for (text, number) in [("main", 254), ("0x10", 16), ("4294967295", u32::MAX)] {
        let table = Table::Number(NonZeroU32::new(number).unwrap());
        assert_eq!(interface(&format!("Table = {text}")).table, table);
    }
    assert_eq!(peer("PersistentKeepalive = off").persistent_keepalive, None);
    assert_eq!(peer("PersistentKeepalive = 0").persistent_keepalive, None);
    for (text, endpoint) in [
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ("2001:db8::1:51820", "[2001:db8::1]:51820"),
        ("2001:db8::1:1234", "[2001:db8::1]:1234"),
        ("vpn . example.com : 7", "vpn.example.com:7"),
        ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
    ] {
        let peer = peer(&format!("Endpoint = {text}"));
        assert_eq!(peer.endpoint.unwrap().to_string(), endpoint, "{text}");
    }
}

#[test]
fn every_error_names_file_line_and_key_and_what_was_expected() {
    let both = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    let peer = format!("{both}[Peer]\nPublicKey = {PUBLIC}\n");
    for (text, said) in [
        (String::new(), "1: expected an [Interface] section"),
        ("[Peer]\n".to_owned(), "2: expected an [Interface] section"),
        (
            "[Interface]\n\nMTU = 1400".to_owned(),
            "1: [Interface] has no PrivateKey: expected a key in base64",
        ),
        (format!("{both}[Peer]\nAllowedIPs = ::/0"), "3: [Peer] has no PublicKey: expected a key"),
        (format!("PrivateKey = {PRIVATE}"), "1: expected [Interface] or [Peer] before"),
        (format!("{both}[Peers]"), "3: found the section '[Peers]', expected [Interface] or [Peer]"),
        (format!("{both}[Interface]"), "3: [Interface] is given twice, first at line 1"),
        (format!("{both}Adress = ::1"), "3: unknown key 'Adress' in [Interface]; did you mean Address?"),
        (format!("{both}xyzzy = 1"), "3: unknown key 'xyzzy' in [Interface]; expected one of PrivateKey, "),
        (format!("{peer}Keep = 1"), "5: unknown key 'Keep' in [Peer]; expected one of PublicKey, "),
        (format!("{peer}MTU = 1400"), "5: MTU belongs to [Interface], not here"),
        (format!("{both}Endpoint = a:1"), "3: Endpoint belongs to [Peer], not here"),
        (format!("{both}MTU 1400"), "3: MTU: expected KEY = VALUE, found a line without '='"),
        (format!("{both}MTU"), "3: expected KEY = VALUE"),
        (format!("{both}MTU = 1400\nmtu = 1400"), "4: MTU is given twice, first at line 3"),
        (format!("{both}PrivateKeyFile = k"), "3: PrivateKeyFile and PrivateKey (line 2) are both given"),
        (format!("{peer}[peer]\nPublicKey={PUBLIC}"), "6: PublicKey: the peer at line 3 has the same"),
        (format!("{both}Address = ::1/64\nAddress=::1"), "4: Address: ::1 is given twice, first at line 3"),
        (format!("{both}MTU = 1279\nAddress = ::1"), "3: MTU: found 1279, expected at least 1280"),
        (format!("{both}MTU = 67"), "3: MTU: found '67', expected a number of bytes from 68 to 65475"),
        (format!("{both}MTU = +1400"), "3: MTU: found '+1400'"),
        (format!("{both}ListenPort = 65536"), "3: ListenPort: found '65536', expected a UDP port from 0"),
        (format!("{both}ListenPort ="), "3: ListenPort: found nothing, expected a UDP port"),
        (format!("{both}ListenPort = \u{1b}[2J"), "3: ListenPort: found '\\u{1b}[2J', expected"),
        (format!("{both}FwMark = 0x"), "3: FwMark: found '0x', expected 'off' or a number"),
        (format!("{both}FwMark = 4294967296"), "3: FwMark: found '4294967296'"),
        (format!("{both}Table = 0"), "3: Table: found '0', expected 'auto', 'off'"),
        (format!("{both}Table = vpn"), "3: Table: found 'vpn'"),
        (format!("{both}Address = 10.0.0.1/8, 10.0.0/8"), "3: Address: found '10.0.0/8', expected"),
        (format!("{both}SaveConfig = yes"), "3: SaveConfig: found 'yes', expected 'true' or 'false'"),
        ("[Interface]\nPrivateKeyFile =".to_owned(), "2: PrivateKeyFile: found nothing, expected the path"),
        (format!("[Interface]\nPrivateKeyFile = {PRIVATE}"), "2: PrivateKeyFile: found the key itself, exp"),
        (format!("[Interface]\nPrivateKey = {OTHER}="), "2: PrivateKey: found 45 characters, expected a key"),
        ("[Interface]\nPrivateKey =".to_owned(), "2: PrivateKey: found nothing, expected a key"),
        (format!("[Interface]\nPrivateKey {PRIVATE}"), "2: PrivateKey: expected KEY = VALUE, found"),
        (format!("[Interface]\n{PRIVATE}"), "2: found something that is no key of [Interface]"),
        (format!("{both}Table = {OTHER}"), "3: Table: found 44 characters, not shown"),
        (format!("{peer}AllowedIPs = 10.0.0.0/33"), "5: AllowedIPs: found '10.0.0.0/33', expected networks"),
        (format!("{peer}AllowedIPs = ::/0,"), "5: AllowedIPs: found nothing, expected networks"),
        (format!("{peer}Endpoint = 192.0.2.1"), "5: Endpoint: found '192.0.2.1', expected HOST:PORT"),
        (format!("{peer}Endpoint = [::1]"), "5: Endpoint: found '[::1]', expected HOST:PORT"),
        (format!("{peer}Endpoint = 2001:db8::1"), "5: Endpoint: found '2001:db8::1', expected HOST:PORT"),
        (format!("{peer}Endpoint = a:0"), "5: Endpoint: found 'a:0', expected HOST:PORT"),
        (format!("{peer}Endpoint = fe80::1:7"), "5: Endpoint: found 'fe80::1:7', expected the interface"),
        (format!("{peer}Endpoint = 0.0.0.0:7"), "5: Endpoint: found '0.0.0.0:7', expected the address of"),
        (format!("{peer}PersistentKeepalive = 65536"), "5: PersistentKeepalive: found '65536', expected"),
        (format!("{peer}PresharedKey = {}", &OTHER[1..]), "5: PresharedKey: found 43 characters, expected"),
        (format!("{peer}PresharedKey = {}", "=".repeat(44)), "5: PresharedKey: found 44 characters that are"),
    ] {
        let error = read(&text).expect_err(&text).to_string();
        assert!(error.starts_with(&format!("tun0.conf:{said}")), "{error}\nnot: {said}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = parse(Path::new("a\nb"), b"\xff", Hooks::Refuse).unwrap_err().to_string();
    assert_eq!(error, "a\\nb:1: expected UTF-8 text; other bytes are allowed in comments only");
}

#[test]
fn commands_are_refused_or_left_out_but_never_kept() {
    for hook in ["PreUp", "POSTUP", "predown", "PostDown"] {
        let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n{hook} = rm -rf / # now\n{hook} = true\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with("tun0.conf:3: P") && error.ends_with("--ignore-hooks"), "{error}");
        let said = warnings(&text, Hooks::Ignore);
        assert!(said[0].starts_with("tun0.conf:3: P") && said[0].contains("is ignored"), "{said:?}");
        assert!(said[1].starts_with("tun0.conf:4: P") && said.len() == 2, "{said:?}");
    }
    let saves = |value| format!("[Interface]\nPrivateKey = {PRIVATE}\nSaveConfig = {value}");
    let error = read(&saves("true")).unwrap_err().to_string();
    assert!(error.starts_with("tun0.conf:3: SaveConfig is refused"), "{error}");
    assert_eq!(warnings(&saves("TRUE"), Hooks::Ignore).len(), 1);
    assert_eq!(warnings(&saves("false"), Hooks::Refuse), [] as [&str; 0]);
}

#[test]
fn what_works_but_may_not_be_meant_is_said() {
    let text = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nDNS =\nDNS = 1.1.1.1\nDNS = a.example\n\
         [Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = 10.0.0.7/24, 10.0.0.0/24, ::1\n\
         [Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.0.0.0/24, ::/0"
    );
    assert_eq!(
        warnings(&text, Hooks::Refuse),
        [
            "tun0.conf:8: AllowedIPs: 10.0.0.7/24 is an address and not a network; using 10.0.0.0/24",
            "tun0.conf:11: AllowedIPs: 10.0.0.0/24 was assigned to another peer at line 8; it belongs to this peer only",
        ]
    );
    let peers = good(&text).peers;
    assert_eq!(peers.iter().map(|peer| peer.allowed_ips.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn secrets_are_printed_but_not_shown() {
    let text =
        format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC}\nPresharedKey = {OTHER}");
    let configuration = good(&text);
    let shown = format!("{configuration:?}");
    assert!(!shown.contains(&PRIVATE[..8]) && !shown.contains(&OTHER[..8]), "{shown}");
    let printed = configuration.to_text();
    assert!(printed.contains(PRIVATE) && printed.contains(OTHER));
    assert_eq!(printed.len(), printed.capacity(), "it never grew");
}

fn any_cidr() -> impl Strategy<Value = Cidr> {
    (any::<IpAddr>(), 0..=128_u8)
        .prop_map(|(ip, length)| Cidr::new(ip, length % if ip.is_ipv4() { 33 } else { 129 }).unwrap())
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    any_cidr().prop_map(|cidr| Prefix::new(cidr.address(), cidr.prefix()).unwrap())
}

fn any_source<K: Clone + std::fmt::Debug + 'static>(
    key: fn([u8; 32]) -> K,
) -> impl Strategy<Value = KeySource<K>> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(move |bytes| KeySource::Inline(key(bytes))),
        "[!-\"$-~é][ -\"$-~é]{0,30}[!-\"$-~é]".prop_map(|path| KeySource::File(path.into())),
    ]
}

fn any_endpoint() -> impl Strategy<Value = PeerAddress> {
    let socket = (any::<IpAddr>(), 1_u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port).to_string());
    let name = ("[a-z][a-z0-9.-]{0,30}", 1_u16..).prop_map(|(host, port)| format!("{host}:{port}"));
    prop_oneof![socket, name].prop_filter_map("no host's", |text| text.parse().ok())
}

prop_compose! {
    fn any_interface()(
        private_key in any_source(|bytes| PrivateKey::from_bytes(&bytes)),
        listen_port in any::<u16>(),
        fwmark in any::<u32>(),
        mut addresses in prop::collection::vec(any_cidr(), 0..5),
        mtu in prop::option::of(1280_u32..=65_475),
        table in prop_oneof![
            Just(Table::Auto),
            Just(Table::Off),
            any::<NonZeroU32>().prop_map(Table::Number)
        ],
        dns in prop::collection::vec("[!-\"$-+\\--~]{1,20}", 0..3),
    ) -> Interface {
        addresses.sort_by_key(|cidr| cidr.address());
        addresses.dedup_by_key(|cidr| cidr.address());
        let (listen_port, fwmark) = (NonZeroU16::new(listen_port), NonZeroU32::new(fwmark));
        Interface { private_key, listen_port, fwmark, addresses, mtu, table, dns }
    }
}

prop_compose! {
    fn any_peer()(
        name in prop::option::of("[a-zé]{1,8}( #=[a-z]{1,8})?"),
        public_key in any::<[u8; 32]>().prop_map(PublicKey::from_bytes),
        preshared_key in prop::option::of(any_source(PresharedKey::from_bytes)),
        mut allowed_ips in prop::collection::vec(any_prefix(), 0..6),
        endpoint in prop::option::of(any_endpoint()),
        persistent_keepalive in any::<u16>(),
    ) -> Peer {
        allowed_ips.sort_unstable();
        allowed_ips.dedup();
        let persistent_keepalive = NonZeroU16::new(persistent_keepalive);
        let name = name.map(|name| name.parse().unwrap());
        Peer { name, public_key, preshared_key, allowed_ips, endpoint, persistent_keepalive, settings: None }
    }
}

prop_compose! {
    fn any_configuration()(interface in any_interface(), peers in prop::collection::vec(any_peer(), 0..4))
        -> WgQuick { WgQuick { interface, peers } }
}

/// A typing error in a text.
#[derive(Clone, Debug)]
enum Slip {
    Delete(prop::sample::Index),
    Insert(prop::sample::Index, char),
    Cut(prop::sample::Index),
}

fn any_slip() -> impl Strategy<Value = Slip> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        place().prop_map(Slip::Delete),
        (place(), prop::sample::select(vec!['\n', '#', '=', ' ', '[', ',', ':', 'é', '\0']))
            .prop_map(|(place, c)| Slip::Insert(place, c)),
        place().prop_map(Slip::Cut),
    ]
}

fn slipped(text: &str, slip: &Slip) -> String {
    let mut text: Vec<char> = text.chars().collect();
    match slip {
        Slip::Delete(place) => drop(text.remove(place.index(text.len()))),
        Slip::Insert(place, c) => text.insert(place.index(text.len() + 1), *c),
        Slip::Cut(place) => text.truncate(place.index(text.len() + 1)),
    }
    text.into_iter().collect()
}

proptest! {
    #[test]
    fn printed_and_read_again(configuration in any_configuration()) {
        let printed = configuration.to_text();
        let parsed = read(&printed).map_err(|error| TestCaseError::fail(format!("{error}\n{}", *printed)))?;
        prop_assert_eq!(parsed.configuration, configuration);
    }

    #[test]
    fn no_message_repeats_a_secret(configuration in any_configuration(), slip in any_slip()) {
        let text = slipped(&configuration.to_text(), &slip);
        let messages: Vec<String> = match read(&text) {
            Ok(parsed) => {
                let again = parsed.configuration.to_text();
                prop_assert_eq!(&read(&again).unwrap().configuration, &parsed.configuration);
                let shown = parsed.warnings.iter().map(ToString::to_string);
                shown.chain([format!("{:?}", parsed.configuration.interface.private_key)]).collect()
            }
            Err(error) => vec![error.to_string(), format!("{error:?}")],
        };
        let mut secrets = vec![];
        if let KeySource::Inline(key) = &configuration.interface.private_key {
            secrets.push(key.to_base64());
        }
        for peer in &configuration.peers {
            if let Some(KeySource::Inline(key)) = &peer.preshared_key {
                secrets.push(key.to_base64());
            }
        }
        for message in messages {
            prop_assert!(!message.contains('\n'), "{}", message);
            for secret in &secrets {
                for start in 0..secret.len() - 10 {
                    prop_assert!(!message.contains(&secret[start..start + 10]), "{}", message);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse(Path::new("f"), &text, Hooks::Ignore) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn peers_have_the_names_of_their_comments() {
    let key = |number: u8| PublicKey::from_bytes([number; 32]);
    let text = format!(
        "\u{feff}[Interface]\r\n# Name = not a peer\r\nPrivateKey = {PRIVATE}\r\n\r\n# Name = phone\r\n[Peer]\r\nPublicKey = {}\r\n\
         \n[peer]\n#name=büro = 2\n# Name = the second\nPublicKey = {}\n\n[Peer]\nPublicKey = {} # Name = none\n\
         \n# Name = far away\n\n[Peer]\n# Name = \u{1b}[31mred\nPublicKey = {}\n",
        key(1),
        key(2),
        key(3),
        key(4)
    );
    let parsed = parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap();
    let names: Vec<_> =
        parsed.configuration.peers.iter().map(|peer| peer.name.as_ref().map(PeerName::as_str)).collect();
    assert_eq!(names, [Some("phone"), Some("büro = 2"), None, None]);
}

/// Lines as written by AmneziaWG's clients, and by programs that write its keys with the values of
/// plain WireGuard.
#[test]
fn amneziawg_is_refused_unless_its_values_are_plain() {
    let with = |lines: &str| read(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{lines}\n"));
    let plain = "S1 = 0\nS2 = 0\nH1 = 1\nH2 = 2\nH3 = 3\nH4 = 4";
    for (lines, line, key) in [
        ("Jc = 4\nJmin = 40\nJmax = 70", 3, "Jc"),
        ("jc=4", 3, "Jc"),
        ("S1 = 86", 3, "S1"),
        ("S3 = 5", 3, "S3"),
        ("H1 = 1\nH2 = 1804289383", 4, "H2"),
        ("H1 = 1-5", 3, "H1"),
        ("H1 = 2", 3, "H1"),
        ("H4 = x", 3, "H4"),
        ("S2 =", 3, "S2"),
        ("Jmin = 8\nI1 = <b 0xc7000000010852b80b0f2d6c8f>", 4, "I1"),
        ("I5 = <t>", 3, "I5"),
        (&format!("S4 = 1\n{plain}"), 3, "S4"),
    ] {
        let error = with(lines).unwrap_err();
        assert_eq!((error.line, &error.kind), (line, &ErrorKind::Amnezia(key)), "{lines}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{key} is an AmneziaWG key")) && text.contains("plain WireGuard"),
            "{text}"
        );
    }
    let warned = |lines: &str| {
        let warnings = with(lines).unwrap_or_else(|error| panic!("{error}")).warnings;
        assert_eq!(warnings.len(), 1, "{lines}: {warnings:?}");
        warnings[0].to_string()
    };
    let said = warned(plain);
    assert!(said.starts_with("tun0.conf:3: S1, S2, H1, H2, H3, H4 are AmneziaWG's and ignored"), "{said}");
    assert!(warned("Jc = 0").contains("Jc is AmneziaWG's and ignored: with this value"));
    assert!(!warned("Jmin = 40\nJmax = 70\nH1 = 1-1").contains("not sent"));
    let warp = warned(&format!("{plain}\nJc = 120\nJmin = 23\nJmax = 911\nI1 = <b 0xc7>\nMTU = 1280"));
    assert!(warp.contains("H4, Jc, Jmin, Jmax, I1 are") && warp.contains("are not sent"), "{warp}");
    let peer =
        format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC}\nAdvancedSecurity = ");
    assert_eq!(read(&format!("{peer}on")).unwrap_err().kind, ErrorKind::Amnezia("AdvancedSecurity"));
    assert_eq!(read(&format!("{peer}off")).unwrap().warnings.len(), 1);
}

#[test]
fn an_international_name_is_told_from_no_name() {
    let error = |endpoint: &str| {
        let peer = format!("[Peer]\nPublicKey = {PUBLIC}\nEndpoint = {endpoint}\n");
        read(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{peer}")).unwrap_err().to_string()
    };
    for (name, ascii) in [
        ("bücher.example:51820", "xn--bcher-kva.example:51820"),
        ("Bücher.Example : 51820", "xn--bcher-kva.example:51820"),
        ("b\u{200b}.example:1", "b.example:1"),
    ] {
        let said = error(name);
        assert!(said.contains(&format!("expected the name's ASCII form, which DNS has: {ascii}")), "{said}");
    }
    for name in ["bü cher@.example:51820", "@:1"] {
        assert!(error(name).contains("expected HOST:PORT"), "{}", error(name));
    }
    assert_eq!(
        peer("Endpoint = xn--bcher-kva.example:51820").endpoint.unwrap().to_string(),
        "xn--bcher-kva.example:51820"
    );
}
