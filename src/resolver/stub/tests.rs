//! Tests against a local name server on loopback.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use proptest::prelude::*;
use simple_dns::ResourceRecord;
use simple_dns::rdata::{A, AAAA, CNAME};

use super::*;

const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// Timeout where an answer is expected: longer than a busy machine takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout where none is expected.
const NO_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the name server's answers to a query.
type Answers = fn(&Packet<'_>) -> Vec<Vec<u8>>;

/// Returns an answer to the query, with the requested records if `with_records`.
fn reply(query: &Packet<'_>, with_records: bool, change: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
    let mut reply = query.clone().into_reply();
    let question = &query.questions[0];
    let name = question.qname.clone();
    if with_records {
        let alias = Name::new("other.example").unwrap();
        let record = |name, data| ResourceRecord::new(name, CLASS::IN, 60, data);
        reply.answers.push(record(name, RData::CNAME(CNAME(alias.clone()))));
        let address = if question.qtype == TYPE::A.into() {
            RData::A(A { address: V4.into() })
        } else {
            RData::AAAA(AAAA { address: V6.into() })
        };
        reply.answers.push(record(alias, address));
    }
    change(&mut reply);
    reply.build_bytes_vec().unwrap()
}

/// Returns the sockets of a name server, both at one address.
fn server_sockets() -> (UdpSocket, TcpListener) {
    // a port that is free for UDP may be in use for TCP
    let sockets = (0..100).find_map(|_| {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
        Some((udp, tcp))
    });
    sockets.expect("a port that is free for both")
}

/// Starts a name server that answers over UDP and TCP until the test process ends.
fn server(udp_answers: Answers, tcp_answers: Answers) -> SocketAddr {
    let (udp, tcp) = server_sockets();
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            for answer in udp_answers(&Packet::parse(&buffer[..length]).unwrap()) {
                udp.send_to(&answer, from).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                for answer in tcp_answers(&Packet::parse(&query).unwrap()) {
                    stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                    stream.write_all(&answer).unwrap();
                }
            }
        }
    });
    address
}

/// Returns sockets like those of the main process, but unmarked.
fn sockets() -> Sockets {
    let kinds = [Type::DGRAM, Type::STREAM];
    Sockets::new(kinds.map(|kind| Socket::new(Domain::IPV4, kind, None).unwrap().into()).into())
}

fn query(servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    query_within(ANSWER_TIMEOUT, servers)
}

fn query_within(timeout: Duration, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    let conf = ResolvConf { servers: servers.to_vec(), timeout, attempts: 1, is_local_only: false };
    sockets().query_all("vpn.example", &conf)
}

fn both(query: &Packet<'_>) -> Vec<Vec<u8>> {
    vec![reply(query, true, |_| {})]
}

fn nothing(_: &Packet<'_>) -> Vec<Vec<u8>> {
    vec![]
}

#[test]
fn both_families_are_asked_and_aliases_followed() {
    assert_eq!(query(&[server(both, nothing)]).unwrap(), [IpAddr::from(V4), V6.into()]);
}

#[test]
fn what_does_not_fit_is_asked_over_tcp() {
    let cut: Answers = |query| vec![reply(query, false, |reply| reply.set_flags(PacketFlag::TRUNCATION))];
    assert_eq!(query(&[server(cut, both)]).unwrap(), [IpAddr::from(V4), V6.into()]);
    // no TCP answers there, but one address did fit
    let partly: Answers = |query| vec![reply(query, true, |reply| reply.set_flags(PacketFlag::TRUNCATION))];
    let partly = [server(partly, nothing)];
    // on a busy machine those over UDP may come too late
    let is_found = (0..10).any(|_| {
        query_within(NO_ANSWER_TIMEOUT, &partly).is_ok_and(|found| found == [IpAddr::from(V4), V6.into()])
    });
    assert!(is_found);
}

/// A server that sends single bytes causes no delay: they do not extend the deadline.
#[test]
fn an_answer_over_tcp_has_one_deadline() {
    let (udp, listener) = server_sockets();
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let query = Packet::parse(&buffer[..length]).unwrap();
            let cut = reply(&query, false, |reply| reply.set_flags(PacketFlag::TRUNCATION));
            udp.send_to(&cut, from).unwrap();
        }
    });
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // the length of a long answer
        stream.write_all(&[0x0f, 0xff]).unwrap();
        for _ in 0..600 {
            thread::sleep(NO_ANSWER_TIMEOUT / 20);
            if stream.write_all(&[0]).is_err() {
                break;
            }
        }
    });
    let start = Instant::now();
    let refused = query_within(NO_ANSWER_TIMEOUT, &[address]).unwrap_err();
    assert!(refused.ends_with("no answer"), "{refused}");
    // the server would send for thirty times the timeout
    assert!(start.elapsed() < NO_ANSWER_TIMEOUT * 15, "{:?}", start.elapsed());
}

#[test]
fn forged_answers_are_nobodys() {
    let forged: Answers = |query| {
        let other_name: fn(&mut Packet<'_>) =
            |reply| reply.questions[0].qname = Name::new("evil.example").unwrap();
        vec![
            b"junk".to_vec(),
            reply(query, true, |reply| reply.set_id(reply.id().wrapping_add(1))),
            reply(query, true, other_name),
            reply(query, true, |reply| reply.questions.clear()),
            reply(query, true, |reply| reply.remove_flags(PacketFlag::RESPONSE)),
            reply(query, false, |reply| *reply.rcode_mut() = RCODE::NameError),
        ]
    };
    assert_eq!(query(&[server(forged, nothing)]).unwrap_err(), "there is no such name");
}

#[test]
fn the_next_server_is_asked_when_one_is_of_no_use() {
    // a port that no other program gets meanwhile, and that is closed to all but one address
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    let closed = socket.local_addr().unwrap();
    let busy: Answers = |query| vec![reply(query, false, |reply| *reply.rcode_mut() = RCODE::ServerFailure)];
    let busy = server(busy, nothing);
    let started = Instant::now();
    assert_eq!(query(&[closed, busy, server(both, nothing)]).unwrap().len(), 2);
    assert!(started.elapsed() < ANSWER_TIMEOUT, "a closed port was waited for");
    assert_eq!(query(&[busy]).unwrap_err(), "name server 127.0.0.1: it says ServerFailure");
    let silent = server(nothing, nothing);
    let refused = query_within(NO_ANSWER_TIMEOUT, &[silent]).unwrap_err();
    assert_eq!(refused, "name server 127.0.0.1: no answer");
    let empty: Answers = |query| vec![reply(query, false, |_| {})];
    assert_eq!(query(&[server(empty, nothing), busy]).unwrap_err(), "the name has no address");
}

#[test]
fn addresses_with_a_way_come_first() {
    let sockets = sockets();
    assert!(sockets.has_route(Ipv4Addr::LOCALHOST.into()));
    assert!(!sockets.has_route(Ipv6Addr::LOCALHOST.into()), "there is no socket of that family");
}

#[test]
fn some_names_are_not_for_name_servers() {
    for host in ["vpn.example", "vpn.example.", "a.b.c"] {
        assert!(is_for_dns(host), "{host}");
    }
    for host in
        ["localhost", "vpn", "vpn.", "printer.local", "printer.LOCAL.", "192.0.2.1", "::1", "bücher.example"]
    {
        assert!(!is_for_dns(host), "{host}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), header: bool) {
        let mut queries = Queries::new("vpn.example").unwrap();
        let mut answer = bytes;
        if header {
            // with a valid header: only the records are random
            let mut right = reply(&Packet::parse(&queries.0[0].bytes).unwrap(), false, |_| {});
            right[7] = 3;
            right.extend(answer);
            answer = right;
        }
        queries.handle_packet(&answer);
        let _ = queries.outcome(Ok(()));
    }

    #[test]
    fn any_name_is_survived(host in "[ -~]{0,260}") {
        let _ = (is_for_dns(&host), Queries::new(&host).map(drop));
    }
}
