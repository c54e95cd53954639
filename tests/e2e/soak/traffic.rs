//! The traffic between the server and its clients: datagrams and a stream for each, in both
//! directions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::datagrams::Flow;
use super::streams::{Direction, Stream};
use super::{AGAIN, NAMES, SERVER};
use crate::lab::{Host, Lab};
use crate::waiting::holds_within;

/// Port of the first client's traffic, on both sides; each further client uses the next.
const PORT: u16 = 7000;

/// The traffic of all clients.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Both directions of each client.
    pub(super) flows: Vec<Flow>,
    pub(super) streams: Vec<Stream>,
    began: Instant,
}

impl Traffic {
    pub(super) fn new(began: Instant) -> Self {
        let way = |client: usize, way| Flow::new(format!("{} {way}", NAMES[client]), client, began);
        let flows = (0..NAMES.len()).flat_map(|client| ["up", "down"].map(|to| way(client, to))).collect();
        Self { flows, streams: NAMES.iter().map(|_| Stream::default()).collect(), began }
    }

    /// Starts sending, until `stop` is set, and receiving, until `closed` is. The clients are
    /// `inner` in the tunnel.
    pub(super) fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        lab: &'scope Lab,
        inner: &[IpAddr],
        [stop, closed]: [&'scope AtomicBool; 2],
    ) {
        for (client, address) in inner.iter().enumerate() {
            let port = PORT + client as u16;
            let [near, far] = [lab.host(client + 1), lab.server()].map(|host: &Host| {
                let socket = host.udp((Ipv4Addr::UNSPECIFIED, port));
                // the test's own threads may be delayed for long
                socket2::SockRef::from(&socket).set_recv_buffer_size(200 * 1024).unwrap();
                [socket.try_clone().unwrap(), socket]
            });
            let [up, down] = [&self.flows[2 * client], &self.flows[2 * client + 1]];
            let (to_server, to_client) = (SocketAddr::from((SERVER, port)), SocketAddr::new(*address, port));
            let ([near_out, near_in], [far_out, far_in]) = (near, far);
            scope.spawn(move || up.send(&near_out, to_server, stop));
            scope.spawn(move || down.send(&far_out, to_client, stop));
            scope.spawn(move || up.receive(&far_in, closed));
            scope.spawn(move || down.receive(&near_in, closed));
            let stream = &self.streams[client];
            scope.spawn(move || stream.run(lab.server(), to_server, lab.host(client + 1), stop));
        }
    }

    /// Waits until datagrams and stream bytes sent after `since` have arrived from and at each
    /// client, and returns the times. `event` is the preceding event.
    pub(super) fn await_again(&self, event: &str, since: Duration) -> (Duration, Duration) {
        let directions: Vec<&Direction> =
            self.streams.iter().flat_map(|stream| [&stream.up, &stream.down]).collect();
        let marks: Vec<u64> = directions.iter().map(|direction| direction.mark()).collect();
        let stuck =
            || directions.iter().zip(&marks).filter(|(direction, mark)| !direction.is_past(**mark)).count();
        let again = || -> Option<Duration> {
            let times: Option<Vec<_>> = self.flows.iter().map(|flow| flow.again(since)).collect();
            times?.into_iter().max()
        };
        let (mut datagrams, mut streams) = (None, None);
        let flows = holds_within(AGAIN, || {
            datagrams = datagrams.or_else(again);
            if streams.is_none() && stuck() == 0 {
                streams = Some(self.began.elapsed());
            }
            datagrams.is_some() && streams.is_some()
        });
        if !flows {
            let silent = self.flows.iter().filter(|flow| flow.again(since).is_none());
            let silent: Vec<_> = silent.map(|flow| &flow.name).collect();
            panic!(
                "{AGAIN:?} after {event}: no datagrams of {silent:?}, and {} ways of streams are stuck",
                stuck()
            );
        }
        (datagrams.unwrap(), streams.unwrap())
    }

    /// Returns the bytes that the streams have carried.
    pub(super) fn carried(&self) -> u64 {
        self.streams.iter().map(|stream| stream.up.received() + stream.down.received()).sum()
    }

    /// Returns the number of broken connections.
    pub(super) fn remade(&self) -> u64 {
        self.streams.iter().map(Stream::remade).sum()
    }
}
