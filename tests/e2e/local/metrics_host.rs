//! DNS rebinding: a web page under a name that resolves to the metrics' address reads nothing.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::daemon::Daemon;
use crate::lab::{Host, Lab};
use crate::waiting::TIMEOUT;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9586);

/// Returns the answer to a request with these fields, as a browser on `host` would send it.
fn ask(host: &Host, fields: &str) -> String {
    let mut stream = host.inside(|| TcpStream::connect_timeout(&ADDRESS, TIMEOUT)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_for_addresses_and_for_names_that_are_allowed() {
    let lab = Lab::new(2);
    let host = lab.server();
    let args = ["--metrics", "127.0.0.1:9586", "--metrics-host", "vpn.example,metrics.example"];
    let _server = Daemon::server(host, &args);
    for (fields, status) in [
        ("Host: rebound.example:9586\r\n", 421),
        ("Host: rebound.example\r\n", 421),
        ("Host: vpn.example.rebound.example\r\n", 421),
        ("", 400),
        ("Host: 127.0.0.1\r\nHost: rebound.example\r\n", 400),
        ("Host: 127.0.0.1:9586\r\n", 200),
        ("Host: localhost:9586\r\n", 200),
        ("Host: [::1]:9586\r\n", 200),
        ("Host: VPN.example:9586\r\n", 200),
        ("Host: metrics.example\r\n", 200),
    ] {
        let answer = ask(host, fields);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields:?}: {answer:.300}");
        assert_eq!(answer.contains("wontun_build_info"), status == 200, "{fields:?}: {answer:.300}");
    }
}
