//! The peers as the supervisor knows them, from which its routes, its NAT and its DNS queries are
//! derived. All of it comes from the configuration and from wg(8), except for the peers' current
//! addresses, which the tunnel process reports.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::{PeerName, display_name};
use crate::logging::RateLimit;
use crate::uapi::{Changes, PeerChanges};
use wontun_proto::allowed_ips::{AllowedIps, Prefix};
use wontun_proto::wireguard::{PrivateKey, PublicKey};

/// Maximum number of addresses of one peer: a name may have several.
const MAX_ADDRESSES: usize = 16;
/// Minimum interval between two log lines of one kind about one peer.
const INTERVAL: Duration = Duration::from_secs(5);

/// All peers, the same ones that the tunnel process has.
#[derive(Debug)]
pub(super) struct Peers {
    /// Public key of the interface, which no peer has.
    interface_key: Option<PublicKey>,
    peers: BTreeMap<PublicKey, PeerState>,
    allowed_ips: AllowedIps<PublicKey>,
    /// Key of the fingerprints of settings, for the audit log.
    fingerprints: RandomState,
}

/// A peer.
#[derive(Debug)]
pub(super) struct PeerState {
    name: Option<PeerName>,
    /// Fingerprint of the endpoint that was configured last, if it was an address.
    endpoint: u64,
    /// Fingerprint of the preshared key, which the tunnel process alone keeps; 0 for none.
    preshared: u64,
    /// Persistent keepalive interval in seconds; 0 for off.
    keepalive: u16,
    /// Current or possible addresses: those of the configuration, those of its endpoint name, or
    /// the one shown by a completed handshake, if that is none of these.
    addresses: Vec<IpAddr>,
    /// Addresses of its endpoint name, as last answered.
    name_addresses: Vec<IpAddr>,
    /// Its endpoint, if one is configured: most peers of a server have none.
    native: Option<Box<NativeEndpoint>>,
    /// Host name and port of its endpoint, if it has a name.
    host: Option<(String, u16)>,
    /// Addresses of that name, until the tunnel process requests them.
    early_addresses: Option<Vec<SocketAddr>>,
    /// Rate limits of the log lines about unconfirmed and confirmed addresses that are routed into
    /// the tunnel, once there was one: few peers have any.
    address_logs: Option<Box<[RateLimit; 2]>>,
}

/// Settings of a peer that the audit log compares: fingerprints, since there may be many peers.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerRecord {
    pub(super) name: Option<PeerName>,
    pub(super) endpoint: u64,
    pub(super) preshared: u64,
    pub(super) allowed_ips: u64,
    /// Persistent keepalive interval in seconds; 0 for off.
    pub(super) keepalive: u16,
}

impl PeerRecord {
    /// Returns the names of the settings that differ, except for the name.
    pub(super) fn differences(&self, after: &Self) -> impl Iterator<Item = &'static str> {
        let fields = [
            (self.preshared != after.preshared, "preshared key"),
            (self.allowed_ips != after.allowed_ips, "allowed IPs"),
            (self.endpoint != after.endpoint, "endpoint"),
            (self.keepalive != after.keepalive, "keepalive"),
        ];
        fields.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name)
    }
}

/// A configured endpoint.
#[derive(Debug, Default)]
struct NativeEndpoint {
    /// Addresses, as configured or as answered for the name.
    addresses: Vec<SocketAddr>,
    /// True if it is reached by NAT64 instead.
    is_translated: bool,
    /// Address at which the last handshake was completed.
    reached: Option<IpAddr>,
}

impl PeerState {
    fn new() -> Self {
        Self {
            name: None,
            endpoint: 0,
            preshared: 0,
            keepalive: 0,
            addresses: Vec::new(),
            name_addresses: Vec::new(),
            native: None,
            host: None,
            early_addresses: None,
            address_logs: None,
        }
    }

    /// Returns its name for the log.
    pub(super) fn display_name(&self, key: &PublicKey) -> String {
        display_name(self.name.as_ref(), key)
    }

    /// Returns the rate limit of the log lines about a confirmed address, or an unconfirmed one,
    /// that is routed into the tunnel.
    pub(super) fn address_log(&mut self, is_confirmed: bool) -> &mut RateLimit {
        let new = || Box::new([RateLimit::new(INTERVAL), RateLimit::new(INTERVAL)]);
        let [unconfirmed, confirmed] = &mut **self.address_logs.get_or_insert_with(new);
        if is_confirmed { confirmed } else { unconfirmed }
    }

    /// Sets the address shown by a completed handshake. Those of its endpoint name are kept: they
    /// are tried when it does not answer. Returns false if that changes nothing.
    pub(super) fn set_address(&mut self, address: IpAddr) -> bool {
        let is_known = match self.host {
            Some(_) => self.addresses.contains(&address),
            None => self.addresses == [address],
        };
        if !is_known {
            self.set_addresses([address]);
        }
        !is_known
    }

    /// Sets the addresses of its endpoint name.
    pub(super) fn set_name_addresses(&mut self, addresses: &[SocketAddr]) {
        let native = addresses.iter().take(MAX_ADDRESSES).copied().collect();
        self.native.get_or_insert_default().addresses = native;
        self.set_addresses(addresses.iter().map(SocketAddr::ip));
        self.name_addresses.clone_from(&self.addresses);
    }

    /// Returns true if its endpoint is a host name.
    pub(super) const fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Returns true if `address` is one of its endpoint name.
    pub(super) fn is_name_address(&self, address: IpAddr) -> bool {
        self.host.is_some() && self.name_addresses.contains(&address)
    }

    /// Returns its current or possible addresses.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the addresses of its endpoint, as configured or as answered for its name.
    pub(super) fn native_addresses(&self) -> &[SocketAddr] {
        self.native.as_ref().map(|native| native.addresses.as_slice()).unwrap_or_default()
    }

    /// Returns true if it is reached by NAT64 instead.
    pub(super) fn is_translated(&self) -> bool {
        self.native.as_ref().is_some_and(|native| native.is_translated)
    }

    /// Records whether it is reached by NAT64.
    pub(super) fn set_translated(&mut self, is_translated: bool) {
        if let Some(native) = &mut self.native {
            native.is_translated = is_translated;
        }
    }

    /// Returns the address at which the last handshake was completed, unless NAT64 was used.
    pub(super) fn reached(&self) -> Option<IpAddr> {
        self.native.as_ref()?.reached
    }

    /// Records the address at which a handshake was completed.
    pub(super) fn set_reached(&mut self, address: IpAddr) {
        if let Some(native) = self.native.as_mut().filter(|native| !native.is_translated) {
            native.reached = Some(address);
        }
    }

    /// Sets its possible addresses.
    pub(super) fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
    }
}

impl Peers {
    pub(super) fn new() -> Self {
        Self {
            interface_key: None,
            peers: BTreeMap::new(),
            allowed_ips: AllowedIps::new(),
            fingerprints: RandomState::new(),
        }
    }

    /// Returns the number of peers.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns the keys of all peers.
    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.peers.keys()
    }

    /// Returns the peers that have a name, and their addresses within the tunnel.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, Vec<IpAddr>)> + '_ {
        let is_host = |prefix: &Prefix| prefix.length() == if prefix.network().is_ipv4() { 32 } else { 128 };
        self.peers.iter().filter_map(move |(key, peer)| {
            let hosts = self.allowed_ips.prefixes_of(*key).filter(is_host).map(Prefix::network);
            Some((peer.name.as_ref()?.as_str(), hosts.collect()))
        })
    }

    /// Returns the public key of the interface.
    pub(super) const fn interface_key(&self) -> Option<PublicKey> {
        self.interface_key
    }

    /// Returns the name of a peer for the log.
    pub(super) fn display_name(&self, key: &PublicKey) -> String {
        self.peers.get(key).map_or_else(|| display_name(None, key), |peer| peer.display_name(key))
    }

    /// Returns the settings of a peer, for the audit log.
    pub(super) fn record(&self, key: &PublicKey) -> Option<PeerRecord> {
        let peer = self.peers.get(key)?;
        let prefixes = self.allowed_ips.prefixes_of(*key).map(|prefix| self.fingerprints.hash_one(prefix));
        let host = peer.host.as_ref().map(|host| self.fingerprints.hash_one(host));
        Some(PeerRecord {
            name: peer.name.clone(),
            endpoint: host.unwrap_or(peer.endpoint),
            preshared: peer.preshared,
            // in any order
            allowed_ips: prefixes.fold(0, u64::wrapping_add),
            keepalive: peer.keepalive,
        })
    }

    /// Returns the peer with this key.
    pub(super) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut PeerState> {
        self.peers.get_mut(key)
    }

    /// Returns true if there is a peer with this key.
    pub(super) fn contains(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key)
    }

    /// Returns the peers whose endpoint is configured, and their current or possible addresses.
    pub(super) fn configured_addresses(&self) -> impl Iterator<Item = (&PublicKey, &[IpAddr])> + '_ {
        let configured = self.peers.iter().filter(|(_, peer)| !peer.native_addresses().is_empty());
        configured.map(|(key, peer)| (key, peer.addresses.as_slice()))
    }

    /// Returns the keys of the peers whose endpoint is configured.
    pub(super) fn with_native_addresses(&self) -> impl Iterator<Item = &PublicKey> + '_ {
        self.peers.iter().filter(|(_, peer)| !peer.native_addresses().is_empty()).map(|(key, _)| key)
    }

    /// Returns the networks of all peers, with the keys of the peers.
    pub(super) fn owned_prefixes(&self) -> impl Iterator<Item = (Prefix, PublicKey)> + '_ {
        self.allowed_ips.iter()
    }

    /// Returns the networks of all peers.
    pub(super) fn allowed_ips(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.allowed_ips.iter().map(|(prefix, _)| prefix)
    }

    /// Returns the current and possible addresses of all peers.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.peers.values().flat_map(|peer| peer.addresses.iter().copied())
    }

    /// Returns the host name and port of a peer's endpoint, if it has a name.
    pub(super) fn host(&self, key: &PublicKey) -> Option<(&str, u16)> {
        self.peers.get(key)?.host.as_ref().map(|(host, port)| (host.as_str(), *port))
    }

    /// Sets the host name and port of a peer's endpoint.
    pub(super) fn set_host(&mut self, key: &PublicKey, host: Option<(String, u16)>) {
        if let Some(peer) = self.peers.get_mut(key) {
            if peer.host != host {
                peer.native = None;
            }
            (peer.host, peer.early_addresses) = (host, None);
        }
    }

    /// Returns the peers whose endpoint is a host name, with its port.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&PublicKey, &str, u16)> + '_ {
        self.peers.iter().filter_map(|(key, peer)| {
            let (host, port) = peer.host.as_ref()?;
            Some((key, host.as_str(), *port))
        })
    }

    /// Stores the addresses of a peer's name before the tunnel process requests them.
    pub(super) fn store_early_addresses(&mut self, key: &PublicKey, addresses: Vec<SocketAddr>) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.set_name_addresses(&addresses);
            peer.early_addresses = Some(addresses);
        }
    }

    /// Returns the addresses stored by `store_early_addresses`, once.
    pub(super) fn take_early_addresses(&mut self, key: &PublicKey) -> Option<Vec<SocketAddr>> {
        self.peers.get_mut(key)?.early_addresses.take()
    }

    /// Returns true if any endpoint is a host name.
    pub(super) fn has_hosts(&self) -> bool {
        self.peers.values().any(|peer| peer.host.is_some())
    }

    /// Applies `changes` as the tunnel process does: in the same order, and ignoring the same
    /// peers.
    pub(super) fn apply(&mut self, changes: &Changes) {
        if let Some(private) = &changes.private_key {
            self.interface_key = private.as_ref().map(PrivateKey::public_key);
            if let Some(own) = self.interface_key {
                self.remove(&own);
            }
        }
        if changes.replace_peers {
            self.peers.clear();
            self.allowed_ips = AllowedIps::new();
        }
        for peer in &changes.peers {
            self.apply_to_peer(peer);
        }
    }

    fn apply_to_peer(&mut self, changes: &PeerChanges) {
        let key = changes.public_key;
        if changes.remove {
            self.remove(&key);
            return;
        }
        if self.interface_key == Some(key) || changes.update_only && !self.peers.contains_key(&key) {
            return;
        }
        let peer = self.peers.entry(key).or_insert_with(PeerState::new);
        if let Some(name) = &changes.name {
            peer.name.clone_from(name);
        }
        if let Some(endpoint) = changes.endpoint {
            (peer.host, peer.early_addresses) = (None, None);
            peer.endpoint = self.fingerprints.hash_one(endpoint);
            peer.addresses = vec![endpoint.ip()];
            peer.native = Some(Box::new(NativeEndpoint { addresses: vec![endpoint], ..Default::default() }));
        }
        if let Some(keepalive) = changes.persistent_keepalive {
            peer.keepalive = keepalive;
        }
        if let Some(preshared) = &changes.preshared_key {
            peer.preshared =
                if preshared.is_none() { 0 } else { self.fingerprints.hash_one(preshared.as_bytes()) };
        }
        if changes.replace_allowed_ips {
            self.allowed_ips.remove_peer(key);
        }
        for change in &changes.allowed_ips {
            if change.remove {
                self.allowed_ips.remove_if_owned(change.prefix, key);
            } else {
                self.allowed_ips.insert(change.prefix, key);
            }
        }
    }

    fn remove(&mut self, key: &PublicKey) {
        self.peers.remove(key);
        self.allowed_ips.remove_peer(*key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::AllowedIpChange;
    use wontun_proto::wireguard::PrivateKey;

    fn add(key: PublicKey, networks: &[&str]) -> PeerChanges {
        let allowed_ips = networks.iter().map(|network| {
            let cidr: crate::config::Cidr = network.parse().unwrap();
            AllowedIpChange { prefix: Prefix::new(cidr.address(), cidr.prefix()).unwrap(), remove: false }
        });
        PeerChanges { allowed_ips: allowed_ips.collect(), ..PeerChanges::new(key) }
    }

    fn networks(peers: &Peers) -> Vec<String> {
        let mut networks: Vec<_> = peers.allowed_ips().map(|prefix| prefix.to_string()).collect();
        networks.sort();
        networks
    }

    #[test]
    fn a_network_moves_with_the_peer_that_has_it_last() {
        let [a, b] = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        let mut peers = Peers::new();
        peers.apply(&Changes {
            peers: vec![add(a, &["10.0.0.0/8", "10.1.0.0/16"]), add(b, &["10.0.0.0/8"])],
            ..Changes::default()
        });
        assert_eq!(networks(&peers), ["10.0.0.0/8", "10.1.0.0/16"]);
        peers.apply(&Changes {
            peers: vec![PeerChanges { remove: true, ..PeerChanges::new(b) }],
            ..Changes::default()
        });
        assert_eq!(networks(&peers), ["10.1.0.0/16"]);
        peers.apply(&Changes { replace_peers: true, ..Changes::default() });
        assert_eq!((peers.len(), networks(&peers).len()), (0, 0));
    }

    #[test]
    fn a_peer_with_our_own_key_is_left_out() {
        let private = PrivateKey::from_bytes(&[7; 32]);
        let own = private.public_key();
        let mut peers = Peers::new();
        peers.apply(&Changes { peers: vec![add(own, &["0.0.0.0/0"])], ..Changes::default() });
        assert_eq!(peers.len(), 1);
        peers.apply(&Changes { private_key: Some(Some(private)), ..Changes::default() });
        assert_eq!((peers.len(), networks(&peers).len()), (0, 0));
        peers.apply(&Changes { peers: vec![add(own, &["0.0.0.0/0"])], ..Changes::default() });
        assert_eq!((peers.len(), networks(&peers).len()), (0, 0));
    }

    #[test]
    fn an_update_of_a_peer_that_is_gone_adds_none() {
        let key = PublicKey::from_bytes([1; 32]);
        let mut peers = Peers::new();
        let update = PeerChanges { update_only: true, ..add(key, &["10.0.0.0/8"]) };
        peers.apply(&Changes { peers: vec![update], ..Changes::default() });
        assert_eq!((peers.len(), networks(&peers).len()), (0, 0));
    }

    #[test]
    fn an_endpoint_is_an_address_or_a_name() {
        let key = PublicKey::from_bytes([1; 32]);
        let mut peers = Peers::new();
        peers.apply(&Changes { peers: vec![add(key, &[])], ..Changes::default() });
        peers.set_host(&key, Some(("vpn.example".to_owned(), 1)));
        assert!(peers.has_hosts() && peers.host(&key) == Some(("vpn.example", 1)));
        assert!(peers.hosts().eq([(&key, "vpn.example", 1)]));
        // early addresses are returned once, and are dropped when the name changes
        let address: SocketAddr = "192.0.2.7:1".parse().unwrap();
        peers.store_early_addresses(&key, vec![address]);
        assert!(peers.addresses().eq([address.ip()]));
        assert_eq!(
            (peers.take_early_addresses(&key), peers.take_early_addresses(&key)),
            (Some(vec![address]), None)
        );
        peers.store_early_addresses(&key, vec![address]);
        peers.set_host(&key, Some(("vpn.example.org".to_owned(), 1)));
        assert_eq!(peers.take_early_addresses(&key), None);
        let endpoint = "192.0.2.1:1".parse().ok();
        peers
            .apply(&Changes { peers: vec![PeerChanges { endpoint, ..add(key, &[]) }], ..Changes::default() });
        assert!(!peers.has_hosts() && peers.addresses().eq([IpAddr::from([192, 0, 2, 1])]));
    }
}
