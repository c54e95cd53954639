//! A network's name server: over UDP, with the records of a test.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::lab::Host;

/// Length of the DNS header, before the question.
const HEADER: usize = 12;
/// Record types.
const A: [u8; 2] = [0, 1];
const AAAA: [u8; 2] = [0, 28];

/// Names and their addresses. `*` stands for all names that have none of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Records {
    /// Answers on `address` of `host` until the test process ends.
    pub(super) fn serve(host: &Host, address: IpAddr) -> Self {
        let socket = host.udp((address, 53));
        socket.set_read_timeout(None).unwrap();
        let records = Self::default();
        let served = records.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if length > HEADER {
                    let _ = socket.send_to(&served.answer(&query[..length]), from);
                }
            }
        });
        records
    }

    pub(super) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    /// Builds the response of RFC 1035, section 4.1: the question, followed by the records.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let question = &query[HEADER..];
        let (mut name, mut at) = (String::new(), 0);
        while question[at] != 0 {
            let length = usize::from(question[at]);
            name.push_str(&String::from_utf8_lossy(&question[at + 1..=at + length]));
            name.push('.');
            at += length + 1;
        }
        let kind = [question[at + 1], question[at + 2]];
        let records = self.0.lock().unwrap();
        let found = records.get(name.trim_end_matches('.')).or_else(|| records.get("*"));
        let of_kind = |address: &&IpAddr| kind == if address.is_ipv4() { A } else { AAAA };
        let addresses: Vec<_> = found.into_iter().flatten().filter(of_kind).collect();
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
        answer.extend(&question[..at + 5]);
        for address in addresses {
            answer.extend([0xc0, HEADER as u8, kind[0], kind[1], 0, 1, 0, 0, 0, 60]);
            match address {
                IpAddr::V4(v4) => answer.extend([&[0, 4][..], &v4.octets()].concat()),
                IpAddr::V6(v6) => answer.extend([&[0, 16][..], &v6.octets()].concat()),
            }
        }
        answer
    }
}
