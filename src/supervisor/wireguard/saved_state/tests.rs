use super::*;
use crate::config::wg_quick::{Hooks, WgQuick, parse};
use crate::traffic::Traffic;
use std::path::Path;

/// RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn at(millis: u64) -> Instant {
    Instant::from_boot(Duration::from_millis(millis))
}

fn empty() -> SavedState {
    SavedState::open(&"wg0".parse().unwrap(), None, false).unwrap()
}

fn report(number: u8, address: &str, age: Option<u64>) -> PeerReport {
    PeerReport {
        public_key: key(number),
        remote: Some(Address::from(address.parse::<SocketAddr>().unwrap())),
        local: "192.0.2.1".parse().ok(),
        handshake_age: age.map(Duration::from_secs),
        latest: Some([number; 12]),
        traffic: Traffic::NONE,
    }
}

fn configuration(interface: &str, peers: &[(u8, &str)]) -> WgQuick {
    let mut text = format!("[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n");
    for (number, lines) in peers {
        text += &format!("[Peer]\nPublicKey = {}\n{lines}\n", key(*number));
    }
    parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap().configuration
}

fn restored(state: &SavedState, configuration: &WgQuick, port: Option<u16>) -> Vec<RestoredPeer> {
    let peers: Vec<_> = configuration.peers.iter().collect();
    let messages = state.restored(Some(&key(0)), &peers, port).into_iter();
    let peers = messages.flat_map(|message| match message {
        ToTunnel::Restore { peers, .. } => peers,
        other => panic!("{other:?}"),
    });
    peers.collect()
}

#[test]
fn peers_heard_lately_are_greeted_if_they_know_the_port() {
    let mut state = empty();
    for (number, age) in [(1, Some(10)), (2, Some(290)), (3, Some(301)), (4, None), (5, Some(0))] {
        state.record(&report(number, "198.51.100.7:9", age), 51820, EndpointSource::Peer);
    }
    // the clock is behind that of the earlier run
    state.table.update(&key(6), |record| {
        record.set_endpoint(SavedEndpoint {
            remote: "198.51.100.8:9".parse().unwrap(),
            local: None,
            local_port: 51820,
            is_named: false,
        });
        record.last_handshake = unix_now() + Duration::from_secs(1_000_000);
    });
    let peers: Vec<_> = (1..=9).map(|number| (number, "")).collect();
    let greeted = |port| {
        let peers = restored(&state, &configuration("", &peers), port);
        assert_eq!(peers.len(), 6);
        let greeted = peers.into_iter().filter(|peer| peer.is_greeted);
        greeted.map(|peer| peer.public_key.as_bytes()[0]).collect::<Vec<_>>()
    };
    assert_eq!(greeted(Some(51820)), [6, 5, 1, 2], "the latest first");
    assert_eq!(greeted(Some(51821)), [0; 0], "another port");
    assert_eq!(greeted(None), [0; 0], "any port");
}

#[test]
fn configured_endpoints_and_names_replace_those_that_are_kept() {
    let mut state = empty();
    for number in 1..=3 {
        state.record(&report(number, "198.51.100.7:9", Some(10)), 51820, EndpointSource::Peer);
    }
    let peers = [(1, "Endpoint = 203.0.113.9:1"), (2, "Endpoint = vpn.example:1"), (3, "")];
    let peers = restored(&state, &configuration("", &peers), None);
    let peers: Vec<_> = peers.iter().map(|peer| (peer.remote.is_some(), peer.is_greeted)).collect();
    assert_eq!(peers, [(false, true), (false, false), (true, false)]);
    // the timestamps of peers count anyway
    let only = configuration("", &[(2, "Endpoint = vpn.example:1")]);
    assert_eq!(restored(&state, &only, None)[0].latest, Some([2; 12]));
}

#[test]
fn what_must_not_be_kept_leaves_the_previous_address() {
    let mut state = empty();
    let address = |state: &SavedState| state.addresses().next().map(|(_, address)| address.to_string());
    assert!(!state.record(&report(1, "192.0.2.7:1", Some(1)), 1, EndpointSource::Unknown));
    assert_eq!(address(&state), None);
    assert!(state.record(&report(1, "192.0.2.7:1", Some(1)), 1, EndpointSource::Name));
    assert!(!state.record(&report(1, "192.0.2.7:2", Some(1)), 1, EndpointSource::Name), "only another port");
    assert!(!state.record(&report(1, "192.0.2.8:1", Some(1)), 1, EndpointSource::Unknown));
    assert!(!state.record(&report(1, "224.0.0.1:1", Some(1)), 1, EndpointSource::Name));
    assert_eq!(address(&state).as_deref(), Some("192.0.2.7"));
    // of a peer without a name
    assert!(!state.record(&report(1, "192.0.2.7:1", Some(1)), 1, EndpointSource::Peer));
    assert_eq!(address(&state), None);
    state.retain(|_| false);
    assert_eq!((address(&state), state.table.records().count()), (None, 0));
}

#[test]
fn a_later_timestamp_than_was_sent_is_kept_and_seldom_renewed() {
    let mut state = empty();
    let now = unix_now();
    let stamp = |seconds| Timestamp::from_unix(now + Duration::from_secs(seconds));
    state.record_sent(key(1), stamp(0));
    assert_eq!(state.table.sent(&key(1)), Some(stamp(60)));
    assert!(std::mem::take(&mut state.is_urgent));
    state.record_sent(key(1), stamp(30));
    assert!(!state.is_urgent);
    state.record_sent(key(1), stamp(31));
    assert_eq!(state.table.sent(&key(1)), Some(stamp(91)));
    // not from a process that may have been taken over
    state.record_sent(key(1), stamp(1_000_000));
    state.record_sent(key(1), Timestamp::from_bytes([0xff; 12]));
    assert_eq!(state.table.sent(&key(1)), Some(stamp(91)));
    // the clock was in the future before
    state.table.set_sent(key(1), stamp(2_000_000));
    state.record_sent(key(1), stamp(2_000_001));
    assert_eq!(state.table.sent(&key(1)), Some(stamp(2_000_061)));
    assert_eq!(state.table.sent(&key(2)), None, "another key's");
    // a file of an attacker's
    state.table.set_sent(key(1), Timestamp::from_bytes([0xff; 12]));
    state.record_sent(key(1), Timestamp::from_bytes([0xff; 12]));
    assert!(state.table.sent(&key(1)).is_some());
}

#[test]
fn a_reset_forgets_the_timestamp_alone() {
    let mut state = empty();
    state.record(&report(1, "192.0.2.7:1", Some(1)), 1, EndpointSource::Name);
    state.forget_timestamp(&key(2));
    assert!(!state.is_urgent && state.table.get(&key(2)).is_none());
    state.forget_timestamp(&key(1));
    let record = state.table.get(&key(1)).unwrap();
    assert!(state.is_urgent && record.latest_timestamp.is_none() && record.endpoint.is_some());
}

#[test]
fn the_file_is_written_once_a_second_and_through_to_the_disk_twice_a_minute() {
    let path = std::env::temp_dir().join(format!("wontun-saved-state-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (file, table) = StateFile::open(&path, None, crate::state_file::Access::ReadWrite).unwrap();
    let mut state = SavedState { file: Some(file), table, ..empty() };
    assert_eq!(state.deadline(), None);
    let change = |state: &mut SavedState, number| {
        state.record(&report(number, "192.0.2.7:1", Some(1)), 1, EndpointSource::Name);
        assert!(state.deadline().is_some());
    };
    change(&mut state, 1);
    state.serve(at(5000));
    assert!(!state.table.is_changed() && state.synced_at == Some(at(5000)));
    change(&mut state, 2);
    assert_eq!(state.deadline(), Some(at(6000)));
    state.serve(at(5999));
    assert!(state.table.is_changed());
    state.serve(at(6000));
    assert!(!state.table.is_changed() && state.is_unsynced);
    assert_eq!(state.deadline(), Some(at(35_000)));
    // a timestamp that is about to be exceeded does not wait
    state.record_sent(key(0), Timestamp::from_unix(unix_now()));
    assert_eq!(state.deadline(), Some(at(0)));
    state.serve(at(6001));
    assert!(!state.table.is_changed() && state.synced_at == Some(at(5000)));
    state.serve(at(35_000));
    assert_eq!((state.deadline(), state.synced_at), (None, Some(at(35_000))));
    state.finish();
    std::fs::remove_file(&path).unwrap();
}
