//! DNS queries of a server's clients: names of peers, and other names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

use super::server::{Server, addresses, client, value};
use crate::lab::{Host, Lab};
use crate::processes::helper;
use crate::waiting::{eventually, uninterrupted};
use crate::wireguard::name_server::NameServer;

/// The server's address in the tunnel.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// Address of every name at the name server outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// The response code and the records of an answer.
pub(super) type Answer = (RCODE, Vec<String>);

/// Asks `server` for `name`, and returns the answer that must come; `None` without one.
pub(super) fn ask(host: &Host, server: impl Into<IpAddr>, name: &str, kind: TYPE) -> Option<Answer> {
    ask_within(Duration::from_secs(5), host, server, name, kind)
}

/// As [`ask`], of a server that may be silent.
fn ask_once(host: &Host, server: impl Into<IpAddr>, name: &str, kind: TYPE) -> Option<Answer> {
    ask_within(Duration::from_secs(1), host, server, name, kind)
}

fn ask_within(
    limit: Duration,
    host: &Host,
    server: impl Into<IpAddr>,
    name: &str,
    kind: TYPE,
) -> Option<Answer> {
    let mut packet = Packet::new_query(0x4321);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).unwrap(),
        QTYPE::TYPE(kind),
        CLASS::IN.into(),
        false,
    ));
    let server = SocketAddr::new(server.into(), 53);
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = host.udp((any, 0));
    socket.set_read_timeout(Some(limit)).unwrap();
    socket.send_to(&packet.build_bytes_vec().unwrap(), server).unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer)).ok()?;
    assert_eq!(from, server);
    let answer = Packet::parse(&buffer[..length]).unwrap();
    assert_eq!(answer.id(), 0x4321);
    let records = answer.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
        RData::PTR(name) => name.to_string(),
        other => format!("{other:?}"),
    });
    Some((answer.rcode(), records.collect()))
}

#[test]
fn clients_find_each_other_and_the_rest_of_the_world_by_name() {
    let lab = Arc::new(Lab::new(4));
    let server = Server::new(&lab, 0);
    let upstream = NameServer::start(lab.host(3), lab.host(3).v4, OUTSIDE, false);
    let (endpoint, dns) = (lab.host(0).v4.to_string(), lab.host(3).v4.to_string());
    let arguments = ["--endpoint", &endpoint, "--domain", "vpn", "--dns-upstream", &dns];
    let daemon = server.serve(&arguments);
    let phone_file = server.output(&["peer", "add", "phone"]);
    let tablet_file = server.output(&["peer", "add", "Anna's tablet"]);
    assert!(value(&phone_file, "DNS").starts_with("10.8.0.1"), "{phone_file}");
    let tablet = addresses(&tablet_file)[0];
    let without_dns = phone_file.lines().filter(|line| !line.starts_with("DNS"));
    let (phone, _phone) = client(&lab, 1, &without_dns.collect::<Vec<_>>().join("\n"));
    daemon.wait_for("answering DNS queries");
    let yes = |text: &str| Some((RCODE::NoError, vec![text.to_owned()]));

    // names of peers, of those that were added while it runs, too
    eventually("a peer is found by its name", || {
        ask(&phone, SERVER, "anna-s-tablet.vpn", TYPE::A) == yes(&tablet.to_string())
    });
    assert_eq!(ask(&phone, SERVER, "2.0.8.10.in-addr.arpa", TYPE::PTR), yes("phone.vpn"));
    assert_eq!(ask(&phone, SERVER, "vpn", TYPE::A), yes("10.8.0.1"));
    assert_eq!(ask(&phone, SERVER, "nobody.vpn", TYPE::A), Some((RCODE::NameError, vec![])));
    server.output(&["peer", "rename", "Anna's tablet", "pad"]);
    eventually("the new name is found", || {
        ask(&phone, SERVER, "pad.vpn", TYPE::A) == yes(&tablet.to_string())
    });

    // other names, once
    let before = upstream.query_counts().0;
    for _ in 0..5 {
        assert_eq!(ask(&phone, SERVER, "www.example.com", TYPE::A), yes(&OUTSIDE.to_string()));
    }
    assert_eq!(upstream.query_counts().0 - before, 1, "the cache answers");
    assert_eq!(upstream.query_counts().1, 0);

    // nobody outside the tunnel
    let outside = lab.host(2);
    outside.ip(&["route", "add", "10.8.0.1", "via", &endpoint]);
    assert_eq!(ask_once(outside, SERVER, "phone.vpn", TYPE::A), None);
    // neither where nothing but the process itself is in the way
    server.site.shell("nft flush ruleset");
    assert_eq!(ask_once(outside, SERVER, "phone.vpn", TYPE::A), None);

    // its process has no rights, and comes back; the tunnel goes on
    let names = helper(daemon.pid(), "wontun-names");
    let status = std::fs::read_to_string(format!("/proc/{names}/status")).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("Seccomp:\t2"), "{status}");
    kill(names, Signal::SIGKILL).unwrap();
    eventually("it is started again", || ask_once(&phone, SERVER, "phone.vpn", TYPE::A) == yes("10.8.0.2"));
    phone.ping(SERVER);

    // without the option, from the file: by a process that takes the tunnel over, and after a
    // restart
    let successor = server.launch(&["--dns-upstream", &dns, "--take-over"]).spawn();
    assert!(daemon.wait_exit().status.success());
    eventually("it answers without interruption", || ask_once(&phone, SERVER, "pad.vpn", TYPE::A).is_some());
    phone.ping(SERVER);
    assert!(successor.stop().status.success());
    let daemon = server.serve(&["--dns-upstream", &dns]);
    eventually("it answers again", || ask_once(&phone, SERVER, "phone.vpn", TYPE::A) == yes("10.8.0.2"));
    assert!(daemon.stop().status.success());
    // and not at all any more
    let _daemon = server.serve(&["--domain", "none"]);
    phone.ping_within(Duration::from_secs(10), SERVER);
    assert_eq!(ask_once(&phone, SERVER, "phone.vpn", TYPE::A), None);
}
