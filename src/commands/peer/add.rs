//! Implements `wontun peer add`.

use std::io::{self, Write};

use super::delivery::{ClientText, Delivery};
use super::sites::report_sites;
use super::wanted::Wanted;
use crate::cli::{AddOptions, Ipv6Option};
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::{Network, display_name};
use crate::net::random::SystemRandom;
use crate::netlink::{find_input_drops, find_ipv6_obstacle};
use crate::server::peers::{self, Added, AddedPeer, Ipv6Reach, NewPeerOptions};
use crate::server::{Folder, KeptKeys, ServerFile};
use crate::uapi::{AllowedIpChange, PeerChanges};

/// Adds peers to the server's file and to the running tunnel, all or none, and delivers the
/// clients' files.
///
/// # Errors
/// [`CommandError`]. Of these, only [`CommandError::NotApplied`] leaves the peers in the file; the
/// clients' files were delivered then, too.
pub(crate) fn add_peers(folder: &Folder, options: AddOptions) -> Result<(), CommandError> {
    let (ipv6, keep_key) = (options.client.ipv6, options.keep_key);
    if options.delivery.qr_file.is_some() && (options.names.len() > 1 || options.from.is_some()) {
        return Err(CommandError::OneClient("--qr-file"));
    }
    let delivery = Delivery::new(&options.delivery, !keep_key);
    let mut wanted = Wanted::new(options)?;
    let mut random = SystemRandom::open()?;

    let (writer, before) = folder.lock()?;
    wanted.check_all(&before)?;
    let names: Vec<_> = wanted.peers.iter().map(|peer| peer.name.clone()).collect();
    for peer in &wanted.peers {
        before.check_settings(None, &peer.settings, &names)?;
    }
    let without_ipv6 = match ipv6 {
        Ipv6Option::Always => None,
        Ipv6Option::Auto => without_ipv6(folder, &before, &wanted.peers),
    };
    let reach = if without_ipv6.is_some() { Ipv6Reach::Vpn } else { Ipv6Reach::Internet };
    let added = peers::add(&before, std::mem::take(&mut wanted.peers), reach, &mut random);
    let Added { file, peers, warnings } = added.map_err(|error| wanted.failure(error))?;
    let texts = peers.iter().map(ClientText::new).collect::<Result<Vec<_>, _>>()?;
    // steps that can fail independently come before the peers are added to the server's file
    let mut prepared = delivery.prepare(texts)?;
    if keep_key {
        let kept = KeptKeys::of(folder);
        for AddedPeer { peer, client } in &peers {
            if let Some(key) = &client.private_key {
                prepared.add_created(kept.keep(&peer.public_key, key)?);
            }
        }
    }
    writer.replace(file.text())?;
    let then = match &peers[..] {
        [AddedPeer { peer, .. }] => {
            format!("'{}' can connect once it does", display_name(peer.name.as_ref(), &peer.public_key))
        }
        _ => "the clients can connect once it does".to_owned(),
    };
    let applied =
        apply::change_or_reload(folder, &before, &file, peers.iter().map(changes).collect(), Some(&then));
    // unlocked first: printing blocks as long as its reader does
    drop(writer);
    for (index, warning) in warnings {
        let _ = writeln!(io::stderr(), "wontun: warning: {}: {warning}", wanted.place(index));
    }
    warn(folder, &file, &peers);
    if keep_key {
        warn_kept(&file);
    }
    if let Some(reason) = without_ipv6 {
        let _ = writeln!(
            io::stderr(),
            "wontun: no IPv6 in the full tunnel: {reason}; IPv6 that the client has otherwise stays outside of the tunnel, \
             and --ipv6 always sends it in, where it ends"
        );
    }
    if let Err(error) = prepared.print() {
        let CommandError::Output(source) = error else { return Err(error) };
        roll_back(folder, &before, &file, &peers)?;
        return Err(CommandError::RolledBack(source));
    }
    prepared.keep();
    applied
}

/// Returns the reason why full tunnels among these clients have no IPv6, if so.
pub(super) fn without_ipv6(folder: &Folder, file: &ServerFile, wanted: &[NewPeerOptions]) -> Option<String> {
    if !wanted.iter().any(|peer| peer.full_tunnel) {
        return None;
    }
    let addresses = &file.configuration().interface.addresses;
    if !addresses.iter().any(|address| address.address().is_ipv6()) {
        return Some("the server has no IPv6 network".to_owned());
    }
    // without IPv4 there is nothing else
    let has_ipv4 = addresses.iter().any(|address| address.address().is_ipv4());
    let obstacle = has_ipv4.then(|| find_ipv6_obstacle(folder.tun().as_str(), addresses)).flatten();
    obstacle.map(|obstacle| obstacle.to_string())
}

/// Returns the change of the running tunnel by which it has the peer.
fn changes(AddedPeer { peer, client }: &AddedPeer) -> PeerChanges {
    let allowed_ips = peer.allowed_ips.iter();
    PeerChanges {
        name: Some(peer.name.clone()),
        preshared_key: client.preshared_key.clone(),
        replace_allowed_ips: true,
        allowed_ips: allowed_ips.map(|&prefix| AllowedIpChange { prefix, remove: false }).collect(),
        ..PeerChanges::new(peer.public_key)
    }
}

/// Reports what keeps the clients from connecting, and from reaching the networks behind them.
fn warn(folder: &Folder, file: &ServerFile, peers: &[AddedPeer]) {
    let warn = |text: &str| {
        let _ = writeln!(io::stderr(), "wontun: warning: {text}");
    };
    match file.configuration().interface.listen_port {
        None => warn(&format!(
            "{} has no ListenPort, so the port changes at each start: add the endpoint's port",
            file.path().display()
        )),
        Some(port) => {
            for warning in find_input_drops(folder.tun().as_str(), port.get()) {
                warn(&warning.to_string());
            }
        }
    }
    let sites = peers.iter().flat_map(|AddedPeer { peer, client }| {
        peer.allowed_ips.iter().filter(|prefix| !client.has_address(**prefix)).copied()
    });
    report_sites(folder, sites.map(Network::from));
}

/// Warns that private keys of clients are on this host.
pub(super) fn warn_kept(file: &ServerFile) {
    let _ = writeln!(
        io::stderr(),
        "wontun: warning: private keys are kept beside {}: whoever reads them can connect as these clients",
        file.path().display()
    );
}

/// Removes peers whose client files could not be delivered.
pub(super) fn roll_back(
    folder: &Folder,
    before: &ServerFile,
    after: &ServerFile,
    peers: &[AddedPeer],
) -> Result<(), CommandError> {
    let (writer, mut file) = folder.lock()?;
    if file.text() == after.text() {
        file = before.clone();
    } else {
        // changed since by another command
        for AddedPeer { peer, .. } in peers {
            file = match file.find(&peer.public_key.to_string()) {
                Ok(number) => file.without_peer(number)?,
                Err(_) => file,
            };
        }
    }
    writer.replace(file.text())?;
    let removal = |added: &AddedPeer| PeerChanges { remove: true, ..PeerChanges::new(added.peer.public_key) };
    apply::change_or_reload(folder, after, &file, peers.iter().map(removal).collect(), None)
}
