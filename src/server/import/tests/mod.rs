use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

mod properties;
mod wg_easy_15;

use serde_json::{Value, json};

use super::*;
use crate::config::peer_settings::PeerSettings;
use crate::config::wg_quick::{Hooks, WgQuick, parse};
use crate::server::testing::{Counting, TestFolder, add_one, wanted};
use wontun_proto::wireguard::{PresharedKey, PrivateKey};

const SERVER: u64 = 1;
const PHONE: u64 = 1000;
const LAPTOP: u64 = 2000;
const TABLET: u64 = 3000;

fn private(seed: u64) -> PrivateKey {
    PrivateKey::generate(&mut Counting(seed))
}

fn secret(seed: u64) -> String {
    private(seed).to_base64().to_string()
}

fn public(seed: u64) -> String {
    private(seed).public_key().to_string()
}

fn shared(seed: u64) -> String {
    PresharedKey::generate(&mut Counting(seed + 500)).to_base64().to_string()
}

fn source(name: &str) -> Import {
    Import { source: PathBuf::from(name), endpoint: None, listen_port: None, dns: None }
}

fn translate(text: &str) -> Result<Imported, ImportError> {
    source("wg0.x").translate(text.as_bytes(), Path::new("/etc/wontun/tun0.conf"))
}

fn error(text: &str) -> String {
    let error = translate(text).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn text(imported: &Imported) -> &str {
    str::from_utf8(imported.file.text()).unwrap()
}

/// Removes the comments that an import adds: names, and that routes are not known.
fn nameless(mut configuration: WgQuick) -> WgQuick {
    for peer in &mut configuration.peers {
        peer.name = None;
        let mut settings = peer.settings.take().map(|settings| *settings).unwrap_or_default();
        settings.client.has_unknown_routes = false;
        peer.settings = (settings != PeerSettings::NONE).then(|| Box::new(settings));
    }
    configuration
}

/// Returns the name, first allowed IP and preshared key of each peer.
fn peers(imported: &Imported) -> Vec<(String, String, Option<String>)> {
    let described = imported.file.peers().map(|peer| {
        let preshared = peer.peer.preshared_key.as_ref().and_then(KeySourceText::text);
        (
            peer.name.map_or_else(String::new, |name| name.to_string()),
            peer.peer.allowed_ips[0].to_string(),
            preshared,
        )
    });
    described.collect()
}

trait KeySourceText {
    fn text(&self) -> Option<String>;
}

impl KeySourceText for crate::config::wg_quick::KeySource<PresharedKey> {
    fn text(&self) -> Option<String> {
        self.inline().map(|key| key.to_base64().to_string())
    }
}

/// Returns a `wg0.json` as of wg-easy 14.
fn wg_easy() -> Value {
    let client = |seed: u64, name: &str, address: &str, enabled: bool| {
        json!({
            "id": format!("{seed:08x}-52b6-4f0c-9d3c-0d1d4e8f2b6a"),
            "name": name,
            "address": address,
            "privateKey": secret(seed),
            "publicKey": public(seed),
            "preSharedKey": shared(seed),
            "createdAt": "2024-03-14T08:37:50.000Z",
            "updatedAt": "2024-03-14T08:37:50.000Z",
            "enabled": enabled,
        })
    };
    json!({
        "server": {"privateKey": secret(SERVER), "publicKey": public(SERVER), "address": "10.8.0.1"},
        "clients": {
            "6ad1f2c8-52b6-4f0c-9d3c-0d1d4e8f2b6a": client(LAPTOP, "laptop", "10.8.0.10", true),
            "b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a": client(PHONE, "phone", "10.8.0.2", true),
            "c0ffee00-52b6-4f0c-9d3c-0d1d4e8f2b6a": client(TABLET, "tablet", "10.8.0.3", false),
        },
    })
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).unwrap()
}

#[test]
fn wg_easy_14() {
    let imported = translate(&pretty(&wg_easy())).unwrap();
    assert_eq!(imported.format, Format::WgEasy);
    assert!(!imported.is_client());
    assert_eq!(imported.file.public_key().to_string(), public(SERVER));
    let interface = &imported.file.configuration().interface;
    assert_eq!(interface.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.8.0.1/24"]);
    assert_eq!(interface.listen_port.map(u16::from), Some(51820));
    assert_eq!(
        peers(&imported),
        [
            ("phone".to_owned(), "10.8.0.2/32".to_owned(), Some(shared(PHONE))),
            ("tablet".to_owned(), "10.8.0.3/32".to_owned(), Some(shared(TABLET))),
            ("laptop".to_owned(), "10.8.0.10/32".to_owned(), Some(shared(LAPTOP))),
        ]
    );
    let text = text(&imported);
    for seed in [PHONE, LAPTOP, TABLET] {
        assert!(!text.contains(&secret(seed)), "a client's private key is stored:\n{text}");
    }
    // the disabled client stays so
    let disabled = imported.file.peers().filter(|peer| peer.peer.settings().is_disabled);
    assert_eq!(disabled.map(|peer| peer.name_or_key()).collect::<Vec<_>>(), ["tablet"]);
    let said = imported.notices.join("\n");
    for part in ["WG_PORT", "'tablet' was disabled"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(imported.notices.len(), 2, "{said}");
}

/// Versions before preshared keys, client ids and fields for the web pages, and the last ones
/// before 15.
#[test]
fn other_versions_of_wg_easy() {
    let mut old = wg_easy();
    for client in old["clients"].as_object_mut().unwrap().values_mut() {
        let client = client.as_object_mut().unwrap();
        client.remove("id");
        client.remove("preSharedKey");
    }
    assert!(peers(&translate(&pretty(&old)).unwrap()).iter().all(|(_, _, shared)| shared.is_none()));

    let mut late = wg_easy();
    for client in late["clients"].as_object_mut().unwrap().values_mut() {
        client["expiredAt"] = json!(null);
        client["oneTimeLink"] = json!("6f1d2a");
        client["oneTimeLinkExpiresAt"] = json!("2024-09-01T00:00:00.000Z");
    }
    late["clients"]["b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a"]["expiredAt"] = json!("2027-01-01T22:59:59.000Z");
    late["clients"]["b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a"]["allowedIPs"] =
        json!("10.8.0.2/32, 192.168.5.1/24");
    late["clients"]["b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a"]["colour"] = json!("blue");
    // a key pair generated elsewhere
    late["clients"]["b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a"].as_object_mut().unwrap().remove("privateKey");
    let imported = translate(&pretty(&late)).unwrap();
    let said = imported.notices.join("\n");
    assert!(said.contains("'colour' of a client is not imported"), "{said}");
    assert_eq!(imported.notices.len(), 3, "{said}");
    assert_eq!(peers(&imported).len(), 3);
    assert!(text(&imported).contains("AllowedIPs = 10.8.0.2/32, 192.168.5.0/24\n"), "{imported:?}");
    assert!(text(&imported).contains("# Name = phone\n# Expires = 2027-01-01T22:59:59Z\n"), "{imported:?}");

    let nobody = json!({"server": wg_easy()["server"], "clients": {}}).to_string();
    assert_eq!(peers(&translate(&nobody).unwrap()).len(), 0);
    // on a line of its own, after a byte order mark
    assert!(translate(&format!("\u{feff}\r\n {nobody}\r\n")).is_ok());
}

#[test]
fn options_say_what_the_json_does_not() {
    let import = Import {
        endpoint: Some("vpn.example.com:443".parse().unwrap()),
        dns: Some("9.9.9.9".parse().unwrap()),
        ..source("-")
    };
    let json = pretty(&wg_easy());
    let imported = import.translate(json.as_bytes(), Path::new("x")).unwrap();
    assert_eq!(imported.file.configuration().interface.listen_port.map(u16::from), Some(443));
    assert_eq!(imported.file.endpoint().unwrap(), import.endpoint);
    assert_eq!(imported.file.dns().unwrap(), import.dns);
    let import = Import { listen_port: NonZeroU16::new(1234), ..import };
    let imported = import.translate(json.as_bytes(), Path::new("x")).unwrap();
    assert_eq!(imported.file.configuration().interface.listen_port.map(u16::from), Some(1234));
    assert!(!imported.notices.iter().any(|notice| notice.contains("WG_PORT")));
}

#[test]
fn names_of_wg_easy_are_made_fit() {
    let mut json = wg_easy();
    for (client, name) in
        json["clients"].as_object_mut().unwrap().values_mut().zip(["phone", "phone", "a\nPrivateKey = b"])
    {
        client["name"] = json!(name);
        client["enabled"] = json!(true);
    }
    let imported = translate(&pretty(&json)).unwrap();
    let names: Vec<_> = peers(&imported).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["phone", "a PrivateKey = b", "phone 2"]);
    assert!(
        imported.notices.iter().any(|notice| notice == "the peer 'phone' is renamed to 'phone 2'"),
        "{imported:?}"
    );
}

#[test]
fn what_is_wrong_with_the_json_is_told_with_its_place() {
    let phone = "/clients/b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a";
    for (pointer, value, part) in [
        ("", json!({}), "wg0.x: server: found nothing, expected an object"),
        ("/server", json!([]), "server: found a list"),
        ("/clients", json!(null), "clients: found nothing"),
        (
            "/server/privateKey",
            json!("abcdef"),
            "server.privateKey: a key has 44 characters, this text has 6",
        ),
        ("/server/privateKey", json!(null), "server.privateKey: found nothing, expected a key"),
        ("/server/publicKey", json!(public(PHONE)), "server.publicKey: found another key"),
        (
            "/server/address",
            json!("10.8.0.x"),
            "server.address: found a text of 8 characters, expected an IPv4",
        ),
        ("/server/address", json!("fd00::1"), "server.address"),
        (phone, json!("x"), "clients.b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a: found a text of 1"),
        (&format!("{phone}/publicKey"), json!(7), "b6a.publicKey: found a number, expected a key"),
        (&format!("{phone}/publicKey"), json!(public(LAPTOP)), "a key of its own"),
        (&format!("{phone}/publicKey"), json!(public(SERVER)), "the key of server"),
        (&format!("{phone}/preSharedKey"), json!("x"), "b6a.preSharedKey: a key has 44"),
        (&format!("{phone}/address"), json!("10.8.0.2/24"), "b6a.address: found a text of 11 characters"),
        (&format!("{phone}/address"), json!(""), "b6a.address: found nothing, expected an IP"),
        (
            &format!("{phone}/enabled"),
            json!("yes"),
            "b6a.enabled: found a text of 3 characters, expected true or",
        ),
        (&format!("{phone}/name"), json!({}), "b6a.name: found an object, expected a text"),
        (
            &format!("{phone}/expiredAt"),
            json!("soon"),
            "b6a.expiredAt: found a text of 4 characters, expected a time",
        ),
        (
            &format!("{phone}/allowedIPs"),
            json!(["10.0.0.0/8", 7]),
            "b6a.allowedIPs: found a number, expected a list",
        ),
        (
            &format!("{phone}/allowedIPs"),
            json!("10.0.0.0/33"),
            "b6a.allowedIPs: found a text that is no network",
        ),
    ] {
        let mut json = wg_easy();
        if let Some((parent, key)) = pointer.rsplit_once('/').filter(|_| json.pointer(pointer).is_none()) {
            json.pointer_mut(parent).unwrap()[key] = json!(null);
        }
        *json.pointer_mut(pointer).unwrap() = value;
        let error = error(&pretty(&json));
        assert!(error.contains(part), "{pointer}: {error}");
    }
    let whole = pretty(&wg_easy());
    assert!(error(&whole[..whole.len() - 2]).contains("no JSON: it ends too early"));
    assert!(error("{\n\"server\": x}").contains("wg0.x:2: no JSON: expected value"));
    assert!(error(&"{\"a\":".repeat(500)).contains("recursion"));
    assert!(error("SQLite format 3\0\u{10}\0").contains("wg-easy 15"));
    assert!(error("[1]").contains("wg0.x:1: found the section"));
    assert!(error("").contains("expected an [Interface] section"));
}

/// Returns the `wg0.conf` that wg-easy 14 and its successor write beside the JSON.
fn wg_easy_conf() -> String {
    format!(
        "
# Note: Do not edit this file directly.
# Your changes will be overwritten!

# Server
[Interface]
PrivateKey = {}
Address = 10.8.0.1/24, fdcc:ad94:bacf:61a4::cafe:1/112
ListenPort = 51820
MTU = 1420
Table = auto

PreUp = 
PostUp =  iptables -t nat -A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE; iptables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT; iptables -A FORWARD -i wg0 -j ACCEPT; iptables -A FORWARD -o wg0 -j ACCEPT; 
PreDown = 
PostDown =  iptables -t nat -D POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE; iptables -D FORWARD -i wg0 -j ACCEPT; 


# Client: Anna's phone (b7e6f0aa-52b6-4f0c-9d3c-0d1d4e8f2b6a)
[Peer]
PublicKey = {}
PresharedKey = {}
AllowedIPs = 10.8.0.2/32, fdcc:ad94:bacf:61a4::cafe:2/128

# Client: laptop (2)
[Peer]
PublicKey = {}
PresharedKey = {}
AllowedIPs = 10.8.0.3/32",
        secret(SERVER),
        public(PHONE),
        shared(PHONE),
        public(LAPTOP),
        shared(LAPTOP)
    )
}

#[test]
fn the_file_that_wg_easy_writes() {
    let original = wg_easy_conf();
    let imported = translate(&original).unwrap();
    assert_eq!(imported.format, Format::WgQuick);
    let names: Vec<_> = peers(&imported).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["Anna's phone", "laptop"]);
    assert_eq!(peers(&imported)[1].2, Some(shared(LAPTOP)));
    // the tunnel accepts the file, and it has the meaning of the old one
    let strict = parse(Path::new("x"), imported.file.text(), Hooks::Refuse).unwrap();
    let before = parse(Path::new("x"), original.as_bytes(), Hooks::Ignore).unwrap();
    assert_eq!(nameless(strict.configuration), nameless(before.configuration));
    assert_eq!(strict.warnings, []);
    let said = imported.notices.join("\n");
    let nat = "wg0.x: line 14 (PostUp), line 16 (PostDown): address translation";
    assert!(said.contains(nat) && said.contains("--nat auto"), "{said}");
    assert!(said.contains("line 14 (PostUp): rules that open this host's firewall are omitted: make sure that it accepts UDP port 51820"), "{said}");
    assert_eq!(imported.notices.len(), 2, "{said}");
    // no line is lost, and none became a command
    for line in original.lines() {
        assert!(text(&imported).contains(line), "{line}");
    }
    assert!(text(&imported).contains("\n# PostUp =  iptables"), "{}", text(&imported));
}

/// Found by the fuzzer: Rust's ASCII white space does not include the vertical tab, wg-quick's
/// does.
#[test]
fn a_hook_behind_a_vertical_tab_is_one() {
    let original = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.1/24\n\u{b}PreUp = true\n\u{b}D\u{b}NS\u{b}=\u{b}10.8.0.53\n",
        secret(SERVER)
    );
    let imported = translate(&original).unwrap();
    parse(Path::new("x"), imported.file.text(), Hooks::Refuse).unwrap();
    assert!(text(&imported).contains("# \u{b}PreUp = true"), "{}", text(&imported));
}

#[test]
fn a_file_of_windows_with_everything() {
    let original = format!(
        "\u{feff}[interface]\r\nprivatekey = {}\r\nAddress = 10.8.0.1/24\r\nListenPort=1\r\nDNS = 10.8.0.53\r\nFwMark = 0x10\r\n\
         SaveConfig = true\r\nPostUp = sudo curl -H 'token: hunter2; x' https://example.com; ip rule add table 7\r\n\
         PostUp = nft add table ip wg\r\n### Client one\r\n[Peer] # one\r\nPublicKey = {}\r\nAllowedIPs = 10.8.0.2/24\r\n\
         # BEGIN_PEER two\r\n[PEER]\r\nPublicKey = {}\r\nAllowedIPs = 10.8.0.3\r\n# END_PEER two\r\n\r\n\
         [Peer]\r\n# Name = phone\r\nPublicKey = {}\r\nPersistentKeepalive = 25\r\nAllowedIPs = 10.8.0.4",
        secret(SERVER),
        public(PHONE),
        public(LAPTOP),
        public(TABLET),
    );
    let imported = translate(&original).unwrap();
    let names: Vec<_> = peers(&imported).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["one", "two", "phone"]);
    let text = text(&imported);
    assert!(!text.contains('\r') && !text.contains('\u{feff}'), "{text:?}");
    let strict = parse(Path::new("x"), imported.file.text(), Hooks::Refuse).unwrap().configuration;
    assert_eq!(strict.interface.fwmark.map(u32::from), Some(16));
    let said = imported.notices.join("\n");
    for part in [
        "wg0.x:5: DNS is ignored",
        "wg0.x:7: SaveConfig is ignored",
        "wg0.x:8: PostUp is omitted: it runs 'curl', 'ip',",
        "wg0.x:9: PostUp is omitted: it runs 'nft',",
        "wg0.x:13: AllowedIPs: 10.8.0.2/24 is an address",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(imported.notices.len(), 5, "{said}");
    assert!(!said.contains("hunter2"));
    // a disabled command is not a comment of the first peer
    let without = imported.file.without_peer(0).unwrap();
    assert!(
        str::from_utf8(without.text()).unwrap().contains("# PostUp = nft"),
        "{}",
        str::from_utf8(without.text()).unwrap()
    );
}

#[test]
fn a_clients_file_stays_one() {
    let original = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.2/24\nDNS = 1.1.1.1\n\n[Peer]\nPublicKey = {}\nPresharedKey = {}\n\
         AllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 0\nEndpoint = vpn.example.com:51820\n",
        secret(PHONE),
        public(SERVER),
        shared(PHONE)
    );
    let imported = translate(&original).unwrap();
    assert!(imported.is_client());
    assert!(imported.file.configuration().is_full_tunnel());
    assert_eq!(text(&imported), original.replace("DNS", "# DNS"));
    let half = translate(&original.replace(", ::/0", "")).unwrap();
    assert!(half.notices.iter().any(|notice| notice.contains("add ::/0")), "{:?}", half.notices);
    assert!(!imported.notices.iter().any(|notice| notice.contains("::/0")), "{:?}", imported.notices);
}

#[test]
fn what_cannot_be_imported_is_told_with_its_line() {
    let keyless =
        "[Interface]\nAddress = 10.8.0.1/24\nPostUp = wg set %i private-key <(cat /etc/wireguard/key)\n";
    assert!(
        error(keyless).contains("wg0.x:3: PostUp gives the tunnel its private key by a command"),
        "{}",
        error(keyless)
    );
    let key = format!("PrivateKey = {}\n", secret(SERVER));
    assert!(
        error(&format!("{keyless}{key}")).contains("wg0.x:3: PostUp"),
        "the command's key is the one in use"
    );
    for (line, name) in [("Jc = 4", "Jc"), ("S1 = 15", "S1"), ("H3 = 7", "H3"), ("I1 = <t>", "I1")] {
        let amnezia = format!("[Interface]\n{key}{line}\n");
        let error = error(&amnezia);
        assert!(error.contains(&format!("wg0.x:3: {name} is an AmneziaWG key")), "{error}");
        // the tunnel reports the same error
        let at_start = parse(Path::new("wg0.x"), amnezia.as_bytes(), Hooks::Refuse).unwrap_err();
        assert_eq!(at_start.to_string(), error);
    }
    assert!(error(&format!("[Interface]\n{key}Adress = 4\n")).contains("wg0.x:3: unknown key 'Adress'"));
    assert!(error("[Interface]\nPrivateKeyFile = key\n").contains("'key' has a relative path"));
    let import = Import { listen_port: NonZeroU16::new(9), ..source("wg0.conf") };
    let told = import.translate(wg_easy_conf().as_bytes(), Path::new("x")).unwrap_err().to_string();
    assert!(told.contains("wg0.conf has ListenPort = 51820, not 9"), "{told}");
}

/// WARP's file for AmneziaWG, which is plain WireGuard.
#[test]
fn what_amneziawg_ignores_becomes_a_comment() {
    let lines = "S1 = 0\nS2 = 0\nJc = 4\nJmin = 40\nJmax = 70\nH1 = 1\nH2 = 2\nH3 = 3\nH4 = 4\n";
    let original = format!(
        "[Interface]\nPrivateKey = {}\n{lines}Address = 172.16.0.2/32\n\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.0/8\nEndpoint = 192.0.2.1:2408\n",
        secret(PHONE),
        public(SERVER)
    );
    let imported = translate(&original).unwrap();
    let strict = parse(Path::new("x"), imported.file.text(), Hooks::Refuse).unwrap();
    assert_eq!(strict.warnings, []);
    assert!(text(&imported).contains("\n# S1 = 0\n# S2 = 0\n# Jc = 4\n"), "{}", text(&imported));
    let said = imported.notices.first().unwrap();
    assert!(said.contains("wg0.x:3: S1, S2, Jc, ") && said.contains("are AmneziaWG's and ignored"), "{said}");
}

/// Returns a file as of linuxserver's container.
fn linuxserver(address: &str, peers: &[&str]) -> String {
    let mut text = format!(
        "[Interface]\nAddress = {address}\nListenPort = 51820\nPrivateKey = {}\nPostUp = iptables -A FORWARD -i %i -j ACCEPT\n",
        secret(SERVER)
    );
    for (allowed, seed) in peers.iter().zip([PHONE, LAPTOP, TABLET]) {
        text.push_str(&format!(
            "\n[Peer]\n# peer_x{seed}\nPublicKey = {}\nAllowedIPs = {allowed}\n",
            public(seed)
        ));
    }
    text
}

/// Clients can be added to the result, or a notice says that they cannot.
#[test]
fn an_address_without_a_network_gets_one() {
    for (address, peers, expected) in [
        ("10.13.13.1", &["10.13.13.2/32", "10.13.13.3/32"][..], "10.13.13.1/24"),
        ("10.13.13.1/32 # ours", &["10.13.13.2/32, 192.168.1.0/24"], "10.13.13.1/24"),
        ("10.13.13.1", &[], "10.13.13.1/24"),
        ("10.13.12.1", &["10.13.13.2/32"], "10.13.12.1/23"),
        ("10.13.13.1, fd00::1", &["10.13.13.2/32, fd00::2/128"], "10.13.13.1/24, fd00::1/64"),
        ("fd00::1, 10.13.13.1", &["172.16.0.9/32, fd00::2/128"], "fd00::1/64, 10.13.13.1/32"),
    ] {
        let import = Import { endpoint: Some("vpn.example.com".parse().unwrap()), ..source("wg0.x") };
        let imported = import.translate(linuxserver(address, peers).as_bytes(), Path::new("x")).unwrap();
        let addresses = &imported.file.configuration().interface.addresses;
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses.join(", "), expected);
        assert!(
            imported.notices.iter().any(|n| n.contains("has no prefix length")),
            "{:?}",
            imported.notices
        );
        assert_eq!(text(&imported).contains("# ours"), address.contains("# ours"));
        add_one(&imported.file, wanted("new"), &mut Counting(9000)).unwrap();
    }
    // the peers are in another network
    let imported = translate(&linuxserver("10.13.13.1", &["172.16.0.9/32"])).unwrap();
    let said = imported.notices.join("\n");
    assert!(said.contains("has no Address with room for clients: write one with its network's"), "{said}");
    let roomy = translate(&linuxserver("10.13.13.1, fd00::1/64", &["172.16.0.9/32"])).unwrap();
    assert!(!roomy.notices.join("\n").contains("Address"), "{:?}", roomy.notices);
}

#[test]
fn names_of_other_programs_are_taken() {
    let original = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.252.1.1/24\nListenPort = 51820\n\n# ID:           x1\n\
         # Name:         Sams phone\n# Email:        sam@example.com\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.252.1.2/32\n\n\
         [Peer]\n# friendly_json={{\"name\":\"Bob\"}}\nPublicKey = {}\nAllowedIPs = 10.252.1.3/32\n### begin pi ###\n[Peer]\n\
         PublicKey = {}\nAllowedIPs = 10.252.1.4/32\n### end pi ###\n[Peer]\n# friendly_name = \n# -WGP- Peer: {}\n\
         # -WGP- Display name: Portal\nPublicKey = {}\nAllowedIPs = 10.252.1.5/32\n",
        secret(SERVER),
        public(PHONE),
        public(LAPTOP),
        public(TABLET),
        public(4000),
        public(4000),
    );
    let names: Vec<_> = peers(&translate(&original).unwrap()).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["Sams phone", "Bob", "pi", "Portal"]);
}

#[test]
fn nothing_secret_is_shown() {
    let json = translate(&pretty(&wg_easy())).unwrap();
    let conf = format!(
        "{}\n# PrivateKey = {}\n# [{}]\nPostUp = echo {} | wg set wg0 peer x preshared-key /dev/stdin\n",
        wg_easy_conf().replace("[Interface]\n", &format!("[Interface]\n#privatekey={}\n", secret(TABLET))),
        secret(PHONE),
        secret(LAPTOP),
        shared(TABLET)
    );
    // keys below the last section
    let conf = translate(&conf.replace("\nPostUp = echo", "\n#PostUp = echo")).unwrap();
    for imported in [json, conf] {
        let shown = redacted(&imported.file);
        for seed in [SERVER, PHONE, LAPTOP, TABLET] {
            for hidden in [secret(seed), shared(seed)] {
                assert!(!shown.contains(&hidden), "{shown}");
            }
        }
        for seed in [PHONE, LAPTOP] {
            assert!(shown.contains(&public(seed)), "{shown}");
        }
        assert_eq!(shown.lines().count(), text(&imported).lines().count());
        assert!(!format!("{imported:?}").contains(&secret(SERVER)[..20]));
    }
}

#[test]
fn a_file_is_written_once() {
    let folder = TestFolder::new();
    let target = Folder::new(folder.path().join("etc"), "tun0".parse().unwrap());
    let path = folder.path().join("wg0.json");
    std::fs::write(&path, pretty(&wg_easy())).unwrap();
    let imported = source(path.to_str().unwrap()).read(&target).unwrap();
    assert!(!target.path().exists(), "reading writes nothing");
    imported.write(&target).unwrap();
    assert_eq!(target.read().unwrap().text(), imported.file.text());
    assert!(matches!(imported.write(&target), Err(ImportError::Exists(path)) if path == target.file()));
    let lost = source("/nowhere/wg0.json").read(&target).unwrap_err().to_string();
    assert!(lost.contains("/nowhere/wg0.json: cannot be read"), "{lost}");
}
