//! `wg show transfer`: every byte is known beforehand.

use super::implementation::Implementation;
use super::pair::{Outer, Pair, SERVER_V4, SERVER_V6};
use wontun_proto::wireguard::message::{DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};

/// Returns the bytes of a data message with a packet of `len` bytes.
const fn message(len: usize, pads: bool) -> u64 {
    let padded = if pads && len.next_multiple_of(16) <= 1420 { len.next_multiple_of(16) } else { len };
    let padded = if pads && padded < len.next_multiple_of(16) { 1420 } else { padded };
    (DATA_OVERHEAD + padded) as u64
}

/// The client pings first, so it initiates the handshake, and its first packet confirms it.
fn transfer_is_exact(server: Implementation, client: Implementation, outer: Outer) {
    let pair = Pair::new(server, client, outer);
    let pings =
        [(SERVER_V4, 28, 3, 0), (SERVER_V4, 28, 5, 56), (SERVER_V6, 48, 7, 333), (SERVER_V4, 28, 4, 1390)];
    for (address, _, count, payload) in pings {
        pair.client.ping_exactly(address, count, payload);
    }
    let sum = |pads: bool| -> u64 {
        pings
            .iter()
            .map(|(_, headers, count, payload)| *count as u64 * message(headers + payload, pads))
            .sum()
    };
    let (server, client) = (&pair.server, &pair.client);
    // boringtun confirms the handshake with a keepalive, even if it has data to send.
    let confirmation = if client.implementation == Implementation::Boringtun { message(0, true) } else { 0 };
    let sent = INITIATION_LEN as u64 + confirmation + sum(client.implementation.pads());
    let answered = RESPONSE_LEN as u64 + sum(server.implementation.pads());
    let (at_server, at_client) = (server.only_peer(), client.only_peer());
    if server.implementation.counts_whole_messages() {
        assert_eq!((at_server.received, at_server.sent), (sent, answered), "{at_server:?}");
    }
    if client.implementation.counts_whole_messages() {
        assert_eq!((at_client.received, at_client.sent), (answered, sent), "{at_client:?}");
    }
}

between!(transfer_is_exact: {
    wontun_and_wontun: (ConfigFile, Wontun, Outer::V4),
    wireguard_go_to_wontun: (Wontun, WireguardGo, Outer::V6),
    wontun_to_wireguard_go: (WireguardGo, ConfigFile, Outer::V4),
    boringtun_to_wontun: (Wontun, Boringtun, Outer::V4),
    wontun_to_boringtun: (Boringtun, Wontun, Outer::V6),
});
