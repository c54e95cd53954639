//! Docker's name server in a container, 127.0.0.11: a process of the host that answers on the
//! container's loopback device, and asks from the host.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Home, INSIDE, OUTSIDE, soon, stop};
use crate::waiting::uninterrupted;
use crate::wireguard::kill_switch::NEIGHBOUR_V4;
use crate::wireguard::pair::PORT;

const EMBEDDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Answers in the client's network namespace, on another port to which its packets are translated,
/// and asks the network's name server from the router. Returns the number of queries.
fn embedded_dns(home: &Home) -> Arc<AtomicUsize> {
    let client = home.client();
    let socket = client.udp((EMBEDDED, 40053));
    let upstream = home.stage.router.udp((Ipv4Addr::UNSPECIFIED, 0));
    client.shell(
        "nft 'table ip docker { chain out { type nat hook output priority -100; ip daddr 127.0.0.11 udp dport 53 \
         dnat to 127.0.0.11:40053; }; }'",
    );
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        socket.set_read_timeout(None).unwrap();
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            if let Some(length) = forward(&upstream, &mut buffer, length) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
    });
    asked
}

fn forward(upstream: &UdpSocket, buffer: &mut [u8], length: usize) -> Option<usize> {
    upstream.send_to(&buffer[..length], (NEIGHBOUR_V4, 53)).ok()?;
    upstream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    uninterrupted(|| upstream.recv_from(buffer)).ok().map(|(length, _)| length)
}

#[test]
fn it_does_not_lead_past_the_kill_switch() {
    let mut home = Home::with_mounted_file();
    let asked = embedded_dns(&home);
    let count = || asked.load(Ordering::Relaxed);
    home.write("nameserver 127.0.0.11\noptions timeout:1 attempts:1\n");
    assert_eq!(home.look_up("www.example.com"), Some(OUTSIDE));
    // the tunnel's own name is found with its help
    home.outside.set_address(home.stage.plan.server_site.v4);
    home.stage.plan.client.peers[0].endpoint = Some(format!("vpn.example.com:{PORT}"));
    home.stage.plan.client.dns.clear();
    let daemon = home.start(&["--kill-switch"]);
    assert!(soon(|| home.client().ping_once(INSIDE, 56)), "{:#?}", daemon.lines());
    assert!(count() > 1);
    let before = count();
    assert_eq!(home.look_up("www.example.com"), None, "a program's query left the container");
    assert_eq!(count(), before);
    stop(daemon);
    // unless that is wanted
    let daemon = home.start(&["--kill-switch", "--kill-switch-allow", "127.0.0.11"]);
    assert!(home.look_up("www.example.com").is_some());
    assert!(count() > before);
    stop(daemon);
    // with the tunnel's name servers nothing needs it
    home.stage.plan.client.dns = vec!["10.9.0.1".to_owned()];
    let daemon = home.start(&["--kill-switch"]);
    assert!(soon(|| home.client().ping_once(INSIDE, 56)), "{:#?}", daemon.lines());
    let before = count();
    assert_eq!(home.look_up("www.example.com"), Some(INSIDE));
    assert_eq!(count(), before);
    stop(daemon);
}
