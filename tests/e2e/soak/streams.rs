//! A TCP connection of each client with the server, with known bytes in both directions at a steady
//! rate, for the whole soak. A broken connection is opened again, as a program would do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::AGAIN;
use crate::lab::Host;
use crate::streams::Pattern;
use crate::waiting::uninterrupted;

const BLOCK: usize = 16 * 1024;
/// Interval between two blocks: a rate that fills neither a queue nor a core.
const PACE: Duration = Duration::from_millis(25);
/// Less than any queue of the tunnel holds, for all streams together.
const WINDOW: usize = 100 * 1024;

/// Bytes of one direction, over all connections.
#[derive(Debug, Default)]
pub(super) struct Direction {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Direction {
    /// Returns a mark: the stream flows again once bytes sent later have arrived.
    pub(super) fn mark(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn is_past(&self, mark: u64) -> bool {
        self.received() > mark
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Discounts the bytes in flight when a connection broke.
    fn forget_lost(&self) {
        self.received.store(self.mark(), Ordering::Relaxed);
    }
}

/// The stream of one client.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) up: Direction,
    pub(super) down: Direction,
    remade: AtomicU64,
}

impl Stream {
    /// Returns the number of times the connection broke.
    pub(super) fn remade(&self) -> u64 {
        self.remade.load(Ordering::Relaxed)
    }

    /// Keeps a connection from `client` to `address` on `server` until `stop` is set. Then all sent
    /// bytes must have arrived.
    pub(super) fn run(&self, server: &Host, address: SocketAddr, client: &Host, stop: &AtomicBool) {
        let listener = server.listen((std::net::Ipv4Addr::UNSPECIFIED, address.port()));
        listener.set_nonblocking(true).unwrap();
        let mut seed = u64::from(address.port());
        while !stop.load(Ordering::Relaxed) {
            seed += 2;
            let Some([near, far]) = connect(&listener, address, client) else {
                thread::sleep(PACE);
                continue;
            };
            let all = thread::scope(|scope| {
                let directions = [
                    scope.spawn(|| send(&near, &self.up, seed, stop)),
                    scope.spawn(|| receive(&far, &self.up, seed)),
                    scope.spawn(|| send(&far, &self.down, seed + 1, stop)),
                    scope.spawn(|| receive(&near, &self.down, seed + 1)),
                ];
                directions.map(|direction| {
                    direction.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            });
            match all {
                [Ok(up), Ok(at_server), Ok(down), Ok(at_client)] => {
                    assert_eq!((up, down), (at_server, at_client), "bytes of the stream to {address}");
                }
                broken => {
                    eprintln!("soak: the stream to {address} broke: {broken:?}");
                    self.remade.fetch_add(1, Ordering::Relaxed);
                    self.up.forget_lost();
                    self.down.forget_lost();
                }
            }
        }
    }
}

fn connect(listener: &TcpListener, address: SocketAddr, client: &Host) -> Option<[TcpStream; 2]> {
    let near = client.inside(|| TcpStream::connect_timeout(&address, AGAIN)).ok()?;
    let start = Instant::now();
    let far = loop {
        match listener.accept() {
            // an attempt that the client gave up may have come first
            Ok((far, from)) if from.port() == near.local_addr().ok()?.port() => break far,
            Ok(_) => {}
            Err(_) if start.elapsed() < AGAIN => thread::sleep(PACE),
            Err(_) => return None,
        }
    };
    for stream in [&near, &far] {
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(AGAIN)).ok()?;
        stream.set_write_timeout(Some(AGAIN)).ok()?;
        SockRef::from(stream).set_recv_buffer_size(WINDOW).ok()?;
    }
    Some([near, far])
}

/// Shuts the connection down for all of its threads if one of them has failed.
fn or_end<T>(stream: &TcpStream, result: io::Result<T>) -> io::Result<T> {
    if result.is_err() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    result
}

fn send(mut stream: &TcpStream, direction: &Direction, seed: u64, stop: &AtomicBool) -> io::Result<u64> {
    let (mut pattern, mut block, mut sent) = (Pattern::new(seed), vec![0; BLOCK], 0);
    while !stop.load(Ordering::Relaxed) {
        pattern.fill(&mut block);
        or_end(stream, stream.write_all(&block))?;
        sent += BLOCK as u64;
        direction.sent.fetch_add(BLOCK as u64, Ordering::Relaxed);
        thread::sleep(PACE);
    }
    or_end(stream, stream.shutdown(Shutdown::Write)).map(|()| sent)
}

fn receive(mut stream: &TcpStream, direction: &Direction, seed: u64) -> io::Result<u64> {
    let (mut pattern, mut expected, mut block) = (Pattern::new(seed), vec![0; BLOCK], vec![0; BLOCK]);
    let mut received = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            let got = or_end(stream, uninterrupted(|| stream.read(&mut block[filled..])))?;
            if got == 0 {
                // the sender sends whole blocks
                return if filled == 0 { Ok(received) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            filled += got;
        }
        pattern.fill(&mut expected);
        assert!(block == expected, "other bytes arrived after {received} bytes");
        received += BLOCK as u64;
        direction.received.fetch_add(BLOCK as u64, Ordering::Relaxed);
    }
}
