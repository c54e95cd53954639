//! Implements `wontun import`: converts a server's or client's file from wg-quick or wg-easy.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use super::error::CommandError;
use super::output::{stdout, write};
use crate::server::import::{Format, Import, Imported, redacted};
use crate::server::{Folder, ServerPeer};

/// Default folder of the commands.
const USUAL_FOLDER: &str = "/etc/wontun";

/// Creates the file of `folder` from another program's, and prints a summary and the next steps,
/// never a secret. With `dry_run` nothing is written, and the file is printed without its secrets.
/// Differences from the original are reported on standard error.
///
/// # Errors
/// [`CommandError::Import`]; nothing was changed.
pub(crate) fn import(folder: &Folder, import: &Import, dry_run: bool) -> Result<(), CommandError> {
    let imported = import.read(folder)?;
    if !dry_run {
        imported.write(folder)?;
    }
    let mut notices = String::new();
    for notice in &imported.notices {
        // writing to memory does not fail
        let _ = writeln!(notices, "wontun: {notice}");
    }
    // if the reader of standard error is gone, the file is written nevertheless
    let _ = io::stderr().write_all(notices.as_bytes());
    let text = if dry_run { redacted(&imported.file) } else { summary(folder, import, &imported)? };
    write(&mut stdout()?, text.as_bytes())
}

fn summary(folder: &Folder, import: &Import, imported: &Imported) -> Result<String, CommandError> {
    let file = &imported.file;
    let interface = &file.configuration().interface;
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    let peers: Vec<_> = file.peers().map(|peer: ServerPeer<'_>| peer.name_or_key()).collect();
    let from = match imported.format {
        Format::WgQuick => "wg-quick's",
        Format::WgEasy => "wg-easy's",
    };
    let mut text = String::new();
    let _ = writeln!(text, "{}: imported from {from} {}", file.path().display(), import.source.display());
    let _ = writeln!(text, "  public key: {}", file.public_key());
    let _ = writeln!(text, "  addresses: {}", addresses.join(", "));
    if let Some(port) = interface.listen_port {
        let _ = writeln!(text, "  listening port: {port}, UDP: the firewall must accept it");
    }
    let _ = writeln!(
        text,
        "  peers: {}{}{}",
        peers.len(),
        if peers.is_empty() { "" } else { ": " },
        peers.join(", ")
    );
    if imported.is_client() {
        text.push_str("next: stop the program that runs this tunnel now (sudo wg-quick down NAME), then\n");
        let _ = writeln!(text, "  wontun --config {}", file.path().display());
        return Ok(text);
    }
    text.push_str(
        "next: stop the program that serves these peers now, since only one can use the port and the addresses, then\n",
    );
    let options = options(folder);
    let _ = writeln!(text, "  wontun serve{options}");
    if file.endpoint()?.is_none() {
        let _ = writeln!(
            text,
            "and set the address that clients added later connect to: wontun init{options} --endpoint HOST[:PORT]"
        );
    }
    Ok(text)
}

/// Returns the options that name the folder and the tunnel, where they differ from the defaults.
fn options(folder: &Folder) -> String {
    let mut options = String::new();
    if folder.path() != Path::new(USUAL_FOLDER) {
        let _ = write!(options, " --dir {}", folder.path().display());
    }
    if *folder.tun() != crate::config::TunName::default() {
        let _ = write!(options, " --tun {}", folder.tun());
    }
    options
}
