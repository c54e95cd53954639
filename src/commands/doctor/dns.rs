//! The resolution of names: who manages /etc/resolv.conf, and whether the endpoints' names resolve.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::finding::Finding;
use super::subject::Subject;
use crate::config::PeerAddress;
use crate::config::wg_quick::{Peer, WgQuick};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Maximum number of names that are looked up, and of endpoints whose paths are looked at.
const MAX_LOOKED_AT: usize = 4;
/// Maximum time for a look-up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A program that manages resolv.conf.
struct Manager {
    /// Its name, as in the comment of a file that it writes.
    name: &'static str,
    /// Part of the path that /etc/resolv.conf links to.
    folder: &'static str,
}

const MANAGERS: [Manager; 5] = [
    Manager { name: "systemd-resolved", folder: "systemd/resolve" },
    Manager { name: "NetworkManager", folder: "NetworkManager" },
    Manager { name: "resolvconf", folder: "resolvconf" },
    Manager { name: "Docker Engine", folder: "/docker/" },
    Manager { name: "dhcpcd", folder: "/dhcpcd/" },
];

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
    let text = fs::read_to_string(RESOLV_CONF);
    let target = fs::read_link(RESOLV_CONF).ok();
    findings.push(match &text {
        Ok(text) => {
            let servers: Vec<_> = servers(text).collect();
            let manager = manager(target.as_deref(), text);
            if servers.is_empty() {
                Finding::warning(
                    "DNS",
                    format!("{RESOLV_CONF}, {manager}, names no server: then one on this host is asked"),
                )
            } else {
                Finding::ok("DNS", format!("{RESOLV_CONF}, {manager}, names {}", servers.join(", ")))
            }
        }
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

/// Returns the name servers of a resolv.conf.
fn servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())
    })
}

/// Returns the program that manages a resolv.conf, from the target of the link and the text.
fn manager(target: Option<&Path>, text: &str) -> String {
    let target = target.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
    let comments: String = text.lines().filter(|line| line.starts_with(['#', ';'])).collect();
    let linked = MANAGERS.iter().find(|manager| target.contains(manager.folder));
    let named = || MANAGERS.iter().find(|manager| comments.contains(manager.name));
    match (linked.or_else(named), target.as_str()) {
        (Some(manager), _) => format!("managed by {}", manager.name),
        (None, "") => "a file that no program manages".to_owned(),
        (None, target) => format!("a link to {target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_known_by_the_link_or_a_comment() {
        for (target, text, expected) in [
            ("../run/systemd/resolve/stub-resolv.conf", "", "managed by systemd-resolved"),
            ("/run/resolvconf/resolv.conf", "", "managed by resolvconf"),
            ("", "# Generated by NetworkManager\nnameserver 192.0.2.1\n", "managed by NetworkManager"),
            ("", "# Generated by Docker Engine.\nnameserver 127.0.0.11\n", "managed by Docker Engine"),
            ("", "nameserver 192.0.2.1\n", "a file that no program manages"),
            ("/mnt/resolv.conf", "", "a link to /mnt/resolv.conf"),
        ] {
            let target = Some(Path::new(target)).filter(|target| !target.as_os_str().is_empty());
            assert_eq!(manager(target, text), expected);
        }
        assert_eq!(
            servers("nameserver 192.0.2.1 # x\n#nameserver y\nnameserver\nsearch z\n").collect::<Vec<_>>(),
            ["192.0.2.1"]
        );
    }
}
