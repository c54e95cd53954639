//! `wg(8)` against the real binary.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, PORT, Pair, Plan, SERVER_V4};
use super::settings::{Keys, preshared_key};
use crate::lab::Lab;
use crate::waiting::eventually;

fn show(node: &Node, what: &str) -> String {
    node.site.wg(&["show", &node.name, what])
}

/// Checks all forms of `show`, and every field of the dump.
fn everything_is_shown(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let (server, client) = (pair.server_public(), pair.client_public());
    let node = &pair.server;
    assert_eq!(show(node, "public-key"), format!("{server}\n"));
    assert_eq!(show(node, "private-key"), format!("{}\n", pair.plan.server_keys.private));
    assert_eq!(show(node, "listen-port"), format!("{PORT}\n"));
    assert_eq!(show(node, "fwmark"), "off\n");
    assert_eq!(show(node, "peers"), format!("{client}\n"));
    assert_eq!(show(node, "preshared-keys"), format!("{client}\t(none)\n"));
    assert_eq!(show(node, "allowed-ips"), format!("{client}\t10.9.0.2/32 fd00:9::2/128\n"));
    assert_eq!(show(node, "persistent-keepalive"), format!("{client}\toff\n"));
    assert_eq!(show(node, "endpoints"), format!("{client}\t192.0.2.2:{}\n", pair.client.port()));
    assert_eq!(show(&pair.client, "endpoints"), format!("{server}\t192.0.2.1:{PORT}\n"));
    let state = node.only_peer();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(state.handshake <= now && state.handshake + 30 > now, "{state:?}");
    assert!(state.received > 0 && state.sent > 0, "{state:?}");
    let text = node.site.wg(&["show"]);
    for part in
        ["interface: wg0", "private key: (hidden)", "listening port: 51820", "latest handshake:", "transfer:"]
    {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert_eq!(node.site.wg(&["show", "interfaces"]), "wg0\n");
    let dump = show(node, "dump");
    let first = format!("{}\t{server}\t{PORT}\toff\n", pair.plan.server_keys.private);
    assert!(dump.starts_with(&first), "{dump}");
}

between!(everything_is_shown: {
    of_a_file: (ConfigFile, Wontun),
    of_a_socket: (Wontun, WireguardGo),
});

/// `set` changes each value, and the sessions of other peers continue.
fn values_are_set_one_by_one(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let node = &pair.server;
    let before = node.only_peer();
    let other = Keys::new();
    let shared = preshared_key();
    let file = node.key_file("psk", &shared);
    node.set(&[
        "fwmark",
        "0x1234",
        "peer",
        &other.public,
        "preshared-key",
        file.to_str().unwrap(),
        "endpoint",
        "[2001:db8::77]:1234",
        "persistent-keepalive",
        "3600",
        "allowed-ips",
        "10.77.0.0/16,fd00:77::/48,10.78.0.1/32",
    ]);
    assert_eq!(show(node, "fwmark"), "0x1234\n");
    let state = node.peer(&other.public);
    assert_eq!(state.preshared, shared);
    assert_eq!(state.endpoint, "[2001:db8::77]:1234");
    assert_eq!(state.keepalive, "3600");
    let mut allowed = state.allowed;
    allowed.sort();
    assert_eq!(allowed, ["10.77.0.0/16", "10.78.0.1/32", "fd00:77::/48"]);
    // An empty list removes all, a zero disables, /dev/null means no key.
    node.set(&[
        "peer",
        &other.public,
        "allowed-ips",
        "",
        "persistent-keepalive",
        "off",
        "preshared-key",
        "/dev/null",
    ]);
    let state = node.peer(&other.public);
    assert_eq!((state.preshared.as_str(), state.keepalive.as_str()), ("(none)", "off"));
    assert_eq!(state.allowed, ["(none)"]);
    node.set(&["fwmark", "0", "peer", &other.public, "remove"]);
    assert_eq!(show(node, "fwmark"), "off\n");
    let after = node.only_peer();
    assert_eq!((&after.public, after.handshake), (&before.public, before.handshake));
    pair.client.ping_exactly(SERVER_V4, 1, 56);
    // Another port: the client receives from it and follows.
    node.set(&["listen-port", "51999"]);
    assert_eq!(node.port(), 51999);
    pair.server.ping(CLIENT_V4);
    eventually("the client follows to the new port", || {
        pair.client.only_peer().endpoint == "192.0.2.1:51999"
    });
    pair.client.ping(SERVER_V4);
}

between!(values_are_set_one_by_one: {
    of_a_file: (ConfigFile, WireguardGo),
    of_a_socket: (Wontun, ConfigFile),
});

/// `showconf` prints input for `setconf`; `syncconf` leaves unchanged parts alone, `setconf`
/// replaces everything.
fn configurations_go_in_and_out(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let node = &pair.server;
    let handshake = node.only_peer().handshake;
    let shown = node.site.wg(&["showconf", "wg0"]);
    let other = Keys::new();
    let more = format!("{shown}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.66.0.0/24\n", other.public);
    let file = node.site.write("more.conf", &more);
    node.site.wg(&["syncconf", "wg0", file.to_str().unwrap()]);
    assert_eq!(node.peers().len(), 2);
    assert_eq!(node.peer(&other.public).allowed, ["10.66.0.0/24"]);
    assert_eq!(node.peer(pair.client_public()).handshake, handshake, "the session stays");
    let file = node.site.write("shown.conf", &shown);
    node.site.wg(&["syncconf", "wg0", file.to_str().unwrap()]);
    assert_eq!(node.only_peer().handshake, handshake, "the session stays");
    assert_eq!(node.site.wg(&["showconf", "wg0"]), shown);
    pair.client.ping_exactly(SERVER_V4, 1, 56);
    let file = node.site.write("more.conf", &more);
    node.site.wg(&["addconf", "wg0", file.to_str().unwrap()]);
    assert_eq!(node.peers().len(), 2);
    // Everything is created again: the session is gone, and the endpoint in the file allows the
    // next one.
    let file = node.site.write("shown.conf", &shown);
    node.site.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    assert_eq!(node.site.wg(&["showconf", "wg0"]), shown);
    pair.server.ping(CLIENT_V4);
}

between!(configurations_go_in_and_out: {
    of_a_file: (ConfigFile, Wontun),
    of_a_socket: (Wontun, WireguardGo),
});

/// Returns the answer to `request` on the tunnel's socket, or the part of it that comes within a
/// second.
fn ask(node: &Node, request: &str) -> String {
    let mut socket = UnixStream::connect(node.site.socket(&node.name)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A timeout is not an answer, nor is a closed connection.
    socket.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

/// Refused requests change nothing and stop nothing.
fn nonsense_is_refused(server: Implementation, client: Implementation) {
    let mut pair = Plan::new(&Arc::new(Lab::new(2)), Outer::V4).start(server, client);
    pair.client.ping(SERVER_V4);
    let node = &mut pair.server;
    let before = node.site.wg(&["showconf", "wg0"]);
    let requests = [
        "set=1\nprivate_key=zz\n\n",
        "set=1\nlisten_port=99999\n\n",
        "set=1\npublic_key=00\n\n",
        "set=1\nallowed_ip=10.0.0.0/8\n\n",
        "set=1\nno_such_key=1\n\n",
        "set=2\n\n",
        "get=2\n\n",
        "hello?\n\n",
        "\n\n",
        "set=1",
    ];
    for request in requests {
        let answer = ask(node, request);
        assert!(!answer.contains("errno=0"), "{request:?} is answered with {answer:?}");
    }
    assert_eq!(node.site.wg(&["showconf", "wg0"]), before);
    assert!(node.daemon.is_running());
    pair.client.ping(SERVER_V4);
}

between!(nonsense_is_refused: {
    of_a_file: (ConfigFile, Wontun),
    of_a_socket: (Wontun, ConfigFile),
});
