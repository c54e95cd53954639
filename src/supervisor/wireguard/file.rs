//! The configuration file: what it wants of the tunnel at the start, and what is different when it is read again.

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use tracing::{info, warn};

use super::WireGuard;
use super::early::Found;
use super::kill_switch::EngagedKillSwitch;
use crate::config::wg_quick::{Hooks, KeySource, LoadError, Loaded, Peer, WgQuick, load, load_again};
use crate::config::{NatMode, PeerAddress, PeerPolicy};
use crate::control::uapi::{AllowedIpChange, Changes, PeerChanges};
use crate::link::Link;
use crate::messages::ToTunnel;
use crate::routing::Prefix;
use crate::sandbox;
use crate::supervisor::context::Context;
use crate::tunnel::wireguard::PublicKey;

/// Source of the configuration.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, which SIGHUP has us read again.
    File(Box<ConfigFile>),
    /// Whoever uses the socket.
    Socket,
}

/// The file, and what it said when it was last read.
#[derive(Debug)]
pub struct ConfigFile {
    /// Its path.
    pub path: PathBuf,
    /// Treatment of its hooks.
    pub hooks: Hooks,
    /// Its contents when it was last read.
    pub configuration: WgQuick,
    /// The files that keys came from.
    pub key_files: Vec<PathBuf>,
    /// Forwarding and NAT for the peers.
    pub nat: NatMode,
    /// Link-local networks that the peers may reach by address translation.
    pub nat_allow: Vec<Prefix>,
    /// The policy between the peers.
    pub policy: PeerPolicy,
    /// Questions to name servers may pass the tunnel by for a moment, where an endpoint's name is
    /// not answered otherwise.
    pub dns_bypass: bool,
    /// The kill switch, until the supervisor takes it.
    pub kill_switch: Option<EngagedKillSwitch>,
    /// Addresses of the peers' names, if they were looked up before the kill switch was engaged.
    pub(super) early: Option<Found>,
}

impl ConfigFile {
    /// Reads the file at `path`, and warns of what the user should know of it. Without address translation and kill
    /// switch, which are the caller's to add.
    ///
    /// # Errors
    /// [`LoadError`]: which file, and for a line of it what was expected.
    pub fn load(path: PathBuf, hooks: Hooks) -> Result<Self, LoadError> {
        let Loaded { configuration, warnings, key_files } = load(&path, hooks)?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        Ok(Self {
            path,
            hooks,
            configuration,
            key_files,
            nat: NatMode::Off,
            nat_allow: Vec::new(),
            policy: PeerPolicy::Open,
            dns_bypass: false,
            kill_switch: None,
            early: None,
        })
    }
}

impl Source {
    pub(super) fn configuration(&self) -> Option<&WgQuick> {
        match self {
            Self::File(file) => Some(&file.configuration),
            Self::Socket => None,
        }
    }

    /// Takes the addresses that were looked up before the kill switch was engaged.
    pub(super) fn take_early(&mut self) -> Option<Found> {
        match self {
            Self::File(file) => file.early.take(),
            Self::Socket => None,
        }
    }
}

/// Returns the changes that make an interface with the peers `present` one that is as `new` says. `old` is what the file said before:
/// where an endpoint or port is the same in both, the running tunnel's is kept, since peers roam.
pub(super) fn changes(new: &WgQuick, old: Option<&WgQuick>, present: &HashSet<PublicKey>) -> Changes {
    let interface = &new.interface;
    let wanted: HashSet<_> = new.peers.iter().map(|peer| peer.public_key).collect();
    let gone = present.difference(&wanted).map(|key| PeerChanges { remove: true, ..PeerChanges::new(*key) });
    let port = interface.listen_port;
    let known = by_key(old, present);
    let before = |peer: &Peer| known.get(&peer.public_key).copied();
    Changes {
        private_key: interface.private_key.inline().cloned().map(Some),
        listen_port: (old.is_none_or(|old| old.interface.listen_port != port))
            .then(|| port.map_or(0, NonZeroU16::get)),
        fwmark: Some(interface.fwmark.map_or(0, NonZeroU32::get)),
        kill_switch: None,
        replace_peers: false,
        peers: gone.chain(new.peers.iter().map(|peer| peer_changes(peer, before(peer)))).collect(),
    }
}

/// The peers in `old` that are `present`: one that wg(8) has removed meanwhile is as new as any.
fn by_key<'a>(old: Option<&'a WgQuick>, present: &'a HashSet<PublicKey>) -> HashMap<PublicKey, &'a Peer> {
    let peers = old.into_iter().flat_map(|old| &old.peers);
    peers.filter(|peer| present.contains(&peer.public_key)).map(|peer| (peer.public_key, peer)).collect()
}

fn peer_changes(peer: &Peer, old: Option<&Peer>) -> PeerChanges {
    let endpoint = match &peer.endpoint {
        Some(PeerAddress::Socket(address)) if is_new_endpoint(peer, old) => Some(*address),
        _ => None,
    };
    PeerChanges {
        name: Some(peer.name.clone()),
        preshared_key: Some(
            peer.preshared_key.as_ref().and_then(KeySource::inline).cloned().unwrap_or_default(),
        ),
        endpoint,
        persistent_keepalive: Some(peer.persistent_keepalive.map_or(0, NonZeroU16::get)),
        replace_allowed_ips: true,
        allowed_ips: peer
            .allowed_ips
            .iter()
            .map(|&prefix| AllowedIpChange { prefix, remove: false })
            .collect(),
        ..PeerChanges::new(peer.public_key)
    }
}

fn is_new_endpoint(peer: &Peer, old: Option<&Peer>) -> bool {
    old.is_none_or(|old| old.endpoint != peer.endpoint)
}

impl WireGuard {
    /// Takes the names of endpoints that are new in the file, and forgets those that are gone from
    /// it. Returns them as messages to the tunnel process, which are to follow the peers.
    pub(super) fn take_names(
        &mut self,
        new: &WgQuick,
        old: Option<&WgQuick>,
        present: &HashSet<PublicKey>,
    ) -> Vec<ToTunnel> {
        let known = by_key(old, present);
        let mut messages = Vec::new();
        for peer in &new.peers {
            let key = peer.public_key;
            if self.peers.get_mut(&key).is_none() {
                continue;
            }
            let name = match &peer.endpoint {
                Some(PeerAddress::Name { host, port }) => Some((host.clone(), *port)),
                Some(PeerAddress::Socket(_)) | None => None,
            };
            if name.is_some() && !is_new_endpoint(peer, known.get(&key).copied()) {
                continue;
            }
            if name.is_some() || self.peers.host(&key).is_some() {
                messages.push(ToTunnel::Name { peer: key, name: name.clone() });
            }
            self.peers.set_host(&key, name);
        }
        messages
    }

    /// Reads the file again and applies what is different; a file with an error changes nothing.
    pub(super) fn reload_file(&mut self, context: &mut Context) {
        let Source::File(file) = &self.source else {
            info!("SIGHUP: there is no file to read again, this tunnel is configured by wg(8)");
            return;
        };
        let Loaded { configuration: new, warnings, .. } = match load_again(&file.path, file.hooks) {
            Ok(loaded) => loaded,
            Err(error) => {
                warn!(%error, "the configuration is not read again, nothing was changed");
                if error.is_denied() && sandbox::is_engaged() {
                    warn!(
                        "the sandbox lets a running tunnel read its configuration's folder and the files with keys that \
                         were there when it was started: keep keys in that folder, or start wontun again"
                    );
                }
                context.reconciler.reload_error = Some(error.to_string());
                return;
            }
        };
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let old = file.configuration.clone();
        let present: HashSet<_> = self.peers.keys().copied().collect();
        let changes = changes(&new, Some(&old), &present);
        self.take_file(new);
        // the device comes before the routes, which need its IPv6
        if let Err(error) = self.apply(context, &changes) {
            warn!(%error, "the new configuration cannot be applied, nothing was changed");
            context.reconciler.reload_error = Some(error.to_string());
            self.take_file(old);
            return;
        }
        let mut names = Vec::new();
        if let Some(new) = self.source.configuration().cloned() {
            names = self.take_names(&new, Some(&old), &present);
            // no address is there before it is guarded
            self.update_guard();
            self.change_device(context, &new, &old);
        }
        self.update_firewall();
        self.warn_of_other_family();
        self.send_changes(context, changes);
        names.iter().for_each(|name| context.tunnel.send(name));
        info!(peers = self.peers.len(), "the configuration was read again");
    }

    fn take_file(&mut self, configuration: WgQuick) {
        if let Source::File(file) = &mut self.source {
            file.configuration = configuration;
        }
    }

    fn change_device(&mut self, context: &mut Context, new: &WgQuick, old: &WgQuick) {
        context.link.wanted_mtu = new.interface.mtu;
        let changed = new.interface.mtu != old.interface.mtu;
        let mtu = changed.then(|| mtu(&mut context.link.link, new, self.mark));
        // below 1280 bytes the device can neither be given IPv6 addresses nor be rid of them
        let grows = mtu.is_some_and(|mtu| mtu > context.link.mtu);
        if let Some(mtu) = mtu.filter(|_| grows) {
            change_mtu(context, mtu);
        }
        if new.interface.addresses != old.interface.addresses {
            change_addresses(context, new);
        }
        if let Some(mtu) = mtu.filter(|_| !grows) {
            change_mtu(context, mtu);
        }
        if self.routes.is_some() {
            self.update_routes(context);
        } else if let Err(error) = self.open_routes(context) {
            warn!(%error, "the routes of the new configuration are not set");
        }
    }
}

fn change_mtu(context: &mut Context, mtu: u32) {
    if context.link.away {
        // set when it comes back
        context.link.mtu = mtu;
        return;
    }
    if let Err(error) = context.link.link.set_mtu(mtu) {
        warn!(%error, "the device does not have the MTU of the new configuration");
    }
}

fn change_addresses(context: &mut Context, new: &WgQuick) {
    if context.link.away {
        context.link.link.want(&new.interface.addresses);
        return;
    }
    match context.link.link.replace_addresses(&new.interface.addresses) {
        Ok(configured) => context.link.warn_ipv6_disabled(&configured),
        Err(error) => warn!(%error, "the device does not have the addresses of the new configuration"),
    }
}

/// The MTU that the file says; else the largest with which a packet and its headers fit the routes to all endpoints that
/// are given as addresses; else what fits an Ethernet path.
pub(super) fn mtu(link: &mut Link, configuration: &WgQuick, mark: Option<NonZeroU32>) -> u32 {
    let interface = &configuration.interface;
    if let Some(mtu) = interface.mtu {
        return mtu;
    }
    let addresses = configuration.peers.iter().filter_map(|peer| match &peer.endpoint {
        Some(PeerAddress::Socket(address)) => Some(address.ip()),
        _ => None,
    });
    let least =
        if interface.addresses.iter().any(|cidr| cidr.address().is_ipv6()) { MIN_MTU_V6 } else { MIN_MTU_V4 };
    let paths = addresses.filter_map(|address| link.path_mtu(address, mark).ok().flatten());
    paths.min().map_or(DEFAULT_MTU, |path| path.saturating_sub(OVERHEAD).max(least))
}

/// Of a path of 1500 bytes.
pub(super) const DEFAULT_MTU: u32 = 1420;
/// Outer headers over IPv6: IP 40, UDP 8, data message 32.
const OVERHEAD: u32 = 80;
/// MTU that every host takes: RFC 8200, and RFC 791 for IPv4.
const MIN_MTU_V6: u32 = 1280;
const MIN_MTU_V4: u32 = 576;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wg_quick::parse;
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
        let same = changes(&old, Some(&old), &keys(&[ALICE]));
        assert_eq!((same.listen_port, same.peers[0].endpoint), (None, None));
        let new = file("ListenPort = 1001", &[(ALICE, "Endpoint = 192.0.2.1:2")]);
        let other = changes(&new, Some(&old), &keys(&[ALICE]));
        assert_eq!(other.listen_port, Some(1001));
        assert_eq!(other.peers[0].endpoint, Some("192.0.2.1:2".parse().unwrap()));
        let none = changes(&file("", &[]), Some(&old), &keys(&[ALICE]));
        assert_eq!(none.listen_port, Some(0), "any port");
        assert!(none.peers[0].remove);
    }

    #[test]
    fn peers_that_wg_added_go_and_those_that_it_removed_come_back_whole() {
        let old = file("", &[(ALICE, "Endpoint = 192.0.2.1:1")]);
        let changes = changes(&old, Some(&old), &keys(&[BOB]));
        let [bob, alice] = &changes.peers[..] else { panic!("{changes:?}") };
        assert!(bob.remove && bob.public_key.to_string() == BOB);
        assert_eq!(alice.endpoint, Some("192.0.2.1:1".parse().unwrap()));
    }
}
