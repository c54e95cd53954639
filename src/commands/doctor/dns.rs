//! The resolution of names: who manages /etc/resolv.conf, and whether the endpoints' names resolve.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::endpoint::{MAX_LOOKED_AT, name};
use super::finding::Finding;
use super::network::path;
use super::subject::Subject;
use crate::commands::resolv_conf::{RESOLV_CONF, ResolvConf};
use crate::config::PeerAddress;

/// Maximum time for a look-up.
const TIMEOUT: Duration = Duration::from_secs(5);

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
        match look_up(host.clone(), port) {
            Ok(addresses) if addresses.is_empty() => {
                findings.push(Finding::problem("name", format!("{host} of {peer} has no address: correct Endpoint")));
            }
            Ok(addresses) => {
                let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                findings.push(Finding::ok("name", format!("{host} of {peer} is {}", shown.join(", "))));
                // the first is tried first
                findings.extend(addresses.first().and_then(|address| path(subject, &peer, address.ip())));
            }
            Err(error) => findings.push(Finding::problem(
                "name",
                format!(
                    "{host} of {peer} does not resolve ({error}): check the spelling, and the name servers; --resolver names another"
                ),
            )),
        }
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
