//! Evaluates the rules of a server's file for one connection: the same for `wontun peer test` and
//! for the admin page.

use std::fmt;
use std::net::IpAddr;

use super::error::ServerError;
use super::server_file::ServerFile;
use crate::config::PeerPolicy;
use crate::config::access::{AccessRules, Connection, Decision, Host, Reason};
use crate::config::peer_settings::{Destination, PeerComment, Ports, Protocol, Target};
use crate::config::wg_quick::WgQuick;
use wontun_proto::allowed_ips::Prefix;

/// A connection of a peer.
#[derive(Clone, Debug)]
pub(crate) struct AccessQuery {
    /// The other end.
    pub target: Target,
    /// True if the other end opens it.
    pub from: bool,
    /// Policy for peers without rules; `None` for that of the file.
    pub policy: Option<PeerPolicy>,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// True if the connection is allowed.
    pub is_allowed: bool,
    /// The connection and the rule that decides, in one line.
    pub text: String,
}

/// Error of an evaluation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// The server's file cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The target is several hosts or ports.
    #[error(
        "cannot test '{0}': expected an address, a client's name or 'server', with ':PORT' and '/tcp' or '/udp'"
    )]
    NotOneHost(String),
    /// A protocol without its port.
    #[error("cannot test '{0}': expected a port, such as {0}:443")]
    WithoutPort(String),
    /// The two ends have no addresses of the same family.
    #[error("cannot test '{0}': the client and it have no addresses of the same family")]
    WithoutAddress(String),
}

/// Returns whether a connection of the peer with the index `number` is allowed, and by which rule;
/// `own` are the addresses of this host.
///
/// # Errors
/// [`AccessError`].
pub(crate) fn evaluate(
    file: &ServerFile,
    number: usize,
    query: &AccessQuery,
    mut own: Vec<IpAddr>,
) -> Result<Verdict, AccessError> {
    let peer = file.peer(number).ok_or_else(|| ServerError::Edit(file.path().to_owned()))?;
    let policy = query.policy.or(file.policy()?).unwrap_or_default();
    let dns = file.dns()?.map(|dns| dns.addresses().to_vec()).unwrap_or_default();
    let rules = AccessRules::of_file(file.configuration(), policy, &dns);
    own.extend(file.configuration().interface.addresses.iter().map(|cidr| cidr.address()));
    let (remotes, protocol, port) = remote(file, &query.target)?;
    let peer_addresses = || peer.peer.allowed_ips.iter().map(|prefix| prefix.network());
    let pair = remotes.iter().find_map(|remote| {
        let own = peer_addresses().find(|address| address.is_ipv6() == remote.is_ipv6())?;
        Some((own, *remote))
    });
    let (address, remote) = pair.ok_or_else(|| AccessError::WithoutAddress(query.target.to_string()))?;
    let host = |address| Host { address, is_server: own.contains(&address) };
    let (source, destination) = if query.from { (remote, address) } else { (address, remote) };
    let connection = Connection {
        source: host(source),
        destination: host(destination),
        protocol: protocol.number(remote.is_ipv6()),
        port,
        is_forwarded: false,
    };
    let decision = rules.explain(file.configuration(), &dns, &connection);
    let text = format(file, &connection, protocol, &decision);
    Ok(Verdict { is_allowed: decision.is_allowed, text })
}

/// Returns the addresses of the other end, and the protocol and port.
fn remote(file: &ServerFile, target: &Target) -> Result<(Vec<IpAddr>, Protocol, u16), AccessError> {
    let configuration = file.configuration();
    let addresses = match &target.destination {
        Destination::Network(network) if is_host(*network) => vec![network.network()],
        Destination::Server => configuration.interface.addresses.iter().map(|cidr| cidr.address()).collect(),
        Destination::Peer(name) => peer_addresses(configuration, name.as_str()),
        _ => return Err(AccessError::NotOneHost(target.to_string())),
    };
    let port = target.ports.map(Ports::range);
    match (target.protocol, port) {
        (_, Some(ports)) if ports.start() != ports.end() => Err(AccessError::NotOneHost(target.to_string())),
        (protocol, Some(ports)) => Ok((addresses, protocol.unwrap_or(Protocol::Tcp), *ports.start())),
        (None | Some(Protocol::Icmp), None) => Ok((addresses, Protocol::Icmp, 0)),
        (Some(_), None) => {
            Err(AccessError::WithoutPort(Target { protocol: None, ..target.clone() }.to_string()))
        }
    }
}

fn is_host(network: Prefix) -> bool {
    network.length() == if network.network().is_ipv4() { 32 } else { 128 }
}

fn peer_addresses(configuration: &WgQuick, name: &str) -> Vec<IpAddr> {
    let peers = configuration.peers.iter();
    let named = peers.filter(|peer| peer.name.as_ref().is_some_and(|own| own.as_str() == name));
    named.flat_map(|peer| &peer.allowed_ips).map(|prefix| prefix.network()).collect()
}

fn format(file: &ServerFile, connection: &Connection, protocol: Protocol, decision: &Decision) -> String {
    let verdict = if decision.is_allowed { "allowed" } else { "denied" };
    let port = Port { address: connection.destination.address, port: connection.port, protocol };
    let source = connection.source.address;
    format!("{verdict}: {source} to {port}: {}", Because(&decision.reason, file))
}

/// A destination as a target is written.
struct Port {
    address: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, self.address) {
            (Protocol::Icmp, address) => write!(f, "{address}/icmp"),
            (protocol, IpAddr::V4(address)) => write!(f, "{address}:{}/{protocol}", self.port),
            (protocol, IpAddr::V6(address)) => write!(f, "[{address}]:{}/{protocol}", self.port),
        }
    }
}

/// The rule that decides, in words.
struct Because<'a>(&'a Reason, &'a ServerFile);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reason::Entry { peer, key, target } => write!(f, "{key} of {peer} has {target}"),
            Reason::NoEntry { peer, key } => match self.entries(peer, *key) {
                Some(entries) => write!(f, "no entry of {key} = {entries} of {peer} matches"),
                None => write!(f, "no entry of {key} of {peer} matches"),
            },
            Reason::NoAllowFrom { peer } => {
                write!(f, "{peer} has rules, but no AllowFrom: nobody may open connections to it")
            }
            Reason::Invitation { peer } => {
                write!(f, "{peer} is an invitation, which reaches the process that enrols devices only")
            }
            Reason::Forward { peer, forward } => write!(f, "Forward of {peer} has {forward}"),
            Reason::Policy { peer: Some(peer), policy } => {
                write!(f, "the policy is {policy}, and {peer} has no rule for this")
            }
            Reason::Policy { peer: None, policy } => {
                write!(f, "the policy is {policy}, and no peer has the address")
            }
            Reason::NoPeer => f.write_str("neither end is a peer"),
        }
    }
}

impl Because<'_> {
    /// Returns the value of a comment of a peer.
    fn entries(&self, peer: &str, key: PeerComment) -> Option<String> {
        let found = self.1.peers().find(|found| found.name_or_key() == peer)?;
        found.peer.settings().get(key)
    }
}
