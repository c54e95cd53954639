//! A name server that knows one name, over UDP and TCP.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use crate::lab::Host;

/// Length of the DNS header, before the question.
const HEADER: usize = 12;
/// Flags of a response, recursion desired and available; and the same with the truncation flag.
const RESPONSE: [u8; 2] = [0x81, 0x80];
const CUT: u8 = 0x02;

/// The address that the server returns, and its counts of queries.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameServer {
    address: Arc<AtomicU32>,
    udp: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
}

impl NameServer {
    /// Answers on `address` of `host` until the test process ends: every name has the one IPv4
    /// address `of_name`, and no IPv6 address. If `cut`, UDP responses are truncated and empty.
    pub(crate) fn start(host: &Host, address: impl Into<IpAddr>, of_name: Ipv4Addr, cut: bool) -> Self {
        let address = (address.into(), 53);
        let (udp, tcp) = (host.udp(address), host.listen(address));
        udp.set_read_timeout(None).unwrap();
        let server = Self::default();
        server.set_address(of_name);
        let [of_name, of_name_again] = [(); 2].map(|()| Arc::clone(&server.address));
        let (asked_udp, asked_tcp) = (Arc::clone(&server.udp), Arc::clone(&server.tcp));
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut query) {
                if length <= HEADER {
                    continue;
                }
                asked_udp.fetch_add(1, Ordering::Relaxed);
                let _ = udp.send_to(&answer(&query[..length], load(&of_name), cut), from);
            }
        });
        thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    asked_tcp.fetch_add(1, Ordering::Relaxed);
                    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                    if stream.read_exact(&mut query).is_err() {
                        break;
                    }
                    let answer = answer(&query, load(&of_name_again), false);
                    let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
                }
            }
        });
        server
    }

    /// Sets the address that every name resolves to.
    pub(crate) fn set_address(&self, of_name: Ipv4Addr) {
        self.address.store(of_name.to_bits(), Ordering::Relaxed);
    }

    /// Returns the number of queries over UDP and over TCP so far.
    pub(crate) fn query_counts(&self) -> (usize, usize) {
        (self.udp.load(Ordering::Relaxed), self.tcp.load(Ordering::Relaxed))
    }
}

fn load(address: &AtomicU32) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.load(Ordering::Relaxed))
}

/// Builds the response of RFC 1035, section 4.1: the question, followed by its record.
pub(crate) fn answer(query: &[u8], of_name: Ipv4Addr, cut: bool) -> Vec<u8> {
    let question = &query[HEADER..];
    // a name of labels, then type and class
    let name = question.iter().position(|byte| *byte == 0).unwrap() + 1;
    let question = &question[..name + 4];
    let is_for_v4 = question[name..name + 2] == [0, 1];
    let has_record = is_for_v4 && !cut;
    let mut answer = query[..2].to_vec();
    answer.extend([RESPONSE[0] | if cut { CUT } else { 0 }, RESPONSE[1]]);
    answer.extend([0, 1, 0, u8::from(has_record), 0, 0, 0, 0]);
    answer.extend(question);
    if has_record {
        // a pointer to the name, type A, class IN, a minute, four bytes
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(of_name.octets());
    }
    answer
}
