//! Implements `wontun peer add`.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::delivery::{ClientText, Delivery};
use crate::cli::AddOptions;
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::Network;
use crate::config::peer_settings::PeerSettings;
use crate::net::random::SystemRandom;
use crate::netlink::find_input_drops;
use crate::server::peers::{self, AddError, Added, AddedPeer, NewPeerError, NewPeerOptions};
use crate::server::{Folder, ServerError, ServerFile};
use crate::uapi::{AllowedIpChange, PeerChanges};
use wontun_proto::wireguard::KeyError;

/// Adds peers to the server's file and to the running tunnel, all or none, and delivers the
/// clients' files.
///
/// # Errors
/// [`CommandError`]. Of these, only [`CommandError::NotApplied`] leaves the peers in the file; the
/// clients' files were delivered then, too.
pub(crate) fn add_peers(folder: &Folder, options: AddOptions) -> Result<(), CommandError> {
    let delivery = Delivery::new(&options)?;
    let wanted = wanted(options)?;
    let mut random = SystemRandom::open()?;

    let (writer, before) = folder.lock()?;
    let names: Vec<_> = wanted.iter().map(|peer| peer.name.clone()).collect();
    let described = |index: usize| names.get(index).map(|name| format!("'{name}'")).unwrap_or_default();
    let added = peers::add(&before, wanted, &mut random).map_err(|error| failure(error, &described))?;
    let Added { file, peers, warnings } = added;
    let texts = peers.iter().map(ClientText::new).collect::<Result<Vec<_>, _>>()?;
    // steps that can fail independently come before the peers are added to the server's file
    let prepared = delivery.prepare(texts)?;
    writer.replace(file.text())?;
    let then = match &names[..] {
        [name] => format!("'{name}' can connect once it does"),
        _ => "the clients can connect once it does".to_owned(),
    };
    let applied =
        apply::change_or_reload(folder, &before, &file, peers.iter().map(changes).collect(), Some(&then));
    // unlocked first: printing blocks as long as its reader does
    drop(writer);
    for (index, warning) in warnings {
        let _ = writeln!(io::stderr(), "wontun: warning: {}: {warning}", described(index));
    }
    warn(folder, &file, &peers);
    if let Err(error) = prepared.print() {
        let CommandError::Output(source) = error else { return Err(error) };
        roll_back(folder, &before, &file, &peers)?;
        return Err(CommandError::RolledBack(source));
    }
    prepared.keep();
    applied
}

/// Returns the peers that the options describe.
fn wanted(options: AddOptions) -> Result<Vec<NewPeerOptions>, CommandError> {
    let AddOptions { names, address, site, public_key, client, settings: on_server, .. } = options;
    let public_key = public_key.map(|key| key.parse()).transpose();
    let public_key = public_key.map_err(|error: KeyError| ServerError::PublicKey(error))?;
    let mut settings = PeerSettings::NONE;
    on_server.apply(&mut settings);
    client.apply(&mut settings.client);
    if let [_, _, ..] = names[..] {
        let given = [
            (!address.is_empty(), "--address"),
            (!site.is_empty(), "--site"),
            (public_key.is_some(), "--public-key"),
            (!settings.forwards.is_empty(), "--forward"),
        ];
        if let Some((_, option)) = given.into_iter().find(|(is_given, _)| *is_given) {
            return Err(CommandError::OneClient(option));
        }
    }
    let peer = |name| NewPeerOptions {
        name,
        public_key,
        addresses: address.clone(),
        sites: site.clone(),
        full_tunnel: client.full_tunnel,
        settings: settings.clone(),
    };
    Ok(names.into_iter().map(peer).collect())
}

/// Reports all errors of new peers, one per line, and returns the last line.
pub(super) fn failure(error: AddError, described: &dyn Fn(usize) -> String) -> CommandError {
    let errors = match error {
        AddError::Server(error) => return error.into(),
        AddError::Peers(errors) => errors,
    };
    let line = |(index, error): &(usize, NewPeerError)| format!("{}: {error}", described(*index));
    match &errors[..] {
        [error] => CommandError::NewPeer(line(error)),
        errors => {
            for error in errors {
                let _ = writeln!(io::stderr(), "wontun: {}", line(error));
            }
            CommandError::NewPeers(errors.len())
        }
    }
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
    let mut sites = BTreeSet::new();
    for AddedPeer { peer, client } in peers {
        let is_site = |prefix: &&_| !client.has_address(**prefix);
        for site in peer.allowed_ips.iter().filter(is_site) {
            sites.insert(Network::from(*site).to_string());
            if let Some((interface, address)) = folder.overlapping_interface(*site) {
                warn(&format!(
                    "the site {site} overlaps {address} of this host's {interface}: packets go to the smaller of the two networks"
                ));
            }
        }
    }
    if !sites.is_empty() {
        let sites = sites.into_iter().collect::<Vec<_>>().join(",");
        let _ = writeln!(
            io::stderr(),
            "wontun: the client has to forward packets to {sites}; other clients reach it with --route {sites}"
        );
    }
}

/// Removes peers whose client files could not be delivered.
fn roll_back(
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
