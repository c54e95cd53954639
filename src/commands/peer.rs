//! `wontun peer add`, `list`, `show`, `remove` and `rename`: the clients of a server.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::apply;
use super::error::CommandError;
use super::output::{print_secret, stdout, write};
use super::show::json::Listed;
use super::show::{human, json, report};
use crate::control::uapi::{AllowedIpChange, PeerChanges};
use crate::io::random::SystemRandom;
use crate::link::input_drops;
use crate::setup::peers::{self, AddPeer, Added};
use crate::setup::{ClientDns, Folder, PeerName, QrCode, ServerFile, ServerPeer, SetupError, create_secret};
use crate::tunnel::wireguard::{KeyError, PublicKey};

/// A peer that is to be added.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// What it is to be called.
    pub name: PeerName,
    /// Whether it sends everything through the tunnel.
    pub full_tunnel: bool,
    /// Its public key in base64, if it keeps its private key to itself.
    pub public_key: Option<String>,
    /// Its name servers, if they are others than the file says.
    pub dns: Option<ClientDns>,
    /// Whether to show its file as a QR code on standard error.
    pub qr: bool,
    /// Where to write its file as a QR code in SVG.
    pub qr_file: Option<PathBuf>,
}

/// Adds a peer to the server's file and to the tunnel that runs, and prints the client's file to standard output.
///
/// # Errors
/// [`CommandError`]. Only after [`CommandError::NotApplied`] is the peer in the file; the client's file was printed
/// then, too.
pub fn add_peer(folder: &Folder, options: AddOptions) -> Result<(), CommandError> {
    let mut random = SystemRandom::open()?;
    let AddOptions { name, full_tunnel, public_key, dns, qr, qr_file } = options;
    let public_key = public_key.map(|key| key.parse()).transpose();
    let public_key = public_key.map_err(|error: KeyError| SetupError::PublicKey(error))?;
    let wanted = AddPeer { name, full_tunnel, public_key, dns };

    let (writer, file) = folder.lock()?;
    let Added { file, peer, client } = peers::add(&file, wanted, &mut random)?;
    let text = client.print();
    let code = (qr || qr_file.is_some()).then(|| QrCode::new(&text)).transpose()?;
    // what can fail for a reason of its own comes before the server knows the peer
    let drawing = match (&code, &qr_file) {
        (Some(code), Some(path)) => Some(Drawing::create(path, &code.svg())?),
        _ => None,
    };
    writer.replace(file.text())?;
    if let Some(drawing) = drawing {
        drawing.keep();
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
    // printing may take as long as its reader likes
    drop(writer);
    if file.configuration().interface.listen_port.is_none() {
        let path = file.path().display();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: {path} has no ListenPort, so the port is another at each start: add the endpoint's"
        );
    }

    if let Some(port) = file.configuration().interface.listen_port {
        for warning in input_drops(folder.tun().as_str(), port.get()) {
            let _ = writeln!(io::stderr(), "wontun: warning: {warning}");
        }
    }

    if let Err(error) = print_secret(&text) {
        let CommandError::Output(source) = error else { return Err(error) };
        take_back(folder, &peer.public_key, qr_file.as_deref())?;
        return Err(CommandError::TakenBack(source));
    }
    if let Some(code) = code.filter(|_| qr) {
        io::stderr().write_all(&code.terminal()).map_err(CommandError::Output)?;
    }
    applied
}

/// Removes the peer that nobody can be.
fn take_back(folder: &Folder, key: &PublicKey, qr_file: Option<&Path>) -> Result<(), CommandError> {
    if let Some(path) = qr_file {
        let _ = std::fs::remove_file(path);
    }
    remove(folder, &key.to_string(), None)
}

/// Removes a peer, named by its name or public key, from the server's file and from the tunnel that runs.
///
/// # Errors
/// [`CommandError`]. Only after [`CommandError::NotApplied`] is it gone from the file.
pub fn remove_peer(folder: &Folder, wanted: &str) -> Result<(), CommandError> {
    remove(folder, wanted, Some("it does not know the peer any more when it starts"))
}

fn remove(folder: &Folder, wanted: &str, then: Option<&str>) -> Result<(), CommandError> {
    let (writer, file) = folder.lock()?;
    let number = file.find(wanted)?;
    let Some(key) = file.peers().nth(number).map(|peer| peer.peer.public_key) else { return Ok(()) };
    let file = file.without_peer(number)?;
    writer.replace(file.text())?;
    apply::change(folder, &file, PeerChanges { remove: true, ..PeerChanges::new(key) }, then)
}

/// Gives a peer, named by its name or public key, another name, in the server's file and in the tunnel that runs; its
/// session goes on.
///
/// # Errors
/// [`CommandError`]. Only after [`CommandError::NotApplied`] does the file say it.
pub fn rename_peer(folder: &Folder, wanted: &str, name: &PeerName) -> Result<(), CommandError> {
    let (writer, file) = folder.lock()?;
    let number = file.find(wanted)?;
    let twin = file.peers().position(|peer| peer.name.as_ref() == Some(name));
    match twin {
        Some(twin) if twin != number => return Err(SetupError::NameTaken(name.clone()).into()),
        Some(_) => return Ok(()),
        None => {}
    }
    let Some(key) = file.peers().nth(number).map(|peer| peer.peer.public_key) else { return Ok(()) };
    let file = file.with_name(number, name)?;
    writer.replace(file.text())?;
    let changes = PeerChanges { update_only: true, name: Some(Some(name.clone())), ..PeerChanges::new(key) };
    apply::change(folder, &file, changes, None)
}

/// Prints the peers in the server's file, one a line or in the format of docs/src/reference/json.md,
/// with their state in the tunnel if it runs.
///
/// # Errors
/// [`CommandError`]: the file cannot be read, or the output takes nothing.
pub fn list_peers(folder: &Folder, as_json: bool) -> Result<(), CommandError> {
    let file = folder.read()?;
    let live = live(folder, &file);
    if as_json {
        let peers: Vec<_> = file.peers().map(|peer| listed(&peer, live.as_ref())).collect();
        return print(&json::print_peers(folder.tun(), &peers));
    }
    let mut rows = vec![["NAME", "ADDRESSES", "LATEST HANDSHAKE", "PUBLIC KEY"].map(str::to_owned)];
    rows.extend(file.peers().map(|peer| {
        let name = peer.name.as_ref().map_or("-", PeerName::as_str).to_owned();
        [name, networks(&peer), handshake(&live, &peer), peer.peer.public_key.to_string()]
    }));
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<_> = (0..4).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &rows {
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // the last one is as long as it is
            let width = if place + 1 == row.len() { 0 } else { width + 2 };
            let _ = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    print(&text)
}

/// Prints all that the server knows of a peer, named by its name or public key, without secrets: for
/// people, or in the format of docs/src/reference/json.md.
///
/// # Errors
/// [`CommandError`]: there is no such peer, the file cannot be read, or the output takes nothing.
pub fn show_peer(folder: &Folder, wanted: &str, as_json: bool) -> Result<(), CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peers().nth(number) else { return Ok(()) };
    let listed = listed(&peer, live(folder, &file).as_ref());
    if as_json {
        return print(&json::print_peers(folder.tun(), &[listed]));
    }
    let mut text = human::print_peer(&listed.peer, now(), human::wants_colours());
    if !listed.running {
        text.push_str("  (the tunnel does not run, or does not know the peer)\n");
    }
    print(&text)
}

/// What the tunnel says of a peer, or the file where it says nothing. What it is called the file knows best.
fn listed(peer: &ServerPeer<'_>, live: Option<&report::Report>) -> Listed {
    let live = live.and_then(|live| live.peers.iter().find(|live| live.public_key == peer.peer.public_key));
    let from_file = || report::Peer {
        has_preshared_key: peer.peer.preshared_key.is_some(),
        allowed_ips: peer.peer.allowed_ips.clone(),
        persistent_keepalive: peer.peer.persistent_keepalive.map_or(0, u16::from),
        ..report::Peer::new(peer.peer.public_key)
    };
    let known = live.cloned().unwrap_or_else(from_file);
    Listed { peer: report::Peer { name: peer.name.clone(), ..known }, running: live.is_some() }
}

/// What the tunnel says. Whoever asks about the file gets an answer without it, too.
fn live(folder: &Folder, file: &ServerFile) -> Option<report::Report> {
    apply::status(folder, file).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "wontun: {error}");
        None
    })
}

fn networks(peer: &ServerPeer<'_>) -> String {
    let networks: Vec<_> = peer.peer.allowed_ips.iter().map(ToString::to_string).collect();
    if networks.is_empty() { "(none)".to_owned() } else { networks.join(", ") }
}

fn handshake(live: &Option<report::Report>, peer: &ServerPeer<'_>) -> String {
    let Some(live) = live else { return "-".to_owned() };
    let found = live.peers.iter().find(|live| live.public_key == peer.peer.public_key);
    match found.map(|live| live.last_handshake) {
        Some(time) if !time.is_zero() => human::ago(time, now()),
        Some(_) => "never".to_owned(),
        None => "-".to_owned(),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Prints what is no secret; whoever hung up has seen enough.
fn print(text: &str) -> Result<(), CommandError> {
    match write(&mut stdout()?, text.as_bytes()) {
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A file that goes again unless it is kept.
struct Drawing<'a>(Option<&'a Path>);

impl<'a> Drawing<'a> {
    fn create(path: &'a Path, svg: &[u8]) -> Result<Self, SetupError> {
        create_secret(path, svg).map(|()| Self(Some(path)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
