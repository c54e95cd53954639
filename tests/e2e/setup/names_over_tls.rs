//! DNS queries of a server's clients that are forwarded over TLS, and a reload of the file's domain.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use nix::sys::signal::Signal;
use simple_dns::{RCODE, TYPE};

use super::client_names::ask;
use super::server::{Server, client};
use super::tls_name_server::TlsNameServer;
use crate::lab::Lab;
use crate::waiting::eventually;
use crate::wireguard::name_server::NameServer;

/// The server's address in the tunnel.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// Address of every name at the name server outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

#[test]
fn queries_over_tls_go_to_the_right_server_or_nowhere() {
    let lab = Arc::new(Lab::new(4));
    let server = Server::new(&lab, 0);
    let outside = lab.host(3);
    let upstream = TlsNameServer::start(outside, outside.v4, OUTSIDE);
    let plain = NameServer::start(outside, outside.v4, OUTSIDE, false);
    let hash = Base64::encode_string(ring::digest::digest(&ring::digest::SHA256, &upstream.key).as_ref());
    let endpoint = lab.host(0).v4.to_string();
    let dns = format!("tls://{}#pin-sha256={hash}", outside.v4);
    let daemon = server.serve(&["--endpoint", &endpoint, "--domain", "vpn", "--dns-upstream", &dns]);
    let phone_file = server.output(&["peer", "add", "phone"]);
    let without_dns = phone_file.lines().filter(|line| !line.starts_with("DNS"));
    let (phone, _phone) = client(&lab, 1, &without_dns.collect::<Vec<_>>().join("\n"));
    let yes = Some((RCODE::NoError, vec![OUTSIDE.to_string()]));
    let asked = |name: &str| ask(&phone, SERVER, name, TYPE::A);

    // queries of many clients over one connection
    eventually("the first query", || asked("www.example.com") == yes);
    // the first one may have been asked twice
    let (connections, queries) = upstream.counts();
    let names: Vec<_> = (0..20).map(|number| format!("{number}.example.com")).collect();
    std::thread::scope(|scope| {
        let answers: Vec<_> = names.iter().map(|name| scope.spawn(|| asked(name))).collect();
        assert!(answers.into_iter().all(|answer| answer.join().unwrap() == yes));
    });
    assert_eq!(upstream.counts(), (connections, queries + 20));

    // a server that closes it after each answer: the next query works
    upstream.set_closing(true);
    for name in ["a.example.net", "b.example.net", "c.example.net"] {
        assert_eq!(asked(name), yes, "{name}");
    }
    upstream.set_closing(false);

    // the domain and the address are changed in the file: port 53 may not be opened any more
    let file = server.text();
    let changed = file.replace("ClientDomain = vpn", "ClientDomain = home");
    let changed = changed.replace("Address = 10.8.0.1/24", "Address = 10.8.0.1/24, 10.8.0.250/32");
    assert_ne!(changed, file);
    std::fs::write(server.file(), &changed).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("not answered at new addresses of the file: port 53 cannot be opened there: restart");
    eventually("the new domain", || {
        asked("phone.home") == Some((RCODE::NoError, vec!["10.8.0.2".to_owned()]))
    });
    // unless it is no privilege
    server.site.shell("echo 53 > /proc/sys/net/ipv4/ip_unprivileged_port_start");
    daemon.signal(Signal::SIGHUP);
    eventually("the new address", || ask(&phone, [10, 8, 0, 250], "www.example.com", TYPE::A) == yes);
    assert_eq!(asked("www.example.com"), yes);
    std::fs::write(server.file(), file.replace("ClientDomain = vpn", "ClientDomain = none")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("DNS queries of the peers are not answered any more");
    assert!(daemon.stop().status.success());

    // another key, and a certificate of nobody that is known
    let before = upstream.counts().1;
    let other = format!("tls://{}#pin-sha256={}", outside.v4, Base64::encode_string(&[1; 32]));
    let unknown = format!("tls://{}", outside.v4);
    for (dns, reason) in [(other, "its public key has the hash"), (unknown, "no known authority has signed")]
    {
        let daemon = server.serve(&["--domain", "vpn", "--dns-upstream", &dns]);
        daemon.wait_for("answering DNS queries");
        eventually("an answer", || asked("other.example.com") == Some((RCODE::ServerFailure, Vec::new())));
        let line = daemon.wait_for(reason);
        assert!(line.contains("names are not looked up there"), "{line}");
        if reason.starts_with("its") {
            assert!(line.contains(&hash), "{line}");
        }
        assert!(daemon.stop().status.success());
    }
    assert_eq!(upstream.counts().1, before, "nothing was asked");
    assert_eq!(plain.query_counts(), (0, 0), "never without encryption");
}
