use std::collections::{BTreeMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::counters::Counters;
use crate::messages::HostState;
use crate::traffic::Traffic;
use wontun_packet::DropReason;
use wontun_proto::wireguard::{PublicKey, Transfer};

fn peer(number: u32) -> PeerSample {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    PeerSample {
        public_key: PublicKey::from_bytes(key),
        name: None,
        rx_bytes: u64::from(number),
        tx_bytes: u64::MAX,
        rx_packets: 3,
        tx_packets: 4,
        traffic: number
            .is_multiple_of(2)
            .then_some(Traffic { total: Transfer { received: 9, ..Transfer::default() }, ..Traffic::NONE }),
        handshake_age: number.is_multiple_of(2).then(|| Duration::from_millis(u64::from(number) * 1000 + 7)),
        has_session: number.is_multiple_of(2),
        is_over_quota: number.is_multiple_of(3).then_some(true),
        staged: 2,
        lost: 0,
    }
}

fn wireguard(peers: u32) -> Sample {
    let counters = Counters::default();
    counters.count_tx(2, 300);
    counters.count_drops(DropReason::Replay, 5);
    let mut sample = Sample {
        mode: "wireguard",
        tun: "tun0".to_owned(),
        is_up: true,
        mtu: 1420,
        host: HostState { denied: Some(7), ..HostState::default() },
        workers: vec![WorkerSample { receive_queue: 9, ..WorkerSample::default() }; 2],
        peer_count: peers as usize,
        queues: Some(QueueSample { handshakes: 1, backlog: 2 }),
        peers: (0..peers).map(peer).collect(),
        process: ProcessReader::open().sample("lo"),
        ..Sample::default()
    };
    sample.totals.add(&counters);
    sample
}

fn plain() -> Sample {
    let silence = Some(Duration::from_millis(1500));
    Sample { mode: "plain", tun: "tun0".to_owned(), peer_count: 1, silence, ..Sample::default() }
}

fn exposition(sample: Sample) -> Exposition {
    Exposition::new(Arc::new(sample))
}

fn text(sample: Sample) -> String {
    let mut out = String::new();
    assert!(!exposition(sample).write(&mut out, usize::MAX / 2));
    out
}

/// A line of a metric: name, labels, number.
type Line = (String, BTreeMap<String, String>, f64);

/// Parses the format strictly.
fn read(text: &str) -> Vec<Line> {
    assert!(text.ends_with('\n'));
    let mut lines = Vec::new();
    let (mut current, mut done, mut seen) = (None, HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.contains('\\') && done.insert(name), "{line}");
            current = Some(name);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(Some(name), current);
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (name, mut rest) = line.split_at(end);
        assert_eq!(Some(name), current, "lines of a metric stand together");
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, value) = rest.split_once("=\"").unwrap();
                let mut chars = value.char_indices();
                let mut read = String::new();
                let end = loop {
                    match chars.next().unwrap() {
                        (at, '"') => break at,
                        (_, '\\') => read.push(match chars.next().unwrap().1 {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            c => panic!("\\{c} in {line}"),
                        }),
                        (_, c) => read.push(c),
                    }
                };
                assert!(label.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{line}");
                assert!(labels.insert(label.to_owned(), read).is_none(), "{line}");
                rest = &value[end + 1..];
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}').unwrap();
        }
        assert!(seen.insert((name.to_owned(), labels.clone())), "twice: {line}");
        lines.push((name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap()));
    }
    lines
}

fn number(lines: &[Line], name: &str, label: Option<(&str, &str)>) -> Option<f64> {
    let is_meant = |line: &&Line| {
        line.0 == name && label.is_none_or(|(label, value)| line.1.get(label).is_some_and(|v| v == value))
    };
    lines.iter().find(is_meant).map(|line| line.2)
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names = HashSet::new();
    for family in FAMILIES {
        let name = family.name;
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
        assert!(name.starts_with("wontun_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        assert!(names.insert(name), "{name} is there twice");
        assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{name}");
    }
}

#[test]
fn all_that_is_known_is_told() {
    let lines = read(&text(wireguard(3)));
    let of = |name: &str| number(&lines, name, None).unwrap();
    assert_eq!([of("wontun_transmit_packets_total"), of("wontun_transmit_bytes_total")], [2.0, 300.0]);
    assert_eq!(number(&lines, "wontun_drops_total", Some(("reason", "replay"))), Some(5.0));
    assert_eq!(lines.iter().filter(|line| line.0 == "wontun_drops_total").count(), DropReason::ALL.len());
    assert_eq!([of("wontun_staged_packets"), of("wontun_peers"), of("wontun_workers")], [6.0, 3.0, 2.0]);
    assert_eq!([of("wontun_handshake_backlog_messages"), of("wontun_denied_packets_total")], [2.0, 7.0]);
    assert!(of("process_resident_memory_bytes") > 100_000.0 && of("process_start_time_seconds") > 1e9);
    assert_eq!(number(&lines, "wontun_socket_receive_queue_bytes", Some(("worker", "1"))), Some(9.0));
    let ages: Vec<_> = lines.iter().filter(|line| line.0 == "wontun_peer_handshake_age_seconds").collect();
    assert_eq!(ages.iter().map(|line| line.2).collect::<Vec<_>>(), [0.007, 2.007], "none of one without");
    assert_eq!(ages[1].1["public_key"], peer(2).public_key.to_string());
    let served: HashSet<_> = lines.iter().map(|line| line.0.as_str()).collect();
    for family in FAMILIES.iter().filter(|family| !family.name.contains("_plain_")) {
        assert!(served.contains(family.name), "{} is missing", family.name);
    }
}

#[test]
fn of_what_a_mode_does_not_have_nothing_is_said() {
    let all = text(plain());
    let lines = read(&all);
    assert_eq!(number(&lines, "wontun_plain_peer_silence_seconds", None), Some(1.5));
    assert_eq!(number(&lines, "wontun_peers", None), Some(1.0));
    for name in ["wontun_peer_", "wontun_handshake_", "wontun_staged_"] {
        assert!(!all.contains(name), "{name}");
    }
}

#[test]
fn names_of_peers_are_escaped() {
    for name in ["phone", "a \"b\"", "back\\slash\\", "ünïcode 📱", "}", "\",x=\"y"] {
        let mut sample = wireguard(2);
        sample.peers[0].name = Some(name.parse().unwrap());
        let lines = read(&text(sample));
        let called: Vec<_> = lines
            .iter()
            .filter(|line| line.0 == "wontun_peer_has_session")
            .map(|line| line.1["name"].as_str())
            .collect();
        assert_eq!(called, [name, ""]);
    }
}

proptest! {
    #[test]
    fn pieces_make_the_whole(peers in 0_u32..60, piece in 1_usize..5000) {
        // both of one sample: numbers of the process and of the device change meanwhile
        let sample = Arc::new(wireguard(peers));
        let mut whole = String::new();
        prop_assert!(!Exposition::new(Arc::clone(&sample)).write(&mut whole, usize::MAX / 2));
        let mut exposition = Exposition::new(sample);
        let mut all = String::new();
        loop {
            let mut out = String::new();
            let has_more = exposition.write(&mut out, piece);
            // at most some lines longer than requested
            prop_assert!(out.len() < piece + 4500, "{}", out.len());
            all += &out;
            if !has_more {
                break;
            }
        }
        prop_assert_eq!(all, whole);
    }
}

/// Runs `test` with a server on loopback, which ends with it.
fn serving(peers: u32, test: impl FnOnce(SocketAddr, &AtomicUsize)) {
    let metrics =
        MetricsServer::new(MetricsListener::open("127.0.0.1:0".parse().unwrap()).unwrap(), Vec::new())
            .unwrap();
    let samples = AtomicUsize::new(0);
    thread::scope(|scope| {
        let serve = || {
            metrics.serve(|_| {
                samples.fetch_add(1, Ordering::Relaxed);
                wireguard(peers)
            })
        };
        let server = scope.spawn(serve);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(metrics.listener().address(), &samples);
        }));
        metrics.shut_down();
        server.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn all_of(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    all_of(stream)
}

/// Returns the body of a chunked answer, which must be complete.
fn body(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut body = String::new();
    loop {
        let (length, chunk) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &chunk[..length];
        rest = chunk[length..].strip_prefix("\r\n").unwrap();
        if length == 0 {
            assert_eq!(rest, "");
            return body;
        }
    }
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost:9586\r\n\r\n";

#[test]
fn metrics_are_served_and_everything_else_is_refused() {
    serving(3, |address, _| {
        let lines = read(&body(&ask(address, GET)));
        assert_eq!(number(&lines, "wontun_peers", None), Some(3.0));
        let old = ask(address, "GET /metrics HTTP/1.0\r\n\r\n");
        let (head, old) = old.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert_eq!(read(old).len(), lines.len());
        assert!(
            ask(address, "HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ends_with("chunked\r\n\r\n")
        );
        assert!(ask(address, "GET / HTTP/1.0\r\n\r\n").contains("/metrics"));
        for (request, code) in [
            ("GET /other HTTP/1.0\r\n\r\n", "404"),
            ("PUT /metrics HTTP/1.0\r\n\r\n", "405"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1\r\nHost: rebound.example:9586\r\n\r\n", "421"),
            ("hello?\r\n\r\n", "400"),
            (&format!("GET /{}", "a".repeat(4091)), "431"),
        ] {
            let answer = ask(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request} {answer}");
        }
    });
}

#[test]
fn a_request_may_come_in_pieces_and_its_sender_close_its_half() {
    serving(1, |address, _| {
        let mut stream = connect(address);
        for byte in GET.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        read(&body(&all_of(stream)));
    });
}

#[test]
fn a_body_of_megabytes_arrives_whole() {
    serving(2_000, |address, _| {
        let start = Instant::now();
        let body = body(&ask(address, GET));
        let lines = read(&body);
        eprintln!("2,000 peers: {} lines, {} bytes in {:?}", lines.len(), body.len(), start.elapsed());
        assert_eq!(lines.iter().filter(|line| line.0 == "wontun_peer_receive_bytes_total").count(), 2_000);
    });
}

#[test]
fn who_asks_without_end_does_not_have_the_tunnel_looked_at_without_end() {
    serving(1, |address, samples| {
        let start = Instant::now();
        for _ in 0..50 {
            body(&ask(address, GET));
        }
        let most = start.elapsed().as_millis() / 500 + 1;
        let samples = samples.load(Ordering::Relaxed);
        assert!(samples >= 1 && samples as u128 <= most, "{samples} samples in {:?}", start.elapsed());
    });
}

#[test]
fn those_that_say_nothing_make_room_for_one_that_asks() {
    serving(1, |address, _| {
        let silent: Vec<_> = (0..100).map(|_| connect(address)).collect();
        for _ in 0..3 {
            read(&body(&ask(address, GET)));
        }
        // the first of them were closed
        assert_eq!((&silent[0]).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn one_that_never_finishes_its_request_is_hung_up_on() {
    serving(1, |address, _| {
        let mut stream = connect(address);
        let start = Instant::now();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        while start.elapsed() < Duration::from_secs(15) {
            thread::sleep(Duration::from_millis(100));
            // single bytes do not extend the timeout
            if stream.write_all(b"a").is_err() {
                break;
            }
        }
        assert!(start.elapsed() > Duration::from_secs(4) && start.elapsed() < Duration::from_secs(14));
    });
}
