//! The configuration file: the changes that it makes at the start and after a reload.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use tracing::warn;

use super::excluded::Excluded;
use super::kill_switch::EngagedKillSwitch;
use crate::config::wg_quick::{KeySource, LoadError, Loaded, Peer, ServerComments, WgQuick, load};
use crate::config::{FileOptions, PeerAddress, PeerPolicy};
use crate::netlink::Link;
use crate::uapi::{AllowedIpChange, Changes, PeerChanges};
use wontun_packet::ip;
use wontun_proto::wireguard::PublicKey;

/// Addresses of peers' host names.
pub(super) type ResolvedEndpoints = Vec<(PublicKey, Vec<SocketAddr>)>;

/// Source of the configuration.
#[derive(Debug)]
pub(super) enum ConfigSource {
    /// A file, which is reloaded upon SIGHUP.
    File(Box<ConfigFile>),
    /// Clients of the socket.
    Socket,
}

/// The configuration file and its contents when it was last read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Absolute path; `None` if it is not UTF-8 or has control characters.
    absolute_path: Option<String>,
    /// Options that it does not contain.
    pub options: FileOptions,
    /// Contents when it was last read.
    pub configuration: WgQuick,
    /// Files that keys were read from.
    pub key_files: Vec<PathBuf>,
    /// Settings of a server in comments of its file.
    pub(super) server: ServerComments,
    /// The kill switch, until the supervisor takes it.
    pub kill_switch: Option<EngagedKillSwitch>,
    /// Addresses of the peers' names, if they were looked up before the kill switch was engaged.
    pub(super) early_addresses: Option<ResolvedEndpoints>,
}

impl ConfigFile {
    /// Reads the file at `path`, and logs its warnings. The caller adds the kill switch.
    ///
    /// # Errors
    /// [`LoadError`]: the file, and for an error in a line what was expected.
    pub(crate) fn load(path: PathBuf, options: FileOptions) -> Result<Self, LoadError> {
        let Loaded { configuration, warnings, key_files, server } = load(&path, options.hooks)?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let absolute_path = std::path::absolute(&path).ok();
        let absolute_path = absolute_path.and_then(|path| path.into_os_string().into_string().ok());
        let absolute_path = absolute_path.filter(|path| !path.contains(|c: char| c.is_control()));
        Ok(Self {
            path,
            absolute_path,
            options,
            configuration,
            key_files,
            server,
            kill_switch: None,
            early_addresses: None,
        })
    }
}

impl ConfigFile {
    /// Returns the policy for peers without rules: that of the command line, or of the file.
    pub(super) fn policy(&self) -> PeerPolicy {
        self.options.policy.or(self.server.policy).unwrap_or_default()
    }
}

impl ConfigSource {
    /// Returns the file, if there is one.
    pub(super) fn file(&self) -> Option<&ConfigFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Socket => None,
        }
    }

    pub(super) fn configuration(&self) -> Option<&WgQuick> {
        match self {
            Self::File(file) => Some(&file.configuration),
            Self::Socket => None,
        }
    }

    /// Returns the port that clients connect to, if the file says it.
    pub(super) fn client_port(&self) -> Option<u16> {
        match self {
            Self::File(file) => file.server.client_port,
            Self::Socket => None,
        }
    }

    /// Returns the absolute path of the file, if it can be written in a line of an answer.
    pub(super) fn absolute_path(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.absolute_path.as_deref(),
            Self::Socket => None,
        }
    }

    /// Takes the addresses that were looked up before the kill switch was engaged.
    pub(super) fn take_early_addresses(&mut self) -> Option<ResolvedEndpoints> {
        match self {
            Self::File(file) => file.early_addresses.take(),
            Self::Socket => None,
        }
    }
}

/// Returns the changes that turn an interface with the peers `present` into that of `new`, without
/// the peers that are `excluded`. `old` is the previous contents of the file: if an endpoint or
/// port is the same in both, the running tunnel's is kept, since peers roam.
pub(super) fn changes(
    new: &WgQuick,
    old: Option<&WgQuick>,
    present: &HashSet<PublicKey>,
    excluded: &Excluded,
) -> Changes {
    let interface = &new.interface;
    let peers = || new.peers.iter().filter(|peer| !excluded.contains(&peer.public_key));
    let wanted: HashSet<_> = peers().map(|peer| peer.public_key).collect();
    let gone = present.difference(&wanted).map(|key| PeerChanges { remove: true, ..PeerChanges::new(*key) });
    let port = interface.listen_port;
    let known = by_key(old, present);
    let before = |peer: &Peer| known.get(&peer.public_key).copied();
    let replaced = old.map(|old| renewed(new, old)).unwrap_or_default();
    let changes = |peer: &Peer| PeerChanges {
        replaces: replaced.get(&peer.public_key).copied(),
        ..peer_changes(peer, before(peer))
    };
    // before the peers that they succeed are gone
    let (renewed, others): (Vec<_>, Vec<_>) = peers().map(changes).partition(|peer| peer.replaces.is_some());
    Changes {
        private_key: interface.private_key.inline().cloned().map(Some),
        listen_port: (old.is_none_or(|old| old.interface.listen_port != port))
            .then(|| port.map_or(0, NonZeroU16::get)),
        fwmark: Some(interface.fwmark.map_or(0, NonZeroU32::get)),
        kill_switch: None,
        replace_peers: false,
        peers: renewed.into_iter().chain(gone).chain(others).collect(),
    }
}

/// Returns the peers of `new` that have other keys than in `old`, by their names: each new key with
/// the old one.
pub(super) fn renewed(new: &WgQuick, old: &WgQuick) -> HashMap<PublicKey, PublicKey> {
    let keys: HashSet<_> = new.peers.iter().map(|peer| peer.public_key).collect();
    let gone = old.peers.iter().filter(|peer| !keys.contains(&peer.public_key));
    let gone: HashMap<_, _> = gone.filter_map(|peer| Some((peer.name.as_ref()?, peer.public_key))).collect();
    if gone.is_empty() {
        return HashMap::new();
    }
    let known: HashSet<_> = old.peers.iter().map(|peer| peer.public_key).collect();
    let added = new.peers.iter().filter(|peer| !known.contains(&peer.public_key));
    added.filter_map(|peer| Some((peer.public_key, *gone.get(peer.name.as_ref()?)?))).collect()
}

/// Returns the peers of `old` that are `present`: a peer that wg(8) has removed meanwhile is
/// treated as new.
pub(super) fn by_key<'a>(
    old: Option<&'a WgQuick>,
    present: &'a HashSet<PublicKey>,
) -> HashMap<PublicKey, &'a Peer> {
    let peers = old.into_iter().flat_map(|old| &old.peers);
    peers.filter(|peer| present.contains(&peer.public_key)).map(|peer| (peer.public_key, peer)).collect()
}

/// Returns the changes that make a peer that of the file, which was `old` before.
pub(super) fn peer_changes(peer: &Peer, old: Option<&Peer>) -> PeerChanges {
    let endpoint = match &peer.endpoint {
        Some(PeerAddress::Socket(address)) if is_new_endpoint(peer, old) => Some(*address),
        _ => None,
    };
    PeerChanges {
        name: Some(peer.name.clone()),
        limits: Some(Box::new(peer.settings().limits)),
        preshared_key: Some(
            peer.preshared_key.as_ref().and_then(KeySource::inline).cloned().unwrap_or_default(),
        ),
        endpoint,
        persistent_keepalive: Some(peer.persistent_keepalive.map_or(0, NonZeroU16::get)),
        replace_allowed_ips: true,
        allowed_ips: peer
            .tunnel_networks()
            .into_iter()
            .map(|prefix| AllowedIpChange { prefix, remove: false })
            .collect(),
        ..PeerChanges::new(peer.public_key)
    }
}

pub(super) fn is_new_endpoint(peer: &Peer, old: Option<&Peer>) -> bool {
    old.is_none_or(|old| old.endpoint != peer.endpoint)
}

/// Returns the MTU: the configured one; else the largest with which a packet and its headers fit
/// the routes to all endpoints that are given as addresses; else the one for an Ethernet path.
pub(super) fn mtu(link: &mut Link, configuration: &WgQuick, mark: Option<NonZeroU32>) -> u32 {
    let interface = &configuration.interface;
    if let Some(mtu) = interface.mtu {
        return mtu;
    }
    let addresses = configuration.peers.iter().filter_map(|peer| match &peer.endpoint {
        Some(PeerAddress::Socket(address)) => Some(address.ip()),
        _ => None,
    });
    let least = if interface.addresses.iter().any(|cidr| cidr.address().is_ipv6()) {
        ip::IPV6_MIN_MTU
    } else {
        IPV4_MIN_REASSEMBLY
    };
    let paths = addresses.filter_map(|address| link.path_mtu(address, mark).ok().flatten());
    paths.min().map_or(DEFAULT_MTU, |path| path.saturating_sub(OVERHEAD).max(least))
}

/// MTU for a path of 1500 bytes.
pub(super) const DEFAULT_MTU: u32 = 1420;
/// Outer headers over IPv6: IP 40, UDP 8, data message 32.
const OVERHEAD: u32 = 80;
/// Length of the packets that every IPv4 host can reassemble (RFC 791).
const IPV4_MIN_REASSEMBLY: u32 = 576;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wg_quick::{Hooks, parse};
    use std::path::Path;

    /// RFC 7748, section 6.1.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const ALICE: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    const BOB: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

    fn file(interface: &str, peers: &[(&str, &str)]) -> WgQuick {
        let mut text = format!("[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n");
        for (key, lines) in peers {
            text += &format!("[Peer]\nPublicKey = {key}\n{lines}\n");
        }
        parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap().configuration
    }

    fn keys(keys: &[&str]) -> HashSet<PublicKey> {
        keys.iter().map(|key| key.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_as_before_in_the_file_stays_as_it_is_in_the_tunnel() {
        let old = file("ListenPort = 1000", &[(ALICE, "Endpoint = 192.0.2.1:1")]);
        let same = changes(&old, Some(&old), &keys(&[ALICE]), &Excluded::default());
        assert_eq!((same.listen_port, same.peers[0].endpoint), (None, None));
        let new = file("ListenPort = 1001", &[(ALICE, "Endpoint = 192.0.2.1:2")]);
        let other = changes(&new, Some(&old), &keys(&[ALICE]), &Excluded::default());
        assert_eq!(other.listen_port, Some(1001));
        assert_eq!(other.peers[0].endpoint, Some("192.0.2.1:2".parse().unwrap()));
        let none = changes(&file("", &[]), Some(&old), &keys(&[ALICE]), &Excluded::default());
        assert_eq!(none.listen_port, Some(0), "any port");
        assert!(none.peers[0].remove);
    }

    #[test]
    fn peers_that_wg_added_go_and_those_that_it_removed_come_back_whole() {
        let old = file("", &[(ALICE, "Endpoint = 192.0.2.1:1")]);
        let changes = changes(&old, Some(&old), &keys(&[BOB]), &Excluded::default());
        let [bob, alice] = &changes.peers[..] else { panic!("{changes:?}") };
        assert!(bob.remove && bob.public_key.to_string() == BOB);
        assert_eq!(alice.endpoint, Some("192.0.2.1:1".parse().unwrap()));
    }
}
