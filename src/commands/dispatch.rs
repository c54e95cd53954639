//! Runs the command that the command line selects.

use std::io::{self, Write as _};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    AddOptions, CommandError, ShowOptions, TopOptions, add_peer, genkey, genpsk, import, init,
    kill_switch_off, kill_switch_on, list_peers, prepare, pubkey, remove_peer, rename_peer, show, show_peer,
    top,
};
use crate::cli::{Command, Dir, KillSwitchCommand, Missing, PeerCommand, Run, Server};
use crate::config::{AllowedNetwork, TunName};
use crate::control::health::{self, Health};
use crate::exit::Failure;
use crate::privileges::{self, setcap};
use crate::server::import::Import;
use crate::server::{Folder, InitOptions};
use crate::uapi::UapiFolders;

/// Runs a command that does not run a tunnel; for one that does, returns the configuration of the
/// tunnel to be run. `config` determines the folder of a tunnel's socket, and its name.
///
/// # Errors
/// That of the command.
pub fn dispatch(command: Command, tun: Option<TunName>, options: &Run) -> Result<Option<PathBuf>, Failure> {
    privileges::hide_memory();
    let config = options.config.as_deref();
    match command {
        Command::Health { name, max_handshake_age } => {
            let age = max_handshake_age.map(|seconds| Duration::from_secs(seconds.into()));
            print_health(&health::ask(&running_tunnel(name.or(tun), config)?, age)?);
        }
        Command::Reload { name } => print_health(&health::reload(&running_tunnel(name.or(tun), config)?)?),
        Command::Show { dir, name, json } => {
            show(&ShowOptions { name: name.or(tun), folders: folders(&dir, config), json })?;
        }
        Command::Top { dir, name, interval } => {
            let folders = folders(&dir, config);
            top(TopOptions { name: name.or(tun), folders, interval })?;
        }
        Command::Init { dir, server } => init(&folder(dir, tun), &initial(server))?,
        Command::Import { file, dry_run, dir, missing } => {
            let Missing { endpoint, listen_port, dns } = missing;
            let listen_port = listen_port.and_then(NonZeroU16::new);
            let wanted = Import { source: file, endpoint, listen_port, dns };
            import(&folder(dir, tun), &wanted, dry_run)?;
        }
        Command::Peer { dir, command } => dispatch_peer(&folder(dir, tun), command)?,
        Command::Serve { dir, server } => {
            setcap::refuse("wontun serve")?;
            return Ok(Some(prepare(&folder(dir, tun), &initial(server))?));
        }
        Command::KillSwitch { command: KillSwitchCommand::On { name, allow } } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let allowed: Vec<_> = allow
                .iter()
                .chain(&options.kill_switch_allow)
                .map(|AllowedNetwork(network)| *network)
                .collect();
            kill_switch_on(&name, &UapiFolders::new(config.and_then(Path::parent)), &allowed)?;
        }
        Command::KillSwitch { command: KillSwitchCommand::Off { name } } | Command::Unlock { name } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let of_file = || config.map(TunName::of_file).transpose();
            let name = name.or(tun).map_or_else(of_file, |name| Ok(Some(name)))?;
            kill_switch_off(name.as_ref(), &UapiFolders::new(config.and_then(Path::parent)))?;
        }
        // the caller runs it
        Command::Plain { .. } => {}
        Command::Genkey => genkey()?,
        Command::Pubkey => pubkey()?,
        Command::Genpsk => genpsk()?,
    }
    Ok(None)
}

/// Returns the name of the running tunnel that a command refers to.
fn running_tunnel(tun: Option<TunName>, config: Option<&Path>) -> Result<TunName, Failure> {
    let of_file = || config.map(TunName::of_file).transpose();
    let tun = tun.map_or_else(of_file, |tun| Ok(Some(tun)))?;
    Ok(tun.map_or_else(health::select_tunnel, Ok)?)
}

fn print_health(Health { line, warnings }: &Health) {
    // a reader that has closed the pipe still has the exit code
    let _ = writeln!(io::stdout(), "{line}");
    for warning in warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// Returns the folders in which the sockets of tunnels may be.
fn folders(dir: &Dir, config: Option<&Path>) -> UapiFolders {
    UapiFolders::new(config.map_or(Some(dir.dir.as_path()), Path::parent))
}

fn folder(dir: Dir, tun: Option<TunName>) -> Folder {
    Folder::new(dir.dir, tun.unwrap_or_default())
}

fn initial(server: Server) -> InitOptions {
    let Server { endpoint, subnet, listen_port, dns, private_key_file } = server;
    InitOptions { endpoint, subnets: subnet, listen_port, dns, private_key_file }
}

fn dispatch_peer(folder: &Folder, command: PeerCommand) -> Result<(), CommandError> {
    match command {
        PeerCommand::Add { name, full_tunnel, public_key, dns, qr, qr_file } => {
            add_peer(folder, AddOptions { name, full_tunnel, public_key, dns, qr, qr_file })
        }
        PeerCommand::List { json } => list_peers(folder, json),
        PeerCommand::Show { name, json } => show_peer(folder, &name, json),
        PeerCommand::Remove { name } => remove_peer(folder, &name),
        PeerCommand::Rename { name, new_name } => rename_peer(folder, &name, &new_name),
    }
}
