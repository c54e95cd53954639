//! Implements `wontun peer test`.

use std::fmt;
use std::net::IpAddr;

use super::print;
use crate::cli::TestOptions;
use crate::commands::error::CommandError;
use crate::config::access::{AccessRules, Connection, Decision, Host, Reason};
use crate::config::peer_settings::{Destination, PeerComment, Ports, Protocol, Target};
use crate::config::wg_quick::WgQuick;
use crate::netlink::local_addresses;
use crate::server::{Folder, ServerFile};
use wontun_proto::allowed_ips::Prefix;

/// Prints whether a connection of a peer, given by its name or public key, is allowed, and by which
/// rule. Returns false if it is denied.
///
/// # Errors
/// [`CommandError`]: there is no such peer or host, the file cannot be read, or the output cannot be
/// written.
pub(crate) fn test_peer(folder: &Folder, wanted: &str, options: &TestOptions) -> Result<bool, CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peer(number) else { return Ok(true) };
    let policy = options.policy.or(file.policy()?).unwrap_or_default();
    let dns = file.dns()?.map(|dns| dns.addresses().to_vec()).unwrap_or_default();
    let rules = AccessRules::of_file(file.configuration(), policy, &dns);
    // without netlink, only the addresses of the file are known to be the server's
    let mut own = local_addresses().unwrap_or_default();
    own.extend(file.configuration().interface.addresses.iter().map(|cidr| cidr.address()));
    let (remotes, protocol, port) = remote(&file, &options.target)?;
    let peer_addresses = || peer.peer.allowed_ips.iter().map(|prefix| prefix.network());
    let pair = remotes.iter().find_map(|remote| {
        let own = peer_addresses().find(|address| address.is_ipv6() == remote.is_ipv6())?;
        Some((own, *remote))
    });
    let (address, remote) =
        pair.ok_or_else(|| CommandError::TestWithoutAddress(options.target.to_string()))?;
    let host = |address| Host { address, is_server: own.contains(&address) };
    let (source, destination) = if options.from { (remote, address) } else { (address, remote) };
    let connection = Connection {
        source: host(source),
        destination: host(destination),
        protocol: protocol.number(remote.is_ipv6()),
        port,
        is_forwarded: false,
    };
    let decision = rules.explain(file.configuration(), &dns, &connection);
    print(&format(&file, &connection, protocol, &decision))?;
    Ok(decision.is_allowed)
}

/// Returns the addresses of the other end, and the protocol and port.
fn remote(file: &ServerFile, target: &Target) -> Result<(Vec<IpAddr>, Protocol, u16), CommandError> {
    let configuration = file.configuration();
    let addresses = match &target.destination {
        Destination::Network(network) if is_host(*network) => vec![network.network()],
        Destination::Server => configuration.interface.addresses.iter().map(|cidr| cidr.address()).collect(),
        Destination::Peer(name) => peer_addresses(configuration, name.as_str()),
        _ => return Err(CommandError::NotOneHost(target.to_string())),
    };
    let port = target.ports.map(Ports::range);
    match (target.protocol, port) {
        (_, Some(ports)) if ports.start() != ports.end() => Err(CommandError::NotOneHost(target.to_string())),
        (protocol, Some(ports)) => Ok((addresses, protocol.unwrap_or(Protocol::Tcp), *ports.start())),
        (None | Some(Protocol::Icmp), None) => Ok((addresses, Protocol::Icmp, 0)),
        (Some(_), None) => {
            Err(CommandError::TestWithoutPort(Target { protocol: None, ..target.clone() }.to_string()))
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
    format!("{verdict}: {source} to {port}: {}\n", Because(&decision.reason, file))
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
