//! Implements `wontun peer invite`.

use std::io::{self, Write as _};
use std::time::SystemTime;

use super::add::{roll_back, without_ipv6};
use super::delivery::{ClientText, Delivery};
use super::wanted::failure_of_one;
use crate::cli::{InviteOptions, Ipv6Option, NewClientOptions};
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::peer_settings::{Exclusion, Expiry, PeerSettings};
use crate::net::random::SystemRandom;
use crate::net::timer::unix_now;
use crate::server::peers::{self, Invited, Ipv6Reach, NewPeerOptions};
use crate::server::{Folder, ServerFile};
use crate::uapi::TunnelStatus;
use wontun_proto::wireguard::PublicKey;

/// Adds an invitation to the server's file and to the running tunnel, and prints its code.
///
/// # Errors
/// [`CommandError`]. The server has no invitation then.
pub(crate) fn invite_peer(folder: &Folder, options: InviteOptions) -> Result<(), CommandError> {
    let delivery = Delivery::of_code(&options);
    let InviteOptions { name, valid, link, client: new, .. } = options;
    let NewClientOptions { address, site, full_tunnel, client, ipv6, settings: on_server } = new;
    if valid.since_epoch() <= unix_now() {
        return Err(CommandError::PastInvitation(valid.to_string()));
    }
    let mut settings = PeerSettings::NONE;
    on_server.apply(&mut settings);
    client.apply(&mut settings.client);
    let wanted = NewPeerOptions {
        name: name.clone(),
        public_key: None,
        addresses: address,
        sites: site,
        full_tunnel,
        settings,
    };
    let mut random = SystemRandom::open()?;

    let (writer, before) = folder.lock()?;
    let current = peers::without_expired_invitations(&before, unix_now())?;
    current.check_settings(None, &wanted.settings, std::slice::from_ref(&name))?;
    let reason = match ipv6 {
        Ipv6Option::Always => None,
        Ipv6Option::Auto => without_ipv6(folder, &current, std::slice::from_ref(&wanted)),
    };
    let reach = if reason.is_some() { Ipv6Reach::Vpn } else { Ipv6Reach::Internet };
    let invited = peers::invite(&current, wanted, valid, reach, &mut random);
    let Invited { file, added, warnings, code } =
        invited.map_err(|error| failure_of_one(error, name.as_str()))?;
    // steps that can fail independently come before the peer is added to the server's file
    let prepared = delivery.prepare(vec![ClientText::of_code(name.clone(), &code, link.as_deref())])?;
    writer.replace(file.text())?;
    let key = added.peer.public_key;
    let applied =
        apply::reload(folder, &file, None).and_then(|()| check(folder, &file, &key, link.is_some()));
    // unlocked first: printing blocks as long as its reader does
    drop(writer);
    let peers = [added];
    if let Err(error) = applied {
        roll_back(folder, &before, &file, &peers)?;
        return Err(error);
    }
    for warning in warnings {
        let _ = writeln!(io::stderr(), "wontun: warning: '{name}': {warning}");
    }
    if let Err(error) = prepared.print() {
        let CommandError::Output(source) = error else { return Err(error) };
        roll_back(folder, &before, &file, &peers)?;
        return Err(CommandError::RolledBack(source));
    }
    prepared.keep();
    let (way, secret) = if link.is_some() { ("this link", "link") } else { ("'wontun enroll CODE'", "code") };
    let _ = writeln!(
        io::stderr(),
        "wontun: until {valid} one device becomes '{name}' by {way}: give the {secret} to nobody else; 'wontun peer remove' \
         takes it back",
    );
    Ok(())
}

/// Returns an error if the running tunnel does not accept the invitation with this key. By a link
/// it needs no access.
fn check(folder: &Folder, file: &ServerFile, key: &PublicKey, is_by_link: bool) -> Result<(), CommandError> {
    let Some(TunnelStatus { peers, .. }) = apply::status(folder, file)? else {
        let (secret, option) = if is_by_link { ("link", "--admin") } else { ("code", "--invitations") };
        let _ = writeln!(
            io::stderr(),
            "wontun: tunnel {} is not running: the {secret} can be used once 'wontun serve {option}' runs it",
            folder.tun()
        );
        return Ok(());
    };
    if is_by_link {
        return Ok(());
    }
    match peers.iter().find(|peer| peer.public_key == *key).map(|peer| peer.exclusion) {
        Some(None) => Ok(()),
        Some(Some(Exclusion::Unanswered)) => Err(CommandError::NoInvitations),
        Some(Some(_)) => Err(CommandError::PastInvitation(now())),
        None => Err(CommandError::UnenforcedInvitation),
    }
}

/// Returns the present time as text.
fn now() -> String {
    Expiry::parse_from("1s", SystemTime::now()).map(|now| now.to_string()).unwrap_or_default()
}
