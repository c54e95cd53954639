//! A name server over TLS, with a certificate of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::lab::Host;
use crate::wireguard::name_server::answer;

/// Port of DNS over TLS.
const PORT: u16 = 853;

/// The server's state.
#[derive(Debug)]
pub(crate) struct TlsNameServer {
    /// Its public key.
    pub(crate) key: Vec<u8>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    queries: AtomicUsize,
    /// True to close each connection after an answer.
    closes: AtomicBool,
}

impl TlsNameServer {
    /// Answers on `address` of `host` until the test process ends: every name has the one address
    /// `of_name`.
    pub(crate) fn start(host: &Host, address: impl Into<IpAddr>, of_name: Ipv4Addr) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let (config, listener) = (Arc::new(config), host.listen((address.into(), PORT)));
        let server = Self { key: key.subject_public_key_info(), counts: Arc::default() };
        let counts = Arc::clone(&server.counts);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (config, counts) = (Arc::clone(&config), Arc::clone(&counts));
                let connection = ServerConnection::new(config).unwrap();
                thread::spawn(move || serve(StreamOwned::new(connection, socket), &counts, of_name));
            }
        });
        server
    }

    /// Sets whether each connection is closed after an answer.
    pub(crate) fn set_closing(&self, closes: bool) {
        self.counts.closes.store(closes, Ordering::Relaxed);
    }

    /// Returns the number of connections and of queries so far.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let Counts { connections, queries, .. } = &*self.counts;
        (connections.load(Ordering::Relaxed), queries.load(Ordering::Relaxed))
    }
}

fn serve(mut stream: impl Read + Write, counts: &Counts, of_name: Ipv4Addr) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        counts.queries.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&query, of_name, false);
        let message = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        if stream.write_all(&message).is_err() || counts.closes.load(Ordering::Relaxed) {
            return;
        }
    }
}
