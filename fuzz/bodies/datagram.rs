//! The path of a datagram through the plain engine, driven by a script of bytes. Shared by the
//! fuzzer and by the ordinary test that replays its corpus.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wontun::counters::{Counters, Totals};
use wontun_packet::ip;
use wontun_proto::plain::{Datagram, HELLO, Plain, Role};
use wontun_proto::time::Instant;

/// Takes bytes off the script; zeros when it has ended.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()) * 8 + usize::from(self.byte() & 7);
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Returns one of four addresses, two of which share a host: the peer, its new port, two unknown
/// sources.
fn address(choice: u8) -> SocketAddr {
    let host = Ipv4Addr::new(192, 0, 2, [2, 2, 3, 4][usize::from(choice & 3)]);
    SocketAddr::new(host.into(), 19_988 + u16::from(choice & 1))
}

/// Runs one script.
///
/// # Panics
/// If the engine violates an invariant.
pub(crate) fn run(script: &[u8]) {
    let mut script = Script(script);
    let role = if script.byte() & 1 == 0 { Role::Server } else { Role::Client };
    let keepalive = Duration::from_secs(script.byte().into());
    let mut engine = Plain::new(role, keepalive);
    let counters = Counters::default();
    let mut now = Instant::from_boot(Duration::from_secs(1));
    if role == Role::Client {
        engine.set_peer(address(0), now);
    }
    while !script.0.is_empty() {
        let step = script.byte();
        let from = address(step >> 3);
        match step & 7 {
            0..=2 => {
                let datagram = if step & 7 == 0 { HELLO } else { script.bytes() };
                let peer = engine.peer();
                match engine.handle_datagram(from, datagram, now) {
                    Ok(Datagram::Packet) => {
                        assert!(ip::validate(datagram).is_some(), "only packets reach the tun");
                        assert_eq!(peer, Some(from), "and only the peer's");
                        counters.count_rx(1, datagram.len());
                    }
                    Ok(Datagram::Hello) => assert_eq!((peer, datagram), (Some(from), HELLO)),
                    Ok(Datagram::NewPeer) => {
                        assert_eq!((role, datagram), (Role::Server, HELLO));
                        assert_ne!(peer, Some(from));
                        engine.set_peer(from, now);
                    }
                    Err(reason) => counters.count_drops(reason, 1),
                }
            }
            3 => {
                let packet = script.bytes();
                match engine.handle_packet(packet, now) {
                    Ok(()) => assert!(engine.peer().is_some() && ip::validate(packet).is_some()),
                    Err(reason) => counters.count_drops(reason, 1),
                }
            }
            4 => engine.handle_refused(now),
            5 => now = now + Duration::from_millis(u64::from(script.byte()) * 100),
            6 => now = now + Duration::from_secs(u64::from(script.byte())),
            _ => now = engine.poll_timeout().map_or(now, |due| due.max(now)),
        }
        engine.handle_timeout(now);
        let hello = engine.poll_transmit();
        assert!(hello.is_none() || (role == Role::Client && hello == Some(HELLO)), "a server is silent");
        assert!(engine.poll_transmit().is_none(), "one hello at a time");
        while engine.poll_event().is_some() {}
        assert!(engine.poll_timeout().is_none_or(|due| due > now), "what was due is done");
    }
    let mut totals = Totals::default();
    totals.add(&counters);
    let _ = totals.drop_summary().to_string();
}
