//! `docs/src/guide/migrate.md`: the clients of another server continue unchanged.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::{WEB, make_web};
use crate::lab::Lab;
use crate::setup::server::Server;
use crate::setup::story::seen_from;
use crate::streams::Connection;
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::settings::{Keys, Peer, Settings, preshared_key};
use crate::wireguard::site::Site;

/// A client of the old server.
struct Client {
    name: &'static str,
    address: &'static str,
    keys: Keys,
    preshared: String,
    is_enabled: bool,
}

impl Client {
    fn new(name: &'static str, address: &'static str, is_enabled: bool) -> Self {
        Self { name, address, keys: Keys::new(), preshared: preshared_key(), is_enabled }
    }

    /// Returns the client's entry as version 14 of wg-easy stores it.
    fn json(&self) -> String {
        let Self { name, address, keys, preshared, is_enabled } = self;
        format!(
            r#""{name}-52b6-4f0c-9d3c-0d1d4e8f2b6a": {{
      "id": "{name}-52b6-4f0c-9d3c-0d1d4e8f2b6a",
      "name": "{name}",
      "address": "{address}",
      "privateKey": "{}",
      "publicKey": "{}",
      "preSharedKey": "{preshared}",
      "createdAt": "2024-03-14T08:37:50.000Z",
      "updatedAt": "2024-03-14T08:37:50.000Z",
      "enabled": {is_enabled}
    }}"#,
            keys.private, keys.public
        )
    }

    /// Returns the settings that the old server gave the client.
    fn settings(&self, server: &Keys, endpoint: &str) -> Settings {
        let peer = Peer::new(&server.public, &["0.0.0.0/0", "::/0"]).at(endpoint);
        let peer = Peer { preshared: Some(self.preshared.clone()), ..peer };
        Settings::new(&self.keys, &[&format!("{}/24", self.address)]).peer(peer)
    }
}

#[test]
fn wg_easys_clients_reach_the_world_as_before() {
    let lab = Arc::new(Lab::new(4));
    let [outside, web] = [0, 3].map(|index| lab.host(index));
    make_web(web, outside, &[WEB.into()]);
    let keys = Keys::new();
    let clients = [
        Client::new("phone", "10.8.0.2", true),
        Client::new("laptop", "10.8.0.3", true),
        Client::new("lost", "10.8.0.4", false),
    ];
    let json = format!(
        "{{\n  \"server\": {{\n    \"privateKey\": \"{}\",\n    \"publicKey\": \"{}\",\n    \"address\": \"10.8.0.1\"\n  }},\n  \"clients\": {{\n    {}\n  }}\n}}",
        keys.private,
        keys.public,
        clients.each_ref().map(Client::json).join(",\n    ")
    );
    // other settings of the old server
    let json = json.replacen(
        "\"name\": \"lost\",",
        "\"name\": \"lost\",\n      \"expiredAt\": \"2099-12-31T22:59:59.000Z\",\n      \"allowedIPs\": \"10.9.0.0/24\",",
        1,
    );
    let server = Server::new(&lab, 0);
    let file = server.site.write("wg0.json", &json);
    let file = file.to_str().unwrap();

    let shown = server.output(&["import", file, "--dry-run"]);
    assert!(!server.dir.exists(), "a dry run made the folder");
    assert!(shown.contains(&clients[0].keys.public) && shown.contains("PrivateKey = (hidden)"), "{shown}");
    let run = server.run(&["import", file, "--listen-port", "51820"]);
    assert_eq!(run.code(), 0, "{run:?}");
    for part in [
        "imported from wg-easy's",
        &keys.public,
        "10.8.0.1/24",
        "51820",
        "peers: 3: phone, laptop, lost",
        "wontun serve --dir",
    ] {
        assert!(run.stdout.contains(part), "{part}: {run:?}");
    }
    assert!(run.stderr.contains("'lost' was disabled") && run.stderr.lines().count() == 1, "{run:?}");
    let text = server.text();
    for secret in
        clients.iter().flat_map(|client| [&client.keys.private, &client.preshared]).chain([&keys.private])
    {
        assert!(![&shown, &run.stdout, &run.stderr].iter().any(|said| said.contains(secret.as_str())));
    }
    assert!(
        !clients.iter().any(|client| text.contains(&client.keys.private)),
        "a client's private key is stored"
    );
    server.fails(&["import", file], 1, "is never overwritten");

    let _daemon = server.serve(&[]);
    let endpoint = format!("{}:51820", outside.v4);
    let programs = [Implementation::Boringtun, Implementation::WireguardGo];
    let nodes: Vec<_> = clients
        .iter()
        .zip(programs)
        .zip(1..)
        .map(|((client, program), index)| {
            let site = Arc::new(Site::new(&lab, index));
            assert!(!site.ping_once(WEB, 56), "the web is reached without the tunnel");
            Node::start(&site, program, &client.settings(&keys, &endpoint))
        })
        .collect();
    for node in &nodes {
        node.ping("10.8.0.1");
        assert_eq!(seen_from(web, WEB.into(), &node.site), IpAddr::from(outside.v4));
        Connection::open(web, (WEB, 80), &node.site).exchange(300_000);
    }
    nodes[0].ping("10.8.0.3");
    let list = server.output(&["peer", "list"]);
    for name in ["phone", "laptop"] {
        assert!(list.lines().any(|line| line.starts_with(name) && !line.contains("never")), "{list}");
    }
    assert!(!server.site.wg(&["show", "tun0", "peers"]).contains(&clients[2].keys.public), "{list}");
    // it is a server like any other
    server.output(&["init", "--endpoint", &endpoint]);
    let lost = server.output(&["peer", "show", "lost", "--json"]);
    for part in ["\"disabled\"", "2099-12-31T22:59:59Z", "10.8.0.4/32", "10.9.0.0/24"] {
        assert!(lost.contains(part), "{part}: {lost}");
    }
    // new keys come with a file that sends what the old one did
    server.fails(&["peer", "renew", "laptop"], 1, "the routes of 'laptop' are not known");
    server.fails(&["peer", "show", "laptop", "--file"], 1, "--route none");
    nodes[1].ping("10.8.0.1");
    server.output(&["peer", "set", "laptop", "--route", "0.0.0.0/0,::/0"]);
    assert!(server.output(&["peer", "renew", "laptop"]).contains("AllowedIPs = 0.0.0.0/0, ::/0\n"));
    assert!(server.output(&["peer", "add", "new"]).contains("Address = 10.8.0.5/32"));
    server.output(&["peer", "remove", "phone"]);
    assert!(!nodes[0].site.ping_once([10, 8, 0, 1], 56));
}

#[test]
fn a_wg_quick_servers_clients_reach_the_world_and_its_hooks_are_not_run() {
    let lab = Arc::new(Lab::new(3));
    let [outside, web] = [0, 2].map(|index| lab.host(index));
    make_web(web, outside, &[WEB.into()]);
    let keys = Keys::new();
    let client = Client::new("phone", "10.8.0.2", true);
    let server = Server::new(&lab, 0);
    let witness = server.site.path().join("hook-was-here");
    let conf = format!(
        "[Interface]\r\nPrivateKey = {}\r\nAddress = 10.8.0.1/24\r\nListenPort = 51821\r\nSaveConfig = true\r\n\
         PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE\r\n\
         PostUp = touch {witness}\r\n\
         PostDown = iptables -D FORWARD -i %i -j ACCEPT; iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE\r\n\r\n\
         ### Client phone\r\n[Peer]\r\nPublicKey = {}\r\nPresharedKey = {}\r\nAllowedIPs = 10.8.0.2/32\r\n",
        keys.private,
        client.keys.public,
        client.preshared,
        witness = witness.display(),
    );
    let file = server.site.write("wg0.conf", &conf);
    let run = server.run(&["import", file.to_str().unwrap(), "--endpoint", "vpn.example.com:51821"]);
    assert_eq!(run.code(), 0, "{run:?}");
    for part in [
        "wg0.conf:5: SaveConfig is ignored",
        "line 6 (PostUp), line 8 (PostDown): address translation and forwarding are omitted",
        "wg0.conf:7: PostUp is omitted: it runs 'touch'",
    ] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    assert_eq!(run.stderr.lines().count(), 3, "{run:?}");
    assert!(server.text().contains("# ClientEndpoint = vpn.example.com:51821"));

    // no --ignore-hooks: there is no hook left
    let daemon = server.serve(&[]);
    let site = Arc::new(Site::new(&lab, 1));
    let node = Node::start(
        &site,
        Implementation::WireguardGo,
        &client.settings(&keys, &format!("{}:51821", outside.v4)),
    );
    node.ping("10.8.0.1");
    assert_eq!(seen_from(web, WEB.into(), &node.site), IpAddr::from(outside.v4));
    assert!(
        server
            .output(&["peer", "list"])
            .lines()
            .any(|line| line.starts_with("phone ") && !line.contains("never"))
    );
    assert!(daemon.stop().status.success());
    assert!(!witness.exists(), "a hook was run");
    assert_eq!(server.site.shell("nft list ruleset"), "");
}

/// A client's file from `/etc/wireguard` works with `--config`, and from standard input as well.
#[test]
fn a_clients_file_comes_by_standard_input() {
    let lab = Arc::new(Lab::new(2));
    let keys = Keys::new();
    let client = Client::new("phone", "10.8.0.2", true);
    let site = Arc::new(Site::new(&lab, 0));
    let mut peer = Peer::new(&client.keys.public, &["10.8.0.2/32"]);
    peer.preshared = Some(client.preshared.clone());
    let _old = Node::start(
        &site,
        Implementation::WireguardGo,
        &Settings::new(&keys, &["10.8.0.1/24"]).port(51820).peer(peer),
    );
    let server = Server::new(&lab, 1);
    let text = client
        .settings(&keys, &format!("{}:51820", site.v4))
        .wg_quick()
        .replace("0.0.0.0/0, ::/0", "10.8.0.0/24");
    let file = server.site.write("wg0.conf", &text);
    let said = server.site.shell(&format!(
        "cat {} | {} import - --dir {} --tun wg7 2>&1",
        file.display(),
        crate::mounts::BINARY,
        server.dir.display()
    ));
    assert!(
        said.contains("wg7.conf: imported from wg-quick's -") && said.contains("wontun --config"),
        "{said}"
    );
    let config = server.dir.join("wg7.conf");
    let daemon =
        server.site.launch(Path::new(crate::mounts::BINARY), &["--config", config.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    server.site.ping([10, 8, 0, 1]);
    eventually("the device is called as the file", || server.site.has_device("wg7"));
}

#[test]
fn what_cannot_be_imported_is_told_in_one_line_and_makes_nothing() {
    let server = Server::alone();
    let write = |name: &str, text: &str| server.site.write(name, text).to_str().unwrap().to_owned();
    for (file, code, part) in [
        ("/nowhere/wg0.json".to_owned(), 78, "/nowhere/wg0.json: cannot be read"),
        ("/etc".to_owned(), 78, "/etc: cannot be read: Is a directory"),
        (
            write("half.json", "{\"server\": {\"privateKey\": \"abcdefgh"),
            78,
            "half.json:1: no JSON: it ends too early",
        ),
        (
            write("odd.json", "{\"server\": {\"privateKey\": \"abcdefgh\"}, \"clients\": {}}"),
            78,
            "odd.json: server.privateKey: a key has 44",
        ),
        (write("wg-easy.db", "SQLite format 3\0x"), 78, "import its tables with: sqlite3 -json"),
        (write("bad.conf", "[Interface]\nListenPort = many\n"), 78, "bad.conf:2: ListenPort: found 'many'"),
    ] {
        let said = server.fails(&["import", &file], code, part);
        assert!(!said.contains("abcdefgh"), "{said}");
    }
    let large = server.site.path().join("large.conf");
    server.site.shell(&format!("truncate -s 17M {}", large.display()));
    server.fails(&["import", large.to_str().unwrap()], 78, "more than 16777216 bytes");
    server.fails(&["import"], 2, "FILE");
    assert!(!server.dir.exists());
}
