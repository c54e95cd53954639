//! The resolution of names: who manages /etc/resolv.conf, and whether the endpoints' names resolve.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::finding::Finding;
use super::subject::Subject;
use crate::commands::resolv_conf::{RESOLV_CONF, ResolvConf};
use crate::config::PeerAddress;
use crate::config::wg_quick::{Peer, WgQuick};

/// Maximum number of names that are looked up, and of endpoints whose paths are looked at.
const MAX_LOOKED_AT: usize = 4;
/// Maximum time for a look-up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The address of a peer.
pub(super) struct Endpoint {
    /// Name of the peer, or its public key.
    pub(super) peer: String,
    pub(super) address: IpAddr,
}

/// Returns the endpoints that are addresses, the first few.
pub(super) fn endpoints(configuration: Option<&WgQuick>) -> Vec<Endpoint> {
    let peers = configuration.into_iter().flat_map(|configuration| &configuration.peers);
    let endpoint = |peer: &Peer| match &peer.endpoint {
        Some(PeerAddress::Socket(address)) => Some(Endpoint { peer: name(peer), address: address.ip() }),
        _ => None,
    };
    peers.filter_map(endpoint).take(MAX_LOOKED_AT).collect()
}

fn name(peer: &Peer) -> String {
    peer.name.as_ref().map_or_else(|| peer.public_key.to_string(), ToString::to_string)
}

pub(super) fn look(subject: &Subject, findings: &mut Vec<Finding>) {
    findings.push(match ResolvConf::read() {
        Ok(conf) if conf.servers.is_empty() => Finding::warning("DNS", conf),
        Ok(conf) => Finding::ok("DNS", conf),
        Err(error) => Finding::problem(
            "DNS",
            format!("{RESOLV_CONF} cannot be read: {error}: write the address of a name server into it"),
        ),
    });
    let peers = subject.configuration.iter().flat_map(|configuration| &configuration.peers);
    let hosts = peers.filter_map(|peer| match &peer.endpoint {
        Some(PeerAddress::Name { host, port }) => Some((name(peer), host.to_string(), *port)),
        _ => None,
    });
    for (peer, host, port) in hosts.take(MAX_LOOKED_AT) {
        findings.push(match look_up(host.clone(), port) {
            Ok(addresses) if addresses.is_empty() => {
                Finding::problem("name", format!("{host} of {peer} has no address: correct Endpoint"))
            }
            Ok(addresses) => {
                let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                Finding::ok("name", format!("{host} of {peer} is {}", shown.join(", ")))
            }
            Err(error) => Finding::problem(
                "name",
                format!("{host} of {peer} does not resolve ({error}): check the spelling, and the name servers; --resolver names another"),
            ),
        });
    }
}

/// Looks up a name by the system's resolver.
fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (sender, answer) = mpsc::channel();
    // the thread ends with the process, if the resolver does not answer
    thread::Builder::new().spawn(move || {
        let result = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        let _ = sender.send(result);
    })?;
    answer.recv_timeout(TIMEOUT).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
