//! Tests of messages, the zone, the cache and the limit.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE};

use super::cache::Cache;
use super::message::{self, Query, QueryError, ResponseCode};
use super::query_limit::QueryLimit;
use super::zone::{Zone, ZoneAnswer, label};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::time::Instant;

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).unwrap().into_owned(),
        QTYPE::TYPE(kind),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

fn parsed(name: &str, kind: TYPE) -> Query {
    Query::parse(&query(name, kind)).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn zone() -> Zone {
    let networks = ["10.8.0.0/24", "fd00::/64"].map(|text| {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(ip(address), length.parse().unwrap()).unwrap()
    });
    let mut zone = Zone::new("vpn".parse().unwrap(), vec![ip("10.8.0.1"), ip("fd00::1")], networks.to_vec());
    assert!(zone.add("phone".to_owned(), vec![ip("10.8.0.2"), ip("fd00::2")]));
    assert!(zone.add("nas".to_owned(), vec![ip("10.8.0.3")]));
    assert!(!zone.add("nas".to_owned(), vec![ip("10.8.0.4")]), "the first one keeps its name");
    zone
}

fn answer(name: &str, kind: TYPE) -> Option<Vec<u8>> {
    match zone().answer(&parsed(name, kind)) {
        ZoneAnswer::Message(answer) => {
            assert!(message::is_answer(&answer, &parsed(name, kind), 0x1234), "{name}");
            Some(answer)
        }
        ZoneAnswer::Forward => None,
    }
}

/// Returns the response code and the records as text.
fn records(answer: &[u8]) -> (RCODE, Vec<String>) {
    let packet = Packet::parse(answer).unwrap();
    let text = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
        RData::PTR(name) => name.to_string(),
        other => format!("{other:?}"),
    };
    (packet.rcode(), packet.answers.iter().map(text).collect())
}

fn found(name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    records(&answer(name, kind).unwrap())
}

#[test]
fn peers_are_found_by_name_and_by_address() {
    let yes = |text: &str| (RCODE::NoError, vec![text.to_owned()]);
    assert_eq!(found("phone.vpn", TYPE::A), yes("10.8.0.2"));
    assert_eq!(found("PHONE.vpn", TYPE::AAAA), yes("fd00::2"));
    assert_eq!(found("vpn", TYPE::A), yes("10.8.0.1"));
    assert_eq!(found("nas.vpn", TYPE::AAAA), (RCODE::NoError, vec![]), "it has none of that family");
    assert_eq!(found("tablet.vpn", TYPE::A), (RCODE::NameError, vec![]));
    assert_eq!(found("a.phone.vpn", TYPE::A), (RCODE::NameError, vec![]));
    assert_eq!(found("2.0.8.10.in-addr.arpa", TYPE::PTR), yes("phone.vpn"));
    assert_eq!(found("1.0.8.10.in-addr.arpa", TYPE::PTR), yes("vpn"));
    assert_eq!(found("9.0.8.10.in-addr.arpa", TYPE::PTR), (RCODE::NameError, vec![]));
    let v6 = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
    assert_eq!(found(&v6, TYPE::PTR), yes("phone.vpn"));
}

#[test]
fn other_names_are_forwarded() {
    for (name, kind) in [
        ("example.com", TYPE::A),
        ("vpn.example.com", TYPE::A),
        ("xvpn", TYPE::A),
        ("1.1.168.192.in-addr.arpa", TYPE::PTR),
        ("8.10.in-addr.arpa", TYPE::PTR),
    ] {
        assert_eq!(answer(name, kind), None, "{name}");
    }
}

#[test]
fn only_the_vpn_may_ask() {
    for (address, may) in [
        ("10.8.0.77", true),
        ("fd00::99", true),
        ("::ffff:10.8.0.2", true),
        ("10.9.0.1", false),
        ("192.0.2.1", false),
    ] {
        assert_eq!(zone().is_client(ip(address)), may, "{address}");
    }
}

#[test]
fn a_peers_name_becomes_a_label() {
    for (name, expected) in [
        ("phone", Some("phone")),
        ("Anna's laptop", Some("anna-s-laptop")),
        ("  NAS #2 ", Some("nas-2")),
        ("電話", None),
        ("büro", Some("b-ro")),
        ("-", None),
    ] {
        assert_eq!(label(name).as_deref(), expected, "{name}");
    }
    assert_eq!(label(&"a".repeat(70)).unwrap().len(), 63);
}

#[test]
fn messages_that_are_no_queries_are_told_apart() {
    let good = query("a.example", TYPE::A);
    assert_eq!(Query::parse(&good).unwrap().question, 12..good.len());
    assert_eq!(Query::parse(&good[..11]), Err(QueryError::Ignored));
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(Query::parse(&response), Err(QueryError::Ignored));
    let mut update = good.clone();
    update[2] |= 5 << 3;
    assert_eq!(Query::parse(&update), Err(QueryError::Code(ResponseCode::NotImplemented)));
    let wrong = Err(QueryError::Code(ResponseCode::FormatError));
    assert_eq!(Query::parse(&good[..good.len() - 1]), wrong);
    // a name that points to itself
    let mut looped = good[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(Query::parse(&looped), wrong);
    let mut two = good.clone();
    two[5] = 2;
    assert_eq!(Query::parse(&two), wrong);
}

/// Returns an answer with one record of that time to live, as a name server sends it.
fn upstream(name: &str, ttl: u32) -> Vec<u8> {
    let asked = query(name, TYPE::A);
    let mut packet = Packet::parse(&asked).unwrap().into_reply();
    let data = RData::A(simple_dns::rdata::A { address: 7 });
    packet.answers.push(ResourceRecord::new(Name::new(name).unwrap().into_owned(), CLASS::IN, ttl, data));
    packet.build_bytes_vec_compressed().unwrap()
}

#[test]
fn answers_are_kept_until_they_expire() {
    let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
    let mut cache = Cache::default();
    let asked = Query { id: 9, ..parsed("a.example", TYPE::A) };
    assert_eq!(cache.get(&asked, at(0)), None);
    cache.insert(&asked, &upstream("a.example", 60), at(100));
    let answer = cache.get(&Query { id: 10, ..asked.clone() }, at(120)).unwrap();
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!((packet.id(), packet.answers[0].ttl), (10, 40));
    assert_eq!(cache.get(&parsed("a.example", TYPE::AAAA), at(120)), None, "another type");
    assert_eq!(cache.get(&asked, at(160)), None, "expired");
    cache.insert(&asked, &upstream("a.example", 0), at(200));
    assert_eq!(cache.get(&asked, at(200)), None, "not to be kept");
}

#[test]
fn the_cache_stays_small() {
    let mut cache = Cache::default();
    let now = Instant::from_boot(Duration::from_secs(1));
    for number in 0..10_000 {
        let name = format!("n{number}.example");
        cache.insert(&parsed(&name, TYPE::A), &upstream(&name, 3600), now);
    }
    assert!(cache.len() > 100 && cache.len() < 3000, "{}", cache.len());
}

#[test]
fn a_client_is_limited_and_others_are_not() {
    let at = |millis| Instant::from_boot(Duration::from_millis(millis));
    let mut limit = QueryLimit::default();
    let count = |limit: &mut QueryLimit, client: &str, millis| {
        (0..1000).filter(|_| limit.allows(ip(client), at(millis))).count()
    };
    assert_eq!(count(&mut limit, "10.8.0.2", 1000), 200);
    assert_eq!(count(&mut limit, "10.8.0.3", 1000), 200);
    assert_eq!(count(&mut limit, "10.8.0.2", 1500), 50);
    assert_eq!(count(&mut limit, "10.8.0.2", 60_000), 200);
}

proptest! {
    #[test]
    fn no_message_breaks_the_parser(message in proptest::collection::vec(any::<u8>(), 0..200), flags in 0_u8..2) {
        let mut message = message;
        if let Some(byte) = message.get_mut(2) {
            *byte &= flags;
        }
        if let Ok(query) = Query::parse(&message) {
            let _ = zone().answer(&query);
            let _ = message::ttl(&message, &query);
            message::reduce_ttls(&mut message.clone(), &query, Duration::from_secs(5));
        }
    }
}
