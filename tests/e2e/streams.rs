//! TCP streams of known bytes. The receiver compares every byte with the generator, which finds
//! more than a checksum would; the checksums of both sides are compared as well, in case the
//! generator is at fault.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::SockRef;

use crate::lab::Host;
use crate::waiting::{TIMEOUT, uninterrupted};

const BLOCK: usize = 64 * 1024;

/// Window that any host grants without privileges (`net.core.rmem_max`).
const WINDOW: usize = 200 * 1024;

/// A deterministic stream of bytes (xorshift64*), different for every seed.
#[derive(Debug)]
pub(crate) struct Pattern {
    state: u64,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.number().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Computes FNV-1a over 64-bit words: fast, and dependent on the order.
fn checksum(sum: u64, block: &[u8]) -> u64 {
    block.chunks(8).fold(sum, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Sends blocks of the pattern `seed` while `more(bytes sent)` holds, then ends this direction.
fn send(mut stream: &TcpStream, seed: u64, mut more: impl FnMut(u64) -> bool) -> (u64, u64) {
    let (mut pattern, mut block) = (Pattern::new(seed), vec![0; BLOCK]);
    let (mut sent, mut sum) = (0, 0);
    while more(sent) {
        pattern.fill(&mut block);
        stream
            .write_all(&block)
            .unwrap_or_else(|error| panic!("sending stalled after {sent} bytes: {error}"));
        sum = checksum(sum, &block);
        sent += block.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    (sent, sum)
}

/// Receives the pattern `seed` to its end, and compares.
fn receive(mut stream: &TcpStream, seed: u64) -> (u64, u64) {
    let (mut pattern, mut expected, mut block) = (Pattern::new(seed), vec![0; BLOCK], vec![0; BLOCK]);
    let (mut received, mut sum) = (0, 0);
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            let got = uninterrupted(|| stream.read(&mut block[filled..]))
                .unwrap_or_else(|error| panic!("receiving stalled after {received} bytes: {error}"));
            if got == 0 {
                break;
            }
            filled += got;
        }
        pattern.fill(&mut expected);
        assert!(block[..filled] == expected[..filled], "other bytes arrived after {received} bytes");
        sum = checksum(sum, &block[..filled]);
        received += filled as u64;
        if filled < BLOCK {
            return (received, sum);
        }
    }
}

/// A TCP connection through the tunnel: the server's end and the client's.
#[derive(Debug)]
pub(crate) struct Connection {
    server: TcpStream,
    client: TcpStream,
}

impl Connection {
    /// Connects from `client` to `address`, which is on `server`.
    pub(crate) fn open(server: &Host, address: impl Into<SocketAddr>, client: &Host) -> Self {
        let listener = server.listen(address);
        let client = client.connect(listener.local_addr().unwrap());
        let server = accept(&listener);
        for stream in [&server, &client] {
            // Three times TIMEOUT: retransmission timers back off to tens of seconds during a
            // flood.
            stream.set_read_timeout(Some(TIMEOUT * 3)).unwrap();
            stream.set_write_timeout(Some(TIMEOUT * 3)).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        Self { server, client }
    }

    /// Limits the bytes in flight to less than any queue of the tunnel holds.
    pub(crate) fn bound_windows(&self) {
        for stream in [&self.server, &self.client] {
            SockRef::from(stream).set_recv_buffer_size(WINDOW).unwrap();
        }
    }

    /// Sends `bytes` in each direction, both at once, and compares.
    pub(crate) fn exchange(&self, bytes: u64) {
        self.exchange_while(|sent| sent < bytes);
    }

    /// Sends data in both directions at once while `more(bytes sent so far)` holds. Returns the
    /// bytes of each direction.
    pub(crate) fn exchange_while(&self, more: impl Fn(u64) -> bool + Sync) -> (u64, u64) {
        thread::scope(|scope| {
            let up = scope.spawn(|| send(&self.client, 1, &more));
            let down = scope.spawn(|| send(&self.server, 2, &more));
            let at_server = scope.spawn(|| receive(&self.server, 1));
            let at_client = scope.spawn(|| receive(&self.client, 2));
            let (up, down) = (up.join().unwrap(), down.join().unwrap());
            assert_eq!(at_server.join().unwrap(), up, "bytes and checksum, client to server");
            assert_eq!(at_client.join().unwrap(), down, "bytes and checksum, server to client");
            (up.0, down.0)
        })
    }

    /// Sends a line in each direction and waits for it, to check that the connection works.
    pub(crate) fn say_hello(&self) {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            from.write_all(b"hello\n").unwrap();
            let mut line = [0; 6];
            to.read_exact(&mut line).unwrap_or_else(|error| panic!("the line did not arrive: {error}"));
            assert_eq!(&line, b"hello\n");
        }
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    crate::waiting::eventually("a connection arrives", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let stream = accepted.unwrap().0;
    stream.set_nonblocking(false).unwrap();
    stream
}
