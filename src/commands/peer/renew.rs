//! Implements `wontun peer renew`.

use std::io::{self, Write as _};

use super::add::warn_kept;
use super::delivery::{ClientText, Delivery};
use super::wanted::failure_of_one;
use crate::cli::RenewOptions;
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::net::random::SystemRandom;
use crate::server::{Folder, KeptKeys, ServerError, peers};
use wontun_proto::wireguard::KeyError;

/// Replaces the keys of a peer, given by its name or public key, in the server's file and in the
/// running tunnel, which rejects the old ones then, and delivers the client's new file.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the peer has its old keys.
pub(crate) fn renew_peer(folder: &Folder, wanted: &str, options: RenewOptions) -> Result<(), CommandError> {
    let RenewOptions { keep_key, .. } = options;
    let delivery = Delivery::new(&options.delivery, !keep_key);
    let public_key = options.public_key.map(|key| key.parse()).transpose();
    let public_key = public_key.map_err(|error: KeyError| ServerError::PublicKey(error))?;
    let mut random = SystemRandom::open()?;

    let (writer, before) = folder.lock()?;
    let number = before.find(wanted)?;
    let old = before.peer(number).map(|peer| peer.peer.public_key);
    let renewed = peers::renew(&before, number, public_key, &mut random);
    let (file, renewed) = renewed.map_err(|error| failure_of_one(error, wanted))?;
    // steps that can fail independently come before the old keys are gone
    let mut prepared = delivery.prepare(vec![ClientText::new(&renewed)?])?;
    let kept = KeptKeys::of(folder);
    if let Some(key) = renewed.client.private_key.as_ref().filter(|_| keep_key) {
        prepared.add_created(kept.keep(&renewed.peer.public_key, key)?);
    }
    writer.replace(file.text())?;
    let applied = apply::reload(folder, &file, Some("the old keys are of no use when it starts"));
    // unlocked first: printing blocks as long as its reader does
    drop(writer);
    if keep_key {
        warn_kept(&file);
    }
    if let Err(error) = prepared.print() {
        let CommandError::Output(source) = error else { return Err(error) };
        let (writer, current) = folder.lock()?;
        // unless another command has changed it since
        if current.text() == file.text() {
            writer.replace(before.text())?;
            apply::reload(folder, &before, None)?;
            return Err(CommandError::NotRenewed(source));
        }
        return Err(CommandError::Output(source));
    }
    prepared.keep();
    if let Some(old) = old {
        if kept.has(&old) && !keep_key {
            let _ = writeln!(
                io::stderr(),
                "wontun: the old private key, which was kept, is deleted; --keep-key would have kept the new one"
            );
        }
        kept.delete(&old)?;
    }
    applied
}
