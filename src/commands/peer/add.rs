//! Implements `wontun peer add`.

use std::io::{self, Write};
use std::path::Path;

use super::remove;
use crate::cli::AddOptions;
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::commands::output::print_secret;
use crate::net::random::SystemRandom;
use crate::netlink::find_input_drops;
use crate::server::peers::{self, AddedPeer, NewPeerOptions};
use crate::server::{Folder, QrCode, ServerError, create_secret};
use crate::uapi::{AllowedIpChange, PeerChanges};
use wontun_proto::wireguard::{KeyError, PublicKey};

/// Adds a peer to the server's file and to the running tunnel, and prints the client's file on
/// standard output.
///
/// # Errors
/// [`CommandError`]. Of these, only [`CommandError::NotApplied`] leaves the peer in the file; the
/// client's file was printed then, too.
pub(crate) fn add_peer(folder: &Folder, options: AddOptions) -> Result<(), CommandError> {
    let mut random = SystemRandom::open()?;
    let AddOptions { name, full_tunnel, public_key, dns, qr, qr_file } = options;
    let public_key = public_key.map(|key| key.parse()).transpose();
    let public_key = public_key.map_err(|error: KeyError| ServerError::PublicKey(error))?;
    let wanted = NewPeerOptions { name, full_tunnel, public_key, dns };

    let (writer, file) = folder.lock()?;
    let AddedPeer { file, peer, client } = peers::add(&file, wanted, &mut random)?;
    let text = client.to_text();
    let code = (qr || qr_file.is_some()).then(|| QrCode::new(&text)).transpose()?;
    // steps that can fail independently come before the peer is added to the server's file
    let qr_image = match (&code, &qr_file) {
        (Some(code), Some(path)) => Some(QrFile::create(path, &code.svg())?),
        _ => None,
    };
    writer.replace(file.text())?;
    if let Some(qr_image) = qr_image {
        qr_image.keep();
    }
    let changes = PeerChanges {
        name: Some(Some(peer.name.clone())),
        preshared_key: Some(peer.preshared_key.clone()),
        replace_allowed_ips: true,
        allowed_ips: peer.allowed_ips().map(|prefix| AllowedIpChange { prefix, remove: false }).collect(),
        ..PeerChanges::new(peer.public_key)
    };
    let then = format!("'{}' can connect once it does", peer.name);
    let applied = apply::change(folder, &file, changes, Some(&then));
    // unlocked first: printing blocks as long as its reader does
    drop(writer);
    if file.configuration().interface.listen_port.is_none() {
        let path = file.path().display();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: {path} has no ListenPort, so the port changes at each start: add the endpoint's port"
        );
    }

    if let Some(port) = file.configuration().interface.listen_port {
        for warning in find_input_drops(folder.tun().as_str(), port.get()) {
            let _ = writeln!(io::stderr(), "wontun: warning: {warning}");
        }
    }

    if let Err(error) = print_secret(&text) {
        let CommandError::Output(source) = error else { return Err(error) };
        roll_back(folder, &peer.public_key, qr_file.as_deref())?;
        return Err(CommandError::RolledBack(source));
    }
    if let Some(code) = code.filter(|_| qr) {
        io::stderr().write_all(&code.terminal()).map_err(CommandError::Output)?;
    }
    applied
}

/// Removes a peer whose client file could not be delivered.
fn roll_back(folder: &Folder, key: &PublicKey, qr_file: Option<&Path>) -> Result<(), CommandError> {
    if let Some(path) = qr_file {
        let _ = std::fs::remove_file(path);
    }
    remove(folder, &key.to_string(), None)
}

/// A created file that is removed when dropped, unless it is kept.
struct QrFile<'a>(Option<&'a Path>);

impl<'a> QrFile<'a> {
    fn create(path: &'a Path, svg: &[u8]) -> Result<Self, ServerError> {
        create_secret(path, svg).map(|()| Self(Some(path)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for QrFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
